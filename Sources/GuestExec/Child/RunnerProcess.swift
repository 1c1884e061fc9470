import ConsoleProtocol
import Glibc
import Synchronization

/// The way to where a ``RunnerText`` line runs: a local `pct exec`, or OpenSSH.
protocol RunnerRoute: AnyObject, Sendable {
  /// Where it leads, for sentences: "the node pve1".
  var place: String { get }
  /// How long the line may take to say that it is there.
  var patience: Duration { get }
  /// What runs such words there.
  func program(_ words: [[UInt8]], terminal: TerminalSize?) -> ChildProgram
  /// Why the line didn't come up: from the child's end, and what was on its streams until then. `nil` for the end when
  /// it took too long.
  func failure(_ end: Child.End?, said: String) -> ExecFailure
  /// A sentence for a way that broke, nothing about the command: "The connection to pve1 was reset."
  func broken(_ end: Child.End) -> String
  /// The way isn't needed any more.
  func release()
}

/// A command behind a ``RunnerRoute``.
final class RunnerProcess: ExecProcess, ChildHandler {
  let handle: ExecHandle? = nil

  private enum Phase { case calling, sent, running, over }
  private enum Kind { case perl, shell }

  private struct State {
    var phase = Phase.calling
    var kind: Kind?
    var process: RunnerProcessID?
    var refused: String?
    var out: MarkScanner
    var err: MarkScanner
    var outIsReady = false
    var errIsReady = false
    var outIsOver = false
    var result: ExecEnd?
    var hasOutput = false
    var noise: [UInt8] = []
    var limiter: OutputLimiter
    var stop: ExecEnd?
    var stopTold = false
    var isDetached = false
    var childEnd: Child.End?
    var timer: Task<Void, Never>?
    var waiters: [CheckedContinuation<Void, Never>] = []
  }
  private let state: Mutex<State>
  private let child = Mutex<Child?>(nil)
  private let events = EventQueue()
  private let request: ExecRequest
  private let route: any RunnerRoute
  private let readyMark: String
  private let key: String
  private var isTerminal: Bool { request.terminal != nil }

  private init(_ request: ExecRequest, route: any RunnerRoute) {
    self.request = request
    self.route = route
    let ready = RandomMark.make()
    readyMark = ready
    key = RandomMark.make()
    state = Mutex(
      State(
        out: MarkScanner(mark: ready), err: MarkScanner(mark: ready),
        limiter: OutputLimiter(limit: request.outputLimit)))
    events.whenRoom { [weak self] in self?.child.withLock { $0 }?.resumeOutput() }
  }

  // MARK: starting

  /// Starts a command. What it throws happened before the command was sent; the route is released by then.
  static func start(
    _ request: ExecRequest, route: any RunnerRoute
  ) async throws(ExecFailure) -> RunnerProcess {
    let process = RunnerProcess(request, route: route)
    do throws(ExecFailure) {
      try await process.begin()
    } catch {
      process.abandon()
      throw error
    }
    return process
  }

  private func begin() async throws(ExecFailure) {
    let words = RunnerText.words(ready: readyMark, terminal: isTerminal)
    let program = route.program(words, terminal: request.terminal)
    let child: Child
    do throws(ChildFailure) {
      child = try await Child.start(program, handler: self)
    } catch {
      let name = String(decoding: program.program, as: UTF8.self)
      throw ExecFailure(
        .noTransport, "The program '\(name)' could not be started here: \(error.reason).",
        remedy: error.code == ENOENT ? "Install it, or take another transport." : "")
    }
    self.child.withLock { $0 = child }

    await wait(route.patience) { $0.kind != nil }
    if Task.isCancelled {
      throw ExecFailure(.cancelled, "The caller gave up before the command was sent.")
    }
    let (kind, end, noise) = state.withLock { ($0.kind, $0.childEnd, $0.noise) }
    guard let kind, end == nil else {
      throw route.failure(end, said: String(decoding: noise, as: UTF8.self))
    }

    state.withLock { $0.phase = .sent }
    switch kind {
    case .perl: await child.write(RunnerPayload.perl(request, key: key))
    case .shell: await child.write(RunnerPayload.shell(request, key: key))
    }
    if !request.hasInput { await endInput(child) }
    // From here on nothing is known to be unsent; the caller's giving up changes nothing. What writes runs.
    await wait(.seconds(30), heedsCancellation: false) {
      $0.process != nil || $0.refused != nil || $0.result != nil || $0.hasOutput
    }
    if let refused = state.withLock({ $0.refused }) { throw Self.failure(refused, request, route) }
    startTimer()
  }

