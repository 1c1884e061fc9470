import ConsoleProtocol
import Foundation
import Glibc
import GuestExec
import Synchronization

/// What a copy came to.
struct CopyResult: Sendable {
  /// Bytes of the whole, those of an earlier try included.
  var bytes: Int
  /// Bytes that an earlier try had brought.
  var resumedFrom = 0
  var sha256: String
  /// Where it is now.
  var path: String
}

/// Files between this machine and a target, on top of scripts in the target.
struct FileCopy: Sendable {
  let shell: GuestShell
  let bar: ProgressBar
  /// Whether what an earlier try has brought is used.
  var resumes = true
  /// The mode of the file to make; nil for the source's.
  var mode: mode_t?

  /// How often a way that breaks is tried again without any progress.
  private static let tries = 4

  static func cancelled() -> Failure {
    Failure(
      kind: "cancelled", sentence: "The copy was given up.",
      remedy: "The same command goes on from where it was.", status: .limit)
  }

  /// Does something again while the way breaks; progress gives new tries.
  func persistently<T>(
    _ progress: () -> Int, _ body: () async throws -> T
  ) async throws -> T {
    var left = Self.tries
    var seen = progress()
    while true {
      do {
        return try await body()
      } catch let broken as GuestShell.Broken {
        if progress() > seen {
          left = Self.tries
          seen = progress()
        }
        left -= 1
        guard left > 0, !Task.isCancelled else {
          throw Failure(
            kind: "copy-broken", sentence: "The way to \(shell.name) broke: \(broken.sentence)",
            remedy: "The same command goes on from where it was.", status: .unreachable)
        }
        try? await Task.sleep(for: .seconds(1 << (Self.tries - left - 1)))
      }
    }
  }

  // MARK: To the target

  /// Brings a local file to a path in the target.
  func upload(_ path: String, to destination: String) async throws -> CopyResult {
    let file = try LocalFile.open(path, O_RDONLY)
    let about = try file.about()
    guard !about.isFolder else {
      throw Failure.usage("\(path) is a folder.", remedy: "Copy it with -r.")
    }
    guard about.isRegular else { return try await upload(stream: file, path, to: destination) }
    bar.begin(total: about.size)
    let whole = try await file.hash(about.size).hex
    // What an earlier try left is found by its content: another content has another name.
    let mark = String(whole.prefix(16))
    var (place, partial, current) = try await probe(destination, name: lastName(path), mark: mark)
    _ = current
    if !resumes { partial = nil }
    var offset = 0
    if let partial, partial.size <= about.size,
      try await file.hash(partial.size).hex == partial.hash
    {
      offset = partial.size
    }
    let resumedFrom = offset
    let reached = Mutex(offset)
    try await persistently({ reached.withLock { $0 } }) {
      // After a break the target says how much has arrived.
      guard
        let missing = try await send(
          file, size: about.size, from: offset, to: place, mark: mark, whole: whole)
      else { return }
      let there = try await probe(destination, name: lastName(path), mark: mark).partial
      offset = 0
      if let there, there.size <= about.size, try await file.hash(there.size).hex == there.hash {
        offset = there.size
      }
      reached.withLock { $0 = max($0, offset) }
      throw GuestShell.Broken(sentence: missing)
    }
    let bits = String(mode ?? about.mode, radix: 8)
    try await expect(
      CopyScripts.uploadFinish, [bytes(place), bytes(mark), bytes(bits)],
      "can't put \(place) in its place")
    place = place.isEmpty ? destination : place
    return CopyResult(
      bytes: about.size, resumedFrom: resumedFrom, sha256: whole,
      path: "\(shell.name):\(place)")
  }

