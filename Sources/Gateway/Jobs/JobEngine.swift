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
    var jobs: [String: Job] = [:]
    var running = 0
    var queue: [Job] = []
    var isStopping = false
    var tasks: [String: Task<Void, Never>] = [:]
  }

  let configuration: ExecConfiguration
  let clusters: Clusters
  let execs: [String: GuestExec]
  let logger: Logger
  let state = Mutex(State())

  init(
    _ configuration: ExecConfiguration, clusters: Clusters, execs: [String: GuestExec],
    logger: Logger
  ) async throws {
    self.configuration = configuration
    self.clusters = clusters
    self.execs = execs
    self.logger = logger
  }

  /// An engine for a gateway's clusters.
  /// - Throws: ``ConfigurationError`` where the folder for jobs can't be used.
  convenience init(
    _ configuration: GatewayConfiguration, clusters: Clusters, loops: LoopGroup, logger: Logger
  ) async throws {
    var execs: [String: GuestExec] = [:]
    for cluster in clusters.all {
      execs[cluster.name] = GuestExec(client: cluster.client, transports: [])
    }
    try await self.init(configuration.exec, clusters: clusters, execs: execs, logger: logger)
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
    let (place, order) = try await admit(order, by: key, at: known)
    guard let random = Random.text(bytes: 15) else {
      throw Problem(503, "no-randomness", "The system gives no random bytes.")
    }
    let summary = JobSummary(id: "j-" + random, order: order, place: place, key: key.name)
    let job = Job(summary: summary, order: order, output: JobOutput()) { [weak self] in
      self?.lastViewerLeft($0)
    }
    state.withLock { $0.jobs[job.id] = job }
    enqueue(job, place: place)
    return (summary, false)
  }

  /// Checks the request, the right and the rules, and finds the target.
  private func admit(
    _ order: JobOrder, by key: APIKey, at known: JobPlace?
  ) async throws(Problem) -> (place: JobPlace, order: JobOrder) {
    try key.demand(.exec)
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
    return (place, try await permitted(order, at: place, by: key))
  }

  private func enqueue(_ job: Job, place: JobPlace) {
    let task = Task { await run(job, at: place) }
    state.withLock { $0.tasks[job.id] = task }
  }

  private func run(_ job: Job, at place: JobPlace) async {
    job.change { $0.summary.state = .starting }
    guard let exec = execs[place.cluster] else {
      finish(job, failure: ExecFailure(.noTransport, "The cluster has no way to commands."))
      return
    }
    let running: GuestExec.Running
    do throws(ExecFailure) {
      running = try await exec.start(
        job.order.request, on: place.place, via: job.order.transport,
        among: job.order.allowedTransports)
    } catch {
      finish(job, failure: error)
      return
    }
    job.change {
      $0.process = running.process
      $0.summary.state = .running
      $0.summary.transport = running.transport
      $0.summary.reason = running.reason
      $0.summary.started = Date()
    }
    if case .given(let bytes) = job.order.input {
      Task {
        try? await running.process.write(bytes)
        await running.process.closeInput()
      }
    }
    var result = ExecResult(.lost("The command's events ended without an end."))
    while let event = await running.process.next() {
      switch event {
      case .stdout(let bytes):
        try? await job.output.append(.stdout, bytes)
        job.change { $0.summary.stdoutBytes += bytes.count }
      case .stderr(let bytes):
        try? await job.output.append(.stderr, bytes)
        job.change { $0.summary.stderrBytes += bytes.count }
      case .note(let text): job.change { $0.summary.notes.append(text) }
      case .ended(let end): result = end
      }
    }
    finish(job, result: result)
  }

  private func finish(_ job: Job, failure: ExecFailure) {
    job.change {
      $0.summary.failure = failure
      $0.summary.state = .failed
      $0.summary.ended = Date()
    }
  }

  private func finish(_ job: Job, result: ExecResult) {
    job.change {
      $0.summary.end = result.end
      $0.summary.stdoutTruncated = result.stdoutTruncated
      $0.summary.stderrTruncated = result.stderrTruncated
      $0.summary.state = .ended
      $0.summary.ended = Date()
      $0.process = nil
    }
  }

  // MARK: Looking

  /// The job of an id.
  /// - Throws: 404 `unknown-job`.
  func find(_ id: String) async throws(Problem) -> Job {
    guard let job = state.withLock({ $0.jobs[id] }) else { throw Self.unknown(id) }
    return job
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
    labels: [String: String] = [:], before: String? = nil
  ) async throws(Problem) -> [JobSummary] {
    let all = state.withLock { $0.jobs.values.map(\.summary) }
    return Array(
      all.filter {
        (states.isEmpty || states.contains($0.state)) && (key == nil || $0.key == key)
          && (fleet == nil || $0.fleet == fleet)
      }.sorted { $0.created > $1.created }.prefix(limit))
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

  private func lastViewerLeft(_ job: Job) {}

  // MARK: Steering

  /// Gives bytes of standard input, and waits until the command's transport has taken them.
  /// - Parameter offset: where they belong in standard input; what was taken already is skipped. Nil for behind what
  ///   was taken.
  /// - Returns: how many bytes of standard input the transport has taken by now, in all.
  package func write(
    _ id: String, _ bytes: [UInt8], at offset: Int? = nil
  ) async throws(Problem) -> Int {
    let job = try await find(id)
    guard let process = job.process else {
      throw Problem(409, "job-over", "The job doesn't run.")
    }
    do throws(ExecFailure) {
      try await process.write(bytes)
    } catch {
      throw Problem(409, error.kind.rawValue, error.sentence, remedy: error.remedy)
    }
    return job.change {
      $0.summary.stdinBytes += bytes.count
      return $0.summary.stdinBytes
    }
  }

  /// The end of standard input.
  package func closeInput(_ id: String) async throws(Problem) {
    await (try await find(id)).process?.closeInput()
  }

  /// The job's terminal has this size now.
  package func resize(_ id: String, _ size: TerminalSize) async throws(Problem) {
    await (try await find(id)).process?.resize(size)
  }

  /// Sends a signal to the job's command.
  package func signal(_ id: String, _ number: Int) async throws(Problem) {
    guard let process = try await find(id).process else {
      throw Problem(409, "job-over", "The job doesn't run.")
    }
    do throws(ExecFailure) {
      try await process.signal(number)
    } catch {
      throw Problem(409, error.kind.rawValue, error.sentence, remedy: error.remedy)
    }
  }

  /// Ends a job; one that is over stays as it is.
  package func cancel(_ id: String) async throws(Problem) {
    await (try await find(id)).process?.cancel()
  }

  /// What each way to a command says of an order.
  package func explain(
    _ order: JobOrder, by key: APIKey
  ) async throws(Problem) -> (place: JobPlace, assessments: [GuestExec.Assessment]) {
    let (place, order) = try await admit(order, by: key, at: nil)
    guard let exec = execs[place.cluster] else { return (place, []) }
    return (place, await exec.explain(order.request, on: place.place))
  }

  /// Takes no new job; what runs is let go or cancelled, as was ordered.
  func stop(grace: Duration) async {
    state.withLock { $0.isStopping = true }
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
