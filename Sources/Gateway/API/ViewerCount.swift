import Synchronization

/// How many viewers are there, from the accepted websocket to its end, whether or not a link was shown. Nobody has to
/// report an end: a viewer that is gone is one whose object is gone.
final class ViewerCount: Sendable {
  /// Proof of `@unchecked Sendable`: the object is never used, only compared with nil, and weak references may be loaded
  /// on any thread.
  private struct Seat: @unchecked Sendable {
    weak var viewer: AnyObject?
  }

  private struct State: Sendable {
    var seats: [Seat] = []
    /// Above this many the empty seats are cleared away, so that each costs little.
    var threshold = 64
  }

  private let state = Mutex(State())
  private let maximum: Int

  init(maximum: Int) { self.maximum = maximum }

  /// Gives a viewer a seat; false if none is free.
  func add(_ viewer: AnyObject) -> Bool {
    let seat = Seat(viewer: viewer)
    return state.withLock { state in
      if state.seats.count >= min(state.threshold, maximum) {
        state.seats.removeAll { $0.viewer == nil }
        state.threshold = max(64, state.seats.count * 2)
      }
      guard state.seats.count < maximum else { return false }
      state.seats.append(seat)
      return true
    }
  }
}
