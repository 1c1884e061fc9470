import ConsoleProtocol
import ProxmoxClient
import Synchronization

/// A command under a runner in the guest: output is followed by offset, and everything but the start may be asked again.
final class AgentStreamProcess: ExecProcess {
  /// One output stream on its way to the caller.
  private struct Flow {
    /// Bytes received, the mark's beginnings included.
    var received: Int
    var mark: AgentMark
    /// Bytes in the queue that the caller hasn't dealt with.
    var open = 0

    /// Bytes that the caller has dealt with: the guest may forget them.
    var kept: Int { received - mark.heldBytes - open }
  }

  private struct State {
    var out: Flow
    var err: Flow
    /// What the caller was given last; it is dealt with when he asks for the next.
    var given: ExecEvent?
    var driver: Task<Void, Never>?
    /// What takes the guest's files away; it begins when the end is handed out, for whoever was not told it may still
    /// want to take the command up again.
    var clean: (@Sendable () async -> Void)?
    var cleaning: Task<Void, Never>?
    var isCancelled = false
    var brokenInput: String?
  }

  let handle: ExecHandle?
  private let link: AgentLink
  private let runner: AgentRunner
  private let timeLimit: Duration?
  private let hasInput: Bool
  private let hasTerminal: Bool
  private let events = EventQueue()
  private let pause = AgentPause()
  private let state: Mutex<State>
  private let input: Mutex<AgentInput?>
  private let limiter: Mutex<OutputLimiter>

  private init(
    link: AgentLink, runner: AgentRunner, notes: [String: String], timeLimit: Duration?,
    from kept: ExecPosition
  ) {
    self.link = link
    self.runner = runner
    self.timeLimit = timeLimit
    hasInput = notes["input"] == "1"
    hasTerminal = notes["terminal"] == "1"
    handle = ExecHandle(transport: .agent, place: link.place, notes: notes)
    state = Mutex(
      State(
        out: Flow(received: kept.stdout, mark: AgentMark(runner.mark)),
        err: Flow(received: kept.stderr, mark: AgentMark(runner.mark))))
    limiter = Mutex(
      OutputLimiter(limit: notes["outputLimit"].flatMap { Int($0) }, from: kept))
    input = Mutex(nil)
    guard hasInput else { return }
    let uploads = AgentInput(link: link, from: kept.stdin) { [weak self] error in
      guard let self else { return }
      self.state.withLock {
        $0.brokenInput = ExecFailure.agent(error, place: link.place, version: nil).sentence
      }
      self.pause.nudge()
    }
    input.withLock { $0 = uploads }
  }

  /// Starts a command, with one call as a rule; a request over what fits into one is written to the guest first.
  static func start(
    _ request: ExecRequest, link: AgentLink, facts: AgentFacts
  ) async throws(ExecFailure) -> any ExecProcess {
    try AgentLaunch(request: request).check()
    let runner = AgentRunner()
    var notes = runner.notes
    notes["mode"] = "streaming"
    if request.hasInput { notes["input"] = "1" }
    if request.terminal != nil { notes["terminal"] = "1" }
    if let limit = request.outputLimit { notes["outputLimit"] = String(limit) }
    let text = runner.text(request, options: link.options)
    // Percent-encoding can make three characters of one, and a body has its limit.
    let roomForInput = min(
      ProxmoxClient.agentInputLimit, (facts.version?.capabilities.bodyLimit ?? 65_536) / 3 - 200)
    let command: (words: [String], input: String?)
    if text.utf8.count <= roomForInput {
      command = (["/bin/sh", "-s"], text)
    } else {
      let folder = try await stage(text, link, request, facts)
      command = (["/bin/sh", "-c", "cat \(folder)/?.* >\(folder)/all; . \(folder)/all"], nil)
    }
    var pid: Int?
    var doubt: String?
    do throws(PVEError) {
      pid = try await link.exec(command.words, input: command.input)
    } catch {
      switch AgentStart(error, link: link, request: request, version: facts.version) {
      case .refused(let failure): throw failure
      // Whether it runs can be seen in the guest: its folder's name is known to nobody else.
      case .unknown(let why): doubt = why
      }
    }
    if let pid { notes["pid"] = String(pid) }
    let process = AgentStreamProcess(
      link: link, runner: runner, notes: notes, timeLimit: request.timeLimit, from: ExecPosition())
    var early: AgentExecStatus?
    if let pid, request.user != nil || request.directory != nil || request.terminal != nil {
      early = try await process.lookForRefusal(pid)
    }
    process.drive(pid: early == nil ? pid : nil, doubt: doubt, early: early)
    return process
  }

