import ConsoleDial
import ConsoleProtocol
import EventLoop
import Glibc

/// One command over one terminal: the login, the runner, the streams, the end. Belongs to its loop.
final class ShellDriver: TerminalLineUser {
  /// What came of the start.
  enum Start: Sendable {
    /// It runs, or may: the rest are events.
    case begun
    case failed(ExecFailure)
  }

  private enum Phase {
    case login(ShellBootstrap)
    /// The runner is being loaded.
    case loading(LoadedRunner)
    /// The order was sent.
    case ordered(LoadedRunner)
    case running(LoadedRunner)
    case over

    /// The runner that takes orders.
    var runner: LoadedRunner? {
      switch self {
      case .ordered(let runner), .running(let runner): runner
      default: nil
      }
    }
  }

  /// Of the output window, this part is acknowledged at once.
  private static let acknowledgedPart = 4
  /// A runner that was silent for so long is asked whether it lives, and given as long again to answer.
  private static let patience: Duration = .seconds(20)

  private let loop: Loop
  private let line: TerminalLine
  private let order: RunnerOrder
  private let place: Place
  private let options: ShellOptions
  private let plan: ShellPlan
  private let events: EventQueue
  private let onOver: @Sendable () -> Void
  private var started: (@Sendable (Start) -> Void)?
  private var phase: Phase
  private var timer: LoopTimer?
  private var limitTimer: LoopTimer?
  /// Why we ended it, for runners that don't know.
  private var cause = RunnerEnd.Cause.none
  private var reader: RunnerFrameReader
  private let magic: [UInt8]
  private var sender = RunnerSender()
  private var limiter: OutputLimiter
  /// Bytes as they came, and frames of text, of which a shell runner counts its window.
  private var received = (stdout: 0, stderr: 0)
  private var acknowledged = 0
  private var isHeld = false
  /// Whether the shell behind the terminal is there because we logged in.
  private var loggedIn = false
  private var lastHeard: Duration
  private var lastAsked: Duration
  private var noise: [UInt8] = []
  /// The first words of standard error, in which `pct` says why it ran nothing.
  private var firstError: [UInt8] = []
  private var writers: [Once<Void>] = []
  private var deadline: Duration

  /// - Parameters:
  ///   - started: told once.
  ///   - onOver: told once, when the terminal is given back.
  init(
    line: TerminalLine, order: RunnerOrder, place: Place, plan: ShellPlan, options: ShellOptions,
    outputLimit: Int?, events: EventQueue, started: @escaping @Sendable (Start) -> Void,
    onOver: @escaping @Sendable () -> Void
  ) {
    loop = line.loop
    self.line = line
    self.order = order
    self.place = place
    self.options = options
    self.plan = plan
    self.events = events
    self.started = started
    self.onOver = onOver
    limiter = OutputLimiter(limit: outputLimit)
    var generator = SystemRandomNumberGenerator()
    magic = RunnerFrameReader.randomMagic(using: &generator)
    reader = RunnerFrameReader(magic: magic)
    lastHeard = loop.now
    lastAsked = loop.now
    deadline = loop.now + options.loginTimeout
    phase = .login(
      ShellBootstrap(
        marks: .init(using: &generator), manner: plan.manner, at: loop.now,
        timeout: options.loginTimeout, credentials: plan.credentials))
  }

  /// Begins. Loop thread.
  func start() {
    line.attach(self)
    turn()
  }

  // MARK: Time

