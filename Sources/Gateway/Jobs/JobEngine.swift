import ConsoleProtocol
import EventLoop
import Foundation
import GuestExec
import Logging
import ProxmoxClient
import Synchronization

/// Runs commands for callers who may go away: every job is stored before anything is sent, its output is stored before
/// anybody is told of it, and both outlive this process.
///
/// ```swift
/// let job = try await engine.submit(order, by: key)
/// let follower = try await engine.follow(job.id)
/// while let event = await follower.next() { … }
/// ```
package final class JobEngine: Sendable {
  /// How long a job whose caller must not go away waits for the first one who looks on.
  package static let attachGrace = Duration.seconds(30)

  struct State {
    /// Those that are not over.
    var jobs: [String: Job] = [:]
    /// Turns that are taken.
    var running = 0
    /// Those that wait for a turn.
    var queue: [Job] = []
    /// Orders that are about to be stored and wait for a turn then.
    var arriving = 0
    var isStopping = false
    var keeper: Task<Void, Never>?
  }

  let configuration: ExecConfiguration
  let clusters: Clusters
  let execs: [String: GuestExec]
  let logger: Logger
  let audit: JobAudit
  let folder: JobFolder
  let store: JobStore
  let disk: JobDisk
  let state = Mutex(State())
  /// Bytes of output that are stored, of all jobs.
  let used = Atomic<Int>(0)
  /// Who makes room does it alone.
  let roomTurn = JobTurn(maximumWaiting: .max)

  /// Opens the store and takes up what was not over when it was closed.
  /// - Throws: ``ConfigurationError`` where the folder for jobs can't be used.
  init(
    _ configuration: ExecConfiguration, clusters: Clusters, execs: [String: GuestExec],
    logger: Logger
  ) async throws {
    self.configuration = configuration
    self.clusters = clusters
    self.execs = execs
    self.logger = logger
    let opened = try await Self.open(configuration, logger: logger)
    folder = opened.folder
    store = opened.store
    disk = JobDisk(threads: 3)
    audit = try JobAudit(file: configuration.auditFile, logger: logger, disk: disk)
    try await takeUp()
    state.withLock {
      $0.keeper = Task { [weak self] in
        while !Task.isCancelled {
          try? await Task.sleep(for: .seconds(30))
          await self?.sweep()
        }
      }
    }
  }

  /// Opening and checking files blocks.
  private static func open(
    _ configuration: ExecConfiguration, logger: Logger
  ) async throws -> (folder: JobFolder, store: JobStore) {
    let disk = JobDisk(threads: 1)
    defer { disk.close() }
    return try await disk.run {
      func at(_ folder: JobFolder) throws -> (JobFolder, JobStore) {
        (folder, try JobStore(path: folder.path + "/jobs.sqlite"))
      }
      guard let path = configuration.dataFolder else { return try at(try JobFolder.temporary()) }
      do {
        return try at(try JobFolder(path: path))
      } catch let error as ConfigurationError {
        guard !configuration.dataFolderIsChosen else { throw error }
        logger.warning("jobs will not survive a restart: \(error)")
        return try at(try JobFolder.temporary())
      }
    }
  }

  // MARK: Ordering

  /// Stores a job and starts it when its turn comes.
  /// - Parameters:
  ///   - key: who orders it; its rights and rules are checked.
  ///   - idempotencyKey: a second order of the same key with it gives the first one's job; where it asks for something
  ///     else it is refused.
  ///   - known: where the target is, for a caller that has just looked.
  package func submit(
    _ order: JobOrder, by key: APIKey, idempotencyKey: String? = nil, at known: JobPlace? = nil
  ) async throws(Problem) -> JobSummary {
    try await take(order, by: key, idempotencyKey: idempotencyKey, at: known).summary
  }

  /// The same, with whether it was ordered before.
  func take(
    _ order: JobOrder, by key: APIKey, idempotencyKey: String? = nil, at known: JobPlace? = nil
  ) async throws(Problem) -> (summary: JobSummary, isRepeat: Bool) {
    let fingerprint = order.fingerprint
    try key.demand(.exec)
    if let idempotencyKey {
      // Its first order may have been taken when the cluster still answered and there was room.
      let before: JobStore.Insertion?
      do {
        before = try await store.known(idempotencyKey, of: key.name, fingerprint: fingerprint)
      } catch {
        throw notStored(error)
      }
      if let before, let known = try Self.known(before) { return (current(known), true) }
    }
    let (place, order) = try await admit(order, by: key, at: known)
    guard let random = Random.text(bytes: 15) else {
      throw Problem(503, "no-randomness", "The system gives no random bytes.")
    }
    let hasTurn = try reserve()
    var summary = JobSummary(id: "j-" + random, order: order, place: place, key: key.name)
    summary.state = hasTurn ? .starting : .queued
    let row = JobStore.Row(summary: summary, order: hasTurn ? nil : order.stored)
    do {
      let result = try await store.insert(
        row, idempotencyKey: idempotencyKey, fingerprint: fingerprint)
      if let known = try Self.known(result) {
        giveBack(hasTurn)
        return (current(known), true)
      }
    } catch {
      giveBack(hasTurn)
      throw error as? Problem ?? notStored(error)
    }
    let job = make(summary, order, place)
    state.withLock { $0.jobs[job.id] = job }
    watch(job)
    if hasTurn {
      start(job)
    } else {
      line(up: job)
    }
    return (summary, false)
  }

  private static func known(_ result: JobStore.Insertion) throws(Problem) -> JobSummary? {
    switch result {
    case .stored: return nil
    case .known(let summary): return summary
    case .other(let id):
      var problem = Problem(
        422, "idempotency-key-reused",
        "The Idempotency-Key was used before for another order: job \(id).",
        remedy: "Use a new key for each order, and the same only to send the same order again.")
      problem.more["job"] = .string(id)
      throw problem
    }
  }

  func notStored(_ error: any Error) -> Problem {
    logger.error("a job can't be stored: \(error)")
    return Problem(
      503, "not-stored", "The job can't be stored, and what can't be stored isn't run: \(error).",
      remedy: "See whether the disk of exec.dataFolder is full.")
  }

  /// A stored summary with what has changed since.
  private func current(_ stored: JobSummary) -> JobSummary {
    state.withLock { $0.jobs[stored.id] }?.summary ?? stored
  }

  func make(_ summary: JobSummary, _ order: JobOrder?, _ place: JobPlace) -> Job {
    Job(
      summary: summary, order: order, place: place,
      output: JobOutput(path: folder.output(summary.id), disk: disk)
    ) { [weak self] in
      self?.lastViewerLeft($0)
    }
  }

  /// Checks the request and the rules, and finds the target.
  private func admit(
    _ order: JobOrder, by key: APIKey, at known: JobPlace?
  ) async throws(Problem) -> (JobPlace, JobOrder) {
    do throws(ExecFailure) {
      try order.request.check()
    } catch {
      throw Problem(
        422, error.kind.rawValue, error.sentence, field: error.field, remedy: error.remedy)
    }
    let place: JobPlace
    if let known {
      place = known
    } else {
      let (cluster, found) = try await clusters.resolve(order.target, in: order.cluster)
      place = JobPlace(cluster: cluster.name, place: found)
    }
    var order = order
    do throws(Problem) {
      order = try await permitted(order, at: place, by: key)
    } catch {
      audit.refused(order, key: key.name, error)
      throw error
    }
    let limit = configuration.outputLimit
    order.request.outputLimit = min(order.request.outputLimit ?? limit, limit)
    return (place, order)
  }

  /// What each way to a command says of an order, and which would be taken. Nothing is run or stored.
  package func explain(
    _ order: JobOrder, by key: APIKey
  ) async throws(Problem) -> (
    place: JobPlace, assessments: [GuestExec.Assessment], chosen: TransportName?
  ) {
    try key.demand(.exec)
    let (place, order) = try await admit(order, by: key, at: nil)
    guard let exec = execs[place.cluster] else { return (place, [], nil) }
    let all = await exec.explain(order.request, on: place.place)
    return (place, all, order.transport ?? order.choice(of: all)?.transport)
  }

  // MARK: Looking

  /// The job of an id.
  /// - Throws: 404 `unknown-job`.
  func find(_ id: String) async throws(Problem) -> Job {
    if let job = state.withLock({ $0.jobs[id] }) { return job }
    let stored: JobSummary?
    do {
      stored = try await store.summary(id)
    } catch {
      throw notStored(error)
    }
    guard let stored else { throw Self.unknown(id) }
    // It may have been taken up or stored a moment ago.
    if let job = state.withLock({ $0.jobs[id] }) { return job }
    guard let node = NodeName(stored.node.isEmpty ? "unknown" : stored.node) else {
      throw Self.unknown(id)
    }
    return make(
      stored, nil, JobPlace(cluster: stored.cluster, place: Place(node: node, kind: .node)))
  }

  static func unknown(_ id: String) -> Problem {
    Problem(
      404, "unknown-job", "There is no job '\(id.prefix(40))'.",
      remedy: "Jobs are kept for a while after their end only; GET /v1/exec lists them.")
  }

  /// What is known of a job.
  /// - Throws: 404 `unknown-job`.
  package func summary(_ id: String) async throws(Problem) -> JobSummary {
    try await find(id).summary
  }

  /// Jobs, the youngest first.
  /// - Parameters:
  ///   - key: only those that this key has ordered.
  ///   - before: only those older than this job.
  package func list(
    limit: Int = 100, states: Set<JobState> = [], key: String? = nil, fleet: String? = nil,
    target: String? = nil, labels: [String: String] = [:], before: String? = nil
  ) async throws(Problem) -> [JobSummary] {
    let query = JobStore.Query(
      limit: limit, states: states, key: key, fleet: fleet, target: target, labels: labels,
      before: before)
    do {
      return try await store.list(query).map { current($0) }
    } catch {
      throw notStored(error)
    }
  }

  /// Reads a job's output from an offset on, to its end.
  /// - Throws: 404 `unknown-job`.
  package func follow(
    _ id: String, from position: ExecPosition = ExecPosition()
  ) async throws(Problem) -> JobFollower {
    JobFollower(try await find(id), from: position)
  }

  /// Somebody looks on; releasing the object says that they have gone away.
  /// - Throws: 404 `unknown-job`.
  package func attachViewer(_ id: String) async throws(Problem) -> JobAttachment {
    JobAttachment(try await find(id))
  }

  // MARK: Who looks on

  /// A job whose caller must not go away is cancelled if nobody comes in time.
  func watch(_ job: Job) {
    switch job.summary.onDisconnect {
    case .keep: break
    case .kill: watch(job, for: Self.attachGrace)
    case .keepFor(let time): watch(job, for: max(time, Self.attachGrace))
    }
  }

  private func lastViewerLeft(_ job: Job) {
    switch job.summary.onDisconnect {
    case .keep: break
    case .kill: watch(job, for: .zero)
    case .keepFor(let time): watch(job, for: time)
    }
  }

  /// Cancels the job after a time in which nobody came.
  private func watch(_ job: Job, for time: Duration) {
    let visits = job.look { $0.visits }
    Task { [weak self] in
      if time > .zero { await job.until(within: time) { $0.summary.state.isOver } }
      let isAbandoned = job.look {
        $0.viewers == 0 && $0.visits == visits && !$0.summary.state.isOver
      }
      guard isAbandoned, let self, !self.state.withLock({ $0.isStopping }) else { return }
      job.note("Nobody looks on any longer.")
      await self.cancel(job)
    }
  }
}

