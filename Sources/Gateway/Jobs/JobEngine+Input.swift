import ConsoleProtocol
import GuestExec

/// Standard input, terminal and signals of a running job.
extension JobEngine {
  /// How much goes to the transport at a time.
  private static let piece = 128 << 10

  /// Gives bytes of standard input, and waits until the command's transport has taken them; before the command runs it
  /// waits for that too. Who gives up waiting takes nothing back.
  /// - Parameter offset: where they belong in standard input; what was taken already is skipped, so that the same bytes
  ///   may be sent again after a broken connection. Nil for behind what was taken.
  /// - Returns: how many bytes of standard input the transport has taken by now, in all.
  /// - Throws: 409 where the job is over, reads no input, its input is closed or `offset` leaves a gap; 429 where too
  ///   many write at a time.
  package func write(
    _ id: String, _ bytes: [UInt8], at offset: Int? = nil
  ) async throws(Problem) -> Int {
    try await inTurn(id) { job throws(Problem) in
      let process = try await self.process(of: job)
      return try await self.put(job, bytes, at: offset, process)
    }
  }

  /// The end of standard input. A second one changes nothing.
  package func closeInput(_ id: String) async throws(Problem) {
    _ = try await inTurn(id) { job throws(Problem) in
      if job.look({ $0.inputIsClosed }) { return 0 }
      await self.shut(job, try await self.process(of: job))
      return 0
    }
  }

  /// Writers take turns, and a turn that has begun goes on whatever becomes of who asked for it.
  private func inTurn(
    _ id: String, _ body: @escaping @Sendable (Job) async throws(Problem) -> Int
  ) async throws(Problem) -> Int {
    let job = try await find(id)
    guard job.summary.input == JobInput.streamed.word else {
      throw Problem(
        409, "no-stdin", "The job's standard input isn't given this way.",
        remedy: "Order it with \"stdin\": true.")
    }
    guard await job.inputTurn.take() else {
      var problem = Problem(
        429, "too-many-writers", "Too many requests write to the job's standard input.",
        remedy: "Wait for the answers to those that were sent.")
      problem.headers = [("Retry-After", "1")]
      throw problem
    }
    let task = Task { () -> Result<Int, Problem> in
      defer { job.inputTurn.give() }
      do throws(Problem) {
        return .success(try await body(job))
      } catch {
        return .failure(error)
      }
    }
    return try await task.value.get()
  }

  private func process(of job: Job) async throws(Problem) -> any ExecProcess {
    while true {
      let seen = job.changes
      if let process = job.process { return process }
      if job.summary.state.isOver { throw Self.over(job) }
      if job.look({ $0.isDetached }) {
        throw Problem(503, "server-shutdown", "Sallyport is being shut down.")
      }
      await job.changed(after: seen)
    }
  }

  private static func over(_ job: Job) -> Problem {
    var problem = Problem(409, "job-over", "The job is over.")
    problem.more["taken"] = .int(job.summary.stdinBytes)
    return problem
  }

  /// Gives bytes to the command; the caller has the turn.
  func put(
    _ job: Job, _ bytes: [UInt8], at offset: Int?, _ process: any ExecProcess
  ) async throws(Problem) -> Int {
    let taken = job.summary.stdinBytes
    let at = offset ?? taken
    guard at <= taken else {
      var problem = Problem(
        409, "stdin-gap", "Standard input was taken up to \(taken), and the bytes begin at \(at).",
        field: "offset", remedy: "Send what is missing, from offset \(taken) on.")
      problem.more["taken"] = .int(taken)
      throw problem
    }
    var done = taken - at
    guard done < bytes.count else { return taken }
    if job.look({ $0.inputIsClosed }) {
      throw Problem(409, "stdin-closed", "Standard input was closed after \(taken) bytes.")
    }
    while done < bytes.count {
      let piece = Array(bytes[done..<min(bytes.count, done + Self.piece)])
      await noteInput(job, sent: at + done + piece.count)
      do throws(ExecFailure) {
        try await process.write(piece)
      } catch {
        throw Problem(409, error.kind.rawValue, error.sentence, remedy: error.remedy)
      }
      // After the end, or when it was let go of, a transport drops what it is given.
      if job.summary.state.isOver { throw Self.over(job) }
      if job.look({ $0.isDetached }) {
        throw Problem(503, "server-shutdown", "Sallyport is being shut down.")
      }
      done += piece.count
      job.change { [done] in $0.summary.stdinBytes = at + done }
      await noteInput(job, sent: at + done)
    }
    return at + done
  }

  /// Ends the input; the caller has the turn.
  func shut(_ job: Job, _ process: any ExecProcess) async {
    await process.closeInput()
    guard !job.look({ $0.isDetached }) else { return }
    job.change { $0.inputIsClosed = true }
    await noteInput(job, sent: job.summary.stdinBytes)
  }

  private func noteInput(_ job: Job, sent: Int) async {
    let (summary, isClosed) = job.look { ($0.summary, $0.inputIsClosed) }
    // Once it is over its last word is stored.
    guard !summary.state.isOver else { return }
    do {
      try await store.input(job.id, sent: sent, stdinBytes: summary.stdinBytes, isClosed: isClosed)
    } catch {
      logger.error("a job can't be stored: \(error)", metadata: ["job": "\(job.id)"])
    }
  }

  /// The job's terminal has this size now. Nothing happens without one.
  package func resize(_ id: String, _ size: TerminalSize) async throws(Problem) {
    await (try await find(id)).process?.resize(size)
  }

  /// Sends a signal to the job's command.
  /// - Throws: 409 where it doesn't run, 422 where its transport can't.
  package func signal(_ id: String, _ number: Int) async throws(Problem) {
    let job = try await find(id)
    guard let process = job.process else {
      if job.summary.state.isOver { throw Self.over(job) }
      throw Problem(
        409, "job-not-running", "The command was not started yet.",
        remedy: "Wait until the job's state is \"running\", or cancel it.")
    }
    do throws(ExecFailure) {
      try await process.signal(number)
    } catch {
      throw Problem(
        error.kind == .unsupported ? 422 : 502, error.kind.rawValue, error.sentence,
        remedy: error.remedy)
    }
  }
}
