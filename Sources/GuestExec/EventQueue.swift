import Synchronization

/// The events of one command on their way to whoever asks, in order. Bounded: a producer that hears `false` from
/// ``put(_:)`` stops its source until it is called back.
final class EventQueue: Sendable {
  private struct State {
    var events: [ExecEvent] = []
    var head = 0
    var bytes = 0
    var isOver = false
    var waiting: CheckedContinuation<Void, Never>?
    var room: [CheckedContinuation<Void, Never>] = []
    var onRoom: (@Sendable () -> Void)?
    var isFull = false
  }
  private let state = Mutex(State())
  private let limit: Int

  /// - Parameter limit: bytes that may wait before a producer is told to stop.
  init(limit: Int = 1 << 20) { self.limit = limit }

  /// Called (on the consumer's thread) each time there is room again after ``put(_:)`` said `false`.
  func whenRoom(_ body: @escaping @Sendable () -> Void) { state.withLock { $0.onRoom = body } }

  /// Adds an event; never waits. What comes after the end is dropped.
  /// - Returns: whether the producer may go on.
  @discardableResult
  func put(_ event: ExecEvent) -> Bool {
    let (waiting, goOn) = state.withLock { state -> (CheckedContinuation<Void, Never>?, Bool) in
      guard !state.isOver else { return (nil, true) }
      state.events.append(event)
      switch event {
      case .stdout(let bytes), .stderr(let bytes): state.bytes += bytes.count
      case .note: break
      case .ended: state.isOver = true
      }
      if state.bytes >= limit { state.isFull = true }
      defer { state.waiting = nil }
      return (state.waiting, state.bytes < limit)
    }
    waiting?.resume()
    return goOn
  }

  /// Adds an event, and waits while too much is in line. Returns at once when the calling task is cancelled.
  func putWaiting(_ event: ExecEvent) async {
    guard !put(event) else { return }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let now = state.withLock { state -> Bool in
          if state.bytes < limit || state.isOver || Task.isCancelled { return true }
          state.room.append(continuation)
          return false
        }
        if now { continuation.resume() }
      }
    } onCancel: {
      wakeProducers()
    }
  }

  private func wakeProducers() {
    let room = state.withLock { state in
      defer { state.room = [] }
      return state.room
    }
    for continuation in room { continuation.resume() }
  }

  /// Whether the end was put.
  var isOver: Bool { state.withLock { $0.isOver } }

  /// The next event; nil after the end or when the calling task is cancelled.
  func next() async -> ExecEvent? {
    while true {
      let (event, isDry) = take()
      if let event { return event }
      if isDry || Task.isCancelled { return nil }
      await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
          let (old, now) = state.withLock { state -> (CheckedContinuation<Void, Never>?, Bool) in
            if state.head < state.events.count || state.isOver || Task.isCancelled {
              return (nil, true)
            }
            defer { state.waiting = continuation }
            return (state.waiting, false)
          }
          // There is one consumer at a time; one that was left waiting all the same must not wait for ever.
          old?.resume()
          if now { continuation.resume() }
        }
      } onCancel: {
        let waiting = state.withLock { state in
          defer { state.waiting = nil }
          return state.waiting
        }
        waiting?.resume()
      }
    }
  }

  private func take() -> (ExecEvent?, isDry: Bool) {
    let (event, isDry, room, call) = state.withLock {
      state -> (ExecEvent?, Bool, [CheckedContinuation<Void, Never>], (@Sendable () -> Void)?) in
      guard state.head < state.events.count else { return (nil, state.isOver, [], nil) }
      let event = state.events[state.head]
      state.head += 1
      if state.head == state.events.count {
        state.events.removeAll(keepingCapacity: true)
        state.head = 0
      } else if state.head > 1024 {
        state.events.removeSubrange(..<state.head)
        state.head = 0
      }
      switch event {
      case .stdout(let bytes), .stderr(let bytes): state.bytes -= bytes.count
      default: break
      }
      guard state.isFull, state.bytes < limit else { return (event, false, [], nil) }
      state.isFull = false
      defer { state.room = [] }
      return (event, false, state.room, state.onRoom)
    }
    for continuation in room { continuation.resume() }
    call?()
    return (event, isDry)
  }
}