  private func startTimer() {
    guard let limit = request.timeLimit else { return }
    let timer = Task { [weak self] in
      guard (try? await Task.sleep(for: limit)) != nil else { return }
      await self?.stop(.timedOut)
    }
    let isOver = state.withLock { state in
      state.timer = timer
      return state.phase == .over
    }
    if isOver { timer.cancel() }
  }

  /// Waits until something is so, or the child has ended, or the time is over.
  private func wait(
    _ limit: Duration, heedsCancellation: Bool = true,
    until isSo: @escaping @Sendable (State) -> Bool
  ) async {
    let deadline = ContinuousClock.now + limit
    let clock = Task { [weak self] in
      try? await Task.sleep(until: deadline)
      self?.wakeAll()
    }
    defer { clock.cancel() }
    while true {
      await withTaskCancellationHandler {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
          let now = state.withLock { state -> Bool in
            if isSo(state) || state.childEnd != nil || ContinuousClock.now >= deadline
              || (heedsCancellation && Task.isCancelled)
            {
              return true
            }
            state.waiters.append(continuation)
            return false
          }
          if now { continuation.resume() }
        }
      } onCancel: {
        if heedsCancellation { wakeAll() }
      }
      let isDone = state.withLock {
        isSo($0) || $0.childEnd != nil || ContinuousClock.now >= deadline
      }
      if isDone || (heedsCancellation && Task.isCancelled) { return }
    }
  }

  private func wakeAll() {
    let waiters = state.withLock { state in
      defer { state.waiters = [] }
      return state.waiters
    }
    for waiter in waiters { waiter.resume() }
  }

  private func abandon() {
    let child = child.withLock { $0 }
    state.withLock { state in
      state.phase = .over
      state.isDetached = true
    }
    child?.resumeOutput()
    child?.end(after: .zero)
    route.release()
  }

  private static func failure(
    _ record: String, _ request: ExecRequest, _ route: any RunnerRoute
  ) -> ExecFailure {
    let words = record.split(separator: " ")
    let code = words.last.flatMap { Int32($0) } ?? 0
    let step: ChildFailure.Step =
      switch words.dropFirst().first {
      case "u": .user
      case "p": .user
      case "d": .directory
      case "x": .program
      default: .preparing
      }
    if words.dropFirst().first == "u" {
      return ExecFailure(
        .startFailed, "There is no user '\(request.user ?? "")' on \(route.place).", field: "user")
    }
    return ChildFailure(step: step, code: code).failure(of: request, on: route.place)
  }

  // MARK: output

  func child(_ child: Child, wrote bytes: [UInt8], to stream: Child.Output) -> Bool {
    var goOn = true
    let (wakes, finished) = state.withLock { state -> (Bool, Bool) in
      guard state.phase != .over, !bytes.isEmpty else { return (false, false) }
      var wakes = false
      scan(bytes, stream, &state, &goOn, &wakes)
      return (wakes, state.result != nil && (isTerminal || state.outIsOver))
    }
    if wakes { wakeAll() }
    if finished { finish() }
    return goOn
  }

  private func scan(
    _ bytes: [UInt8], _ stream: Child.Output, _ state: inout State, _ goOn: inout Bool,
    _ wakes: inout Bool
  ) {
    let isReady = stream == .stdout ? state.outIsReady : state.errIsReady
    var pieces = stream == .stdout ? state.out.feed(bytes) : state.err.feed(bytes)
    if !isReady {
      for (i, piece) in pieces.enumerated() {
        switch piece {
        case .bytes(let noise): state.noise = Array((state.noise + noise).suffix(8192))
        case .record(let text):
          // Behind this one another mark counts.
          var rest: [UInt8] = []
          for later in pieces[(i + 1)...] {
            if case .bytes(let bytes) = later { rest += bytes }
          }
          var scanner = MarkScanner(mark: key)
          rest += stream == .stdout ? state.out.rest() : state.err.rest()
          pieces = scanner.feed(rest)
          if stream == .stdout {
            state.out = scanner
            state.outIsReady = true
            state.kind = text == "p" ? .perl : .shell
          } else {
            state.err = scanner
            state.errIsReady = true
          }
          wakes = true
          return take(pieces, stream, &state, &goOn, &wakes)
        }
      }
      return
    }
    take(pieces, stream, &state, &goOn, &wakes)
  }

  private func take(
    _ pieces: [MarkScanner.Piece], _ stream: Child.Output, _ state: inout State,
    _ goOn: inout Bool, _ wakes: inout Bool
  ) {
    for piece in pieces {
      switch piece {
      case .bytes(let bytes):
        if stream == .stdout ? state.outIsOver : state.result != nil { continue }
        wakes = wakes || !state.hasOutput
        state.hasOutput = true
        if state.isDetached { continue }
        if stream == .stdout {
          if let bytes = state.limiter.stdout(bytes) { goOn = events.put(.stdout(bytes)) && goOn }
        } else {
          if let bytes = state.limiter.stderr(bytes) { goOn = events.put(.stderr(bytes)) && goOn }
        }
      case .record(let text):
        wakes = true
        let words = text.split(separator: " ")
        switch words.first {
        case "B":
          state.process = RunnerProcessID(record: text)
          state.phase = .running
        case "F": state.refused = text
        case "E": state.outIsOver = true
        case "X": state.result = words.last.flatMap { Int($0) }.map { .exited($0) }
        case "S": state.result = words.last.flatMap { Int($0) }.map { .signalled($0) }
        default: break
        }
      }
    }
  }

  /// The command's own end is known.
  private func finish() {
    let (end, timer) = state.withLock { state -> (ExecResult?, Task<Void, Never>?) in
      guard state.phase != .over, let result = state.result else { return (nil, nil) }
      state.phase = .over
      return (state.limiter.result(state.stop ?? result), state.timer)
    }
    guard let end else { return }
    timer?.cancel()
    events.put(.ended(end))
    // Its way is of no more use; what the command has left behind mustn't keep it open.
    child.withLock { $0 }?.end(after: .seconds(2))
    route.release()
    wakeAll()
  }

  func child(_ child: Child, ended: Child.End) {
    let (end, timer) = state.withLock { state -> (ExecResult?, Task<Void, Never>?) in
      state.childEnd = ended
      // What looked like the beginning of a record was none.
      if !state.outIsReady { state.noise += state.out.rest() }
      if !state.errIsReady { state.noise += state.err.rest() }
      guard state.phase == .sent || state.phase == .running else { return (nil, nil) }
      // A start that was refused is told by `start`.
      guard state.refused == nil else { return (nil, nil) }
      state.phase = .over
      let late = (state.out.rest(), state.err.rest())
      if !state.isDetached, !state.outIsOver, let bytes = state.limiter.stdout(late.0) {
        events.put(.stdout(bytes))
      }
      if !state.isDetached, let bytes = state.limiter.stderr(late.1) { events.put(.stderr(bytes)) }
      let end: ExecEnd =
        if let stop = state.stop, state.stopTold {
          stop
        } else if let result = state.result {
          result
        } else if state.process == nil {
          .lost(
            "\(route.broken(ended)) The command was sent and its start was not confirmed: it may have run."
          )
        } else {
          .lost("\(route.broken(ended)) The command may still run on \(route.place).")
        }
      return (state.limiter.result(end), state.timer)
    }
    wakeAll()
    guard let end else { return }
    timer?.cancel()
    events.put(.ended(end))
    route.release()
  }

  // MARK: ExecProcess

  func next() async -> ExecEvent? {
    if state.withLock({ $0.isDetached }) { return nil }
    return await events.next()
  }

  func write(_ bytes: [UInt8]) async throws(ExecFailure) {
    guard request.hasInput || isTerminal else { return }
    await child.withLock { $0 }?.write(bytes)
  }

  func closeInput() async {
    guard request.hasInput, let child = child.withLock({ $0 }) else { return }
    await endInput(child)
  }

  private func endInput(_ child: Child) async {
    if isTerminal {
      // What a person does: Ctrl-D.
      if request.hasInput { await child.write([4]) }
    } else {
      child.closeInput()
    }
  }

  func resize(_ size: TerminalSize) async {
    guard isTerminal else { return }
    child.withLock { $0 }?.resize(size)
  }

  func signal(_ number: Int) async throws(ExecFailure) {
    guard (1...64).contains(number) else {
      throw ExecFailure(.unsupported, "There is no signal \(number).")
    }
    switch await send(number) {
    case .sent, .gone: return
    case .unknown(let why):
      throw ExecFailure(.unreachable, "The signal could not be sent: \(why)")
    }
  }

  func cancel() async { await stop(.cancelled) }

  func detach() async {
    let child = child.withLock { $0 }
    state.withLock { $0.isDetached = true }
    // What it still writes is read and dropped, so that it isn't held up by nobody's reading.
    child?.resumeOutput()
  }

  // MARK: ending it

  private enum Sending { case sent, gone, unknown(String) }

  /// Sends a signal the way the command came.
  private func send(_ number: Int, ending: Bool = false) async -> Sending {
    // It has written before it was said where it runs, or is so slow that `start` didn't wait for that.
    await wait(.seconds(5), heedsCancellation: false) { $0.process != nil || $0.phase == .over }
    let (process, isOver, kind) = state.withLock { ($0.process, $0.phase == .over, $0.kind) }
    if isOver { return .gone }
    guard let process else { return .unknown("the command has not confirmed its start.") }
    let words = RunnerText.signalWords(
      number, process: process, ending: ending && kind == .perl)
    switch await ShortChild.run(route.program(words, terminal: nil), limit: .seconds(20)) {
    case .exited(0): return .sent
    case .exited(3): return .gone
    case let other: return .unknown(other.map { "\($0)" } ?? "it took too long.")
    }
  }

  /// TERM, then KILL.
  private func stop(_ end: ExecEnd) async {
    let goes = state.withLock { state -> Bool in
      guard state.phase != .over, state.stop == nil else { return false }
      state.stop = end
      return true
    }
    guard goes else { return }
    for number in [Int(SIGTERM), Int(SIGKILL)] {
      switch await send(number, ending: true) {
      case .sent: state.withLock { $0.stopTold = true }
      case .gone: break
      case .unknown(let why):
        giveUp("It was to be ended (\(end.word)), and could not be reached: \(why)")
        return
      }
      await wait(Child.grace, heedsCancellation: false) { $0.phase == .over }
      if state.withLock({ $0.phase == .over }) { return }
    }
    giveUp("It was to be ended (\(end.word)), got KILL, and its end was not told.")
  }

  private func giveUp(_ why: String) {
    let (end, timer) = state.withLock { state -> (ExecResult?, Task<Void, Never>?) in
      guard state.phase != .over else { return (nil, nil) }
      state.phase = .over
      return (
        state.limiter.result(.lost("\(why) The command may still run on \(route.place).")),
        state.timer
      )
    }
    guard let end else { return }
    timer?.cancel()
    events.put(.ended(end))
    child.withLock { $0 }?.end(after: .seconds(1))
    route.release()
  }
}
