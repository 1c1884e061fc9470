import Glibc
import Synchronization

/// Which of a command's two output streams.
package enum JobStream: String, Sendable, CaseIterable {
  case stdout, stderr
}

/// What a job's command has written: a file for each stream, to which bytes are added and nothing else. A byte's offset
/// in its stream is its offset in the file.
final class JobOutput: Sendable {
  /// The system's word for why something can't be stored.
  struct Failure: Error, CustomStringConvertible {
    let code: Int32
    var description: String { String(cString: strerror(code)) }
  }

  private struct State {
    var descriptors: [JobStream: Int32] = [:]
    var isClosed = false
  }
  private let path: String
  private let disk: JobDisk
  private let state = Mutex(State())

  /// - Parameter path: of the files, without their extension.
  init(path: String, disk: JobDisk) {
    self.path = path
    self.disk = disk
  }

  deinit { close() }

  private func file(_ stream: JobStream) -> String {
    path + (stream == .stdout ? ".out" : ".err")
  }

  /// Adds bytes behind what is there. When it returns they are with the kernel: they outlive this process.
  /// - Throws: ``Failure``; then none of them is stored.
  func append(_ stream: JobStream, _ bytes: [UInt8]) async throws {
    try await disk.run { [self] in
      let descriptor = try descriptor(stream)
      let before = lseek(descriptor, 0, Int32(SEEK_END))
      var sent = 0
      while sent < bytes.count {
        let n = bytes[sent...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        if n < 0, errno == EINTR { continue }
        guard n > 0 else {
          let failure = Failure(code: errno)
          // Nothing of a piece that didn't fit may be taken for output.
          ftruncate(descriptor, before)
          throw failure
        }
        sent += n
      }
    }
  }

  private func descriptor(_ stream: JobStream) throws -> Int32 {
    let path = file(stream)
    return try state.withLock { state in
      if let open = state.descriptors[stream] { return open }
      guard !state.isClosed else { throw Failure(code: EBADF) }
      let new = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
      guard new >= 0 else { throw Failure(code: errno) }
      state.descriptors[stream] = new
      return new
    }
  }

  /// Bytes from an offset on, at most so many; none behind the end.
  func read(_ stream: JobStream, at offset: Int, count: Int) async -> [UInt8] {
    let path = file(stream)
    guard offset >= 0, count > 0 else { return [] }
    let bytes = try? await disk.run { () -> [UInt8] in
      let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
      guard descriptor >= 0 else { return [] }
      defer { Glibc.close(descriptor) }
      return [UInt8](unsafeUninitializedCapacity: count) { room, used in
        while used < count, let base = room.baseAddress {
          let n = pread(descriptor, base + used, count - used, offset + used)
          if n < 0, errno == EINTR { continue }
          guard n > 0 else { break }
          used += n
        }
      }
    }
    return bytes ?? []
  }

  /// How many bytes of a stream are stored. Blocks for a moment.
  func size(_ stream: JobStream) -> Int {
    var status = stat()
    return stat(file(stream), &status) == 0 ? Int(status.st_size) : 0
  }

  /// Nothing more will be added.
  func close() {
    let open = state.withLock { state in
      state.isClosed = true
      defer { state.descriptors = [:] }
      return state.descriptors.values.map { $0 }
    }
    for descriptor in open { Glibc.close(descriptor) }
  }

  /// Takes the files away. Who reads them meanwhile finds them empty.
  func remove() {
    close()
    for stream in JobStream.allCases { unlink(file(stream)) }
  }
}
