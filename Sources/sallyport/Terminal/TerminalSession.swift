import ConsoleProtocol
import EventLoop
import Glibc

/// A console in the local terminal, or between a pipe's ends. Lives on one loop.
final class TerminalSession: ConsoleLineUser {
  /// How it is meant to go.
  struct Plan: Sendable {
    /// The key that leaves.
    var escape = EscapeKey.standard
    /// With a pipe for input: how long to wait for more output after its end.
    var linger: Duration = .seconds(2)
    /// Nothing on standard error but errors.
    var quiet = false
  }

  /// How it went.
  enum Outcome: Sendable {
    /// The person left, or the input's end was reached.
    case left
    /// A signal ended it.
    case signal(Int32)
    /// The console ended.
    case ended(Ending)
  }

  private let loop: Loop
  private let plan: Plan
  private let isInteractive: Bool
  private var line: (any ConsoleLine)?
  private var done: CheckedContinuation<(Outcome, flush: @Sendable () -> Void), Never>?
  private var output: OutputPump?
  private let input = InputPump()
  private var signals: SignalWatcher?
  private var scanner: EscapeScanner
  private var modes = TerminalModes()
  private var isPaused = false
  private var owedChunks = 0
  private var lingering: LoopTimer?
  private var inputEnded = false
  private var isRaw = false

  /// Input that waits before reading it pauses.
  private static let inputBound = 1 << 20

  private init(loop: Loop, plan: Plan) {
    self.loop = loop
    self.plan = plan
    isInteractive = LocalTerminal.inputIsTerminal
    scanner = EscapeScanner(isInteractive ? plan.escape : EscapeKey(byte: nil))
  }

  /// Runs a console to its end. The terminal is as it was when this returns.
  static func run(_ pending: OnLoop<PendingLine>, plan: Plan) async -> Outcome {
    let loop = pending.loop
    let (outcome, flush) = await withCheckedContinuation {
      (done: CheckedContinuation<(Outcome, flush: @Sendable () -> Void), Never>) in
      pending.execute { pending in
        let session = TerminalSession(loop: loop, plan: plan)
        session.done = done
        session.begin(pending)
      }
    }
    flush()
    LocalTerminal.restore()
    return outcome
  }

  private func begin(_ pending: PendingLine) {
    output = OutputPump(
      on: loop, written: { [self] in outputWritten($0) }, failed: { [self] in end(.left) })
    signals = SignalWatcher(on: loop, [SIGWINCH, SIGCONT, SIGTERM, SIGHUP, SIGINT]) {
      [self] signal in
      switch signal {
      case SIGWINCH: if let size = LocalTerminal.size { line?.resize(size) }
      case SIGCONT: if isRaw { LocalTerminal.makeRaw() }
      default: end(.signal(signal))
      }
    }
    line = pending.start(for: self)
  }

  // MARK: The console

  func consoleOpened(_ about: ConsoleAbout) {
    if !plan.quiet, isInteractive {
      let way = plan.escape.byte == nil ? "" : " Leave with \(plan.escape.description)."
      printError("Connected to \(about.sentence).\(way)\n")
    }
    if isInteractive {
      LocalTerminal.makeRaw()
      isRaw = true
    }
    let me = OnLoop(self, loop: loop)
    input.start(on: loop) { chunk in me.execute { $0.typed(chunk) } }
  }

  func console(received bytes: UnsafeMutableRawBufferPointer) {
    let bytes = UnsafeRawBufferPointer(bytes)
    if isInteractive { modes.note(bytes) }
    output?.write(bytes)
    if inputEnded { linger() }
    if let output, output.pending > OutputPump.bound, !isPaused {
      isPaused = true
      line?.pauseReading()
    }
  }

  private func outputWritten(_ count: Int) {
    line?.consumed(count)
    if let output, isPaused, output.pending <= OutputPump.bound / 2 {
      isPaused = false
      line?.resumeReading()
    }
  }

  func consoleDrained() {
    while owedChunks > 0, (line?.pendingBytes ?? 0) < TerminalSession.inputBound {
      owedChunks -= 1
      input.taken()
    }
    if inputEnded, lingering == nil { linger() }
  }

  func consoleNotice(_ sentence: String) {
    if !plan.quiet { printError("\r\nsallyport: \(sentence)\r\n") }
  }

  func consoleEnded(_ ending: Ending) {
    line = nil
    end(.ended(ending))
  }

  // MARK: The person

  private func typed(_ chunk: [UInt8]) {
    guard let line else { return }
    if chunk.isEmpty {
      inputEnded = true
      if isInteractive { end(.left) } else { linger() }
      return
    }
    let left = chunk.withUnsafeBytes { bytes in
      let escape = scanner.scan(bytes)
      line.send(UnsafeRawBufferPointer(rebasing: bytes[..<(escape ?? bytes.count)]))
      return escape != nil
    }
    if left { return end(.left) }
    owedChunks += 1
    consoleDrained()
  }

  /// Waits for output that belongs to the last input. Counts from the moment when the input has left.
  private func linger() {
    lingering?.cancel()
    lingering = nil
    guard line?.pendingBytes == 0 else { return }
    lingering = loop.schedule(after: plan.linger) { [weak self] in
      guard let self else { return }
      // What is still on its way to standard output is not silence.
      if self.output?.pending == 0 { self.end(.left) } else { self.linger() }
    }
  }

  private func end(_ outcome: Outcome) {
    guard let done else { return }
    self.done = nil
    lingering?.cancel()
    line?.leave()
    line = nil
    if isInteractive {
      let undo = Array(modes.undo.utf8)
      undo.withUnsafeBytes { output?.write($0) }
    }
    let nothing: @Sendable () -> Void = {}
    done.resume(returning: (outcome, flush: output?.flush ?? nothing))
  }
}
