import ConsoleProtocol
import ProxmoxClient
import Synchronization

/// A command as one `agent/exec`, and its end by `exec-status`.
///
/// Its output comes at the end. The agent reports the end once the command has ended **and** both its streams are closed,
/// so a child in the background that keeps one open holds up the end, as PVE has it.
final class AgentPlainProcess: ExecProcess {
  private struct State {
    /// What was given before the start; nil once nothing more is taken.
    var input: [UInt8]?
    /// What was given, once that is all.
    var pending: [UInt8] = []
    var pid: Int?
    /// Why it was told to end.
    var why: ExecEnd?
    var isCancelledEarly = false
    var driver: Task<Void, Never>?
  }

  let handle: ExecHandle?
  private let link: AgentLink
  private let request: ExecRequest?
  private let isWindows: Bool
  private let events = EventQueue(limit: 64 << 20)
  private let pause = AgentPause()
  private let state: Mutex<State>
  private let kept: ExecPosition

  private init(
    link: AgentLink, request: ExecRequest?, isWindows: Bool, pid: Int?, kept: ExecPosition
  ) {
    self.link = link
    self.request = request
    self.isWindows = isWindows
    self.kept = kept
    handle = pid.map {
      ExecHandle(
        transport: link.transport, place: link.place,
        notes: ["mode": "plain", "pid": String($0), "windows": isWindows ? "1" : "0"])
    }
    state = Mutex(State(input: pid == nil ? [] : nil, pid: pid))
  }

  /// Starts a command. With input it is sent when the input is complete: the agent takes it in the same call.
  static func start(
    _ request: ExecRequest, command: AgentPlainCommand, link: AgentLink, facts: AgentFacts
  ) async throws(ExecFailure) -> any ExecProcess {
    if request.hasInput {
      let process = AgentPlainProcess(
        link: link, request: request, isWindows: facts.isWindows, pid: nil, kept: ExecPosition())
      process.state.withLock {
        $0.driver = Task { await process.runWithInput(command, facts) }
      }
      return process
    }
    switch await launch(request, command, nil, link, facts) {
    case .success(let pid):
      let process = AgentPlainProcess(
        link: link, request: request, isWindows: facts.isWindows, pid: pid, kept: ExecPosition())
      process.drive(pid)
      return process
    case .failure(.refused(let failure)): throw failure
    case .failure(.unknown(let why)): return LostProcess(why + ". Whether it ran is not known.")
    }
  }

  /// Takes a command up again.
  static func attach(
    pid: Int, isWindows: Bool, link: AgentLink, from kept: ExecPosition
  ) -> AgentPlainProcess {
    let process = AgentPlainProcess(
      link: link, request: nil, isWindows: isWindows, pid: pid, kept: kept)
    process.drive(pid)
    return process
  }

  private enum LaunchError: Error {
    case refused(ExecFailure)
    case unknown(String)
  }

  private static func launch(
    _ request: ExecRequest, _ command: AgentPlainCommand, _ input: [UInt8]?, _ link: AgentLink,
    _ facts: AgentFacts
  ) async -> Result<Int, LaunchError> {
    do throws(PVEError) {
      return .success(try await link.exec(command.words, input: input.map(AgentText.text)))
    } catch {
      switch AgentStart(error, link: link, request: request, version: facts.version) {
      case .refused(let failure): return .failure(.refused(failure))
      case .unknown(let why):
        // The usual reason of a 596 is a program that isn't there (pve-protocol §10). A look does no harm.
        if error.status == 596, !facts.isWindows, case .argv(let argv) = request.command,
          let program = argv.first, await link.has(program: program) == false
        {
          return .failure(
            .refused(
              ExecFailure(
                .startFailed, "The program isn't in the guest, so it was not run.",
                remedy: "Check its name, or give its whole path: the agent's PATH is a service's."))
          )
        }
        let often = error.status == 596 ? "; often that means that the program isn't there" : ""
        return .failure(.unknown(why + often))
      }
    }
  }

  private func runWithInput(_ command: AgentPlainCommand, _ facts: AgentFacts) async {
    while state.withLock({ $0.input != nil && !$0.isCancelledEarly }), !Task.isCancelled {
      await pause.wait(.seconds(3600))
    }
    let (input, isCancelled) = state.withLock { ($0.pending, $0.isCancelledEarly) }
    guard !isCancelled, !Task.isCancelled, let request else {
      events.put(.ended(ExecResult(.cancelled)))
      return
    }
    switch await Self.launch(request, command, input, link, facts) {
    case .success(let pid):
      state.withLock { $0.pid = pid }
      await follow(pid)
    case .failure(.refused(let failure)):
      events.put(.ended(ExecResult(.lost("It was not run. \(failure.sentence) \(failure.remedy)"))))
    case .failure(.unknown(let why)):
      events.put(.ended(ExecResult(.lost(why + ". Whether it ran is not known."))))
    }
  }

