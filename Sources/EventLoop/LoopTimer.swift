/// A timer of a loop. Cancelling releases its closure at once.
public final class LoopTimer {
  var body: (() -> Void)?
  /// When it fires, as ``Loop/now`` counts.
  public let deadline: Duration

  init(deadline: Duration, body: @escaping () -> Void) {
    self.deadline = deadline
    self.body = body
  }

  /// Whether it will still fire.
  public var isPending: Bool { body != nil }

  /// Stops it from firing. May be called more than once, and after it has fired.
  public func cancel() { body = nil }
}

/// A timer in the heap, ordered by deadline and, among equals, by age.
struct TimerEntry: Comparable {
  /// When it fires, as ``Loop/now`` counts.
  public let deadline: Duration
  let order: UInt64
  let timer: LoopTimer

  static func < (a: TimerEntry, b: TimerEntry) -> Bool {
    (a.deadline, a.order) < (b.deadline, b.order)
  }
  static func == (a: TimerEntry, b: TimerEntry) -> Bool { a.order == b.order }
}