  /// Does what is due, and comes back when more is.
  private func turn() {
    timer?.cancel()
    timer = nil
    let now = loop.now
    var next = now + .seconds(5)
    switch phase {
    case .over: return
    case .login(var bootstrap):
      steps: while true {
        let step = bootstrap.step(at: now)
        phase = .login(bootstrap)
        switch step {
        case .type(let bytes): line.send(bytes)
        case .wait(let until):
          next = until
          break steps
        case .ready(let perl):
          loggedIn = bootstrap.hasLoggedIn
          return load(bootstrap, perl: perl)
        case .loginPrompt(let text): return fail(plan.loginRefused(text, place))
        case .failed(let failure): return fail(.shell(failure, on: place.node))
        }
      }
    case .loading:
      if now >= deadline {
        return fail(.shell(.silent(ShellBootstrap.plain(noise)), on: place.node))
      }
      next = deadline
    case .running(let runner) where runner.isPassedThrough: break
    case .ordered, .running:
      if now - lastHeard > Self.patience * 2 {
        return lose("the runner on node \(place.node) stopped answering")
      }
      if now - max(lastHeard, lastAsked) > Self.patience
        || plan.manner == .keep && now >= lastAsked + Self.patience,
        !sender.isWaiting
      {
        // It acknowledges the batch, whatever it does.
        lastAsked = now
        sender.add([RunnerMessage("N")])
        pump()
      }
    }
    timer = loop.schedule(after: max(.milliseconds(1), next - now)) { [weak self] in self?.turn() }
  }

  // MARK: The runner

  private func load(_ bootstrap: ShellBootstrap, perl: Bool) {
    guard let runner = LoadedRunner(options.runner, hasPerl: perl, plan: plan, order: order) else {
      return fail(
        ExecFailure(
          .unsupported, "There is no Perl on node \(place.node).",
          remedy: "Install perl-base there, or leave the choice of the runner to us."))
    }
    phase = .loading(runner)
    let (script, rest) = runner.program(magic: magic, options: options)
    line.send(bootstrap.load(script: script, rest: rest))
    turn()
  }

  private func pump() {
    guard let runner = phase.runner else { return }
    if let batch = sender.next(runner.coding) { line.send(batch) }
    if sender.pendingInput < sender.inputWindow {
      let waiting = writers
      writers = []
      for writer in waiting { writer.resume(()) }
    }
  }

  func line(received bytes: UnsafeRawBufferPointer) {
    lastHeard = loop.now
    switch phase {
    case .over: return
    case .login(var bootstrap):
      let used = bootstrap.feed(bytes, at: loop.now)
      phase = .login(bootstrap)
      turn()
      let rest = UnsafeRawBufferPointer(rebasing: bytes[used...])
      if !rest.isEmpty, case .loading = phase { read(rest) }
    case .loading, .ordered, .running: read(bytes)
    }
  }

  private func read(_ bytes: UnsafeRawBufferPointer) {
    var reader = reader
    reader.feed(bytes) { event in
      switch event {
      case .stdout(let bytes): output(bytes, isError: false)
      case .stderr(let bytes): output(bytes, isError: true)
      case .encoded(let text, let isError): encoded(text, isError: isError)
      case .frame(let frame): take(frame)
      case .noise(let bytes): other(bytes)
      case .violation: lose("the runner's frames were damaged on the way")
      }
    }
    self.reader = reader
    acknowledge()
  }

  private func take(_ frame: RunnerFrame) {
    switch (frame, phase) {
    case (.ready, .loading(let runner)):
      phase = .ordered(runner)
      runner.limit(&sender)
      // termproxy's own message: the runner's terminal, where that is the command's, has it before.
      if let size = order.terminal { line.resize(size) }
      sender.add(runner.order(order).messages)
      pump()
      turn()
    case (.started(let pid), .ordered(var runner)):
      runner.pid = pid
      runs(runner)
    case (.started(let pid), .running(var runner)):
      runner.pid = pid
      phase = .running(runner)
    case (.failed(let step, let code), .ordered):
      fail(.start(step: step, code: code, order: order, place: place))
    case (.batch(let number), _):
      sender.acknowledge(number)
      pump()
    case (.taken(let total), _):
      sender.commandTook(total)
      pump()
    case (.ended(let end), .running), (.ended(let end), .ordered):
      begin()
      finish(result(of: end))
    default: break
    }
  }

  private func runs(_ runner: LoadedRunner) {
    phase = .running(runner)
    if !runner.isComplete, let limit = order.timeLimit {
      limitTimer = loop.schedule(after: .milliseconds(limit)) { [weak self] in
        self?.stop(.timedOut)
      }
    }
    begin()
  }

