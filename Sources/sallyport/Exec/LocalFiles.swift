import COpenSSL
import Dispatch
import Glibc
import Synchronization

/// A SHA-256 that grows. One owner at a time.
final class Hasher256: Sendable {
  // Proof: only used under the mutex.
  private struct Context: @unchecked Sendable { let pointer: OpaquePointer? }
  private let context: Mutex<Context>

  init() {
    let pointer = EVP_MD_CTX_new()
    EVP_DigestInit_ex(pointer, EVP_sha256(), nil)
    context = Mutex(Context(pointer: pointer))
  }

  deinit { context.withLock { EVP_MD_CTX_free($0.pointer) } }

  /// Adds bytes.
  func add(_ bytes: [UInt8]) {
    context.withLock { context in
      _ = bytes.withUnsafeBytes { EVP_DigestUpdate(context.pointer, $0.baseAddress, $0.count) }
    }
  }

  /// The hash of all that was added, in hexadecimal; more may be added afterwards.
  var hex: String {
    context.withLock { context in
      let copy = EVP_MD_CTX_new()
      defer { EVP_MD_CTX_free(copy) }
      EVP_MD_CTX_copy_ex(copy, context.pointer)
      var digest = [UInt8](repeating: 0, count: 32)
      EVP_DigestFinal_ex(copy, &digest, nil)
      let digits = Array("0123456789abcdef".utf8)
      return String(
        decoding: digest.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
  }
}

/// A local file for a copy; closed with the object. Reading and writing happen on a thread of its own.
final class LocalFile: Sendable {
  let path: String
  private let descriptor: Int32
  private let queue = DispatchQueue(label: "file")

  private init(_ path: String, _ descriptor: Int32) {
    self.path = path
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// Opens a file for reading, or one that is to be written.
  static func open(_ path: String, _ flags: Int32, mode: mode_t = 0) throws(Failure) -> LocalFile {
    let descriptor = Glibc.open(path, flags | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw LocalFile.failure(path, "can't be opened") }
    return LocalFile(path, descriptor)
  }

  /// What the system says of a failed call, for the person.
  static func failure(_ path: String, _ what: String, remedy: String = "") -> Failure {
    Failure(
      kind: "local-file",
      sentence: "\(path) on this machine \(what): \(String(cString: strerror(errno))).",
      remedy: remedy)
  }

  /// Size and permission bits.
  func about() throws(Failure) -> (size: Int, mode: mode_t, isFolder: Bool, isRegular: Bool) {
    var about = stat()
    guard fstat(descriptor, &about) == 0 else { throw Self.failure(path, "can't be looked at") }
    let type = about.st_mode & S_IFMT
    return (Int(about.st_size), about.st_mode & 0o7777, type == S_IFDIR, type == S_IFREG)
  }

  /// Whether nobody else has it locked.
  func lock() -> Bool { flock(descriptor, LOCK_EX | LOCK_NB) == 0 }

  /// The bytes from an offset on, at most so many; empty at the end.
  func read(at offset: Int, count: Int) async throws -> [UInt8] {
    let outcome: Result<[UInt8], Failure> = await withCheckedContinuation { done in
      queue.async { [self] in
        var failed = false
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, used in
          var n = -1
          repeat {
            n = pread(descriptor, buffer.baseAddress, count, off_t(offset))
          } while n < 0
            && errno == EINTR
          failed = n < 0
          used = max(0, n)
        }
        done.resume(
          returning: failed ? .failure(Self.failure(path, "can't be read")) : .success(bytes))
      }
    }
    return try outcome.get()
  }

  /// The next bytes of what has no offsets (a pipe, a device); empty at the end.
  func readOn(count: Int) async throws -> [UInt8] {
    let outcome: Result<[UInt8], Failure> = await withCheckedContinuation { done in
      queue.async { [self] in
        var failed = false
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, used in
          var n = -1
          repeat {
            n = Glibc.read(descriptor, buffer.baseAddress, count)
          } while n < 0
            && errno == EINTR
          failed = n < 0
          used = max(0, n)
        }
        done.resume(
          returning: failed ? .failure(Self.failure(path, "can't be read")) : .success(bytes))
      }
    }
    return try outcome.get()
  }

  /// Writes bytes at an offset, all of them.
  func write(_ bytes: [UInt8], at offset: Int) async throws {
    let failure: Failure? = await withCheckedContinuation { done in
      queue.async { [self] in
        var at = 0
        while at < bytes.count {
          let n = bytes[at...].withUnsafeBytes {
            pwrite(descriptor, $0.baseAddress, $0.count, off_t(offset + at))
          }
          if n < 0, errno == EINTR { continue }
          guard n > 0 else {
            done.resume(
              returning: Self.failure(
                path, "can't be written",
                remedy: "Make room, and run the same copy again: it goes on."))
            return
          }
          at += n
        }
        done.resume(returning: nil)
      }
    }
    if let failure { throw failure }
  }

  /// Cuts it at a size.
  func truncate(to size: Int) throws(Failure) {
    guard ftruncate(descriptor, off_t(size)) == 0 else {
      throw Self.failure(path, "can't be cut")
    }
  }

  /// Gives it its permission bits, and waits until it is on the disk.
  func settle(mode: mode_t) async throws {
    let failure: Failure? = await withCheckedContinuation { done in
      queue.async { [self] in
        let ok = fchmod(descriptor, mode) == 0 && (fsync(descriptor) == 0 || errno == EINVAL)
        done.resume(returning: ok ? nil : Self.failure(path, "can't be finished"))
      }
    }
    if let failure { throw failure }
  }

  /// The hash of its first bytes.
  func hash(_ count: Int, progress: @Sendable (Int) -> Void = { _ in }) async throws -> Hasher256 {
    let hasher = Hasher256()
    var at = 0
    while at < count {
      let bytes = try await read(at: at, count: min(1 << 20, count - at))
      guard !bytes.isEmpty else { break }
      hasher.add(bytes)
      at += bytes.count
      progress(at)
      if Task.isCancelled {
        throw Failure(kind: "cancelled", sentence: "The copy was given up.", status: .limit)
      }
    }
    return hasher
  }
}
