import ConsoleProtocol
import Glibc
import Synchronization

/// The shared connection to one node: made when the first command wants it, kept while there are commands and a little
/// longer, made anew when it broke. Also the line in which commands wait for their turn.
final class SSHConnection: Sendable {
  private enum Master {
    case none
    case connecting([CheckedContinuation<Void, Never>])
    case connected(Child)
  }
  private struct State {
    var master = Master.none
    var failure: ExecFailure?
    var active = 0
    var line: [(Int, CheckedContinuation<Bool, Never>)] = []
    var tickets = 0
    var uses = 0
  }
  private let state = Mutex(State())
  let commandLine: SSHCommandLine
  let folder: SSHFolder
  /// `user@address`, for sentences.
  let host: String

  init(node: NodeName, options: SSHOptions, folder: SSHFolder) {
    commandLine = SSHCommandLine(options: options, node: node, folder: folder.path)
    self.folder = folder
    let port = options.port == 22 ? "" : ":\(options.port)"
    host = "\(options.user)@\(options.address(of: node))\(port)"
    if let keys = commandLine.pinnedKeys { folder.write(keys, to: commandLine.pinnedFile) }
  }

  deinit {
    if case .connected(let child) = state.withLock({ $0.master }) { child.end(after: .seconds(1)) }
  }

  // MARK: turns

  /// Waits for a turn and a connection. Every call that returns is followed by ``release()``.
  func acquire() async throws(ExecFailure) {
    guard await turn() else {
      throw ExecFailure(.cancelled, "The caller gave up while the command waited for its turn.")
    }
    do throws(ExecFailure) {
      try await connect()
    } catch {
      release()
      throw error
    }
  }

  private func turn() async -> Bool {
    let ticket = state.withLock { state in
      state.tickets += 1
      return state.tickets
    }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let now = state.withLock { state -> Bool? in
          if Task.isCancelled { return false }
          if state.active < max(1, commandLine.options.maximumPerNode) {
            state.active += 1
            state.uses += 1
            return true
          }
          state.line.append((ticket, continuation))
          return nil
        }
        if let now { continuation.resume(returning: now) }
      }
    } onCancel: {
      let waiting = state.withLock { state -> CheckedContinuation<Bool, Never>? in
        guard let i = state.line.firstIndex(where: { $0.0 == ticket }) else { return nil }
        return state.line.remove(at: i).1
      }
      waiting?.resume(returning: false)
    }
  }

  /// The end of a turn.
  func release() {
    let (next, uses) = state.withLock { state -> (CheckedContinuation<Bool, Never>?, Int?) in
      if !state.line.isEmpty {
        state.uses += 1
        return (state.line.removeFirst().1, nil)
      }
      state.active -= 1
      return (nil, state.active == 0 ? state.uses : nil)
    }
    next?.resume(returning: true)
    guard let uses else { return }
    let keep = commandLine.options.keepConnection
    Task { [weak self] in
      try? await Task.sleep(for: keep)
      self?.closeIfUnused(since: uses)
    }
  }

  private func closeIfUnused(since uses: Int) {
    let child = state.withLock { state -> Child? in
      guard state.active == 0, state.uses == uses, case .connected(let child) = state.master
      else { return nil }
      state.master = .none
      return child
    }
    child?.end(after: .seconds(1))
  }

  // MARK: the connection

  private func connect() async throws(ExecFailure) {
    let mine = await withCheckedContinuation { (continuation: CheckedContinuation<Bool, Never>) in
      let now = state.withLock { state -> Bool? in
        switch state.master {
        case .connected: return false
        case .none:
          state.master = .connecting([])
          state.failure = nil
          return true
        case .connecting: return nil
        }
      }
      if let now { continuation.resume(returning: now) } else { waitForMaster(continuation) }
    }
    if mine {
      let result = await open()
      let waiting = state.withLock { state -> [CheckedContinuation<Void, Never>] in
        guard case .connecting(let waiting) = state.master else { return [] }
        switch result {
        case .success(let child): state.master = .connected(child)
        case .failure(let failure):
          state.master = .none
          state.failure = failure
        }
        return waiting
      }
      for continuation in waiting { continuation.resume() }
    }
    if let failure = state.withLock({ state -> ExecFailure? in
      if case .connected = state.master { nil } else { state.failure }
    }) {
      throw failure
    }
  }

  private func waitForMaster(_ continuation: CheckedContinuation<Bool, Never>) {
    Task {
      await withCheckedContinuation { (inner: CheckedContinuation<Void, Never>) in
        let now = state.withLock { state -> Bool in
          guard case .connecting(let waiting) = state.master else { return true }
          state.master = .connecting(waiting + [inner])
          return false
        }
        if now { inner.resume() }
      }
      continuation.resume(returning: false)
    }
  }

  private func open() async -> Result<Child, ExecFailure> {
    let log = folder.newLog()
    unlink(commandLine.socket)
    var program = ChildProgram(
      commandLine.master(log: log).map { Array($0.utf8) },
      environment: SSHCommandLine.environment(terminal: false))
    program.diesWithUs = true
    let handler = SSHMasterHandler { [weak self] child in self?.masterEnded(child) }
    let child: Child
    do throws(ChildFailure) {
      child = try await Child.start(program, handler: handler)
    } catch {
      return .failure(Self.noProgram(commandLine.options.program, error))
    }
    child.closeInput()
    let limit = commandLine.options.connectTimeout + .seconds(5)
    let clock = Task {
      guard (try? await Task.sleep(for: limit)) != nil else { return }
      handler.giveUp()
    }
    defer { clock.cancel() }
    switch await handler.outcome() {
    case .connected: return .success(child)
    case .ended(let end):
      let said = SSHFolder.take(log) + handler.said
      return .failure(SSHRefusal.failure(log: said, host: host, end: end))
    case .gaveUp:
      child.end(after: .zero)
      return .failure(SSHRefusal.failure(log: SSHFolder.take(log), host: host, end: nil))
    }
  }

  private func masterEnded(_ child: Child) {
    state.withLock { state in
      if case .connected(let current) = state.master, current === child { state.master = .none }
    }
  }

  /// The failure where OpenSSH's client isn't there.
  static func noProgram(_ name: String, _ error: ChildFailure) -> ExecFailure {
    error.code == ENOENT
      ? ExecFailure(
        .unsupported, "There is no OpenSSH client ('\(name)') on this machine.",
        remedy: "Install it (Debian: openssh-client).")
      : ExecFailure(.unsupported, "OpenSSH's client ('\(name)') can't be run: \(error.reason).")
  }
}

