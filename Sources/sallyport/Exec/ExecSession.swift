import ConsoleProtocol
import GuestExec
import Glibc
import Synchronization

/// A running command between our own standard streams: what arrives is written, what we read is sent, signals and the
/// window's size go through.
final class ExecSession: Sendable {
  /// How it is meant to go.
  struct Plan: Sendable {
    /// Whether standard input is sent.
    var input = false
    /// Whether it has a terminal.
    var terminal = false
    /// The key that leaves, with a terminal on our side.
    var escape = EscapeKey(byte: nil)
    /// Whether leaving lets the command go on (a gateway's job) instead of cancelling it.
    var leavingKeeps = false
    /// Nothing on standard error but errors.
    var quiet = false
    /// Keeps output in memory instead of writing it.
    var captures = false
  }

  /// How it went.
  struct Outcome: Sendable {
    /// The end; nil where the person left before it.
    var result: ExecResult?
    /// A signal that ended us, or 0. SIGPIPE where nobody read our output any more.
    var signal: Int32 = 0
    var stdout: [UInt8] = []
    var stderr: [UInt8] = []
    var notes: [String] = []
    /// Why the input could not be delivered.
    var failure: ExecFailure?
  }

  private struct State {
    var interrupts = 0
    var signal: Int32 = 0
    var hasLeft = false
    var isOver = false
    var failure: ExecFailure?
    var isRaw = false
  }

  private let process: any ExecProcess
  private let plan: Plan
  private let state = Mutex(State())
  private let stdout = BytesWriter(1)
  private let stderr = BytesWriter(2)

  private init(_ process: any ExecProcess, plan: Plan) {
    self.process = process
    self.plan = plan
  }

  /// Runs a command to its end. The terminal is as it was when this returns.
  static func run(
    _ line: ExecLine, plan: Plan, signals: SignalHub
  ) async -> Outcome {
    let session = ExecSession(line.process, plan: plan)
    var outcome = await session.run(signals)
    if let failure = line.startFailure {
      outcome.failure = failure
      outcome.result = nil
    }
    return outcome
  }

  private var isInteractive: Bool { plan.terminal && LocalTerminal.inputIsTerminal }

  private func run(_ signals: SignalHub) async -> Outcome {
    if isInteractive {
      LocalTerminal.makeRaw()
      state.withLock { $0.isRaw = true }
      if let size = LocalTerminal.size { await process.resize(size) }
    }
    signals.handle { [self] number in await caught(number) }
    // Without input of ours a job that has some of another caller keeps it.
    let typing = Task {
      if plan.input { await sendInput() } else if !plan.leavingKeeps { await process.closeInput() }
    }
    var outcome = Outcome()
    var modes = TerminalModes()
    loop: while let event = await process.next() {
      switch event {
      case .stdout(let bytes):
        if plan.captures {
          outcome.stdout += bytes
          continue
        }
        if isInteractive { bytes.withUnsafeBytes { modes.note($0) } }
        if !(await stdout.write(bytes)) { await readerHasGone() }
      case .stderr(let bytes):
        if plan.captures { outcome.stderr += bytes } else { await stderr.write(bytes) }
      case .note(let sentence):
        outcome.notes.append(sentence)
        say(sentence)
      case .ended(let result):
        outcome.result = result
        break loop
      }
      if hasLeft { break }
    }
    state.withLock { $0.isOver = true }
    signals.handle(nil)
    typing.cancel()
    if isInteractive {
      await stdout.write(Array(modes.undo.utf8))
      await stdout.flush(for: 1)
    } else {
      await stdout.flush()
    }
    await stderr.flush(for: 5)
    LocalTerminal.restore()
    let (signal, failure) = state.withLock { ($0.signal, $0.failure) }
    outcome.signal = stdout.isBroken ? SIGPIPE : signal
    outcome.failure = failure
    return outcome
  }

  private var hasLeft: Bool { state.withLock { $0.hasLeft } }

  // MARK: Input

  private func sendInput() async {
    let input = BytesReader(0)
    var scanner = EscapeScanner(isInteractive ? plan.escape : EscapeKey(byte: nil))
    while !Task.isCancelled {
      var chunk = await input.next()
      if Task.isCancelled { return }
      if chunk.isEmpty {
        await process.closeInput()
        return
      }
      let escape = chunk.withUnsafeBytes { scanner.scan($0) }
      if let escape { chunk = Array(chunk[..<escape]) }
      do throws(ExecFailure) {
        if !chunk.isEmpty { try await process.write(chunk) }
      } catch {
        // Half of an input is worse than none: what runs is told to end.
        state.withLock { $0.failure = error }
        await leave()
        return
      }
      if escape != nil {
        await leave()
        return
      }
    }
  }

  /// The person wants to go.
  private func leave() async {
    if plan.leavingKeeps {
      state.withLock { $0.hasLeft = true }
      await process.detach()
    } else {
      await process.cancel()
    }
  }

  // MARK: Signals

  private func caught(_ number: Int32) async {
    switch number {
    case SIGWINCH:
      if plan.terminal, let size = LocalTerminal.size { await process.resize(size) }
    case SIGCONT:
      if state.withLock({ $0.isRaw }) { LocalTerminal.makeRaw() }
    case SIGINT, SIGQUIT: await interrupted(number)
    default:
      // Whoever ends us wants us gone soon: the command is told to end, and is not waited for the second time.
      let again = state.withLock { state in
        defer { state.signal = number }
        return state.signal != 0
      }
      if again { leaveAtOnce(number) }
      // A way that is broken doesn't tell the end; nor is it waited for by who sends this signal.
      Task {
        try? await Task.sleep(for: .seconds(20))
        if !state.withLock({ $0.isOver }) { leaveAtOnce(number) }
      }
      await leave()
    }
  }

  /// The first Ctrl-C is the command's, the second cancels it, the third leaves.
  private func interrupted(_ number: Int32) async {
    let count = state.withLock { state in
      state.interrupts += 1
      return state.interrupts
    }
    switch count {
    case 1:
      do throws(ExecFailure) {
        try await process.signal(Int(number))
      } catch {
        say(
          "Ctrl-C can't be passed on (\(error.sentence)) Once more \(plan.leavingKeeps ? "leaves" : "cancels the command")."
        )
      }
    case 2:
      if !plan.leavingKeeps { say("Cancelling. Ctrl-C once more leaves without waiting.") }
      await leave()
    default: leaveAtOnce(number)
    }
  }

  private func leaveAtOnce(_ number: Int32) -> Never {
    LocalTerminal.restore()
    printError("sallyport: left; the command may still run.\n")
    exit(128 + number)
  }

  /// Nobody reads our output any more (`| head`): a command in a pipe gets SIGPIPE then, or is ended where it can't.
  private func readerHasGone() async {
    let first = state.withLock { state in
      defer { state.signal = SIGPIPE }
      return state.signal == 0
    }
    guard first else { return }
    if plan.leavingKeeps { return await leave() }
    let process = process
    // Not awaited here: its end comes as an event, behind output that has to be taken.
    Task {
      do throws(ExecFailure) {
        try await process.signal(Int(SIGPIPE))
        // A command that ignores the signal would go on for nobody.
        try? await Task.sleep(for: .seconds(2))
      } catch {}
      await process.cancel()
    }
  }

  /// Something for a person, where one looks.
  private func say(_ sentence: String) {
    guard !plan.quiet, isatty(2) == 1 else { return }
    let newLine = isInteractive ? "\r\n" : "\n"
    printError("sallyport: \(sentence)\(newLine)")
  }
}