  private func begin() {
    let started = started
    self.started = nil
    started?(.begun)
  }

  // MARK: Output

  private func output(_ bytes: UnsafeRawBufferPointer, isError: Bool) {
    // A quick command's output may be there before the word that it runs.
    if case .ordered(let runner) = phase { runs(runner) }
    guard case .running = phase else { return }
    if isError {
      received.stderr += bytes.count
      if firstError.count < 256 { firstError += bytes.prefix(256 - firstError.count) }
    } else {
      received.stdout += bytes.count
    }
    let piece = [UInt8](bytes)
    guard let kept = isError ? limiter.stderr(piece) : limiter.stdout(piece) else { return }
    guard !events.put(isError ? .stderr(kept) : .stdout(kept)) else { return }
    isHeld = true
    // No window holds a program back that writes on the terminal itself.
    if phase.runner?.isPassedThrough == true { line.pauseReading() }
  }

  private func encoded(_ text: [UInt8], isError: Bool) {
    guard let bytes = Base64.decode(text) else {
      return lose("the runner's frames were damaged on the way")
    }
    if case .ordered(let runner) = phase { runs(runner) }
    if case .running(var runner) = phase {
      runner.frames += 1
      phase = .running(runner)
    }
    bytes.withUnsafeBytes { output($0, isError: isError) }
  }

  /// What stands between frames: of a terminal that is passed through, its output.
  private func other(_ bytes: UnsafeRawBufferPointer) {
    if case .running(let runner) = phase, runner.isPassedThrough {
      return output(bytes, isError: false)
    }
    noise += bytes
    if noise.count > 1024 { noise.removeFirst(noise.count - 512) }
  }

  private func acknowledge() {
    guard !isHeld, case .running(let runner) = phase else { return }
    let (total, window) = runner.window(received.stdout + received.stderr)
    guard total - acknowledged >= max(1, window / Self.acknowledgedPart) else { return }
    acknowledged = total
    sender.took(output: total)
    pump()
  }

  /// The consumer has room again.
  func hasRoom() {
    guard isHeld else { return }
    isHeld = false
    line.resumeReading()
    acknowledge()
  }

  func lineDrained() {
    guard case .running(let runner) = phase, runner.isPassedThrough else { return }
    let waiting = writers
    writers = []
    for writer in waiting { writer.resume(()) }
  }

  // MARK: From the process

  func write(_ bytes: [UInt8], then done: Once<Void>) {
    switch phase {
    case .over: return done.resume(())
    case .running(let runner) where runner.isPassedThrough:
      line.send(bytes)
      if line.pendingBytes > sender.inputWindow {
        writers.append(done)
      } else {
        done.resume(())
      }
    default:
      sender.give(bytes)
      writers.append(done)
      pump()
    }
  }

  func closeInput() {
    if case .running(let runner) = phase, runner.isPassedThrough {
      line.send([4])
    } else {
      sender.endInput()
      pump()
    }
  }

  func resize(_ size: TerminalSize) {
    guard order.terminal != nil else { return }
    if case .running(let runner) = phase, runner.isPassedThrough {
      line.resize(size)
    } else {
      sender.add([RunnerMessage("W", RunnerMessage.size(size))])
      pump()
    }
  }

  /// - Returns: whether it can be sent.
  func signal(_ number: Int) -> Bool {
    guard case .running(let runner) = phase else { return true }
    if runner.isPassedThrough {
      guard let key = [2: UInt8(3), 3: 28, 20: 26][number] else { return false }
      line.send([key])
      return true
    }
    sender.add([RunnerMessage("S", runner.address(number))])
    pump()
    return true
  }

  func cancel() { stop(.cancelled) }

