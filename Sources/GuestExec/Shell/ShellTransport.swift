import ConsoleProtocol
import EventLoop
import ProxmoxClient

/// Commands on nodes and containers through a node's shell, which PVE opens to root@pam's ticket over termproxy.
///
/// Each command is a session of its own: a login shell is replaced by a small runner of ours, which runs the command
/// with its own three streams (or a terminal of its own) and sends them in frames; see ``PerlRunner``. The session is
/// kept until the end has arrived, since PVE 9 loses what a terminal wrote last. When the connection ends, the command
/// is ended with it: nothing goes on without its caller, and nothing is left on the node.
public final class ShellTransport: ExecTransport {
  /// Its name.
  public let name = TransportName.shell
  private let client: ProxmoxClient
  private let options: ShellOptions
  private let dialer: TerminalDialer
  private let slots: SessionSlots

  /// The login whose ticket opens a node's shell without a password.
  static let user = "root@pam"

  /// - Parameter loops: where the terminals are served.
  public init(client: ProxmoxClient, loops: LoopGroup, options: ShellOptions = ShellOptions()) {
    self.client = client
    self.options = options
    dialer = TerminalDialer(client: client, loops: loops)
    slots = SessionSlots(maximum: options.maximumPerNode, wait: options.sessionWait)
  }

  /// Whether it would do; opens nothing.
  public func assess(_ request: ExecRequest, on place: Place) async -> TransportVerdict {
    do throws(ExecFailure) {
      try await check(place)
    } catch {
      return .impossible(error)
    }
    if case .lxc = place.kind {
      return .possible("A shell of node \(place.node) opens to root@pam, and runs pct exec.")
    }
    return .possible("A shell of node \(place.node) opens to root@pam.")
  }

  /// Sends the command, once.
  public func start(
    _ request: ExecRequest, on place: Place
  ) async throws(ExecFailure) -> any ExecProcess {
    try request.check()
    try await check(place)
    var plan = ShellPlan()
    let order: RunnerOrder
    if case .lxc(let vmid) = place.kind {
      plan.container = vmid
      order = RunnerOrder(request, in: vmid, keepsEnvironment: await mustKeepEnvironment())
    } else {
      order = RunnerOrder(request)
    }
    let slot = try await slots.take(
      place.node.value, what: "shells of node \(place.node)")
    do throws(ExecFailure) {
      let line = try await dialer.open(
        .terminal, of: Place(node: place.node, kind: .node), as: Self.user,
        size: request.terminal, timeout: options.dialTimeout)
      return try await ShellProcess.start(
        order, over: line, of: place, plan: plan, options: options,
        outputLimit: request.outputLimit, onOver: { slot.end() })
    } catch {
      slot.end()
      throw error
    }
  }

  /// Nothing: see the type.
  public func attach(_ handle: ExecHandle, from kept: ExecPosition) async -> any ExecProcess {
    LostProcess(
      "A command in a node's shell ends with its connection, and can't be taken up again.")
  }

  /// What has to be so before anything is opened.
  private func check(_ place: Place) async throws(ExecFailure) {
    if place.isVirtualMachine {
      throw ExecFailure(
        .noTransport, "A node's shell reaches the node and its containers, not the inside of VMs.",
        remedy: "Use the guest agent.")
    }
    let logins = [client.configuration.credential, client.configuration.consoleCredential]
    let isRoot = logins.contains { $0?.kind == .ticket && $0?.identity == Self.user }
    guard isRoot else {
      throw ExecFailure(
        .unsupportedVersion,
        "PVE opens a node's shell to root@pam's own login only; API tokens and other users get a login prompt.",
        remedy: "Configure consoleUser: root@pam with its password (or a ticket) for this cluster.")
    }
    guard case .lxc = place.kind else { return }
    let status: GuestStatus
    do throws(PVEError) {
      status = try await client.guestStatus(place)
    } catch {
      // Who may not look at a guest may still open the node's shell.
      if case .forbidden = error.kind { return }
      throw ExecFailure(error)
    }
    guard status.isRunning else {
      throw ExecFailure(
        .guestNotRunning, "Container \(place) is not running (it is \(status.status)).",
        remedy: "Start it, then run the command again.")
    }
  }

  /// `pct exec` passes the environment on of itself until the major version after 9.
  private func mustKeepEnvironment() async -> Bool {
    guard let version = try? await client.version() else { return false }
    return version.major >= 10
  }
}
