import Foundation
import Glibc
import GuestExec

/// Folders between this machine and a target: one tar archive through the same scripts, hashed at both ends, unpacked
/// beside its destination and put there when it is whole.
extension FileCopy {
  /// Brings a local folder to a path in the target.
  /// - Parameter replaces: whether what is there already makes way.
  func upload(tree path: String, to destination: String, replaces: Bool) async throws -> CopyResult
  {
    let (folder, name) = try Self.parts(of: path)
    let tar = try Child(["tar", "-C", folder, "-cf", "-", "--", name], reads: true)
    let reader = BytesReader(tar.descriptor)
    let hasher = Hasher256()
    let count = Shared(0)
    bar.begin(total: nil)
    let answer: GuestShell.Answer
    do {
      answer = try await shell.run(
        CopyScripts.treeReceive,
        [bytes(destination), bytes(name), bytes(replaces ? "replace" : "keep")],
        input: {
          let chunk = await reader.next()
          if chunk.isEmpty { try await tar.mustEndWell("can't be read") }
          hasher.add(chunk)
          count.value += chunk.count
          bar.set(count.value)
          return chunk
        })
    } catch let broken as GuestShell.Broken {
      tar.end()
      throw Failure(
        kind: "copy-broken", sentence: "The way to \(shell.name) broke: \(broken.sentence)",
        remedy: "Folders can't be resumed: begin again.", status: .unreachable)
    } catch {
      tar.end()
      throw error
    }
    tar.end()
    try check(answer, "can't be written to")
    let lines = answer.lines(3)
    switch lines.first?.split(separator: " ").first {
    case "ok" where lines.count == 3:
      let theirs = String(lines[0].dropFirst(3))
      let isRight = theirs == hasher.hex
      try await expect(
        CopyScripts.treeFinish,
        [bytes(lines[1]), bytes(name), bytes(lines[2]), bytes(isRight ? "put" : "drop")],
        "can't put \(lines[2]) in its place")
      guard isRight else {
        throw mismatch("What arrived in \(shell.name) is not what was sent", hasher.hex, theirs)
      }
      return CopyResult(bytes: count.value, sha256: theirs, path: "\(shell.name):\(lines[2])")
    case "exists":
      throw Failure(
        kind: "exists",
        sentence: "There is a \(lines.last ?? destination) in \(shell.name) already.",
        remedy: "--replace puts the new one in its place; or give another name.", status: .guest)
    case "nodir":
      throw Failure(
        kind: "no-folder", sentence: "There is no folder \(lines.last ?? "") in \(shell.name).",
        remedy: "Make it: sallyport exec \(shell.name) -- mkdir -p \(lines.last ?? "")",
        status: .guest)
    case "notar": throw noTar
    case "tar":
      throw Failure(
        kind: "tar-failed", sentence: "\(shell.name)'s tar could not unpack what arrived.",
        details: [String(decoding: answer.stderr.suffix(400), as: UTF8.self)], status: .guest)
    default: throw unexpected(answer)
    }
  }

