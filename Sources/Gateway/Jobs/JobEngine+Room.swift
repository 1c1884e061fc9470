import Foundation
import GuestExec
import Synchronization

/// Output on disk, within bounds.
extension JobEngine {
  /// Stores bytes that a command wrote, and then tells of them.
  func keep(_ bytes: [UInt8], of stream: JobStream, _ job: Job) async {
    guard !bytes.isEmpty else { return }
    let summary = job.summary
    let isCut = stream == .stdout ? summary.stdoutTruncated : summary.stderrTruncated
    // Behind a gap nothing is stored: an offset has to mean the same for ever.
    if isCut { return }
    let have = stream == .stdout ? summary.stdoutBytes : summary.stderrBytes
    let room = configuration.outputLimit - have
    let piece = bytes.count <= room ? bytes : Array(bytes.prefix(max(0, room)))
    if !piece.isEmpty {
      guard await makeRoom(for: piece.count) else {
        await cut(
          stream, job,
          "The output of all jobs together has reached exec.maximumBytes; what follows is dropped.")
        return
      }
      do {
        try await job.output.append(stream, piece)
      } catch {
        used.subtract(piece.count, ordering: .relaxed)
        await cut(stream, job, "The output can't be stored (\(error)); what follows is dropped.")
        return
      }
      job.change {
        if stream == .stdout {
          $0.summary.stdoutBytes += piece.count
        } else {
          $0.summary.stderrBytes += piece.count
        }
      }
    }
    if piece.count < bytes.count {
      await cut(stream, job, "The output is over its limit; what follows is dropped.")
    }
  }

  private func cut(_ stream: JobStream, _ job: Job, _ why: String) async {
    job.note(why)
    do {
      try await advance(job) {
        if stream == .stdout { $0.stdoutTruncated = true } else { $0.stderrTruncated = true }
      }
    } catch {
      logger.error("a job can't be stored: \(error)", metadata: ["job": "\(job.id)"])
      job.change {
        if stream == .stdout {
          $0.summary.stdoutTruncated = true
        } else {
          $0.summary.stderrTruncated = true
        }
      }
    }
  }

  /// Counts bytes that are to be stored; where they would be too many, jobs that are over go first.
  /// - Returns: false where there is no room even then; then nothing was counted.
  private func makeRoom(for count: Int) async -> Bool {
    let limit = configuration.maximumBytes
    if used.add(count, ordering: .relaxed).newValue <= limit { return true }
    guard await roomTurn.take() else { return false }
    defer { roomTurn.give() }
    let excess = used.load(ordering: .relaxed) - limit
    if excess > 0 {
      // A little more than needed, so that the next piece doesn't come here again.
      let oldest = (try? await store.oldestEnded(bytes: excess + limit / 64)) ?? []
      await drop(oldest)
    }
    if used.load(ordering: .relaxed) <= limit { return true }
    used.subtract(count, ordering: .relaxed)
    return false
  }

  /// Forgets jobs that are over.
  func drop(_ jobs: [(id: String, bytes: Int)]) async {
    guard !jobs.isEmpty else { return }
    do {
      try await store.remove(jobs.map(\.id))
    } catch {
      logger.error("old jobs can't be removed: \(error)")
      return
    }
    let outputs = jobs.map { JobOutput(path: folder.output($0.id), disk: disk) }
    _ = try? await disk.run { for output in outputs { output.remove() } }
    used.subtract(jobs.reduce(0) { $0 + $1.bytes }, ordering: .relaxed)
  }

  /// Forgets the jobs whose time is over.
  func sweep() async {
    let moment = Date().addingTimeInterval(-configuration.keepFor.seconds)
    while let old = try? await store.ended(before: moment), !old.isEmpty {
      let before = old.count
      await drop(old)
      if before < 1000 { break }
    }
  }

  /// Takes away output of which no job knows, and counts the rest.
  func tidy() async throws {
    let known = try await store.ids()
    let path = folder.path + "/output"
    let total = try await disk.run { () -> Int in
      var total = 0
      for name in try FileManager.default.contentsOfDirectory(atPath: path) {
        let file = "\(path)/\(name)"
        guard let dot = name.lastIndex(of: "."), known.contains(String(name[..<dot])) else {
          try? FileManager.default.removeItem(atPath: file)
          continue
        }
        var status = stat()
        if stat(file, &status) == 0 { total += Int(status.st_size) }
      }
      return total
    }
    used.store(total, ordering: .relaxed)
  }
}
