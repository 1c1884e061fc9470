import Foundation
import GuestExec
import Synchronization

/// Sends a command; may be cancelled until it is sent.
typealias Starter = Task<Result<GuestExec.Running, ExecFailure>, Never>

/// One job that is not over, or that somebody reads.
final class Job: Sendable {
  struct State: Sendable {
    var summary: JobSummary
    var process: (any ExecProcess)?
    /// Counts whatever a follower could want to see.
    var changes = 0
    var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
    var nextWaiting = 0
    var viewers = 0
    /// Counts arrivals and departures, so that a timer knows whether it is still meant.
    var visits = 0
    var starter: Starter?
    var cancelWanted = false
    var inputIsClosed = false
    /// It was let go of, because this process ends.
    var isDetached = false
    /// Why its end isn't what it looks like.
    var lostBecause: String?
  }

  let id: String
  /// What was ordered; nil for one that is over or was taken up again.
  let order: JobOrder?
  let place: JobPlace
  let output: JobOutput
  /// Writers of standard input take turns.
  let inputTurn = JobTurn(maximumWaiting: 16)
  private let state: Mutex<State>
  private let lastViewerLeft: @Sendable (Job) -> Void

  init(
    summary: JobSummary, order: JobOrder?, place: JobPlace, output: JobOutput,
    lastViewerLeft: @escaping @Sendable (Job) -> Void
  ) {
    id = summary.id
    self.order = order
    self.place = place
    self.output = output
    self.lastViewerLeft = lastViewerLeft
    state = Mutex(State(summary: summary))
  }

  /// How it is.
  var summary: JobSummary { state.withLock { $0.summary } }

  /// How it is, and what was told on the way.
  var report: (JobSummary, notes: [String]) {
    state.withLock { ($0.summary, $0.summary.notes) }
  }

  /// The command, once it runs.
  var process: (any ExecProcess)? { state.withLock { $0.process } }

  /// Changes it, and wakes whoever waits for a change.
  @discardableResult
  func change<T: Sendable>(_ body: (inout State) -> sending T) -> T {
    let (value, waiting) = state.withLock {
      state -> (T, [CheckedContinuation<Void, Never>]) in
      let value = body(&state)
      state.changes += 1
      defer { state.waiting = [:] }
      return (value, Array(state.waiting.values))
    }
    for continuation in waiting { continuation.resume() }
    return value
  }

  /// Looks at it.
  func look<T: Sendable>(_ body: (State) -> T) -> T { state.withLock { body($0) } }

  /// Adds a sentence for people; only the first hundred are kept.
  func note(_ text: String) {
    change {
      if $0.summary.notes.count < 100 { $0.summary.notes.append(String(text.prefix(500))) }
    }
  }

  /// How often it has changed.
  var changes: Int { state.withLock { $0.changes } }

  /// Returns once it has changed more often than that, or the calling task is cancelled.
  func changed(after seen: Int) async {
    let number = state.withLock { state in
      state.nextWaiting += 1
      return state.nextWaiting
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let now = state.withLock { state -> Bool in
          if state.changes > seen || Task.isCancelled { return true }
          state.waiting[number] = continuation
          return false
        }
        if now { continuation.resume() }
      }
    } onCancel: {
      state.withLock { $0.waiting.removeValue(forKey: number) }?.resume()
    }
  }

  /// Returns once it is over or that long has passed, whichever is first.
  func over(within limit: Duration) async -> JobSummary {
    await until(within: limit) { $0.summary.state.isOver }
    return summary
  }

  /// Returns once something is so, or that long has passed.
  @discardableResult
  func until(within limit: Duration, _ isSo: @escaping @Sendable (State) -> Bool) async -> Bool {
    await withTaskGroup(of: Void.self) { group in
      group.addTask {
        while !Task.isCancelled {
          let seen = self.changes
          if self.look(isSo) { return }
          await self.changed(after: seen)
        }
      }
      group.addTask { try? await Task.sleep(for: limit) }
      await group.next()
      group.cancelAll()
    }
    return look(isSo)
  }

  // MARK: Who looks on

  func attached() {
    state.withLock {
      $0.viewers += 1
      $0.visits += 1
    }
  }

  func detached() {
    let isLast = state.withLock { state in
      state.viewers -= 1
      state.visits += 1
      return state.viewers == 0
    }
    if isLast { lastViewerLeft(self) }
  }
}

/// Lets one after the other, in order of arrival.
final class JobTurn: Sendable {
  private struct State {
    var isTaken = false
    var waiting: [CheckedContinuation<Void, Never>] = []
  }
  private let state = Mutex(State())
  private let maximumWaiting: Int

  init(maximumWaiting: Int) { self.maximumWaiting = maximumWaiting }

  /// Waits for the turn; false where too many wait already.
  func take() async -> Bool {
    let maximum = maximumWaiting
    let (now, full) = state.withLock { state -> (Bool, Bool) in
      if !state.isTaken {
        state.isTaken = true
        return (true, false)
      }
      return (false, state.waiting.count >= maximum)
    }
    if now { return true }
    if full { return false }
    await withCheckedContinuation { continuation in
      let now = state.withLock { state -> Bool in
        if !state.isTaken {
          state.isTaken = true
          return true
        }
        state.waiting.append(continuation)
        return false
      }
      if now { continuation.resume() }
    }
    return true
  }

  /// Hands the turn on.
  func give() {
    let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
      guard !state.waiting.isEmpty else {
        state.isTaken = false
        return nil
      }
      return state.waiting.removeFirst()
    }
    next?.resume()
  }
}