  /// Sends a file from an offset on.
  /// - Returns: nil where the target has all of it; else a sentence that says what is missing.
  private func send(
    _ file: LocalFile, size: Int, from offset: Int, to place: String, mark: String, whole: String
  ) async throws -> String? {
    bar.begin(total: size, before: offset)
    let at = Shared(offset)
    let answer: GuestShell.Answer
    do {
      answer = try await shell.run(
        CopyScripts.uploadSend, [bytes(place), bytes(mark), bytes(String(offset))],
        input: {
          let now = at.value
          guard now < size else { return [] }
          let chunk = try await file.read(at: now, count: min(128 << 10, size - now))
          guard !chunk.isEmpty else {
            throw Failure(
              kind: "local-file", sentence: "\(file.path) became shorter while it was copied.",
              remedy: "Copy it again when nothing writes to it.")
          }
          at.value = now + chunk.count
          bar.set(at.value)
          return chunk
        })
    } catch let broken as GuestShell.Broken {
      if Task.isCancelled { throw Self.cancelled() }
      return broken.sentence
    }
    try check(answer, "can't be written to")
    let words = answer.lines(1).first?.split(separator: " ").map(String.init) ?? []
    guard words.count == 2, let there = Int(words[0]) else {
      throw unexpected(answer)
    }
    // More than was sent is somebody else's: going on would not mend it.
    guard there >= size else { return "\(there) of \(size) bytes arrived." }
    guard words[1] != "none" else {
      throw Failure(
        kind: "no-hash", sentence: "\(shell.name) has no program that computes a SHA-256.",
        remedy: "Install coreutils, openssl or perl's shasum in it.", status: .guest)
    }
    guard there == size, words[1] == whole else {
      _ = try? await shell.run(CopyScripts.uploadDrop, [bytes(place), bytes(mark)])
      throw mismatch("What arrived in \(shell.name) is not what was sent", whole, words[1])
    }
    return nil
  }

  /// Brings what comes from a pipe: its size isn't known, and it can't be read twice.
  func upload(
    stream: LocalFile?, _ what: String, to destination: String
  ) async throws -> CopyResult {
    let mark = UUID().uuidString.lowercased().replacingOccurrences(of: "-", with: "")
    let (place, _, current) = try await probe(destination, name: "", mark: mark)
    let hasher = Hasher256()
    let count = Shared(0)
    let reader = BytesReader(0)
    bar.begin(total: nil)
    let answer: GuestShell.Answer
    do {
      answer = try await shell.run(
        CopyScripts.uploadSend, [bytes(place), bytes(mark), bytes("0")],
        input: {
          let chunk =
            if let stream {
              try await stream.readOn(count: 128 << 10)
            } else { await reader.next() }
          hasher.add(chunk)
          count.value += chunk.count
          bar.set(count.value)
          return chunk
        })
    } catch let broken as GuestShell.Broken {
      throw Failure(
        kind: "copy-broken", sentence: "The way to \(shell.name) broke: \(broken.sentence)",
        remedy: "A pipe can't be read twice: begin again.", status: .unreachable)
    }
    try check(answer, "can't be written to")
    let words = answer.lines(1).first?.split(separator: " ").map(String.init) ?? []
    let whole = hasher.hex
    guard words.count == 2, words[0] == "\(count.value)", words[1] == whole else {
      _ = try? await shell.run(CopyScripts.uploadDrop, [bytes(place), bytes(mark)])
      throw mismatch("What arrived in \(shell.name) is not what was sent", whole, words.last ?? "")
    }
    let bits = mode.map { String($0, radix: 8) } ?? current ?? "644"
    try await expect(
      CopyScripts.uploadFinish, [bytes(place), bytes(mark), bytes(bits)],
      "can't put \(place) in its place")
    return CopyResult(bytes: count.value, sha256: whole, path: "\(shell.name):\(place)")
  }

  private func probe(
    _ destination: String, name: String, mark: String
  ) async throws -> (place: String, partial: (size: Int, hash: String)?, current: String?) {
    let answer = try await persistently({ 0 }) {
      try await shell.run(
        CopyScripts.uploadProbe, [bytes(destination), bytes(name), bytes(mark)])
    }
    try check(answer, "can't be looked into")
    let lines = answer.lines(2)
    guard lines.count == 2 else { throw unexpected(answer) }
    let words = lines[0].split(separator: " ").map(String.init)
    switch words.first {
    case "ok" where words.count == 4:
      let size = Int(words[1]) ?? 0
      return (
        lines[1], size > 0 ? (size, words[2]) : nil, words[3] == "-" ? nil : words[3]
      )
    case "isdir":
      throw Failure(
        kind: "is-folder", sentence: "\(shell.name):\(lines[1]) is a folder.",
        remedy: "Name the file that it shall become.", status: .usage)
    case "nodir":
      throw Failure(
        kind: "no-folder", sentence: "There is no folder \(lines[1]) in \(shell.name).",
        remedy: "Make it: sallyport exec \(shell.name) -- mkdir -p \(lines[1])", status: .guest)
    case "notwritable":
      throw Failure(
        kind: "not-writable",
        sentence: "The folder \(lines[1]) in \(shell.name) can't be written to.",
        remedy: "Copy as another user (--run-as), or to another folder.", status: .permission)
    default: throw unexpected(answer)
    }
  }