  /// What the guest may not have is seen within its first moments: a command that was not run is no command.
  private func lookForRefusal(_ pid: Int) async throws(ExecFailure) -> AgentExecStatus? {
    var pace = AgentPace()
    for _ in 0..<4 {
      _ = try? await Task.sleep(for: max(.milliseconds(12), pace.next()))
      guard let status = try? await link.status(pid) else { return nil }
      guard status.exited else { continue }
      let line = String(decoding: status.stdout.prefix { $0 != 10 }, as: UTF8.self)
      let words = line.split(separator: " ", maxSplits: 4)
      guard words.count == 5, let failure = AgentPoll.State.refusal(String(words[4])) else {
        return status
      }
      _ = try? await link.write("\(words[1])/x", [UInt8(ascii: "x")])
      throw failure
    }
    return nil
  }

  /// Takes a command up again.
  static func attach(
    _ handle: ExecHandle, runner: AgentRunner, link: AgentLink, from kept: ExecPosition
  ) -> AgentStreamProcess {
    let process = AgentStreamProcess(
      link: link, runner: runner, notes: handle.notes, timeLimit: nil, from: kept)
    process.drive(pid: nil, doubt: nil, isTakenUp: true)
    return process
  }

  /// Writes the runner's text to a folder of its own in the guest. It takes the folder away when it is run.
  private static func stage(
    _ text: String, _ link: AgentLink, _ request: ExecRequest, _ facts: AgentFacts
  ) async throws(ExecFailure) -> String {
    let name = AgentRunner().name
    do throws(PVEError) {
      let made = try await link.run([
        "/bin/sh", "-c",
        "for b in /run /var/tmp /tmp; do mkdir -m 700 $b/\(name) 2>/dev/null && echo $b/\(name) && break; done",
      ])
      let folder = String(decoding: made.stdout.prefix { $0 != 10 }, as: UTF8.self)
      guard folder.hasSuffix(name) else {
        throw PVEError(
          kind: .failed, message: "no folder could be made in the guest", method: .post,
          path: "/nodes")
      }
      let bytes = Array("rm -rf \(folder)\n\(text)".utf8)
      for (i, start) in stride(from: 0, to: bytes.count, by: ProxmoxClient.agentWriteBytes)
        .enumerated()
      {
        let end = min(start + ProxmoxClient.agentWriteBytes, bytes.count)
        try await link.write("\(folder)/r.\(100 + i)", Array(bytes[start..<end]))
      }
      return folder
    } catch {
      throw ExecFailure.agent(error, place: link.place, version: facts.version, request: request)
    }
  }

  private func drive(
    pid: Int?, doubt: String?, early: AgentExecStatus? = nil, isTakenUp: Bool = false
  ) {
    state.withLock {
      $0.driver = Task {
        let isAll = if let early { await self.takeWhole(early) } else { false }
        if !isAll { await self.follow(pid: pid, doubt: doubt, isTakenUp: isTakenUp) }
        self.input.withLock { $0 }?.end()
      }
    }
  }

  // MARK: until the end

  private func follow(pid: Int?, doubt: String?, isTakenUp: Bool) async {
    var pid = pid
    // What the runner says at its end waits in the agent until somebody reads it.
    if isTakenUp { pid = handle?.notes["pid"].flatMap { Int($0) } }
    let begun = ContinuousClock.now
    var patience = AgentPatience(link.options.patience)
    var pace = AgentPace()
    // At first only whether it has ended already: the runner then says everything in one answer.
    while let runner = pid, !isTakenUp, !hasInput, !hasTerminal, !Task.isCancelled,
      ContinuousClock.now - begun < .milliseconds(250)
    {
      do throws(PVEError) {
        let status = try await link.status(runner)
        patience.isOver()
        if status.exited {
          pid = nil
          if await takeWhole(status) { return }
          guard status.stdout.starts(with: Array("sallyport ".utf8)) else {
            return finish(
              .lost(
                "The guest's shell could not run it (status \(status.exitCode ?? -1), signal "
                  + "\(status.signal ?? 0))."))
          }
          break
        }
      } catch {
        if let why = await patience.meets(
          error, link: link, events: events, hasFiles: true)
        {
          return finish(.lost(why))
        }
        break
      }
      await pause.wait(pace.next())
    }
    await followFiles(
      pid: pid, doubt: doubt, begun: begun, patience: &patience, isTakenUp: isTakenUp)
  }

