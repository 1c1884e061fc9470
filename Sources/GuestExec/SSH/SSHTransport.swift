import ConsoleProtocol
import Glibc
import Synchronization

/// Commands on nodes over OpenSSH, and in their containers by `pct exec`.
///
/// OpenSSH's own client is used, with everything that it asks or forwards switched off and its configuration files left
/// aside. One connection per node is shared by all commands. The arguments of no process here hold anything of the
/// command: it goes through standard input to a line that waits for it there (``RunnerText``), which also tells a
/// command's own 255 from ssh's, and a signal from an exit.
///
/// A command doesn't outlive its connection by long (it gets a SIGPIPE as soon as it writes), and there is no
/// ``ExecProcess/handle``.
public final class SSHTransport: ExecTransport {
  /// ``TransportName/ssh``.
  public let name = TransportName.ssh
  /// How it gets to the nodes.
  public let options: SSHOptions
  private struct State {
    var folder: SSHFolder?
    var connections: [NodeName: SSHConnection] = [:]
  }
  private let state = Mutex(State())

  /// Connects to nothing yet.
  public init(options: SSHOptions) { self.options = options }

  /// Whether the place is a node or a container, and there is a client and a key. Doesn't connect.
  public func assess(_ request: ExecRequest, on place: Place) async -> TransportVerdict {
    if case .qemu = place.kind { return .impossible(Self.noMachines) }
    guard LocalTransport.find(options.program) != nil else {
      return .impossible(
        SSHConnection.noProgram(options.program, ChildFailure(step: .program, code: ENOENT)))
    }
    for (what, file) in [
      ("identityFile", options.identityFile), ("knownHostsFile", options.knownHostsFile),
    ] {
      guard let file, access(file, R_OK) != 0 else { continue }
      return .impossible(
        ExecFailure(
          .noTransport,
          "The file '\(file)' (\(what)) can't be read: \(String(cString: strerror(errno))).",
          remedy: "Correct the ssh section of the configuration."))
    }
    let host = "\(options.user)@\(options.address(of: place.node))"
    return .possible(
      place.vmid == nil
        ? "The node \(place.node) is reached by ssh as \(host)."
        : "Its node \(place.node) is reached by ssh as \(host), and 'pct exec' runs commands in containers."
    )
  }

  /// Starts a command. Waits for a turn where the node has ``SSHOptions/maximumPerNode`` already.
  public func start(
    _ request: ExecRequest, on place: Place
  ) async throws(ExecFailure) -> any ExecProcess {
    if case .impossible(let failure) = await assess(request, on: place) { throw failure }
    let connection = try connection(to: place.node)
    try await connection.acquire()
    return try await RunnerProcess.start(
      request, route: SSHRoute(connection, place: place))
  }

  /// A command whose connection is gone can't be taken up again.
  public func attach(_ handle: ExecHandle, from kept: ExecPosition) async -> any ExecProcess {
    LostProcess(
      "Its ssh connection ended with the gateway that had started it, and its output with that; it may still run on the node \(handle.node)."
    )
  }

  private func connection(to node: NodeName) throws(ExecFailure) -> SSHConnection {
    let result = state.withLock { state -> Result<SSHConnection, ExecFailure> in
      if let connection = state.connections[node] { return .success(connection) }
      do throws(ExecFailure) {
        let folder: SSHFolder
        if let there = state.folder {
          folder = there
        } else {
          folder = try SSHFolder(in: options.controlDirectory)
          state.folder = folder
        }
        let connection = SSHConnection(node: node, options: options, folder: folder)
        state.connections[node] = connection
        return .success(connection)
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  private static let noMachines = ExecFailure(
    .noTransport, "Over ssh to its node a virtual machine is reached only through its guest agent.",
    remedy: "Use the transport 'agent'.")
}

/// One command's way over a shared connection. It holds a turn.
final class SSHRoute: RunnerRoute {
  let place: String
  let patience: Duration
  private let connection: SSHConnection
  private let target: Place
  private let log: String
  private let missing = "no pct: \(RandomMark.make())"
  private let isReleased = Atomic<Bool>(false)

  init(_ connection: SSHConnection, place: Place) {
    self.connection = connection
    target = place
    self.place = place.vmid.map { "the container \($0)" } ?? "the node \(place.node)"
    log = connection.folder.newLog()
    patience = connection.commandLine.options.connectTimeout + .seconds(30)
  }

  func program(_ words: [[UInt8]], terminal: TerminalSize?) -> ChildProgram {
    let commandLine = connection.commandLine
    let line = SSHCommandLine.line(
      words, kind: target.kind, sudo: commandLine.options.sudo, missing: missing)
    var program = ChildProgram(
      commandLine.session(line, terminal: terminal != nil, log: log),
      environment: SSHCommandLine.environment(terminal: terminal != nil))
    program.terminal = terminal
    program.separateErrors = true
    program.diesWithUs = true
    return program
  }

  func failure(_ end: Child.End?, said: String) -> ExecFailure {
    if said.contains(missing) {
      return ExecFailure(
        .unsupported,
        "There is no 'pct' on \(connection.host), so its containers can't be reached.",
        remedy: "Is it a Proxmox VE node?")
    }
    if said.contains("sudo:") {
      return ExecFailure(
        .permissionDenied, "sudo on \(connection.host) refused: \(PctText.lastLine(said))",
        remedy: "Allow that user 'pct' and 'sh' without a password.")
    }
    let words = SSHFolder.take(log)
    if !words.isEmpty || end == nil || (end == .exited(255) && said.isEmpty) {
      return SSHRefusal.failure(log: words, host: connection.host, end: end)
    }
    if target.vmid != nil { return PctText.failure(end, said: said, place: place) }
    let line = PctText.lastLine(said)
    return ExecFailure(
      .unreachable,
      "The login on \(connection.host) ended before the command could be given to it\(line.isEmpty ? "." : ": \(line)")",
      remedy:
        "The user's login shell must run 'sh -c'; a forced command in authorized_keys doesn't.")
  }

  func broken(_ end: Child.End) -> String {
    SSHRefusal.broken(log: SSHFolder.take(log), host: connection.host, end: end)
  }

  func release() {
    guard !isReleased.exchange(true, ordering: .relaxed) else { return }
    unlink(log)
    connection.release()
  }
}
