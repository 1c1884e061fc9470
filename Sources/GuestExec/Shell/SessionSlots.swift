import Synchronization

/// How many sessions there may be on each node (or console) at a time; who comes later waits for one.
final class SessionSlots: Sendable {
  private struct Waiter {
    var id: Int
    var once: Once<Bool>
  }
  private struct State {
    var used: [String: Int] = [:]
    var waiting: [String: [Waiter]] = [:]
    var last = 0
  }

  private let state = Mutex(State())
  private let maximum: Int
  private let wait: Duration

  init(maximum: Int, wait: Duration) {
    self.maximum = max(1, maximum)
    self.wait = wait
  }

  /// One session of a node. Idempotent in its end.
  final class Slot: Sendable {
    private let release: Mutex<(@Sendable () -> Void)?>
    init(_ release: @escaping @Sendable () -> Void) { self.release = Mutex(release) }
    deinit { end() }
    /// Gives it back.
    func end() {
      let action = release.withLock { release in
        defer { release = nil }
        return release
      }
      action?()
    }
  }

  /// Takes one, in the order of asking.
  /// - Throws: ``ExecFailure/Kind/busy`` after the wait, ``ExecFailure/Kind/cancelled``.
  /// - Parameters:
  ///   - node: the node's name, or another thing's that there are few of.
  ///   - what: what it is, for sentences.
  func take(_ node: String, what: String) async throws(ExecFailure) -> Slot {
    let id = state.withLock { state -> Int in
      state.last += 1
      return state.last
    }
    let limit = Task { [weak self, wait] in
      try? await Task.sleep(for: wait)
      self?.leave(node, id)
    }
    let granted = await withTaskCancellationHandler {
      await withCheckedContinuation { (continuation: CheckedContinuation<Bool, Never>) in
        let once = Once(continuation)
        let now = state.withLock { state -> Bool? in
          if Task.isCancelled { return false }
          if state.used[node, default: 0] < maximum {
            state.used[node, default: 0] += 1
            return true
          }
          state.waiting[node, default: []].append(Waiter(id: id, once: once))
          return nil
        }
        if let now { once.resume(now) }
      }
    } onCancel: {
      leave(node, id)
    }
    limit.cancel()
    guard granted else {
      if Task.isCancelled {
        throw ExecFailure(
          .cancelled, "It was cancelled while it waited for \(what).")
      }
      throw ExecFailure(
        .busy, "Too many commands at once: at most \(maximum) may use \(what).",
        remedy: "Try again later.")
    }
    return Slot { [weak self] in self?.release(node) }
  }

  private func leave(_ node: String, _ id: Int) {
    let waiter = state.withLock { state -> Waiter? in
      guard let i = state.waiting[node]?.firstIndex(where: { $0.id == id }) else { return nil }
      return state.waiting[node]?.remove(at: i)
    }
    waiter?.once.resume(false)
  }

  private func release(_ node: String) {
    let next = state.withLock { state -> Waiter? in
      if var line = state.waiting[node], !line.isEmpty {
        let first = line.removeFirst()
        state.waiting[node] = line.isEmpty ? nil : line
        return first
      }
      state.used[node, default: 1] -= 1
      if state.used[node] == 0 { state.used[node] = nil }
      return nil
    }
    next?.once.resume(true)
  }
}
