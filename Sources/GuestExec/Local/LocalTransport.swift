import ConsoleProtocol
import Glibc
import ProxmoxClient

/// Commands on the node that this machine is: directly on the node, by `pct exec` in its containers, by `qm guest exec` in
/// its virtual machines.
///
/// In a machine it is what the agent's plain mode is: output comes at the end, 16 MiB of each stream and 64 KiB of input
/// at most. Such a command is the agent's, and is taken up again. Any other command is our child and its output goes through pipes of ours, so it doesn't outlive us by long (it gets a SIGPIPE
/// as soon as it writes), and there is no ``ExecProcess/handle``: after a restart it is `lost`.
public struct LocalTransport: ExecTransport {
  /// ``TransportName/local``.
  public let name = TransportName.local
  private let node: NodeName
  private let pct: String
  private let qm: String
  private let gates = AgentGates()

  /// - Parameter node: which node this machine is.
  public init(node: NodeName) { self.init(node: node, pct: "pct") }

  /// - Parameters:
  ///   - pct: PVE's container tool: a path, or a name that is looked for in root's usual `PATH` and ours.
  ///   - qm: the same for machines.
  init(node: NodeName, pct: String, qm: String = "qm") {
    self.node = node
    self.pct = pct
    self.qm = qm
  }

  /// Whether the place is this machine, or a container on it.
  public func assess(_ request: ExecRequest, on place: Place) async -> TransportVerdict {
    guard place.node == node else {
      return .impossible(
        ExecFailure(
          .noTransport, "\(place) is on the node \(place.node), and this machine is \(node)."))
    }
    switch place.kind {
    case .node: return .possible("This machine is the node \(node).")
    case .lxc:
      return Self.find(pct) == nil
        ? .impossible(Self.noTool(pct))
        : .possible("This machine is the node \(node), and 'pct exec' runs commands in containers.")
    case .qemu:
      do throws(ExecFailure) {
        _ = try await machine(request, place)
        return .possible(
          "This machine is the node \(node), and 'qm guest exec' runs commands in its machines.")
      } catch {
        return .impossible(error)
      }
    }
  }

  /// What a command in a machine needs.
  private func machine(
    _ request: ExecRequest, _ place: Place
  ) async throws(ExecFailure) -> (link: AgentLink, facts: AgentFacts, command: AgentPlainCommand) {
    guard let path = Self.find(qm) else { throw Self.noTool(qm) }
    var tool = MachineTool(path: path)
    let facts: AgentFacts
    do throws(PVEError) {
      facts = try await tool.facts(place)
    } catch {
      throw ExecFailure.agent(error, place: place, version: nil)
    }
    tool.isWindows = facts.isWindows
    let command = try AgentPlainCommand(request, isWindows: facts.isWindows, version: nil)
    return (link(tool, place), facts, command)
  }

  private func link(_ tool: MachineTool, _ place: Place) -> AgentLink {
    AgentLink(
      .tool(tool), options: AgentOptions(), place: place,
      gate: gates.gate(place.vmid?.value ?? 0, width: 2))
  }

  /// Starts a command on this machine.
  public func start(
    _ request: ExecRequest, on place: Place
  ) async throws(ExecFailure) -> any ExecProcess {
    if place.node == node, place.isVirtualMachine {
      let (link, facts, command) = try await machine(request, place)
      return try await AgentPlainProcess.start(request, command: command, link: link, facts: facts)
    }
    if case .impossible(let failure) = await assess(request, on: place) { throw failure }
    guard let vmid = place.vmid else {
      return try await LocalProcess.start(request, place: "the node \(node)")
    }
    guard let tool = Self.find(pct) else { throw Self.noTool(pct) }
    return try await RunnerProcess.start(
      request, route: LocalContainerRoute(tool: tool, vmid: vmid, node: node))
  }

