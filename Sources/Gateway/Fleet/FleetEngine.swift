import ConsoleProtocol
import Foundation
import GuestExec
import Logging
import ProxmoxClient
import Synchronization

/// Runs one command on many targets, each as a job of its own.
///
/// ```swift
/// let fleet = try await engine.submit(order, by: key)
/// ```
final class FleetEngine: Sendable {
  /// The most fleet jobs at the same time.
  static let maximumRunning = 100

  private struct State {
    var runs: [String: FleetRun] = [:]
    /// Orders with secrets, which are never stored, so that they can be run again until this process ends.
    var secretOrders: [String: FleetOrder] = [:]
    var secretOrdersByAge: [String] = []
    var isStopping = false
    var keeper: Task<Void, Never>?
  }

  let jobs: JobEngine
  private let clusters: Clusters
  private let keys: [APIKey]
  private let store: FleetStore
  private let logger: Logger
  private let state = Mutex(State())

  /// An engine whose tables are in the jobs' database.
  /// - Parameter keys: those of the configuration, for fleet jobs that go on after a restart.
  /// - Throws: ``ConfigurationError`` where the database can't be used.
  init(_ jobs: JobEngine, keys: [APIKey]) async throws {
    self.jobs = jobs
    clusters = jobs.clusters
    logger = jobs.logger
    self.keys = keys
    let path = jobs.store.path
    store = try await jobs.disk.run { try FleetStore(path: path) }
  }

  // MARK: Beginning and end

  /// Goes on with what an earlier process has begun, and begins to forget what is old.
  func start() async {
    do {
      for summary in try await store.unfinished() { try await resume(summary) }
    } catch {
      logger.error("fleet jobs can't be taken up again", metadata: ["error": "\(error)"])
    }
    let keeper = Task { [weak self] in
      while !Task.isCancelled {
        await self?.forgetOld()
        try? await Task.sleep(for: .seconds(600))
      }
    }
    state.withLock { $0.keeper = keeper }
  }

  private func forgetOld() async {
    let before = Date().addingTimeInterval(-jobs.configuration.keepFor.seconds)
    try? await store.forget(endedBefore: before)
  }

  private func resume(_ summary: FleetSummary) async throws {
    let targets = try await store.targets(of: summary.id)
    let known: [JobSummary]
    do throws(Problem) {
      known = try await jobs.list(limit: 1_000_000, fleet: summary.id)
    } catch {
      logger.error(
        "a fleet job can't be taken up again",
        metadata: ["fleet": "\(summary.id)", "error": "\(error)"])
      return
    }
    let key = keys.first { $0.name == summary.key }
    var order = FleetOrder(stored: summary.order)
    // Who had ordered it may no longer.
    if key?.has(.exec) != true { order = nil }
    guard let key = key ?? APIKey.generate(name: summary.key)?.key else { return }
    let run = FleetRun(
      summary, targets: targets, order: order, key: key, jobs: jobs, store: store, logger: logger
    ) { [weak self] in self?.isOver($0) }
    state.withLock { $0.runs[run.id] = run }
    logger.info("fleet job goes on", metadata: ["fleet": "\(run.id)"])
    await run.resume(known)
  }

  private func isOver(_ run: FleetRun) {
    state.withLock { _ = $0.runs.removeValue(forKey: run.id) }
  }

  /// Starts nothing more; what isn't over goes on in the next process.
  func stop() async {
    let (runs, keeper) = state.withLock { state in
      state.isStopping = true
      return (Array(state.runs.values), state.keeper)
    }
    keeper?.cancel()
    for run in runs { await run.freeze() }
  }

  // MARK: Ordering

  /// What a selector finds now, each target checked against the key's rules.
  func select(_ order: FleetOrder, by key: APIKey) async throws(Problem) -> [SelectorCandidate] {
    do throws(ExecFailure) {
      try order.command.request.check()
    } catch {
      throw Problem(
        422, error.kind.rawValue, error.sentence, field: error.field, remedy: error.remedy)
    }
    let selection = try Selection(order.selector, in: try await inventories(order.cluster))
    let targets = selection.targets
    guard targets.count <= FleetOrder.maximumTargets else {
      throw Problem(
        422, "too-many-targets",
        "\(targets.count) targets fit, and \(FleetOrder.maximumTargets) are possible.",
        field: "select", remedy: "Narrow it, e.g. by pool or node, and order several.")
    }
    try check(targets, order, key)
    return targets
  }