  /// Brings a folder of the target to a local path.
  func download(
    tree path: String, to destination: String, replaces: Bool
  ) async throws -> CopyResult {
    let name = lastName(path)
    var place = destination
    var about = stat()
    if stat(destination, &about) == 0, about.st_mode & S_IFMT == S_IFDIR {
      place = (destination.hasSuffix("/") ? destination : destination + "/") + name
    }
    while place.count > 1, place.hasSuffix("/") { place.removeLast() }
    let exists = access(place, F_OK) == 0
    guard !exists || replaces else {
      throw Failure(
        kind: "exists", sentence: "There is a \(place) on this machine already.",
        remedy: "--replace puts the new one in its place; or give another name.", status: .usage)
    }
    let (folder, last) = try Self.parts(of: place)
    let temporary = folder + "/.\(last).sallyport-\(UUID().uuidString.prefix(8))"
    guard mkdir(temporary, 0o700) == 0 else {
      throw LocalFile.failure(temporary, "can't be made")
    }
    defer { try? FileManager.default.removeItem(atPath: temporary) }
    let tar = try Child(["tar", "-C", temporary, "-xpf", "-"], reads: false)
    let writer = BytesWriter(tar.descriptor)
    let hasher = Hasher256()
    let count = Shared(0)
    bar.begin(total: nil)
    let answer: GuestShell.Answer
    do {
      answer = try await shell.run(
        CopyScripts.treeSend, [bytes(path)],
        output: { chunk in
          hasher.add(chunk)
          count.value += chunk.count
          bar.set(count.value)
          // A tar that has seen its end reads no more; whether it failed is asked at the end.
          await writer.write(chunk)
        })
    } catch let broken as GuestShell.Broken {
      tar.end()
      throw Failure(
        kind: "copy-broken", sentence: "The way to \(shell.name) broke: \(broken.sentence)",
        remedy: "Folders can't be resumed: begin again.", status: .unreachable)
    } catch {
      tar.end()
      throw error
    }
    await writer.flush()
    tar.closeStream()
    try check(answer, "can't be read")
    if answer.truncated {
      throw Failure(
        kind: "truncated",
        sentence: "The folder is larger than the gateway keeps of a command's output.",
        remedy: "Copy its parts, or without the gateway.", status: .limit)
    }
    let lines = String(decoding: answer.stderr, as: UTF8.self).split(separator: "\n")
    let words = (lines.last ?? "").split(separator: " ").map(String.init)
    guard words.count == 3, words[0] == "sallyport-cp" else { throw unexpected(answer) }
    if words[2] == "notar" { throw noTar }
    guard words[2] == "0" else {
      throw Failure(
        kind: "tar-failed", sentence: "\(shell.name)'s tar could not read all of \(path).",
        remedy: "Copy as another user (--run-as), or look at what it says.",
        details: lines.dropLast().suffix(3).map(String.init), status: .guest)
    }
    guard words[1] == hasher.hex else {
      throw mismatch("What arrived is not what \(shell.name) sent", words[1], hasher.hex)
    }
    try await tar.mustEndWell("can't be unpacked")
    if exists {
      guard rename(place, temporary + "/.replaced") == 0 else {
        throw LocalFile.failure(place, "can't be put aside")
      }
    }
    guard rename(temporary + "/" + name, place) == 0 else {
      let failure = LocalFile.failure(place, "can't be put in its place")
      if exists { rename(temporary + "/.replaced", place) }
      throw failure
    }
    return CopyResult(bytes: count.value, sha256: words[1], path: place)
  }

  private var noTar: Failure {
    Failure(
      kind: "no-tar", sentence: "\(shell.name) has no tar.",
      remedy: "Install it, or copy files one by one.", status: .guest)
  }

  /// A path's folder and its last part, `.` and `..` resolved.
  private static func parts(of path: String) throws(Failure) -> (folder: String, name: String) {
    let url = URL(fileURLWithPath: path).standardizedFileURL
    let name = url.lastPathComponent
    guard !name.isEmpty, name != "/" else {
      throw .usage("\(path) has no name of its own.", remedy: "Name a folder below it.")
    }
    return (url.deletingLastPathComponent().path, name)
  }

  /// A program of this machine at the end of a pipe.
  final class Child: Sendable {
    // Proof: Process and FileHandle are only used by the one task that copies.
    private struct Parts: @unchecked Sendable {
      let process: Process
      let handle: FileHandle
    }
    private let parts: Parts
    private let name: String

    /// - Parameter reads: whether we read what it writes, or write what it reads.
    init(_ words: [String], reads: Bool) throws(Failure) {
      let process = Process()
      let pipe = Pipe()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments = words
      if reads {
        process.standardOutput = pipe
        process.standardInput = FileHandle.nullDevice
      } else {
        process.standardInput = pipe
        process.standardOutput = FileHandle.nullDevice
      }
      do {
        try process.run()
      } catch {
        throw Failure(
          kind: "no-\(words.first ?? "program")",
          sentence: "\(words.first ?? "") can't be run here: \(error).")
      }
      name = words.first ?? ""
      parts = Parts(
        process: process, handle: reads ? pipe.fileHandleForReading : pipe.fileHandleForWriting)
    }

    /// Our end of the pipe.
    var descriptor: Int32 { parts.handle.fileDescriptor }

    /// Closes our end.
    func closeStream() { try? parts.handle.close() }

    /// Waits for its end.
    func mustEndWell(_ what: String) async throws {
      let parts = parts
      let status: Int32 = await withCheckedContinuation { done in
        DispatchQueue(label: "child").async {
          parts.process.waitUntilExit()
          done.resume(returning: parts.process.terminationStatus)
        }
      }
      guard status == 0 else {
        throw Failure(
          kind: "local-file",
          sentence: "A folder on this machine \(what): \(name) ended with \(status).",
          remedy: "What it says is above.")
      }
    }

    /// Ends it, where it still runs.
    func end() { if parts.process.isRunning { parts.process.terminate() } }
  }
}
