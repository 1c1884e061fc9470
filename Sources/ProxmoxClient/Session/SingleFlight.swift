import Synchronization

/// Makes many callers who want the same thing at the same time wait for one piece of work. A caller who is
/// cancelled leaves at once; when the last one leaves, the work is cancelled.
final class SingleFlight<Value: Sendable>: Sendable {
  typealias Outcome = Result<Value, PVEError>

  private struct State {
    var waiters: [UInt64: CheckedContinuation<Outcome, Never>] = [:]
    var task: Task<Void, Never>?
    var flight: UInt64 = 0
    var nextWaiter: UInt64 = 0
  }
  private let state = Mutex(State())

  /// The outcome of the flight under way, or of a new one. The work should look first whether what it is for is
  /// there already: a caller may come just after the last flight landed.
  func run(
    cancelled: PVEError, _ work: @escaping @Sendable () async -> Outcome
  ) async -> Outcome {
    let id = state.withLock { state in
      state.nextWaiter += 1
      return state.nextWaiter
    }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        join(id, continuation, work)
        // A cancellation that came before the waiter was in the list found nothing to do.
        if Task.isCancelled { leave(id, cancelled) }
      }
    } onCancel: {
      leave(id, cancelled)
    }
  }

  private func join(
    _ id: UInt64, _ continuation: CheckedContinuation<Outcome, Never>,
    _ work: @escaping @Sendable () async -> Outcome
  ) {
    state.withLock { state in
      state.waiters[id] = continuation
      guard state.task == nil else { return }
      state.flight += 1
      let flight = state.flight
      state.task = Task { self.land(flight, await work()) }
    }
  }

  private func leave(_ id: UInt64, _ error: PVEError) {
    let (continuation, orphan) = state.withLock { state in
      let continuation = state.waiters.removeValue(forKey: id)
      guard continuation != nil, state.waiters.isEmpty else {
        return (continuation, Task<Void, Never>?.none)
      }
      let task = state.task
      state.task = nil
      return (continuation, task)
    }
    orphan?.cancel()
    continuation?.resume(returning: .failure(error))
  }

  private func land(_ flight: UInt64, _ outcome: Outcome) {
    let waiters = state.withLock { state -> [CheckedContinuation<Outcome, Never>] in
      guard state.flight == flight, state.task != nil else { return [] }
      state.task = nil
      defer { state.waiters = [:] }
      return Array(state.waiters.values)
    }
    for waiter in waiters { waiter.resume(returning: outcome) }
  }
}
