import ConsoleProtocol
import Glibc
import Synchronization

/// The environment of commands on this machine. Ours may hold secrets, so nothing of it goes on.
enum LocalEnvironment {
  /// What a login would set.
  static func base(of user: LocalUser, terminal: Bool = false) -> [ExecRequest.Variable] {
    var pairs = [
      ("PATH", ChildProgram.standardPath), ("HOME", user.home), ("USER", user.name),
      ("LOGNAME", user.name), ("SHELL", user.shell.isEmpty ? "/bin/sh" : user.shell),
      ("LANG", "C.UTF-8"),
    ]
    if terminal { pairs.append(("TERM", "xterm-256color")) }
    return pairs.map { .init(name: Array($0.0.utf8), value: Array($0.1.utf8)) }
  }

  /// With a request's variables on top: one of each name, the last one's value.
  static func merged(
    _ base: [ExecRequest.Variable], _ more: [ExecRequest.Variable]
  ) -> [ExecRequest.Variable] {
    var out = base
    var places: [[UInt8]: Int] = [:]
    for (i, variable) in base.enumerated() { places[variable.name] = i }
    for variable in more {
      if let i = places[variable.name] {
        out[i] = variable
      } else {
        places[variable.name] = out.count
        out.append(variable)
      }
    }
    return out
  }
}

/// A command that is our child.
final class LocalProcess: ExecProcess, ChildHandler {
  /// Nil: nothing finds a child of ours again once we are gone.
  let handle: ExecHandle? = nil

  private struct State {
    var limiter: OutputLimiter
    var stop: ExecEnd?
    var isOver = false
    var isDetached = false
    var timer: Task<Void, Never>?
  }
  private let state: Mutex<State>
  private let child = Mutex<Child?>(nil)
  private let events = EventQueue()
  private let request: ExecRequest

  private init(_ request: ExecRequest) {
    self.request = request
    state = Mutex(State(limiter: OutputLimiter(limit: request.outputLimit)))
    events.whenRoom { [weak self] in self?.child.withLock { $0 }?.resumeOutput() }
  }

  /// Starts it.
  /// - Parameter place: for sentences: "the node pve1".
  static func start(
    _ request: ExecRequest, place: String
  ) async throws(ExecFailure) -> LocalProcess {
    var user = LocalUser.current
    var becomes: LocalUser?
    if let name = request.user, name != user.name {
      // Databases of users may be on the network.
      guard let found = await OwnThread.value({ LocalUser(name) }) ?? nil else {
        throw ExecFailure(.startFailed, "There is no user '\(name)' on \(place).", field: "user")
      }
      user = found
      becomes = found
    }
    var program = ChildProgram(RunnerPayload.argv(of: request), environment: [])
    program.environment = LocalEnvironment.merged(
      LocalEnvironment.base(of: user, terminal: request.terminal != nil), request.environment)
    if let path = program.environment.last(where: { $0.name == Array("PATH".utf8) }) {
      program.search = String(decoding: path.value, as: UTF8.self)
    }
    program.user = becomes
    program.directory = request.directory
    program.terminal = request.terminal
    let process = LocalProcess(request)
    let child: Child
    do throws(ChildFailure) {
      child = try await Child.start(program, handler: process)
    } catch {
      throw error.failure(of: request, on: place)
    }
    process.child.withLock { $0 = child }
    // The queue may have been emptied before there was a child to tell.
    child.resumeOutput()
    if !request.hasInput, request.terminal == nil { child.closeInput() }
    process.startTimer()
    return process
  }

  private func startTimer() {
    guard let limit = request.timeLimit else { return }
    let timer = Task { [weak self] in
      guard (try? await Task.sleep(for: limit)) != nil else { return }
      self?.stop(.timedOut)
    }
    let isOver = state.withLock { state in
      state.timer = timer
      return state.isOver
    }
    if isOver { timer.cancel() }
  }

  // MARK: ChildHandler

  func child(_ child: Child, wrote bytes: [UInt8], to stream: Child.Output) -> Bool {
    let passed = state.withLock { state -> [UInt8]? in
      guard !state.isDetached else { return nil }
      return stream == .stdout ? state.limiter.stdout(bytes) : state.limiter.stderr(bytes)
    }
    guard let passed else { return true }
    return events.put(stream == .stdout ? .stdout(passed) : .stderr(passed))
  }

  func child(_ child: Child, ended: Child.End) {
    let (result, timer) = state.withLock { state -> (ExecResult, Task<Void, Never>?) in
      state.isOver = true
      let end: ExecEnd =
        switch (state.stop, ended) {
        case (let stop?, _): stop
        case (nil, .exited(let status)): .exited(status)
        case (nil, .signalled(let number)): .signalled(number)
        case (nil, .unknown(let why)): .lost("The command was started; \(why).")
        }
      return (state.limiter.result(end), state.timer)
    }
    timer?.cancel()
    events.put(.ended(result))
  }

  // MARK: ExecProcess

  func next() async -> ExecEvent? {
    if state.withLock({ $0.isDetached }) { return nil }
    return await events.next()
  }

  func write(_ bytes: [UInt8]) async throws(ExecFailure) {
    guard request.hasInput || request.terminal != nil else { return }
    await child.withLock { $0 }?.write(bytes)
  }

  func closeInput() async {
    guard request.hasInput, let child = child.withLock({ $0 }) else { return }
    if request.terminal != nil {
      // What a person does: Ctrl-D.
      await child.write([4])
    } else {
      child.closeInput()
    }
  }

  func resize(_ size: TerminalSize) async { child.withLock { $0 }?.resize(size) }

  func signal(_ number: Int) async throws(ExecFailure) {
    guard (1...64).contains(number) else {
      throw ExecFailure(.unsupported, "There is no signal \(number).")
    }
    child.withLock { $0 }?.signal(Int32(number))
  }

  func cancel() async { stop(.cancelled) }

  private func stop(_ end: ExecEnd) {
    let goes = state.withLock { state -> Bool in
      guard !state.isOver, state.stop == nil else { return false }
      state.stop = end
      return true
    }
    guard goes, let child = child.withLock({ $0 }) else { return }
    child.end()
  }

  func detach() async {
    state.withLock { $0.isDetached = true }
    // What it still writes is read and dropped, so that it isn't held up by nobody's reading.
    child.withLock { $0 }?.resumeOutput()
  }
}
