import Synchronization

/// What a client has sent as standard input and the command hasn't taken yet. Bounded by its user: a client that hears
/// `false` from ``put(_:)`` is not read until there is room.
final class CommandStreamInput: Sendable {
  /// The next thing for the command.
  enum Item: Sendable {
    /// These bytes.
    case bytes([UInt8])
    /// The end of standard input.
    case end
  }

  private struct State {
    var bytes: [UInt8] = []
    var isClosed = false
    var isOver = false
    var isFull = false
    var waiting: CheckedContinuation<Void, Never>?
  }
  private let state = Mutex(State())
  private let onRoom: @Sendable () -> Void
  /// The most bytes that wait before the client is held back.
  static let bound = 512 << 10

  /// - Parameter onRoom: called, from any thread, each time there is room again after ``put(_:)`` said `false`.
  init(onRoom: @escaping @Sendable () -> Void) { self.onRoom = onRoom }

  /// Adds bytes; never waits.
  /// - Returns: whether the client may go on.
  func put(_ bytes: some Collection<UInt8>) -> Bool {
    let (waiting, goOn) = state.withLock { state -> (CheckedContinuation<Void, Never>?, Bool) in
      guard !state.isOver, !state.isClosed else { return (nil, true) }
      state.bytes.append(contentsOf: bytes)
      if state.bytes.count >= Self.bound { state.isFull = true }
      defer { state.waiting = nil }
      return (state.waiting, !state.isFull)
    }
    waiting?.resume()
    return goOn
  }

  /// The client has closed standard input.
  func close() { wake { $0.isClosed = true } }

  /// Nothing will be taken any more: what waits is dropped, and what comes.
  func finish() {
    wake {
      $0.isOver = true
      $0.bytes = []
    }
  }

  private func wake(_ change: (inout State) -> Void) {
    let (waiting, room) = state.withLock { state -> (CheckedContinuation<Void, Never>?, Bool) in
      change(&state)
      let room = state.isOver && state.isFull
      if room { state.isFull = false }
      defer { state.waiting = nil }
      return (state.waiting, room)
    }
    waiting?.resume()
    if room { onRoom() }
  }

  /// All that has come since the last call, or the end behind it. Nil when it is over. One caller at a time.
  func next() async -> Item? {
    while true {
      let (item, isOver, room) = state.withLock { state -> (Item?, Bool, Bool) in
        if state.isOver { return (nil, true, false) }
        if !state.bytes.isEmpty {
          defer {
            state.bytes = []
            state.isFull = false
          }
          return (.bytes(state.bytes), false, state.isFull)
        }
        if state.isClosed {
          state.isOver = true
          return (.end, false, false)
        }
        return (nil, false, false)
      }
      if room { onRoom() }
      if let item { return item }
      if isOver { return nil }
      await withCheckedContinuation { continuation in
        let now = state.withLock { state -> Bool in
          if state.isOver || state.isClosed || !state.bytes.isEmpty { return true }
          state.waiting = continuation
          return false
        }
        if now { continuation.resume() }
      }
    }
  }
}

/// Lets a task go on when what it has sent has left: closed by the sender, opened by the loop.
final class CommandStreamGate: Sendable {
  private struct State {
    var isOpen = true
    var isOver = false
    var waiting: CheckedContinuation<Void, Never>?
  }
  private let state = Mutex(State())

  /// Something is being sent.
  func close() { state.withLock { $0.isOpen = false } }

  /// It has left.
  func open() { wake { $0.isOpen = true } }

  /// There is nobody any more to send to.
  func finish() { wake { $0.isOver = true } }

  /// Whether there is nobody any more.
  var isOver: Bool { state.withLock { $0.isOver } }

  private func wake(_ change: (inout State) -> Void) {
    let waiting = state.withLock { state in
      change(&state)
      defer { state.waiting = nil }
      return state.waiting
    }
    waiting?.resume()
  }

  /// Waits until it is open.
  /// - Returns: whether there is still somebody to send to.
  func pass() async -> Bool {
    await withCheckedContinuation { continuation in
      let now = state.withLock { state -> Bool in
        if state.isOpen || state.isOver { return true }
        state.waiting = continuation
        return false
      }
      if now { continuation.resume() }
    }
    return !isOver
  }
}
