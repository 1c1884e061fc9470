import CSallyport
import ConsoleProtocol
import Glibc
import Synchronization

// Why not swift-subprocess: it hands a child's output to a closure that has to run to its end, and has no terminal, no
// window size, and no end while a background child keeps the output open; what it would save is the spawn itself,
// which CSallyport has anyway.

/// What a child tells, on its own thread.
protocol ChildHandler: AnyObject, Sendable {
  /// Bytes of its output.
  /// - Returns: whether it may go on; otherwise nothing more of this stream is read until ``Child/resumeOutput()``.
  func child(_ child: Child, wrote bytes: [UInt8], to stream: Child.Output) -> Bool
  /// It has ended, and all that it wrote was told. The last call.
  func child(_ child: Child, ended: Child.End)
}

/// A child process with its streams, on a thread of its own: it may be many, and none of them holds up a loop or one of
/// Swift's threads.
///
/// The end is told when the child has ended and what it wrote was read. A process that it left behind with its output
/// open doesn't delay that: what is in the pipe at the child's end is read, a short grace more, and that's it.
final class Child: Sendable {
  /// Which of its streams.
  enum Output: Sendable { case stdout, stderr }

  /// How it ended.
  enum End: Sendable, Hashable {
    /// It exited with this status.
    case exited(Int)
    /// This signal ended it.
    case signalled(Int)
    /// The kernel doesn't say.
    case unknown(String)
  }

  /// Its number, and its group's.
  var pid: pid_t { state.withLock { $0.pid } }

  /// How long a group has between TERM and KILL.
  static let grace: Duration = .seconds(5)
  /// How much longer the output is read after the end, in milliseconds.
  static let lateOutput: Int64 = 100
  /// Bytes of input that may wait for the child.
  private static let inputLimit = 256 << 10

  private struct State {
    var pid: pid_t = -1
    var input: [[UInt8]] = []
    var inputBytes = 0
    var closesInput = false
    var inputIsOver = false
    var held: Set<Output> = []
    var isReaped = false
    var isEnding = false
    var killAt: Int64?
    var size: TerminalSize?
    var waiters: [CheckedContinuation<Void, Never>] = []
    var wake: Int32 = -1
  }
  private let state = Mutex(State())

  private init() {}

  /// Starts a program.
  static func start(
    _ program: ChildProgram, handler: any ChildHandler
  ) async throws(ChildFailure) -> Child {
    let child = Child()
    let result = await withCheckedContinuation {
      (continuation: CheckedContinuation<Result<Void, ChildFailure>, Never>) in
      let started = OwnThread.run(name: "child") {
        child.run(program, handler) { continuation.resume(returning: $0) }
      }
      if !started {
        continuation.resume(returning: .failure(ChildFailure(step: .preparing, code: EAGAIN)))
      }
    }
    try result.get()
    return child
  }

  // MARK: from any task

