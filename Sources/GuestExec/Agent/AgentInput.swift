import ConsoleProtocol
import ProxmoxClient
import Synchronization

/// Standard input on its way into the guest: files of its folder, each named for the byte that it begins with, several
/// on their way at a time. What the command hasn't read yet is bounded.
final class AgentInput: Sendable {
  private struct State {
    /// The folder; nil until the guest told it.
    var folder: String?
    /// The next byte's place.
    var next: Int
    /// How much the command was given.
    var consumed: Int
    /// Bytes that come again after a restart and that the guest has.
    var skip = 0
    var inFlight = 0
    var isClosed = false
    var isOver = false
    var waiting: [CheckedContinuation<Void, Never>] = []
  }

  /// Bytes that may wait in the guest.
  static let window = 8 << 20
  private let link: AgentLink
  private let state: Mutex<State>
  private let broken: @Sendable (PVEError) -> Void

  /// - Parameter broken: told when input can't be brought into the guest.
  init(link: AgentLink, from offset: Int, broken: @escaping @Sendable (PVEError) -> Void) {
    self.link = link
    self.broken = broken
    state = Mutex(State(next: offset, consumed: offset))
  }

  /// Whether somebody waits for the command to read.
  var isWaiting: Bool { state.withLock { !$0.waiting.isEmpty || $0.folder == nil } }

  /// What a poll told.
  func told(folder: String, consumed: Int) {
    let waiting = state.withLock { state in
      state.folder = folder
      state.consumed = max(state.consumed, consumed)
      defer { state.waiting = [] }
      return state.waiting
    }
    for continuation in waiting { continuation.resume() }
  }

  /// After a restart: the guest has input up to there already.
  func has(_ uploaded: Int) {
    state.withLock { state in
      guard uploaded > state.next else { return }
      state.skip = uploaded - state.next
    }
  }

  /// The command has ended, or nobody cares: input is dropped from now on.
  func end() {
    let waiting = state.withLock { state in
      state.isOver = true
      defer { state.waiting = [] }
      return state.waiting
    }
    for continuation in waiting { continuation.resume() }
  }

  private struct Turn {
    var folder: String
    var start: Int
    var count: Int
  }

  /// Takes a turn to upload up to so many bytes; waits for the window. Nil once input is over.
  private func turn(_ count: Int) async -> Turn? {
    while true {
      let (turn, isOver) = state.withLock { state -> (Turn?, Bool) in
        if state.isOver { return (nil, true) }
        guard let folder = state.folder, state.inFlight < link.options.callsPerGuest,
          state.next - state.consumed < Self.window
        else { return (nil, false) }
        defer {
          state.next += count
          state.inFlight += 1
        }
        return (Turn(folder: folder, start: state.next, count: count), false)
      }
      if let turn { return turn }
      if isOver || Task.isCancelled { return nil }
      await waits { [window = Self.window, width = link.options.callsPerGuest] state in
        state.folder == nil || state.inFlight >= width || state.next - state.consumed >= window
      }
    }
  }

  /// Waits until something has changed, if there is still a reason to.
  private func waits(_ hasReason: @Sendable (borrowing State) -> Bool) async {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isWaiting = state.withLock { state -> Bool in
          guard !state.isOver, !Task.isCancelled, hasReason(state) else { return false }
          state.waiting.append(continuation)
          return true
        }
        if !isWaiting { continuation.resume() }
      }
    } onCancel: {
      wake()
    }
  }

  /// Waits until the guest has told where its files are and, after a restart, what it has.
  private func isTold() async -> Bool {
    while !Task.isCancelled {
      let (folder, isOver) = state.withLock { ($0.folder, $0.isOver) }
      if folder != nil || isOver { return !isOver }
      await waits { $0.folder == nil }
    }
    return false
  }

  private func wake() {
    let waiting = state.withLock { state in
      defer { state.waiting = [] }
      return state.waiting
    }
    for continuation in waiting { continuation.resume() }
  }

  /// Brings bytes into the guest; returns when they are there, so that what a caller counts as taken is.
  func write(_ bytes: [UInt8]) async {
    guard await isTold() else { return }
    let skipped = state.withLock { state -> Int in
      let count = min(state.skip, bytes.count)
      state.skip -= count
      state.next += count
      return count
    }
    var start = skipped
    await withTaskGroup(of: Void.self) { group in
      while start < bytes.count {
        let piece = Array(bytes[start..<min(start + ProxmoxClient.agentWriteBytes, bytes.count)])
        guard let turn = await turn(piece.count) else { break }
        start += piece.count
        group.addTask { await self.upload(piece, turn, name: "\(piece.count)") }
      }
    }
  }

  /// Says that nothing follows.
  func close() async {
    let isFirst = state.withLock { state in
      defer { state.isClosed = true }
      return !state.isClosed
    }
    guard isFirst, await isTold(), let turn = await turn(0) else { return }
    await upload([UInt8(ascii: ".")], turn, name: "end")
  }

  private func upload(_ bytes: [UInt8], _ turn: Turn, name: String) async {
    defer {
      state.withLock { $0.inFlight -= 1 }
      wake()
    }
    let file = "\(turn.folder)/c.\(AgentScripts.base + turn.start).\(name)"
    let begun = ContinuousClock.now
    var refusals = 0
    while !state.withLock({ $0.isOver }) {
      do throws(PVEError) {
        return try await link.write(file, bytes)
      } catch {
        // Writing the same bytes again does no harm: the guest takes a file once it is complete, and moves it first.
        switch AgentTrouble(error) {
        case .unknown, .busy, .notRunning,
          .unreachable where error.kind != .shutDown:
          break
        case .moved: _ = await link.follow()
        default:
          // The folder goes when the command has ended; a poll tells that better than this refusal.
          if error.message.contains("No such file") { return end() }
          refusals += 1
          if refusals > 3 { return broken(error) }
        }
        guard ContinuousClock.now - begun < link.options.patience, !Task.isCancelled else {
          return broken(error)
        }
        _ = try? await Task.sleep(for: .milliseconds(200))
      }
    }
  }
}