/// Listens to the master until it is connected or gone.
private final class SSHMasterHandler: ChildHandler {
  enum Outcome: Sendable { case connected, ended(Child.End), gaveUp }
  private struct State {
    var outcome: Outcome?
    var said: [UInt8] = []
    var waiter: CheckedContinuation<Outcome, Never>?
  }
  private let state = Mutex(State())
  private let whenGone: @Sendable (Child) -> Void

  init(_ whenGone: @escaping @Sendable (Child) -> Void) { self.whenGone = whenGone }

  /// What it wrote to its streams.
  var said: String { state.withLock { String(decoding: $0.said, as: UTF8.self) } }

  func child(_ child: Child, wrote bytes: [UInt8], to stream: Child.Output) -> Bool {
    let isConnected = state.withLock { state -> Bool in
      state.said = Array((state.said + bytes).suffix(4096))
      return stream == .stdout
        && String(decoding: state.said, as: UTF8.self).contains("connected\n")
    }
    if isConnected { settle(.connected) }
    return true
  }

  func child(_ child: Child, ended: Child.End) {
    settle(.ended(ended))
    whenGone(child)
  }

  func giveUp() { settle(.gaveUp) }

  private func settle(_ outcome: Outcome) {
    let waiter = state.withLock { state -> CheckedContinuation<Outcome, Never>? in
      guard state.outcome == nil else { return nil }
      state.outcome = outcome
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume(returning: outcome)
  }

  func outcome() async -> Outcome {
    await withCheckedContinuation { continuation in
      let now = state.withLock { state -> Outcome? in
        if let outcome = state.outcome { return outcome }
        state.waiter = continuation
        return nil
      }
      if let now { continuation.resume(returning: now) }
    }
  }
}
