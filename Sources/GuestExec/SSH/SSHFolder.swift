import CSallyport
import Glibc
import Synchronization

/// A private folder for sockets and logs. Gone when nobody uses it any more.
final class SSHFolder: Sendable {
  let path: String
  private let count = Atomic<Int>(0)

  /// - Parameter parent: where to make it; nil for `/tmp`, which keeps sockets' paths short (108 bytes is the most).
  init(in parent: String?) throws(ExecFailure) {
    if let parent { mkdir(parent, 0o700) }
    var template = Array("\(parent ?? "/tmp")/sp-ssh-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw ExecFailure(
        .noTransport,
        "No folder for ssh's sockets could be made in \(parent ?? "/tmp"): \(String(cString: strerror(errno))).",
        remedy: "Name another in 'controlDirectory'.")
    }
    path = String(
      decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit { sp_remove_tree(path) }

  /// A path for a log that nobody else has.
  func newLog() -> String { "\(path)/\(count.wrappingAdd(1, ordering: .relaxed).newValue).log" }

  /// Writes a small file that only we can read.
  func write(_ text: String, to path: String) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    let bytes = Array(text.utf8)
    _ = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
  }

  /// The end of a log, and removes it.
  static func take(_ path: String) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer {
      close(descriptor)
      unlink(path)
    }
    let size = lseek(descriptor, 0, SEEK_END)
    lseek(descriptor, max(0, size - 8192), SEEK_SET)
    var bytes = [UInt8](repeating: 0, count: 8192)
    let n = read(descriptor, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, n)), as: UTF8.self)
  }
}