  private func inventories(
    _ cluster: String?
  ) async throws(Problem) -> [(cluster: String, inventory: Inventory)] {
    var wanted = clusters.all
    if let cluster {
      wanted = wanted.filter { $0.name == cluster }
      guard !wanted.isEmpty else {
        throw Problem(
          404, "unknown-cluster", "There is no cluster '\(cluster.prefix(80))'.", field: "cluster",
          remedy: "The clusters are: \(clusters.all.map(\.name).joined(separator: ", ")).")
      }
    }
    var out: [(cluster: String, inventory: Inventory)] = []
    // A cluster that doesn't answer is not a cluster without guests.
    for (name, result) in await Clusters.inventories(of: wanted) {
      out.append((name, try result.get()))
    }
    return out
  }

  /// One target that the key may not use refuses the whole: half a fleet job was never asked for.
  private func check(
    _ targets: [SelectorCandidate], _ order: FleetOrder, _ key: APIKey
  ) throws(Problem) {
    try key.demand(.exec)
    guard let policy = key.policy else { return }
    var first: Problem?
    var refused: [SelectorCandidate] = []
    for target in targets {
      do throws(Problem) {
        _ = try policy.allow(
          ExecPolicy.Question(
            candidate: target, request: order.command.request, transport: order.command.transport),
          key: key.name)
      } catch {
        if first == nil { first = error }
        refused.append(target)
      }
    }
    guard var problem = first else { return }
    if refused.count > 1 {
      problem.detail += " The same is so for \(refused.count - 1) more of \(targets.count) targets."
    }
    problem.more["refused"] = .array(
      refused.prefix(100).map { .string("\($0.cluster):\($0.place)") })
    if let target = refused.first {
      var command = order.command
      command.target = target.place.target
      command.cluster = target.cluster
      jobs.audit.refused(command, key: key.name, problem)
    }
    throw problem
  }

  /// Stores a fleet job and starts its first commands.
  func submit(
    _ order: FleetOrder, by key: APIKey, idempotencyKey: String? = nil
  ) async throws(Problem) -> (summary: FleetSummary, isRepeat: Bool) {
    let candidates = try await select(order, by: key)
    let targets = candidates.enumerated().map { i, candidate in
      FleetTarget(index: i, cluster: candidate.cluster, place: candidate.place)
    }
    return try await submit(
      order, on: targets, rerunOf: nil, by: key, idempotencyKey: idempotencyKey)
  }

  private func submit(
    _ order: FleetOrder, on given: [FleetTarget], rerunOf: String?, by key: APIKey,
    idempotencyKey: String?
  ) async throws(Problem) -> (summary: FleetSummary, isRepeat: Bool) {
    guard let random = Random.text(bytes: 15) else {
      throw Problem(503, "no-randomness", "The system gives no random bytes.")
    }
    let (running, isStopping) = state.withLock { ($0.runs.count, $0.isStopping) }
    guard !isStopping else {
      throw Problem(
        503, "server-shutdown", ConsoleBroker.shutdown.sentence, remedy: "Try again in a moment.")
    }
    guard running < Self.maximumRunning else {
      throw Problem(
        429, "too-many-fleets", "\(running) fleet jobs run already.",
        remedy: "Wait until some are over, or cancel some.")
    }
    var targets = given
    var summary = FleetSummary(
      id: "f-" + random, created: Date(), key: key.name, rerunOf: rerunOf, order: order.stored,
      command: order.command.secretArgv ? nil : order.command.request.command.json,
      labels: order.command.labels, counts: [.waiting: targets.count])
    let scheduler = FleetScheduler(
      nodes: FleetRun.nodeNumbers(targets), rules: order.rules(targets: targets.count))
    for i in targets.indices {
      targets[i].isCanary = scheduler.isCanary(i)
      summary.revision += 1
      targets[i].revision = summary.revision
    }
    let insertion: FleetStore.Insertion
    do {
      insertion = try await store.insert(
        summary, targets: targets, idempotencyKey: idempotencyKey,
        fingerprint: Self.fingerprint(order, rerunOf, targets))
    } catch {
      throw Self.storeFailed(error)
    }
    switch insertion {
    case .stored: break
    case .known(let id): return (try await self.summary(id), true)
    case .other(let id):
      throw Problem(
        422, "idempotency-conflict", "The Idempotency-Key was used for another order: \(id).",
        remedy: "Use a new key for a new order.")
    }
    let run = FleetRun(
      summary, targets: targets, order: order, key: key, jobs: jobs, store: store, logger: logger
    ) { [weak self] in self?.isOver($0) }
    state.withLock { state in
      state.runs[run.id] = run
      if order.command.missingAfterRestart != nil {
        state.secretOrders[run.id] = order
        state.secretOrdersByAge.append(run.id)
        if state.secretOrdersByAge.count > 100 {
          state.secretOrders[state.secretOrdersByAge.removeFirst()] = nil
        }
      }
    }
    logger.info(
      "fleet job ordered",
      metadata: ["fleet": "\(run.id)", "key": "\(key.name)", "targets": "\(targets.count)"])
    await run.begin()
    return (await run.report, false)
  }

