import Foundation
import Glibc
import Synchronization

/// The folder in which jobs are stored: only its owner can look into it, and only one process uses it at a time.
final class JobFolder: Sendable {
  /// Its path.
  let path: String
  /// Whether it goes with the process.
  let isTemporary: Bool
  private let lock: Mutex<Int32>

  /// Where a job's output is, without the extension.
  func output(_ id: String) -> String { "\(path)/output/\(id)" }

  /// Makes it where it isn't there.
  /// - Throws: ``ConfigurationError``
  init(path: String, isTemporary: Bool = false) throws(ConfigurationError) {
    self.path = path
    self.isTemporary = isTemporary
    func failure(_ what: String) -> ConfigurationError {
      ConfigurationError(
        "exec.dataFolder", "'\(path)' \(what)",
        remedy: "Name a folder that Sallyport can write to, and that no other Sallyport uses")
    }
    do {
      try FileManager.default.createDirectory(
        atPath: path + "/output", withIntermediateDirectories: true,
        attributes: [.posixPermissions: 0o700])
    } catch {
      throw failure("can't be made: \(String(cString: strerror(errno)))")
    }
    // A folder that was there before keeps nobody out by itself.
    guard chmod(path, 0o700) == 0, chmod(path + "/output", 0o700) == 0 else {
      throw failure("can't be closed to others: \(String(cString: strerror(errno)))")
    }
    let file = open(path + "/lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard file >= 0 else { throw failure("can't be written: \(String(cString: strerror(errno)))") }
    lock = Mutex(file)
    // All is set by now: where this fails, `deinit` closes the file.
    guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
      throw failure("is in use by another process")
    }
  }

  /// A folder for as long as the process runs.
  static func temporary() throws(ConfigurationError) -> JobFolder {
    let base = FileManager.default.temporaryDirectory.path
    guard let name = Random.text(bytes: 12) else {
      throw ConfigurationError(
        "exec.dataFolder", "can't be named: the system gives no random bytes")
    }
    return try JobFolder(path: "\(base)/sallyport-jobs-\(name)", isTemporary: true)
  }

  deinit { close() }

  /// Lets the next process in; a temporary folder goes.
  func close() {
    let file = lock.withLock { file in
      defer { file = -1 }
      return file
    }
    guard file >= 0 else { return }
    Glibc.close(file)
    if isTemporary { try? FileManager.default.removeItem(atPath: path) }
  }
}
