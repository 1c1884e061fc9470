import Foundation
import GuestExec
import Logging
import ProxmoxClient

/// One fleet job that is not over: drives its scheduler, orders its jobs and waits for their ends.
///
/// A change is numbered once it is stored, and told after that: whoever goes on from a number that they were told finds
/// it after a restart too. Changes that come while others are being stored are stored together.
actor FleetRun {
  /// One change, for a follower.
  enum Change: Sendable {
    case target(FleetTarget, progress: JSONValue, revision: Int)
    case fleet(FleetSummary)
  }

  nonisolated let id: String
  nonisolated let key: APIKey
  private let order: FleetOrder?
  private let jobs: JobEngine
  private let store: FleetStore
  private let logger: Logger
  private let whenOver: @Sendable (FleetRun) -> Void

  private var summary: FleetSummary
  private var targets: [FleetTarget]
  private var scheduler: FleetScheduler
  /// What has changed and isn't stored yet, in order.
  private var dirty: [Int] = []
  private var isDirty: [Bool]
  private var summaryIsDirty = false
  private var isSaving = false
  /// Every change so far by its number: a target, or nil for the whole. What has changed again since is passed over.
  private var changes: [(revision: Int, target: Int?)] = []
  private var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
  private var nextWaiting = 0
  private var cancelWanted: Set<Int> = []
  private var isFrozen = false
  private var tasks: [Int: Task<Void, Never>] = [:]
  private var timers: [Task<Void, Never>] = []

  /// - Parameter order: nil where a part of it was never stored: then nothing new is started.
  init(
    _ summary: FleetSummary, targets: [FleetTarget], order: FleetOrder?, key: APIKey,
    jobs: JobEngine, store: FleetStore, logger: Logger,
    whenOver: @escaping @Sendable (FleetRun) -> Void
  ) {
    id = summary.id
    self.summary = summary
    self.targets = targets
    self.order = order
    self.key = key
    self.jobs = jobs
    self.store = store
    self.logger = logger
    self.whenOver = whenOver
    isDirty = Array(repeating: false, count: targets.count)
    scheduler = FleetScheduler(
      nodes: Self.nodeNumbers(targets),
      rules: order?.rules(targets: targets.count) ?? FleetScheduler.Rules())
    changes = targets.filter { $0.revision > 0 }.map { ($0.revision, $0.index) }
      .sorted { $0.0 < $1.0 }
  }

  static func nodeNumbers(_ targets: [FleetTarget]) -> [Int] {
    var numbers: [String: Int] = [:]
    return targets.map { target in
      let name = "\(target.cluster):\(target.place.node)"
      if let known = numbers[name] { return known }
      numbers[name] = numbers.count
      return numbers.count - 1
    }
  }

  // MARK: Beginning

  /// Starts the first commands of a new fleet job.
  func begin() {
    perform(scheduler.begin())
    watchTime()
  }

  /// Goes on with one that an earlier process has begun.
  /// - Parameter known: its jobs as they are stored, the youngest first. What the fleet job's own rows don't know yet is
  ///   taken from them, so that nothing is ordered twice.
  func resume(_ known: [JobSummary]) {
    var jobOf: [String: JobSummary] = [:]
    for job in known {
      let name = "\(job.cluster):\(job.target)"
      if jobOf[name] == nil { jobOf[name] = job }
    }
    var unfinished: [(Int, String)] = []
    for i in targets.indices where !targets[i].state.isOver {
      let job = jobOf["\(targets[i].cluster):\(targets[i].place)"]
      guard let job else {
        // Ordered, as far as this row knows, but no job was stored: then nothing was sent either.
        if targets[i].state == .running { set(i, .waiting) }
        continue
      }
      targets[i].job = job.id
      if targets[i].started == nil { targets[i].started = job.created }
      set(i, .running)
      unfinished.append((i, job.id))
    }
    for target in targets where target.state != .waiting && target.state != .skipped {
      scheduler.restore(
        target.index, running: target.state == .running, outcome: target.outcome)
    }
    if let stop = summary.stop {
      scheduler.restore(stop: stop)
    } else if order == nil, targets.contains(where: { $0.state == .waiting }) {
      scheduler.restore(stop: .notStored)
    }
    let actions = scheduler.begin()
    for (i, job) in unfinished { follow(i, job) }
    perform(actions)
    watchTime()
  }

  private func watchTime() {
    guard let limit = order?.totalTimeLimit, summary.state != .ended else { return }
    let left = limit.seconds - Date().timeIntervalSince(summary.created)
    timers.append(
      Task { [weak self] in
        try? await Task.sleep(for: .seconds(max(0, left)))
        guard !Task.isCancelled else { return }
        await self?.timeOver()
      })
  }

  // MARK: What happens

  private func timeOver() {
    guard !isFrozen else { return }
    perform(scheduler.timeOver())
  }

  /// Nothing new is started, and what runs is cancelled.
  func cancel() {
    guard !isFrozen else { return }
    perform(scheduler.cancel())
  }

  /// The process is about to end: nothing more is started or noted; what runs is the job engine's.
  func freeze() async {
    isFrozen = true
    for task in tasks.values { task.cancel() }
    for timer in timers { timer.cancel() }
    while isSaving { try? await Task.sleep(for: .milliseconds(5)) }
    wake()
  }

  private func perform(_ actions: [FleetScheduler.Action]) {
    for action in actions {
      switch action {
      case .start(let i): start(i)
      case .cancel(let i): cancel(i)
      case .rest(let node, let seconds):
        timers.append(
          Task { [weak self] in
            try? await Task.sleep(for: .seconds(seconds))
            guard !Task.isCancelled else { return }
            await self?.rested(node)
          })
      case .stopped(let reason):
        summary.stop = reason
        summary.state = .stopping
        summaryIsDirty = true
        logger.info(
          "fleet job stopped", metadata: ["fleet": "\(id)", "reason": "\(reason.rawValue)"])
        save()
      case .ended: finish()
      }
    }
  }

  private func rested(_ node: Int) {
    guard !isFrozen else { return }
    perform(scheduler.rested(node))
  }

  private func start(_ i: Int) {
    guard let order, targets.indices.contains(i), !isFrozen else { return }
    targets[i].attempts += 1
    if targets[i].started == nil { targets[i].started = Date() }
    targets[i].failure = nil
    set(i, .running)
    let job = order.order(for: targets[i], fleet: id)
    // The same for the same attempt, also after a restart: the engine orders it once.
    let name = "fleet:\(id):\(i):\(targets[i].attempts)"
    let jobs = jobs
    let key = key
    tasks[i] = Task { [weak self] in
      do throws(Problem) {
        let summary = try await jobs.submit(job, by: key, idempotencyKey: name)
        await self?.accepted(i, summary)
        let over = try await jobs.whenOver(summary.id)
        guard let over else { return }
        await self?.over(i, over)
      } catch {
        await self?.refused(i, error)
      }
    }
  }

  /// Waits for the end of a job from before a restart.
  private func follow(_ i: Int, _ job: String) {
    let jobs = jobs
    tasks[i] = Task { [weak self] in
      do throws(Problem) {
        guard let over = try await jobs.whenOver(job) else { return }
        await self?.over(i, over)
      } catch {
        await self?.vanished(i)
      }
    }
  }

  private func accepted(_ i: Int, _ job: JobSummary) {
    guard !isFrozen else { return }
    targets[i].job = job.id
    touch(i)
    if cancelWanted.contains(i) { cancel(i) }
  }

  private func cancel(_ i: Int) {
    guard let job = targets[i].job, targets[i].state == .running else {
      cancelWanted.insert(i)
      return
    }
    cancelWanted.remove(i)
    let jobs = jobs
    Task { try? await jobs.cancel(job) }
  }

  private func over(_ i: Int, _ job: JobSummary) {
    guard !isFrozen, let codes = order?.successCodes ?? summary.successCodes else { return }
    let before = targets[i].state
    settle(i, before, targets[i].take(job, successCodes: codes))
  }

  private func refused(_ i: Int, _ problem: Problem) {
    guard !isFrozen else { return }
    let before = targets[i].state
    settle(i, before, targets[i].take(problem))
  }

  /// The job engine doesn't know the job any more, e.g. because somebody has deleted it.
  private func vanished(_ i: Int) {
    guard !isFrozen else { return }
    let before = targets[i].state
    targets[i].state = .lost
    targets[i].word = FleetScheduler.FailureWord.lost.rawValue
    targets[i].end = .lost("Its job is no longer stored.")
    targets[i].ended = Date()
    settle(i, before, .failed(.lost))
  }

  private func settle(
    _ i: Int, _ before: FleetTarget.State, _ outcome: FleetScheduler.Outcome
  ) {
    tasks[i] = nil
    let actions = scheduler.ended(i, outcome)
    if !targets[i].state.isOver {
      // The way was busy: it waits for another turn, unless it had enough of them or everything was stopped.
      if scheduler.isWaiting(i) {
        targets[i].state = .waiting
        targets[i].ended = nil
      } else {
        targets[i].state = .failed
        targets[i].word = FleetScheduler.FailureWord.notStarted.rawValue
      }
    }
    recount(before, targets[i].state)
    touch(i)
    perform(actions)
  }

  private func finish() {
    for i in targets.indices where targets[i].state == .waiting {
      targets[i].ended = Date()
      set(i, .skipped)
    }
    summary.state = .ended
    summary.ended = Date()
    summaryIsDirty = true
    for timer in timers { timer.cancel() }
    logger.info(
      "fleet job ended",
      metadata: [
        "fleet": "\(id)", "key": "\(key.name)", "end": "\(summary.end ?? "")",
        "succeeded": "\(summary.counts[.succeeded] ?? 0)", "of": "\(summary.total)",
      ])
    save()
  }

  private func set(_ i: Int, _ state: FleetTarget.State) {
    recount(targets[i].state, state)
    targets[i].state = state
    touch(i)
  }

  private func recount(_ before: FleetTarget.State, _ after: FleetTarget.State) {
    guard before != after else { return }
    summary.counts[before, default: 0] -= 1
    summary.counts[after, default: 0] += 1
  }

  // MARK: Storing and telling

  private func touch(_ i: Int) {
    if !isDirty[i] {
      isDirty[i] = true
      dirty.append(i)
    }
    save()
  }

  private func save() {
    guard !isSaving else { return }
    isSaving = true
    Task { await saveAll() }
  }

  private func saveAll() async {
    while !dirty.isEmpty || summaryIsDirty {
      let indexes = dirty
      let isWhole = summaryIsDirty
      dirty = []
      summaryIsDirty = false
      for i in indexes {
        isDirty[i] = false
        summary.revision += 1
        targets[i].revision = summary.revision
      }
      if isWhole { summary.revision += 1 }
      let stored = summary
      let rows = indexes.map { targets[$0] }
      do {
        try await store.save(stored, targets: rows)
      } catch {
        logger.error(
          "fleet job can't be stored", metadata: ["fleet": "\(id)", "error": "\(error)"])
      }
      for (i, row) in zip(indexes, rows) { changes.append((row.revision, i)) }
      if isWhole { changes.append((stored.revision, nil)) }
      wake()
      if stored.state == .ended {
        isSaving = false
        whenOver(self)
        return
      }
    }
    isSaving = false
  }

  private func wake() {
    let all = waiting
    waiting = [:]
    for continuation in all.values { continuation.resume() }
  }

  // MARK: Looking

  /// Whether the whole is over; if so, waits until that is stored.
  func isOver() async -> Bool {
    guard summary.state == .ended else { return false }
    while isSaving { try? await Task.sleep(for: .milliseconds(5)) }
    return true
  }

  /// How it is.
  var report: FleetSummary { summary }

  /// Targets by number.
  func list(states: Set<FleetTarget.State>, after: Int, limit: Int) -> [FleetTarget] {
    var out: [FleetTarget] = []
    var i = max(0, after + 1)
    while i < targets.count, out.count < limit {
      if states.isEmpty || states.contains(targets[i].state) { out.append(targets[i]) }
      i += 1
    }
    return out
  }

  /// Changes behind a number, in order; what has changed again since is passed over. Waits while there is none.
  /// - Returns: none once the whole is over, or the calling task is cancelled.
  func next(after revision: Int, limit: Int = 256) async -> [Change] {
    while !Task.isCancelled {
      var out: [Change] = []
      var i = firstChange(after: revision)
      while i < changes.count, out.count < limit {
        let (number, target) = changes[i]
        i += 1
        if let target {
          let row = targets[target]
          guard row.revision == number else { continue }
          out.append(.target(row, progress: summary.progress, revision: number))
        } else {
          var row = summary
          row.revision = number
          out.append(.fleet(row))
        }
      }
      if !out.isEmpty || (summary.state == .ended && !isSaving) || isFrozen { return out }
      await pause(at: changes.count)
    }
    return []
  }

  private func firstChange(after revision: Int) -> Int {
    var low = 0
    var high = changes.count
    while low < high {
      let middle = (low + high) / 2
      if changes[middle].revision > revision { high = middle } else { low = middle + 1 }
    }
    return low
  }

  private func pause(at count: Int) async {
    let number = nextWaiting
    nextWaiting += 1
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if changes.count > count || isFrozen || Task.isCancelled {
          continuation.resume()
        } else {
          waiting[number] = continuation
        }
      }
    } onCancel: {
      Task { await self.giveUp(number) }
    }
  }

  private func giveUp(_ number: Int) { waiting.removeValue(forKey: number)?.resume() }
}

extension FleetSummary {
  /// The exit statuses that are successes, of the order as it is stored.
  var successCodes: Set<Int>? { order["successCodes"].array.map { Set($0.compactMap(\.int)) } }
}

extension JobEngine {
  /// Waits for the end of a job, without reading its output.
  /// - Returns: nil when the calling task is cancelled.
  /// - Throws: 404 `unknown-job`.
  func whenOver(_ id: String) async throws(Problem) -> JobSummary? {
    let job = try await find(id)
    while !Task.isCancelled {
      // Taken before looking: what changes meanwhile makes the wait return at once.
      let seen = job.changes
      let summary = job.summary
      if summary.state.isOver { return summary }
      await job.changed(after: seen)
    }
    return nil
  }
}