  /// SHA-256 of what is asked for: the selection itself may differ from one moment to the next, the order may not.
  private static func fingerprint(
    _ order: FleetOrder, _ rerunOf: String?, _ targets: [FleetTarget]
  ) -> [UInt8] {
    var text = order.stored.description
    if let rerunOf {
      text += "\n\(rerunOf)\n" + targets.map { "\($0.cluster):\($0.place)" }.joined(separator: ",")
    }
    return Random.sha256(Array(text.utf8) + order.command.fingerprint)
  }

  private static func storeFailed(_ error: any Error) -> Problem {
    Problem(
      503, "store-failed", "The fleet job can't be stored: \(error)",
      remedy: "See whether the disk of exec.dataFolder is full. Nothing was sent.")
  }

  /// Runs the command again on those targets of a fleet job that ended so.
  func rerun(
    _ id: String, only states: Set<FleetTarget.State>, by key: APIKey, idempotencyKey: String?
  ) async throws(Problem) -> (summary: FleetSummary, isRepeat: Bool) {
    let old = try await summary(id)
    guard old.state == .ended else {
      throw Problem(
        409, "fleet-running", "The fleet job is not over.",
        remedy: "Wait for its end, or cancel it with DELETE.")
    }
    guard
      let order = state.withLock({ $0.secretOrders[id] }) ?? FleetOrder(stored: old.order)
    else {
      throw Problem(
        409, "not-stored",
        "A part of the command was never stored (what is secret, or standard input), and the gateway was restarted.",
        remedy:
          "Order a new fleet job with the targets of GET /v1/fleet/\(id)/targets?state=failed.")
    }
    let wanted = try await targets(id, states: states, after: -1, limit: .max)
    guard !wanted.isEmpty else {
      throw Problem(
        422, "empty-selection",
        "No target of the fleet job is \(states.map(\.rawValue).sorted().joined(separator: " or ")).",
        field: "only", remedy: "There are: \(old.progress).")
    }
    let targets = wanted.enumerated().map { i, target in
      FleetTarget(index: i, cluster: target.cluster, place: target.place)
    }
    try key.demand(.exec)
    return try await submit(
      order, on: targets, rerunOf: id, by: key, idempotencyKey: idempotencyKey)
  }

  // MARK: Looking

  static func unknown(_ id: String) -> Problem {
    Problem(
      404, "unknown-fleet", "There is no fleet job '\(id.prefix(40))'.",
      remedy: "Fleet jobs are kept for a while after their end only; GET /v1/fleet lists them.")
  }

  /// The running one of an id.
  func running(_ id: String) -> FleetRun? { state.withLock { $0.runs[id] } }

  /// What is known of a fleet job.
  /// - Throws: 404 `unknown-fleet`.
  func summary(_ id: String) async throws(Problem) -> FleetSummary {
    if let run = running(id) { return await run.report }
    do {
      if let found = try await store.fleet(id) { return found }
    } catch {
      throw Self.storeFailed(error)
    }
    throw Self.unknown(id)
  }

  /// Fleet jobs, the youngest first.
  func list(
    limit: Int, states: Set<FleetSummary.State>, key: String?, before: String?
  ) async throws(Problem) -> [FleetSummary] {
    let stored: [FleetSummary]
    do {
      stored = try await store.list(limit: limit, states: states, key: key, before: before)
    } catch {
      throw Self.storeFailed(error)
    }
    var out: [FleetSummary] = []
    for summary in stored {
      if let run = running(summary.id) { out.append(await run.report) } else { out.append(summary) }
    }
    return out
  }

  /// Targets of a fleet job, by number.
  func targets(
    _ id: String, states: Set<FleetTarget.State>, after: Int, limit: Int
  ) async throws(Problem) -> [FleetTarget] {
    if let run = running(id) { return await run.list(states: states, after: after, limit: limit) }
    do {
      return try await store.targets(of: id, states: states, after: after, limit: limit)
    } catch {
      throw Self.storeFailed(error)
    }
  }

  /// Cancels a fleet job that runs, and forgets one that is over.
  /// - Returns: how it is now; nil once it is forgotten.
  func cancel(_ id: String) async throws(Problem) -> FleetSummary? {
    if let run = running(id) {
      guard await run.isOver() else {
        await run.cancel()
        return await run.report
      }
    }
    do {
      try await store.forget(id)
    } catch {
      throw Self.storeFailed(error)
    }
    state.withLock { state in
      if state.secretOrders.removeValue(forKey: id) != nil {
        state.secretOrdersByAge.removeAll { $0 == id }
      }
    }
    return nil
  }
}