extension JobOrder {
  /// The first way that would do and that the key's rules allow.
  func choice(of all: [GuestExec.Assessment]) -> GuestExec.Assessment? {
    all.first {
      guard case .possible = $0.verdict, $0.isAutomatic else { return false }
      return allowedTransports?.contains($0.transport) ?? true
    }
  }
}

extension JobSummary {
  /// A job that was just ordered.
  init(id: String, order: JobOrder, place: JobPlace, key: String) {
    self.init(
      id: id, cluster: place.cluster, target: place.place.description,
      node: place.place.node.value, name: place.place.name, state: .queued, created: Date(),
      key: key, labels: order.labels, fleet: order.fleet)
    command = order.secretArgv ? nil : order.request.command.json
    environment =
      order.secretEnvironment
      ? nil : order.request.environment.map { String(decoding: $0.name, as: UTF8.self) }
    hasTerminal = order.request.terminal != nil
    input = order.input.word
    onDisconnect = order.onDisconnect
  }
}

extension ExecRequest.Command {
  /// `{"argv":["echo","hi"]}` or `{"shell":"echo hi"}`, as far as it is text; what isn't is shown with replacement
  /// characters.
  var json: JSONValue {
    switch self {
    case .argv(let words):
      .object(["argv": .array(words.map { .string(String(decoding: $0, as: UTF8.self)) })])
    case .shell(let text): .object(["shell": .string(String(decoding: text, as: UTF8.self))])
    }
  }
}