  // MARK: From the target

  /// Brings a file of the target to a local path.
  func download(_ path: String, to destination: String) async throws -> CopyResult {
    var about = stat()
    var place = destination
    if stat(destination, &about) == 0, about.st_mode & S_IFMT == S_IFDIR {
      place = (destination.hasSuffix("/") ? destination : destination + "/") + lastName(path)
    }
    let folder =
      place.contains("/") ? String(place[..<(place.lastIndex(of: "/") ?? place.startIndex)]) : "."
    let temporary = (folder.isEmpty ? "" : folder) + "/." + lastName(place) + ".sallyport-part"
    let file = try LocalFile.open(temporary, O_RDWR | O_CREAT, mode: 0o600)
    guard file.lock() else {
      throw Failure(
        kind: "copy-runs", sentence: "\(temporary) is being written by another copy.",
        remedy: "Wait for it, or choose another name.")
    }
    // A copy that brought nothing leaves nothing behind.
    defer { if (try? file.about().size) == 0, !Task.isCancelled { unlink(temporary) } }
    if !resumes { try file.truncate(to: 0) }
    let have = try file.about().size
    let source = try await look(at: path, have: have)
    var hasher = Hasher256()
    var offset = 0
    if have > 0 {
      let ours = try await file.hash(have)
      if ours.hex == source.hash {
        (hasher, offset) = (ours, have)
      } else {
        try file.truncate(to: 0)
      }
    }
    let resumedFrom = offset
    bar.begin(total: source.size, before: offset)
    let at = Shared(offset)
    try await persistently({ at.value }) {
      try await fetch(path, size: source.size, at: at) { [hasher] bytes in
        try await file.write(bytes, at: at.value)
        hasher.add(bytes)
        at.value += bytes.count
        bar.set(at.value)
      }
    }
    let ours = hasher.hex
    let theirs = try await remoteHash(path)
    guard ours == theirs else {
      unlink(temporary)
      throw mismatch(
        "What arrived is not what \(shell.name):\(path) is now: it may have changed meanwhile",
        theirs, ours)
    }
    try await file.settle(mode: mode ?? source.mode)
    guard rename(temporary, place) == 0 else {
      throw LocalFile.failure(place, "can't be put in its place")
    }
    return CopyResult(bytes: at.value, resumedFrom: resumedFrom, sha256: ours, path: place)
  }

  /// Brings a file of the target to standard output.
  func download(stream path: String) async throws -> CopyResult {
    let source = try await look(at: path, have: 0)
    let writer = BytesWriter(1)
    let hasher = Hasher256()
    let at = Shared(0)
    bar.begin(total: source.size)
    try await persistently({ at.value }) {
      try await fetch(path, size: source.size, at: at) { bytes in
        guard await writer.write(bytes) else {
          throw Failure(
            kind: "no-reader", sentence: "Nobody reads standard output any more.")
        }
        hasher.add(bytes)
        at.value += bytes.count
        bar.set(at.value)
      }
    }
    await writer.flush()
    let theirs = try await remoteHash(path)
    guard hasher.hex == theirs else {
      throw mismatch(
        "What was written is not what \(shell.name):\(path) is now: it may have changed meanwhile",
        theirs, hasher.hex)
    }
    return CopyResult(bytes: at.value, sha256: theirs, path: "-")
  }

  /// Fetches from where we are to the end, in pieces where the way keeps what it carries.
  private func fetch(
    _ path: String, size: Int, at: Shared<Int>,
    _ take: @escaping @Sendable ([UInt8]) async throws -> Void
  ) async throws {
    while at.value < size {
      let piece = shell.source.comfortableOutput
      let begin = at.value
      let answer = try await shell.run(
        CopyScripts.downloadSend,
        [bytes(path), bytes(String(begin + 1)), bytes(piece.map(String.init) ?? "all")],
        output: take, limit: piece.map { $0 + 1 })
      try check(answer, "can't be read")
      guard at.value > begin else {
        throw Failure(
          kind: "changed", sentence: "\(shell.name):\(path) became shorter while it was copied.",
          remedy: "Copy it again when nothing writes to it.", status: .guest)
      }
    }
  }