  private func stop(_ cause: RunnerEnd.Cause) {
    if self.cause == .none { self.cause = cause }
    switch phase {
    case .over: return
    case .login, .loading:
      fail(ExecFailure(.cancelled, "It was cancelled before it was sent to node \(place.node)."))
    case .running(let runner) where runner.isPassedThrough:
      // Hanging up is what ends a program on a terminal; on a console that is kept, its key is.
      line.send([3])
      finish(cause == .timedOut ? .timedOut : .cancelled)
    case .ordered(let runner), .running(let runner):
      sender.add([RunnerMessage("K", runner.address(15))])
      pump()
    }
  }

  /// Hangs up: what runs is ended by its runner.
  func leave() {
    switch phase {
    case .over: return
    case .login, .loading:
      fail(ExecFailure(.cancelled, "It was cancelled before it was sent to node \(place.node)."))
    case .ordered, .running:
      finish(.lost("It was let go, and ended with its shell on node \(place.node)."))
    }
  }

  // MARK: The end

  func lineEnded(_ failure: UpstreamFailure) {
    switch phase {
    case .over: return
    case .login, .loading:
      let words = ShellBootstrap.plain(noise).suffix(160)
      fail(
        ExecFailure(
          .unreachable,
          "The shell on node \(place.node) ended before it took a command: \(failure.sentence)."
            + (words.isEmpty ? "" : " It showed: \(words)"),
          remedy: "Open the node's shell in the web interface to see what it does."))
    case .ordered, .running: lose(failure.sentence)
    }
  }

  private func lose(_ why: String) {
    switch phase {
    case .ordered:
      finish(
        .lost(
          "The way to node \(place.node) broke when the command had just been sent (\(why)); it is not known whether "
            + "it ran. If it did, its shell ended it."))
    default:
      finish(
        .lost(
          "The way to node \(place.node) broke (\(why)). The command was running, and is ended with its shell."
        ))
    }
  }

  private func result(of end: RunnerEnd) -> ExecEnd {
    let whole = end.stdout == received.stdout && end.stderr == received.stderr
    let plain: ExecEnd =
      switch end.how {
      case .exited(let code): .exited(code)
      case .signalled(let number): .signalled(number)
      case .stuck:
        .lost(
          "It was killed on node \(place.node), and the kernel has not let go of it: it may still run."
        )
      }
    let isComplete = phase.runner?.isComplete ?? true
    if isComplete, !whole {
      return .lost(
        "Output was lost on the way: \(received.stdout) of \(end.stdout) bytes of standard output and "
          + "\(received.stderr) of \(end.stderr) of standard error came. The command ended with \(end.how)."
      )
    }
    if case .lost = plain { return plain }
    switch isComplete ? end.cause : cause {
    case .cancelled: return .cancelled
    case .timedOut: return .timedOut
    case .none:
      return plan.explain(plain, stdout: received.stdout, error: firstError, place) ?? plain
    }
  }

  private func fail(_ failure: ExecFailure) {
    guard let started else {
      finish(.lost(failure.sentence))
      return
    }
    self.started = nil
    end()
    started(.failed(failure))
  }

  private func finish(_ end: ExecEnd) {
    if case .over = phase { return }
    begin()
    self.end()
    events.put(.ended(limiter.result(end)))
  }

  private func end() {
    let runner = phase.runner
    phase = .over
    timer?.cancel()
    timer = nil
    limitTimer?.cancel()
    limitTimer = nil
    // It holds us.
    events.whenRoom {}
    giveBack(runner)
    let waiting = writers
    writers = []
    for writer in waiting { writer.resume(()) }
    onOver()
  }

  /// A node's shell is ours and ends with its connection. A console's goes on: its runner has to be told, and who
  /// logged in logs out.
  private func giveBack(_ runner: LoadedRunner?) {
    guard plan.manner == .keep, let runner else { return line.close() }
    if !runner.isPassedThrough { line.send(sender.farewell(runner.coding)) }
    let (line, leaves) = (line, loggedIn)
    loop.schedule(after: .milliseconds(300)) {
      if leaves { line.send(Array(" exit\r".utf8)) }
      line.loop.schedule(after: .milliseconds(leaves ? 300 : 50)) { line.close() }
    }
  }
}
