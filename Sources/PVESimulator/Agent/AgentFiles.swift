import Glibc

/// The files that the built-in agent has open, by handle: `guest-file-open` and its family.
struct AgentFiles {
  private struct Handle {
    var descriptor: Int32
    var isAtEnd = false
  }

  /// The largest single read (48 MiB).
  private static let largestRead = 48 << 20
  private var handles: [Int: Handle] = [:]
  /// qemu-ga begins there as well.
  private var next = 1000

  private static let modes: [String: Int32] = [
    "r": O_RDONLY, "rb": O_RDONLY, "w": O_WRONLY | O_CREAT | O_TRUNC,
    "wb": O_WRONLY | O_CREAT | O_TRUNC, "a": O_WRONLY | O_CREAT | O_APPEND,
    "ab": O_WRONLY | O_CREAT | O_APPEND, "r+": O_RDWR, "rb+": O_RDWR, "r+b": O_RDWR,
    "w+": O_RDWR | O_CREAT | O_TRUNC, "wb+": O_RDWR | O_CREAT | O_TRUNC,
    "w+b": O_RDWR | O_CREAT | O_TRUNC, "a+": O_RDWR | O_CREAT | O_APPEND,
    "ab+": O_RDWR | O_CREAT | O_APPEND, "a+b": O_RDWR | O_CREAT | O_APPEND,
  ]

  mutating func open(_ path: String, mode: String, in room: Room) -> AgentAnswer {
    guard let flags = AgentFiles.modes[mode] else {
      return .failed("invalid file open mode '\(mode)'")
    }
    // Not blocking: a named pipe without a writer must not hold up the node.
    let descriptor = room.open(path, flags | O_NONBLOCK)
    guard descriptor >= 0 else {
      return .failed("failed to open file '\(path)' (mode: '\(mode)'): \(reason)")
    }
    let handle = next
    next += 1
    handles[handle] = Handle(descriptor: descriptor)
    return .value(.int(handle))
  }

  mutating func close(_ handle: Int) -> AgentAnswer {
    guard let file = handles.removeValue(forKey: handle) else { return unknown(handle) }
    Glibc.close(file.descriptor)
    return .value(.object([]))
  }

  mutating func read(_ handle: Int, count: Int) -> AgentAnswer {
    guard var file = handles[handle] else { return unknown(handle) }
    guard (0...AgentFiles.largestRead).contains(count) else {
      return .failed("value '\(count)' is invalid for argument count")
    }
    var got = 0
    var failure: String?
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while got < count {
        let n = Glibc.read(file.descriptor, buffer.baseAddress.map { $0 + got }, count - got)
        if n < 0, errno == EINTR { continue }
        if n < 0, got == 0 { failure = reason }
        if n <= 0 {
          file.isAtEnd = n == 0
          break
        }
        got += n
      }
      filled = got
    }
    if let failure { return .failed("failed to read file: \(failure)") }
    handles[handle] = file
    return .value([
      "count": .int(got), "buf-b64": .string(base64(bytes)), "eof": .bool(file.isAtEnd),
    ])
  }

  mutating func write(_ handle: Int, _ bytes: [UInt8], count: Int?) -> AgentAnswer {
    guard let file = handles[handle] else { return unknown(handle) }
    let length = count ?? bytes.count
    guard (0...bytes.count).contains(length) else {
      return .failed("value '\(length)' is invalid for argument count")
    }
    var written = 0
    let failure = bytes.withUnsafeBytes { buffer -> String? in
      while written < length {
        let n = Glibc.write(
          file.descriptor, buffer.baseAddress.map { $0 + written }, length - written)
        if n < 0, errno == EINTR { continue }
        if n <= 0 { return "failed to write to file: \(reason)" }
        written += n
      }
      return nil
    }
    if let failure { return .failed(failure) }
    return .value(["count": .int(written), "eof": .bool(false)])
  }

  mutating func seek(_ handle: Int, offset: Int, whence: JSON?) -> AgentAnswer {
    guard var file = handles[handle] else { return unknown(handle) }
    let from: Int32
    switch whence {
    case .some("set"), .some(0): from = SEEK_SET
    case .some("cur"), .some(1): from = SEEK_CUR
    case .some("end"), .some(2): from = SEEK_END
    default: return .failed("invalid whence code \(whence?.text ?? "")")
    }
    let position = lseek(file.descriptor, off_t(offset), from)
    guard position >= 0 else { return .failed("failed to seek file: \(reason)") }
    file.isAtEnd = false
    handles[handle] = file
    return .value(["position": .int(Int(position)), "eof": .bool(false)])
  }

  mutating func closeAll() {
    for file in handles.values { Glibc.close(file.descriptor) }
    handles = [:]
  }

  private var reason: String { String(cString: strerror(errno)) }
  private func unknown(_ handle: Int) -> AgentAnswer {
    .failed("handle '\(handle)' has not been found")
  }
}