  private func drive(_ pid: Int) {
    state.withLock { $0.driver = Task { await self.follow(pid) } }
  }

  // MARK: until the end

  private func follow(_ pid: Int) async {
    let begun = ContinuousClock.now
    var pace = link.pace
    var trouble = AgentPatience(link.options.patience)
    var killed: ContinuousClock.Instant?
    while !Task.isCancelled {
      do throws(PVEError) {
        let status = try await link.status(pid)
        trouble.isOver()
        if status.exited { return await end(status) }
      } catch {
        if let why = await trouble.meets(error, link: link, events: events) {
          return finish(.lost(why))
        }
      }
      if let limit = request?.timeLimit, ContinuousClock.now - begun >= limit {
        let isFirst = state.withLock { state in
          defer { state.why = state.why ?? .timedOut }
          return state.why == nil
        }
        if isFirst { await kill(pid, 15) }
      }
      if state.withLock({ $0.why }) != nil {
        let since = killed ?? .now
        if killed == nil { killed = since }
        if ContinuousClock.now - since > link.options.grace {
          await kill(pid, 9)
          if ContinuousClock.now - since > link.options.grace * 3 {
            return finish(
              .lost("It was told to end and hasn't: something that it started may still run."))
          }
        }
      }
      var nap = pace.next()
      if let limit = request?.timeLimit, killed == nil {
        nap = max(.milliseconds(1), min(nap, limit - (ContinuousClock.now - begun)))
      }
      await pause.wait(nap)
    }
  }

  private func end(_ status: AgentExecStatus) async {
    var limiter = OutputLimiter(limit: request?.outputLimit, from: kept)
    limiter.stdoutTruncated = status.stdoutTruncated
    limiter.stderrTruncated = status.stderrTruncated
    if let out = limiter.stdout(Array(status.stdout.dropFirst(kept.stdout))) {
      await events.putWaiting(.stdout(out))
    }
    if let err = limiter.stderr(Array(status.stderr.dropFirst(kept.stderr))) {
      await events.putWaiting(.stderr(err))
    }
    let own: ExecEnd =
      if let code = status.exitCode {
        // On Windows PVE's JSON may carry the code as signed; the same 32 bits either way.
        .exited(code)
      } else if let signal = status.signal {
        .signalled(signal)
      } else {
        .lost("PVE says that it ended, and not how.")
      }
    events.put(.ended(limiter.result(state.withLock { $0.why } ?? own)))
  }

  private func finish(_ end: ExecEnd) { events.put(.ended(ExecResult(end))) }

  /// Signals the program itself; what it started may not hear of it.
  private func kill(_ pid: Int, _ signal: Int) async {
    let words =
      isWindows
      ? ["taskkill.exe", "/T", "/F", "/PID", String(pid)]
      : ["/bin/sh", "-c", "kill -\(signal) \(pid)"]
    _ = try? await link.run(words)
  }

  // MARK: ExecProcess

  func next() async -> ExecEvent? { await events.next() }

  func write(_ bytes: [UInt8]) async throws(ExecFailure) {
    let isOver = state.withLock { state -> Bool in
      guard let count = state.input?.count else { return false }
      guard count + bytes.count <= ProxmoxClient.agentInputLimit else { return true }
      state.input?.append(contentsOf: bytes)
      return false
    }
    guard isOver else { return }
    throw ExecFailure(
      .unsupported,
      "The agent's plain mode carries \(ProxmoxClient.agentInputLimit) bytes of input at most.",
      remedy: isWindows
        ? "Write the input to a file of the guest and name it in the command."
        : "Use the agent's streaming mode.")
  }

  func closeInput() async {
    state.withLock { state in
      state.pending = state.input ?? state.pending
      state.input = nil
    }
    pause.nudge()
  }

  func resize(_ size: TerminalSize) async {}

  func signal(_ number: Int) async throws(ExecFailure) {
    guard !isWindows else {
      throw ExecFailure(
        .unsupported, "Windows has no signals.", remedy: "Cancel the command to end it.")
    }
    guard (1...64).contains(number) else {
      throw .bad("signal", "is no signal", "Give a number from 1 to 64.")
    }
    if let pid = state.withLock({ $0.pid }), !events.isOver { await kill(pid, number) }
  }

  func cancel() async {
    let pid = state.withLock { state -> Int? in
      if state.pid == nil { state.isCancelledEarly = true }
      defer { state.why = state.why ?? .cancelled }
      return state.why == nil ? state.pid : nil
    }
    if let pid, !events.isOver { await kill(pid, 15) }
    pause.nudge()
  }

  func detach() async {
    let driver = state.withLock { $0.driver }
    driver?.cancel()
    pause.nudge()
  }
}