  /// What a runner says that ended quickly. - Returns: whether that was all.
  private func takeWhole(_ status: AgentExecStatus) async -> Bool {
    guard let end = status.stdout.firstIndex(of: 10) else { return false }
    let line = String(decoding: status.stdout[..<end], as: UTF8.self)
    if line == "nofolder" {
      finish(
        .lost("It was not run: no folder could be made in the guest's /run, /var/tmp or /tmp."))
      return true
    }
    let words = line.split(separator: " ", maxSplits: 4)
    guard words.count == 5, words[0] == "sallyport", words[1].hasSuffix(runner.name),
      words[2] == "1"
    else { return false }
    await give(Array(status.stdout[(end + 1)...]), at: 0, isOut: true)
    await give(status.stderr, at: 0, isOut: false)
    clean(folder: String(words[1]), runner: nil)
    conclude(AgentPoll.State.end(why: String(words[3]), how: String(words[4])))
    return true
  }

  /// A short command's folder goes after a minute, but what its runner said waits in the agent until it is read.
  private func takeUpWhole() async -> Bool {
    guard let pid = handle?.notes["pid"].flatMap({ Int($0) }),
      let status = try? await link.status(pid), status.exited
    else { return false }
    return await takeWhole(status)
  }

  /// Gives bytes on that begin at that place of a stream; what came before is passed over.
  private func give(_ bytes: [UInt8], at start: Int, isOut: Bool) async {
    let piece: [UInt8]? = state.withLock { state in
      var flow = isOut ? state.out : state.err
      defer { if isOut { state.out = flow } else { state.err = flow } }
      if start > flow.received {
        // The guest has dropped what was in between, for whoever was here before had dealt with it.
        flow.received = start
        limiter.withLock { limiter in
          if isOut { limiter.stdoutTruncated = true } else { limiter.stderrTruncated = true }
        }
      }
      let fresh = Array(bytes.dropFirst(flow.received - start))
      flow.received += fresh.count
      let own = flow.mark.take(fresh)
      let passed = limiter.withLock { isOut ? $0.stdout(own) : $0.stderr(own) }
      flow.open += passed?.count ?? 0
      return passed
    }
    guard let piece else { return }
    await events.putWaiting(isOut ? .stdout(piece) : .stderr(piece))
  }

  private func followFiles(
    pid: Int?, doubt: String?, begun: ContinuousClock.Instant, patience: inout AgentPatience,
    isTakenUp: Bool
  ) async {
    var most = 128 << 10
    var hasSeen = isTakenUp
    var isFirst = true
    var idleSince = ContinuousClock.now
    var cancelledAt: ContinuousClock.Instant?
    var isTimedOut = false
    var repeats = 0
    var stillRuns = true
    while !Task.isCancelled {
      let asked = ContinuousClock.now
      var isBulk = false
      do throws(PVEError) {
        let answer = try await link.run(pollCommand(most, withUploaded: isFirst && isTakenUp))
        guard let (poll, rest) = AgentPoll.read(answer.stdout) else {
          throw PVEError(
            kind: .malformedAnswer(field: "out-data"), message: "the guest's answer can't be read",
            method: .get, path: "/nodes/\(link.place.node)/qemu")
        }
        patience.isOver()
        isBulk = poll.out >= most || poll.err >= most
        let took = ContinuousClock.now - asked
        // On a slow guest a look takes long whatever it brings, so it brings more.
        if isBulk, took < .milliseconds(1500) { most = min(most * 2, 4 << 20) }
        if took > .seconds(4) { most = max(16 << 10, most / 2) }
        hasSeen = hasSeen || poll.state != .none
        stillRuns = poll.state == .runs
        if isFirst, isTakenUp {
          input.withLock { $0 }?.has(poll.uploaded)
          if poll.state == .none, await takeUpWhole() { return }
        }
        isFirst = false
        if let end = try await take(poll, rest, answer.stderr, hasSeen, doubt, begun, idleSince) {
          clean(
            folder: poll.folder, runner: pid,
            isAlone: poll.state == .dead || poll.state == .rebooted)
          return conclude(end)
        }
        if poll.out + poll.err > 0 { idleSince = .now }
      } catch {
        if case .unknown = AgentTrouble(error) { most = max(16 << 10, most / 4) }
        if let why = await patience.meets(
          error, link: link, events: events, hasFiles: true)
        {
          return finish(.lost(why))
        }
      }
      let (isCancelled, brokenInput) = state.withLock { ($0.isCancelled, $0.brokenInput) }
      if let brokenInput {
        _ = await kill(15, why: "-", grace: true)
        return finish(.lost("Its input couldn't be brought into the guest: \(brokenInput)"))
      }
      if !isTimedOut, let timeLimit, ContinuousClock.now - begun >= timeLimit {
        isTimedOut = true
        _ = await kill(15, why: "limit", grace: true)
        idleSince = .now
      }
      if isCancelled || isTimedOut, stillRuns {
        let since = cancelledAt ?? .now
        cancelledAt = since
        // One that came before the runner had made its folder found nothing to end.
        if ContinuousClock.now - since > .seconds(1), repeats < 3 {
          repeats += 1
          _ = await kill(15, why: isTimedOut ? "limit" : "cancel", grace: true)
        }
        if ContinuousClock.now - since > link.options.grace * 2 + .seconds(10) {
          return finish(.lost("It was told to end and hasn't; it may still run."))
        }
      }
      guard !isBulk else { continue }
      let idle = ContinuousClock.now - idleSince
      var nap = max(.milliseconds(25), min(.seconds(1), idle / 4))
      if cancelledAt != nil { nap = min(nap, .milliseconds(100)) }
      if input.withLock({ $0 })?.isWaiting == true { nap = .milliseconds(15) }
      if let timeLimit, !isTimedOut {
        nap = max(.milliseconds(1), min(nap, timeLimit - (ContinuousClock.now - begun)))
      }
      await pause.wait(nap)
    }
  }

