import Synchronization

/// A body that is made while it is sent: a download, or server-sent events.
public struct HTTPBodySource: Sendable {
  /// How many bytes it will have, where that is known; else it is sent in chunks.
  public var length: Int?
  /// Makes it. Runs in a task of its own, which is cancelled when the client goes away.
  public var produce: @Sendable (HTTPBodyWriter) async -> Void

  /// Names the maker.
  public init(length: Int? = nil, _ produce: @escaping @Sendable (HTTPBodyWriter) async -> Void) {
    self.length = length
    self.produce = produce
  }
}

/// The way of a streamed body to its client. Memory is bounded: whoever writes faster than the client reads waits.
public final class HTTPBodyWriter: Sendable {
  private struct State {
    var pending: [[UInt8]] = []
    var bytes = 0
    var isFinished = false
    var isClosed = false
    var isAnnounced = false
    var room: [CheckedContinuation<Void, Never>] = []
  }
  private let state = Mutex(State())
  private let announce: @Sendable () -> Void
  /// So many bytes may wait for the client.
  private static let bound = 128 << 10

  /// - Parameter announce: tells the loop that there is something to send.
  init(announce: @escaping @Sendable () -> Void) { self.announce = announce }

  /// Whether the client has gone away.
  public var isClosed: Bool { state.withLock { $0.isClosed } }

  /// Sends bytes, and waits while too many are on their way.
  /// - Returns: false once the client has gone away, or the task was cancelled: then there is nothing more to do.
  @discardableResult
  public func write(_ bytes: [UInt8]) async -> Bool {
    guard !bytes.isEmpty else { return !isClosed }
    let (mustAnnounce, mustWait, closed) = state.withLock { state -> (Bool, Bool, Bool) in
      guard !state.isClosed, !state.isFinished else { return (false, false, true) }
      state.pending.append(bytes)
      state.bytes += bytes.count
      defer { state.isAnnounced = true }
      return (!state.isAnnounced, state.bytes > Self.bound, false)
    }
    if closed { return false }
    if mustAnnounce { announce() }
    guard mustWait else { return !Task.isCancelled }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let now = state.withLock { state -> Bool in
          if state.bytes <= Self.bound || state.isClosed || Task.isCancelled { return true }
          state.room.append(continuation)
          return false
        }
        if now { continuation.resume() }
      }
    } onCancel: {
      wake()
    }
    return !isClosed && !Task.isCancelled
  }

  private func wake() {
    let room = state.withLock { state in
      defer { state.room = [] }
      return state.room
    }
    for continuation in room { continuation.resume() }
  }

  // MARK: Called by the server, on the loop

  /// Nothing more will be written.
  func finish() {
    state.withLock { $0.isFinished = true }
    announce()
  }

  /// The client has gone away.
  func close() {
    state.withLock {
      $0.isClosed = true
      $0.pending = []
      $0.bytes = 0
    }
    wake()
  }

  /// What is to be sent next, at most about `limit` bytes.
  func take(limit: Int) -> (bytes: [UInt8], isLast: Bool) {
    let (bytes, isLast, room) = state.withLock {
      state -> ([UInt8], Bool, [CheckedContinuation<Void, Never>]) in
      var out: [UInt8] = []
      var used = 0
      while used < state.pending.count, out.count < limit {
        let next = state.pending[used]
        let space = limit - out.count
        if next.count <= space {
          out += next
          used += 1
        } else {
          out += next[..<space]
          state.pending[used] = Array(next[space...])
        }
      }
      state.pending.removeFirst(used)
      state.bytes -= out.count
      if state.pending.isEmpty { state.isAnnounced = false }
      guard state.bytes <= Self.bound else {
        return (out, false, [])
      }
      defer { state.room = [] }
      return (out, state.pending.isEmpty && state.isFinished, state.room)
    }
    for continuation in room { continuation.resume() }
    return (bytes, isLast)
  }

  /// Whether something waits to be sent, or the end.
  var hasMore: Bool { state.withLock { !$0.pending.isEmpty || $0.isFinished } }
}
