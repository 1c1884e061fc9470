import Foundation
import Synchronization

/// Does work that blocks on the disk, on threads of its own: neither a loop nor a task may wait for a disk.
final class JobDisk: Sendable {
  /// Proof of `@unchecked Sendable`: everything mutable is touched between `lock()` and `unlock()` of the condition.
  private final class Line: @unchecked Sendable {
    let condition = NSCondition()
    var work: [@Sendable () -> Void] = []
    var head = 0
    var isOver = false

    func add(_ body: @escaping @Sendable () -> Void) -> Bool {
      condition.lock()
      defer { condition.unlock() }
      guard !isOver else { return false }
      work.append(body)
      condition.signal()
      return true
    }

    func next() -> (@Sendable () -> Void)? {
      condition.lock()
      defer { condition.unlock() }
      while head == work.count {
        if isOver { return nil }
        condition.wait()
      }
      let body = work[head]
      head += 1
      if head == work.count {
        work.removeAll(keepingCapacity: head < 1024)
        head = 0
      }
      return body
    }

    /// - Returns: whether the last one will be done: false where it had ended before.
    @discardableResult
    func end(_ last: (@Sendable () -> Void)?) -> Bool {
      condition.lock()
      defer { condition.unlock() }
      guard !isOver else { return false }
      if let last { work.append(last) }
      isOver = true
      condition.broadcast()
      return true
    }
  }

  /// The threads have ended.
  struct Ended: Error, CustomStringConvertible {
    var description: String { "the job store was closed" }
  }

  private let line = Line()

  /// - Parameter threads: how much is done at a time.
  init(threads: Int) {
    for _ in 0..<threads {
      Thread.detachNewThread { [line] in
        while let body = line.next() { body() }
      }
    }
  }

  deinit { line.end(nil) }

  /// What was given is done, then that, and the threads end.
  func close() { line.end(nil) }

  /// The same, with a last thing to do, for which it waits.
  func close(_ last: @escaping @Sendable () -> Void) async {
    await withCheckedContinuation { continuation in
      let taken = line.end {
        last()
        continuation.resume()
      }
      if !taken { continuation.resume() }
    }
  }

  /// Does it some time soon.
  @discardableResult
  func later(_ body: @escaping @Sendable () -> Void) -> Bool { line.add(body) }

  /// Does it and waits.
  func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      let taken = line.add { continuation.resume(with: Result { try body() }) }
      if !taken { continuation.resume(throwing: Ended()) }
    }
  }
}