  private func pollCommand(_ most: Int, withUploaded: Bool) -> [String] {
    let numbers = state.withLock { state in
      [state.out.received, state.out.kept, state.err.received, state.err.kept].map {
        String(AgentScripts.base + $0)
      }
    }
    return ["/bin/sh", "-c", AgentScripts.poll, "sh", runner.name] + numbers
      + [String(most), withUploaded ? "1" : "0"]
  }

  /// Deals with one look at the folder. - Returns: the end, where that is it.
  private func take(
    _ poll: AgentPoll, _ out: [UInt8], _ err: [UInt8], _ hasSeen: Bool, _ doubt: String?,
    _ begun: ContinuousClock.Instant, _ idleSince: ContinuousClock.Instant
  ) async throws(PVEError) -> ExecEnd? {
    switch poll.state {
    case .none:
      if !hasSeen, ContinuousClock.now - begun < .seconds(doubt == nil ? 20 : 8) { return nil }
      if !hasSeen, let doubt {
        return .lost(
          doubt + ", and there is no trace of it in the guest. Whether it ran is not known.")
      }
      return .lost(
        "The guest has no trace of it any more: the guest was restarted, or its files were removed."
      )
    case .rebooted: return .lost("The guest was restarted while it ran.")
    case .runs, .dead, .ended: break
    }
    guard out.count == poll.out, err.count == poll.err else {
      throw PVEError(
        kind: .malformedAnswer(field: "out-data"), message: "the guest's answer is cut",
        method: .get, path: "/nodes/\(link.place.node)/qemu")
    }
    input.withLock { $0 }?.told(
      folder: poll.folder, consumed: max(0, poll.consumed))
    await give(out, at: poll.outStart, isOut: true)
    await give(err, at: poll.errStart, isOut: false)
    if poll.outBroken || poll.errBroken {
      limiter.withLock { limiter in
        limiter.stdoutTruncated = limiter.stdoutTruncated || poll.outBroken
        limiter.stderrTruncated = limiter.stderrTruncated || poll.errBroken
      }
    }
    let isRead = poll.out == 0 && poll.err == 0
    switch poll.state {
    case .dead where isRead:
      return .lost("What ran it in the guest was ended from outside, so its end is not known.")
    case .ended(let why, let how):
      let isOver = state.withLock { $0.out.mark.isOver && $0.err.mark.isOver }
      if isOver { return AgentPoll.State.end(why: why, how: how) }
      // A mark may be missing where the guest's disk was full, or its helpers were ended from outside.
      let isStuck = isRead && ContinuousClock.now - idleSince > .seconds(10)
      guard isRead, poll.isAtEnd || isStuck || poll.outBroken || poll.errBroken else { return nil }
      for isOut in [true, false] {
        let held = state.withLock { isOut ? $0.out.mark.giveUp() : $0.err.mark.giveUp() }
        if !held.isEmpty { await events.putWaiting(isOut ? .stdout(held) : .stderr(held)) }
      }
      if !poll.isAtEnd {
        limiter.withLock { limiter in
          limiter.stdoutTruncated = true
          limiter.stderrTruncated = limiter.stderrTruncated || !hasTerminal
        }
      }
      return AgentPoll.State.end(why: why, how: how)
    default: return nil
    }
  }

