import Glibc
import Synchronization

/// Makes sure of a state file before SQLite opens it: that it is a file, ours, of a version that we know, and used by
/// nobody else. Nothing in here changes a byte of it.
///
/// The lock is `flock` on a descriptor that stays open: it goes with the process, however that ends. SQLite's own locks
/// are `fcntl` ones, which a process loses with the first descriptor of the file that it closes; so a file that this
/// process has in use already is not even opened.
final class StateGuard: Sendable {
  /// "Sally" in SQLite's `application_id`.
  static let applicationID: Int32 = 0x5341_4C59
  private static let magic = Array("SQLite format 3\u{0}".utf8)

  private struct Identity: Hashable {
    var device: UInt64
    var inode: UInt64
  }
  private static let inUse = Mutex<Set<Identity>>([])

  /// -1 once it is released.
  private let descriptor: Mutex<Int32>
  private let identity: Identity
  /// SQLite's `user_version` in the file.
  let version: Int

  /// What is at a path.
  enum Presence {
    case nothing, empty, file
  }

  /// Looks at a path without opening anything.
  static func presence(_ path: String) throws(StateFailure) -> Presence {
    var info = stat()
    guard stat(path, &info) == 0 else {
      if errno == ENOENT { return .nothing }
      throw .system(path, why: reason())
    }
    switch info.st_mode & S_IFMT {
    case S_IFREG: return info.st_size == 0 ? .empty : .file
    case S_IFDIR: throw .notAFile(path, what: "a folder")
    default: throw .notAFile(path, what: "a device, pipe or socket")
    }
  }

  /// Locks an existing file and reads its header.
  init(_ path: String) throws(StateFailure) {
    var info = stat()
    guard stat(path, &info) == 0 else { throw .system(path, why: StateGuard.reason()) }
    let identity = Identity(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
    guard StateGuard.inUse.withLock({ $0.insert(identity).inserted }) else { throw .inUse(path) }
    let descriptor = open(path, O_RDWR | O_CLOEXEC)
    var failure: StateFailure?
    var version = 0
    if descriptor < 0 {
      failure = .system(path, why: StateGuard.reason())
    } else if flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      failure = .inUse(path)
    } else {
      do throws(StateFailure) {
        version = try StateGuard.version(of: descriptor, path)
      } catch {
        failure = error
      }
    }
    if let failure {
      if descriptor >= 0 { close(descriptor) }
      _ = StateGuard.inUse.withLock { $0.remove(identity) }
      throw failure
    }
    self.descriptor = Mutex(descriptor)
    self.identity = identity
    self.version = version
  }

  deinit { release() }

  /// Lets go of the file.
  func release() {
    descriptor.withLock { descriptor in
      guard descriptor >= 0 else { return }
      close(descriptor)
      descriptor = -1
      _ = StateGuard.inUse.withLock { $0.remove(identity) }
    }
  }

  /// Only its owner may read it: passwords and keys are in it.
  func tighten() { descriptor.withLock { _ = fchmod($0, 0o600) } }

  /// The header says whose file it is: magic at 0, `user_version` at 60, `application_id` at 68, big-endian.
  private static func version(of descriptor: Int32, _ path: String) throws(StateFailure) -> Int {
    var header = [UInt8](repeating: 0, count: 100)
    let n = pread(descriptor, &header, header.count, 0)
    guard n >= 0 else { throw .system(path, why: reason()) }
    guard header.starts(with: magic) else {
      throw .foreign(path, what: "it is no SQLite database")
    }
    guard n == header.count else { throw .damaged(path, why: "it ends in its header") }
    func number(at offset: Int) -> Int32 {
      header[offset..<offset + 4].reduce(0) { $0 << 8 | Int32($1) }
    }
    guard number(at: 68) == applicationID else {
      throw .foreign(path, what: "it is another program's SQLite database")
    }
    return Int(number(at: 60))
  }

  static func reason() -> String { String(cString: strerror(errno)) }
}
