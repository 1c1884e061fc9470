import ConsoleProtocol
import Foundation
import GuestExec
import ProxmoxClient

/// A job from its turn to its end.
extension JobEngine {
  /// Runs a job that has a turn.
  func start(_ job: Job) {
    Task {
      await run(job)
      turnIsFree()
    }
  }

  private func run(_ job: Job) async {
    guard let order = job.order, let exec = execs[job.place.cluster] else {
      await fail(job, ExecFailure(.noTransport, "The cluster is no longer configured."))
      return
    }
    if job.look({ $0.cancelWanted }) {
      await fail(job, Self.cancelledBefore)
      return
    }
    if job.summary.state == .queued {
      do {
        try await advance(job) { $0.state = .starting }
      } catch {
        await fail(
          job,
          ExecFailure(.apiError, "The job can't be stored, and what can't be stored isn't run."))
        return
      }
    }
    let starter = Task {
      await Self.send(order, at: job.place.place, since: job.summary.created, exec)
    }
    let isUnwanted = job.change {
      $0.starter = starter
      return $0.cancelWanted
    }
    if isUnwanted { starter.cancel() }
    switch await starter.value {
    case .failure(let failure): await fail(job, failure)
    case .success(let running): await follow(job, running)
    }
  }

  static let cancelledBefore = ExecFailure(
    .cancelled, "The job was cancelled before the command was sent.")

  /// Sends the command: by the way that was asked for, or the best that the configuration and the key's rules allow.
  private static func send(
    _ order: JobOrder, at place: Place, since created: Date, _ exec: GuestExec
  ) async -> Result<GuestExec.Running, ExecFailure> {
    do throws(ExecFailure) {
      var place = place
      // Guests move while a job waits. Where the cluster can't be asked, the way there will say so better.
      if Date().timeIntervalSince(created) > 5 {
        do throws(ExecFailure) {
          place = try await exec.place(of: place.target)
        } catch {
          guard error.kind == .unreachable else { throw error }
        }
      }
      return .success(
        try await exec.start(
          order.request, on: place, via: order.transport, among: order.allowedTransports))
    } catch {
      return .failure(error)
    }
  }

  /// Takes up a command that was just started.
  private func follow(_ job: Job, _ running: GuestExec.Running) async {
    let process = running.process
    do {
      try await advance(job, handle: process.handle) {
        $0.state = .running
        $0.transport = running.transport
        $0.reason = running.reason
        $0.node = running.place.node.value
        $0.started = Date()
      }
    } catch {
      // It runs, and can be told of; only a restart would not find it again.
      logger.error("a running job can't be stored: \(error)", metadata: ["job": "\(job.id)"])
      job.change {
        $0.summary.state = .running
        $0.summary.started = Date()
        $0.summary.transport = running.transport
      }
    }
    audit.started(job.summary)
    if case .given(let bytes)? = job.order?.input { give(job, bytes, to: process) }
    await pump(job, process)
  }

  /// Gives input that came with the order, then its end.
  private func give(_ job: Job, _ bytes: [UInt8], to process: any ExecProcess) {
    Task {
      _ = try? await put(job, bytes, at: 0, process)
      await shut(job, process)
    }
  }

  /// Reads a command's events to the end and stores them.
  func pump(_ job: Job, _ process: any ExecProcess) async {
    let isUnwanted = job.change {
      $0.process = process
      return $0.cancelWanted
    }
    if isUnwanted { Task { await process.cancel() } }
    var result: ExecResult?
    while result == nil, let event = await process.next() {
      switch event {
      case .stdout(let bytes): await keep(bytes, of: .stdout, job)
      case .stderr(let bytes): await keep(bytes, of: .stderr, job)
      case .note(let text): job.note(text)
      case .ended(let end): result = end
      }
    }
    // Let go of: the next process of ours takes it up.
    if result == nil, job.look({ $0.isDetached }) {
      job.output.close()
      return
    }
    await end(job, result ?? ExecResult(.lost("Its transport told no end.")))
  }

  // MARK: States

  /// Stores a change, then makes it: nobody is told of what isn't stored.
  func advance(
    _ job: Job, handle: ExecHandle? = nil, _ change: @escaping @Sendable (inout JobSummary) -> Void
  ) async throws {
    var next = job.summary
    change(&next)
    try await store.update(next, handle: handle)
    job.change { change(&$0.summary) }
  }

  func fail(_ job: Job, _ failure: ExecFailure) async {
    await conclude(job) {
      $0.failure = failure
      $0.state = .failed
      $0.ended = Date()
    }
  }

  /// How a command ended, stored before anybody hears of it: its transport may not be able to tell twice.
  func end(_ job: Job, _ result: ExecResult) async {
    var end = result.end
    if let why = job.look({ $0.lostBecause }), end == .cancelled { end = .lost(why) }
    await conclude(job) { [end] in
      $0.end = end
      $0.stdoutTruncated = $0.stdoutTruncated || result.stdoutTruncated
      $0.stderrTruncated = $0.stderrTruncated || result.stderrTruncated
      $0.state = .ended
      $0.ended = Date()
    }
  }

  private func conclude(_ job: Job, _ change: @escaping @Sendable (inout JobSummary) -> Void) async
  {
    job.output.close()
    let now = Date()
    let final: @Sendable (inout JobSummary) -> Void = {
      change(&$0)
      $0.ended = now
    }
    for attempt in 0..<5 {
      do {
        try await advance(job, final)
        break
      } catch {
        logger.error(
          "the end of a job can't be stored: \(error)", metadata: ["job": "\(job.id)"])
        // A full disk may have room in a moment; after that it is better told than kept back.
        if attempt == 4 {
          job.change { final(&$0.summary) }
        } else {
          try? await Task.sleep(for: .milliseconds(100 << attempt))
        }
      }
    }
    job.change {
      $0.process = nil
      $0.starter = nil
    }
    state.withLock { $0.jobs[job.id] = nil }
    audit.ended(job.summary)
  }

  // MARK: Ending

  /// Ends a job; one that is over stays as it is.
  package func cancel(_ id: String) async throws(Problem) {
    await cancel(try await find(id))
  }

  func cancel(_ job: Job) async {
    let (process, starter) = job.change { state -> ((any ExecProcess)?, Starter?) in
      state.cancelWanted = true
      return (state.process, state.starter)
    }
    if leaveLine(job) {
      await fail(job, Self.cancelledBefore)
    } else if let process {
      await process.cancel()
    } else {
      starter?.cancel()
    }
  }

  /// Forgets a job that is over, with its output.
  func forget(_ id: String) async throws(Problem) {
    let job = try await find(id)
    guard job.summary.state.isOver else {
      throw Problem(409, "job-running", "The job is not over.", remedy: "Cancel it first.")
    }
    await drop([(id, job.summary.stdoutBytes + job.summary.stderrBytes)])
  }
}
