import Logging
import ProxmoxClient
import Synchronization

/// Stops the worker tasks of consoles that are over, should they not have ended by themselves: PVE 9's termproxy can
/// outlive its shell, and a mint that nobody dialled keeps one of the node's hundred ports for a while.
final class WorkerReaper: Sendable {
  private struct Item: Sendable {
    let upid: String
    let cluster: Cluster
    let due: ContinuousClock.Instant
  }
  private struct State {
    var items: [Item] = []
    var runs = false
  }

  private let state = Mutex(State())
  private let logger: Logger
  /// A worker's own end takes about a second.
  private let delay: Duration
  private static let atOnce = 4

  init(logger: Logger, delay: Duration = .seconds(3)) {
    self.logger = logger
    self.delay = delay
  }

  /// Looks after a task in a few seconds.
  func add(_ upid: String, of cluster: Cluster) {
    let starts = state.withLock { state in
      state.items.append(Item(upid: upid, cluster: cluster, due: .now + delay))
      defer { state.runs = true }
      return !state.runs
    }
    if starts { Task { await run() } }
  }

  /// Forgets everything: at the end every connection is closed, which ends the workers.
  func stop() { state.withLock { $0.items = [] } }

  private func run() async {
    while let first = next() {
      try? await Task.sleep(until: first.due, clock: .continuous)
      var batch = [first]
      while batch.count < Self.atOnce, let more = next(before: .now) { batch.append(more) }
      await withTaskGroup(of: Void.self) { group in
        for item in batch { group.addTask { await self.end(item) } }
      }
    }
  }

  /// The oldest, or nil and the end of the run.
  private func next() -> Item? {
    state.withLock { state in
      guard !state.items.isEmpty else {
        state.runs = false
        return nil
      }
      return state.items.removeFirst()
    }
  }

  private func next(before now: ContinuousClock.Instant) -> Item? {
    state.withLock { state in
      guard let first = state.items.first, first.due <= now else { return nil }
      return state.items.removeFirst()
    }
  }

  private func end(_ item: Item) async {
    do throws(PVEError) {
      guard try await item.cluster.client.taskStatus(item.upid).isRunning else { return }
      try await item.cluster.client.stopTask(item.upid)
      logger.debug("worker stopped", metadata: ["upid": "\(item.upid)"])
    } catch {
      // Stopping somebody else's task needs Sys.Modify; ours we may stop. Nothing more can be done from here.
      logger.debug("worker not stopped", metadata: ["upid": "\(item.upid)", "error": "\(error)"])
    }
  }
}