  private func look(
    at path: String, have: Int
  ) async throws -> (size: Int, mode: mode_t, hash: String) {
    let answer = try await persistently({ 0 }) {
      try await shell.run(CopyScripts.downloadProbe, [bytes(path), bytes(String(have))])
    }
    try check(answer, "can't be looked at")
    let words = answer.lines(1).first?.split(separator: " ").map(String.init) ?? []
    let what = "\(shell.name):\(path)"
    switch words.first {
    case "file" where words.count == 4:
      guard let size = Int(words[1]), let mode = mode_t(words[2], radix: 8) else {
        throw unexpected(answer)
      }
      return (size, mode & 0o7777, words[3])
    case "dir": throw Failure.usage("\(what) is a folder.", remedy: "Copy it with -r.")
    case "none":
      throw Failure(
        kind: "no-file", sentence: "There is no \(path) in \(shell.name).", status: .guest)
    case "unreadable":
      throw Failure(
        kind: "not-readable", sentence: "\(what) can't be read.",
        remedy: "Copy as another user (--run-as).", status: .permission)
    case "special":
      throw Failure(
        kind: "no-plain-file", sentence: "\(what) is no plain file.",
        remedy: "Read it with sallyport exec \(shell.name) -- cat \(path)", status: .guest)
    default: throw unexpected(answer)
    }
  }

  private func remoteHash(_ path: String) async throws -> String {
    let answer = try await persistently({ 0 }) {
      try await shell.run(CopyScripts.downloadHash, [bytes(path)])
    }
    try check(answer, "can't be read")
    let hash = answer.lines(1).first ?? ""
    guard hash.count == 64 else {
      throw Failure(
        kind: "no-hash", sentence: "\(shell.name) has no program that computes a SHA-256.",
        remedy: "Install coreutils, openssl or perl's shasum in it.", status: .guest)
    }
    return hash
  }

  // MARK: Words

  /// A script that has nothing to say.
  func expect(_ script: String, _ arguments: [[UInt8]], _ what: String) async throws {
    let answer = try await persistently({ 0 }) { try await shell.run(script, arguments) }
    try check(answer, what)
  }

  /// The script's exit code must be 0.
  func check(_ answer: GuestShell.Answer, _ what: String) throws(Failure) {
    guard answer.code != 0 else { return }
    let words = String(decoding: answer.stderr, as: UTF8.self)
      .split(separator: "\n").suffix(3).map(String.init)
    let full = words.contains { $0.contains("No space left") }
    throw Failure(
      kind: "guest-file", sentence: "\(shell.name) \(what) (exit code \(answer.code)).",
      remedy: full
        ? "Make room in the guest, and run the same copy again: it goes on."
        : answer.code == 127 ? "cp needs a POSIX shell and coreutils (or busybox) there." : "",
      details: words, status: .guest)
  }

  func unexpected(_ answer: GuestShell.Answer) -> Failure {
    Failure(
      kind: "odd-answer",
      sentence: "\(shell.name)'s shell answered something that a copy doesn't understand.",
      remedy: "cp needs a POSIX shell and coreutils (or busybox) there.",
      details: [String(decoding: answer.stdout.prefix(200), as: UTF8.self)], status: .guest)
  }

  func mismatch(_ sentence: String, _ wanted: String, _ found: String) -> Failure {
    Failure(
      kind: "hash-mismatch", sentence: sentence + ".",
      remedy: "Nothing was put in its place. Copy it again when nothing writes to it.",
      details: ["SHA-256 wanted: \(wanted)", "SHA-256 found:  \(found)"])
  }

  func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

  /// The last part of a path.
  func lastName(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? ""
  }
}

/// A value that several tasks use.
final class Shared<Value: Sendable>: Sendable {
  private let held: Mutex<Value>
  init(_ value: Value) { held = Mutex(value) }
  var value: Value {
    get { held.withLock { $0 } }
    set { held.withLock { $0 = newValue } }
  }
}
