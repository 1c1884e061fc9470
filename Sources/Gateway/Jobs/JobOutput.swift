import Synchronization

/// Which of a command's two output streams.
package enum JobStream: String, Sendable, CaseIterable {
  case stdout, stderr
}

/// What a job's command has written.
final class JobOutput: Sendable {
  private let kept = Mutex<[JobStream: [UInt8]]>([:])

  /// Adds bytes behind what is there. When it returns they are stored.
  func append(_ stream: JobStream, _ bytes: [UInt8]) async throws {
    kept.withLock { $0[stream, default: []] += bytes }
  }

  /// Bytes from an offset on, at most so many; none behind the end.
  func read(_ stream: JobStream, at offset: Int, count: Int) async -> [UInt8] {
    kept.withLock { kept in
      let all = kept[stream] ?? []
      guard offset >= 0, offset < all.count, count > 0 else { return [] }
      return Array(all[offset..<min(all.count, offset + count)])
    }
  }
}
