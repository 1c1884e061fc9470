import ProxmoxClient
import Synchronization

/// The turns of one guest's agent: so many calls at a time, the others in the order in which they came, so that neither
/// polls nor writes starve.
final class AgentGate: Sendable {
  private struct State {
    var free: Int
    var last: UInt64 = 0
    var waiting: [(id: UInt64, continuation: CheckedContinuation<Bool, Never>)] = []
  }
  private let state: Mutex<State>

  init(width: Int) { state = Mutex(State(free: max(1, width))) }

  /// Makes a call when it is its turn.
  func run<Value: Sendable>(
    _ call: @Sendable () async throws(PVEError) -> Value
  ) async throws(PVEError) -> Value {
    guard await enter() else {
      throw PVEError(
        kind: .cancelled, message: "cancelled", method: .get, path: "/nodes")
    }
    defer { leave() }
    return try await call()
  }

  /// - Returns: false where the calling task was cancelled while it waited.
  private func enter() async -> Bool {
    let id = state.withLock { state in
      state.last += 1
      return state.last
    }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let answer = state.withLock { state -> Bool? in
          if Task.isCancelled { return false }
          if state.free > 0 {
            state.free -= 1
            return true
          }
          state.waiting.append((id, continuation))
          return nil
        }
        if let answer { continuation.resume(returning: answer) }
      }
    } onCancel: {
      let found = state.withLock { state in
        state.waiting.firstIndex { $0.id == id }.map { state.waiting.remove(at: $0) }
      }
      found?.continuation.resume(returning: false)
    }
  }

  private func leave() {
    let next = state.withLock { state in
      guard !state.waiting.isEmpty else {
        state.free += 1
        return CheckedContinuation<Bool, Never>?.none
      }
      return state.waiting.removeFirst().continuation
    }
    next?.resume(returning: true)
  }
}

/// A pause that can be cut short from any task. One waits at a time.
final class AgentPause: Sendable {
  private struct State {
    var isNudged = false
    var sleeper: Task<Void, Never>?
  }
  private let state = Mutex(State())

  /// Waits that long, or until nudged; a nudge from before counts.
  func wait(_ duration: Duration) async {
    let sleeper = state.withLock { state -> Task<Void, Never>? in
      if state.isNudged {
        state.isNudged = false
        return nil
      }
      let sleeper = Task { _ = try? await Task.sleep(for: duration) }
      state.sleeper = sleeper
      return sleeper
    }
    guard let sleeper else { return }
    await withTaskCancellationHandler {
      await sleeper.value
    } onCancel: {
      sleeper.cancel()
    }
    state.withLock { state in
      state.sleeper = nil
      state.isNudged = false
    }
  }

  /// Ends the wait, or the next one.
  func nudge() {
    state.withLock { state in
      state.isNudged = true
      state.sleeper?.cancel()
    }
  }
}
