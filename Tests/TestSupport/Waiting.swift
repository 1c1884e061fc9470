import EventLoop
import Synchronization

/// Waits until a condition holds. The limit is a safety time-out, not a measure.
package func happens(
  within limit: Duration = .seconds(20), _ condition: @Sendable () -> Bool
) async -> Bool {
  let end = ContinuousClock.now + limit
  while ContinuousClock.now < end {
    if condition() { return true }
    try? await Task.sleep(for: .milliseconds(4))
  }
  return condition()
}

extension Loop {
  /// Runs a closure on the loop and waits for its result.
  package func result<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
    try await withCheckedThrowingContinuation { c in
      execute { c.resume(with: Result { try body() }) }
    }
  }
}

/// A value behind a lock, to be captured by many closures.
package final class Shared<T: Sendable>: Sendable {
  private let value: Mutex<T>
  package init(_ value: T) { self.value = Mutex(value) }
  package func withLock<R: Sendable>(_ body: (inout T) -> R) -> R {
    value.withLock { v in
      var copy = v
      let result = body(&copy)
      v = copy
      return result
    }
  }
  package var now: T { value.withLock { $0 } }
}

/// FNV-1a, to compare long streams without keeping them.
package struct StreamHash: Sendable, Equatable {
  package var value: UInt64 = 0xcbf2_9ce4_8422_2325
  package var count = 0
  package init() {}
  package mutating func add(_ bytes: UnsafeRawBufferPointer) {
    var h = value
    for b in bytes { h = (h ^ UInt64(b)) &* 0x100_0000_01b3 }
    value = h
    count += bytes.count
  }
}