  private func conclude(_ end: ExecEnd) {
    events.put(.ended(limiter.withLock { $0.result(end) }))
  }

  private func finish(_ end: ExecEnd) { conclude(end) }

  /// Everything was read: the guest's folder goes, and so does the agent's note of the runner. The runner's helper
  /// removes the folder within a second; where that has gone as well, it is removed from here.
  private func clean(folder: String, runner: Int?, isAlone: Bool = false) {
    let name = self.runner.name
    let clean: @Sendable () async -> Void = { [link] in
      if folder.hasSuffix(name) {
        if isAlone {
          _ = try? await link.run(["/bin/rm", "-rf", folder])
        } else {
          _ = try? await link.write("\(folder)/x", [UInt8(ascii: "x")])
        }
      }
      if let runner { _ = try? await link.status(runner) }
    }
    state.withLock { $0.clean = clean }
  }

  /// Sends a signal to the command's group. - Returns: why that failed.
  private func kill(_ signal: Int, why: String, grace: Bool) async -> PVEError? {
    let seconds = grace ? max(1, Int(link.options.grace.components.seconds)) : 0
    var last: PVEError?
    for _ in 0..<3 {
      do throws(PVEError) {
        _ = try await link.run([
          "/bin/sh", "-c", AgentScripts.kill, "sh", runner.name, String(signal), why,
          String(seconds),
        ])
        return nil
      } catch {
        last = error
        // A second TERM does no harm, a second INT might: only what ends the command is said again.
        guard grace, error.kind != .shutDown else { return error }
        _ = try? await Task.sleep(for: .milliseconds(300))
      }
    }
    return last
  }

  // MARK: ExecProcess

  /// What was given before counts as dealt with when this is called: the guest may forget it then.
  func next() async -> ExecEvent? {
    let cleaning = state.withLock { state -> Task<Void, Never>? in
      switch state.given {
      case .stdout(let bytes): state.out.open -= bytes.count
      case .stderr(let bytes): state.err.open -= bytes.count
      case .ended: return state.cleaning
      default: break
      }
      state.given = nil
      return nil
    }
    // Who waits for nil has it clean.
    if let cleaning { await cleaning.value }
    let event = await events.next()
    if let event {
      state.withLock { state in
        state.given = event
        guard case .ended = event, let clean = state.clean else { return }
        state.clean = nil
        state.cleaning = Task.detached { await clean() }
      }
    }
    return event
  }

  func write(_ bytes: [UInt8]) async throws(ExecFailure) {
    await input.withLock { $0 }?.write(bytes)
  }

  func closeInput() async { await input.withLock { $0 }?.close() }

  func resize(_ size: TerminalSize) async {
    guard hasTerminal, !events.isOver else { return }
    let script = """
      for b in /run /var/tmp /tmp; do
        if [ -s $b/\(runner.name)/y ]; then stty rows \(size.rows) cols \(size.columns) <"$(cat $b/\(runner.name)/y)"; fi
      done
      """
    for _ in 0..<3 {
      if (try? await link.run(["/bin/sh", "-c", script])) != nil { return }
    }
  }

  func signal(_ number: Int) async throws(ExecFailure) {
    guard (1...64).contains(number) else {
      throw .bad("signal", "is no signal", "Give a number from 1 to 64.")
    }
    guard !events.isOver else { return }
    if let error = await kill(number, why: "-", grace: false) {
      throw ExecFailure.agent(error, place: link.place, version: nil)
    }
    pause.nudge()
  }

  func cancel() async {
    let isFirst = state.withLock { state in
      defer { state.isCancelled = true }
      return !state.isCancelled
    }
    guard isFirst, !events.isOver else { return }
    _ = await kill(15, why: "cancel", grace: true)
    pause.nudge()
  }

  func detach() async {
    state.withLock { $0.driver }?.cancel()
    input.withLock { $0 }?.end()
    pause.nudge()
  }
}