  /// Gives bytes of input, and waits while much is in line. Bytes that nobody reads any more are dropped.
  func write(_ bytes: [UInt8]) async {
    guard !bytes.isEmpty else { return }
    let isFull = state.withLock { state -> Bool in
      guard !state.closesInput, !state.inputIsOver else { return false }
      state.input.append(bytes)
      state.inputBytes += bytes.count
      wake(&state)
      return state.inputBytes > Self.inputLimit
    }
    guard isFull else { return }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let now = state.withLock { state -> Bool in
          if state.inputBytes <= Self.inputLimit || state.inputIsOver || Task.isCancelled {
            return true
          }
          state.waiters.append(continuation)
          return false
        }
        if now { continuation.resume() }
      }
    } onCancel: {
      resumeWaiters()
    }
  }

  /// The end of the input, once what was given has arrived. A terminal has no such end: nothing happens.
  func closeInput() {
    state.withLock { state in
      state.closesInput = true
      wake(&state)
    }
  }

  /// Reads on after the handler said to hold.
  func resumeOutput() {
    state.withLock { state in
      state.held = []
      wake(&state)
    }
  }

  /// Its terminal has this size now.
  func resize(_ size: TerminalSize) {
    state.withLock { state in
      state.size = size
      wake(&state)
    }
  }

  /// Sends a signal to its group, or with `alone` only to it.
  /// - Returns: whether it was there to get it.
  @discardableResult
  func signal(_ number: Int32, alone: Bool = false) -> Bool {
    // Under the lock, so that the number can't have become somebody else's.
    state.withLock { state in
      guard state.pid > 1, !state.isReaped else { return false }
      return kill(alone ? state.pid : -state.pid, number) == 0
    }
  }

  /// Ends its group: TERM, and KILL after ``grace``, or when the child itself has ended by then.
  func end(after grace: Duration = Child.grace) {
    signal(SIGTERM)
    // What is stopped can't see it.
    signal(SIGCONT)
    state.withLock { state in
      state.isEnding = true
      let at = OwnThread.now + Int64(grace / .milliseconds(1))
      state.killAt = min(state.killAt ?? at, at)
      wake(&state)
    }
  }

  private func wake(_ state: inout State) {
    guard state.wake >= 0 else { return }
    var one: UInt64 = 1
    _ = Glibc.write(state.wake, &one, 8)
  }

  private func resumeWaiters() {
    let waiters = state.withLock { state in
      defer { state.waiters = [] }
      return state.waiters
    }
    for waiter in waiters { waiter.resume() }
  }

  // MARK: its thread

  // The handler is held by this thread alone, so that handler and child don't keep each other alive.
  private func run(
    _ program: ChildProgram, _ handler: any ChildHandler,
    _ started: (Result<Void, ChildFailure>) -> Void
  ) {
    var streams: ChildStreams
    let pid: pid_t
    do throws(ChildFailure) {
      streams = try ChildStreams(program)
      do throws(ChildFailure) {
        pid = try program.spawn(
          in: streams.theirInput, out: streams.theirOutput, err: streams.theirErrors)
      } catch {
        streams.closeAll()
        throw error
      }
    } catch {
      started(.failure(error))
      return
    }
    streams.closeTheirs()
    let wake = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
    state.withLock { state in
      state.pid = pid
      state.wake = wake
    }
    started(.success(()))

    let end = serve(&streams, handler, pid: pid, wake: wake)

    streams.closeAll()
    state.withLock { state in
      state.inputIsOver = true
      state.input = []
      state.inputBytes = 0
      state.wake = -1
    }
    if wake >= 0 { close(wake) }
    resumeWaiters()
    handler.child(self, ended: end)
  }

  private func serve(
    _ streams: inout ChildStreams, _ handler: any ChildHandler, pid: pid_t, wake: Int32
  ) -> End {
    let pidfd = sp_pidfd(pid)
    defer { if pidfd >= 0 { close(pidfd) } }
    var end: End?
    var lastMoment: Int64 = 0
    while true {
      let (held, killAt, size) = state.withLock { state in
        defer { state.size = nil }
        return (state.held, state.killAt, state.size)
      }
      if let size { streams.resize(size) }
      if let killAt, OwnThread.now >= killAt { killNow() }
      feed(&streams)

      if end == nil { end = ending(pid) }
      if let end {
        if lastMoment == 0 {
          lastMoment = OwnThread.now + Self.lateOutput
          streams.noteWhatIsLeft()
        }
        if !streams.isReading
          || (held.isEmpty && streams.leftAtEnd <= 0 && OwnThread.now >= lastMoment)
        {
          reap(pid)
          return end
        }
      }

      // Without a pidfd (before Linux 5.3) the child is asked for often; with everything held it's a matter of waiting.
      var timeout: Int64 = end == nil && pidfd < 0 ? 20 : -1
      if let killAt, end == nil {
        let left = max(0, killAt - OwnThread.now)
        timeout = timeout < 0 ? left : min(timeout, left)
      }
      if end != nil, held.isEmpty { timeout = max(0, lastMoment - OwnThread.now) }
      let ready = streams.wait(
        wake: wake, pidfd: end == nil ? pidfd : -1, held: held, timeout: timeout)
      // What was there at the end but doesn't come (a terminal that was hung up drops it) is not waited for.
      if end != nil, held.isEmpty, timeout == 0, ready.isEmpty { streams.leftAtEnd = 0 }
      if ready.contains(.stdout) { read(&streams, .stdout, handler) }
      if ready.contains(.stderr) { read(&streams, .stderr, handler) }
    }
  }

  private func read(
    _ streams: inout ChildStreams, _ output: Output, _ handler: any ChildHandler
  ) {
    guard let bytes = streams.read(output) else { return }
    // Noted before, because the handler may be told to go on while it still says that it can't.
    state.withLock { _ = $0.held.insert(output) }
    if handler.child(self, wrote: bytes, to: output) {
      state.withLock { _ = $0.held.remove(output) }
    }
  }

  /// Hands input on, as much as the child takes now.
  private func feed(_ streams: inout ChildStreams) {
    while true {
      let next = state.withLock { state -> [UInt8]? in state.input.first }
      guard streams.takesInput else {
        dropInput()
        return
      }
      guard let next else { break }
      let count = streams.write(next)
      if count < 0 {
        dropInput()
        return
      }
      let isLow = state.withLock { state -> Bool in
        guard !state.input.isEmpty else { return false }
        if count == next.count {
          state.input.removeFirst()
        } else {
          state.input[0].removeFirst(count)
        }
        state.inputBytes -= count
        return state.inputBytes <= Self.inputLimit
      }
      if isLow { resumeWaiters() }
      if count < next.count {
        streams.hasInputWaiting = true
        return
      }
    }
    streams.hasInputWaiting = false
    if state.withLock({ $0.closesInput && $0.input.isEmpty }) { streams.endInput() }
  }

  private func dropInput() {
    state.withLock { state in
      state.inputIsOver = true
      state.input = []
      state.inputBytes = 0
    }
    resumeWaiters()
  }

  private func killNow() {
    state.withLock { state in
      state.killAt = nil
      guard state.pid > 1, !state.isReaped else { return }
      kill(-state.pid, SIGKILL)
    }
  }

  private func ending(_ pid: pid_t) -> End? {
    var status: Int32 = 0
    var signal: Int32 = 0
    switch sp_child_ended(pid, &status, &signal) {
    case 0: return nil
    case 1: return signal == 0 ? .exited(Int(status)) : .signalled(Int(signal))
    default:
      return .unknown("waiting for it failed: \(String(cString: strerror(errno)))")
    }
  }

  /// Takes the zombie away. Until then its number and its group's are its own, so what it left behind can be killed.
  private func reap(_ pid: pid_t) {
    state.withLock { state in
      if state.isEnding { kill(-pid, SIGKILL) }
      var status: Int32 = 0
      while waitpid(pid, &status, 0) < 0, errno == EINTR {}
      state.isReaped = true
    }
  }
}