  /// Takes a machine's command up again. A child of a process that is gone can't be.
  public func attach(_ handle: ExecHandle, from kept: ExecPosition) async -> any ExecProcess {
    if let place = handle.place, place.isVirtualMachine, place.node == node,
      let pid = handle.notes["pid"].flatMap({ Int($0) }), let path = Self.find(qm)
    {
      let isWindows = handle.notes["windows"] == "1"
      return AgentPlainProcess.attach(
        pid: pid, isWindows: isWindows,
        link: link(MachineTool(path: path, isWindows: isWindows), place), from: kept)
    }
    return LostProcess(
      "It was a child of a gateway that is gone, and so is its output; it may still run on the node \(handle.node)."
    )
  }

  private static func noTool(_ name: String) -> ExecFailure {
    ExecFailure(
      .unsupported, "There is no '\(name)' on this machine, so its guests can't be reached.",
      remedy: "Is it a Proxmox VE node? Remove 'localNode' from the configuration if it isn't.")
  }

  /// A program's path; nil where there is none.
  static func find(_ name: String) -> String? {
    if name.contains("/") { return access(name, X_OK) == 0 ? name : nil }
    let ours = getenv("PATH").map { String(cString: $0) } ?? ""
    for folder in (ours + ":" + ChildProgram.standardPath).split(separator: ":")
    where folder.hasPrefix("/") {
      let path = "\(folder)/\(name)"
      if access(path, X_OK) == 0 { return path }
    }
    return nil
  }
}

/// `pct exec` on this machine.
final class LocalContainerRoute: RunnerRoute {
  let place: String
  let patience: Duration = .seconds(30)
  private let tool: String
  private let vmid: VMID

  init(tool: String, vmid: VMID, node: NodeName) {
    self.tool = tool
    self.vmid = vmid
    place = "the container \(vmid)"
  }

  func program(_ words: [[UInt8]], terminal: TerminalSize?) -> ChildProgram {
    let argv = [tool, "exec", "\(vmid)", "--"].map { Array($0.utf8) } + words
    var program = ChildProgram(argv, environment: LocalEnvironment.base(of: .current))
    program.terminal = terminal
    program.diesWithUs = true
    return program
  }

  func failure(_ end: Child.End?, said: String) -> ExecFailure {
    PctText.failure(end, said: said, place: place)
  }

  func broken(_ end: Child.End) -> String { "'pct exec' ended (\(PctText.words(end)))." }

  func release() {}
}

/// What `pct exec` says when it can't.
enum PctText {
  /// "status 255", "signal 9".
  static func words(_ end: Child.End) -> String {
    switch end {
    case .exited(let status): "status \(status)"
    case .signalled(let number): "signal \(number)"
    case .unknown(let why): why
    }
  }

  /// The failure for its end before our line in the container has spoken.
  static func failure(_ end: Child.End?, said: String, place: String) -> ExecFailure {
    let line = lastLine(said)
    guard let end else {
      return ExecFailure(.unreachable, "\(capital(place)) did not start a shell in time. \(line)")
    }
    if said.contains("not running!") || said.contains("is not running") {
      return ExecFailure(
        .guestNotRunning, "\(capital(place)) is not running.", remedy: "Start it first.")
    }
    if said.contains("does not exist") {
      return ExecFailure(
        .targetNotFound, "\(capital(place)) is not on this node.",
        remedy: "It may just have been migrated or removed.")
    }
    if end == .exited(127) || end == .exited(126) {
      return ExecFailure(
        .unsupported, "\(capital(place)) has no POSIX shell to run the command with.",
        remedy: "Commands in containers need /bin/sh there.")
    }
    return ExecFailure(
      .apiError, "'pct exec' failed (\(words(end)))\(line.isEmpty ? "." : ": \(line)")")
  }

  static func capital(_ text: String) -> String { text.prefix(1).uppercased() + text.dropFirst() }

  /// The last line that says something, in printable characters, and not too long.
  static func lastLine(_ text: String) -> String {
    let line =
      text.split(whereSeparator: \.isNewline).last { !$0.allSatisfy(\.isWhitespace) } ?? ""
    return String(
      line.unicodeScalars.filter { $0.value >= 32 && $0.value != 127 }.prefix(300).map(
        Character.init))
  }
}
