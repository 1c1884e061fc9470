import ConsoleProtocol
import EventLoop
import ProxmoxClient

/// Which transports a cluster's commands may use, and how: a plain value, out of a configuration.
public struct ExecOptions: Sendable {
  /// Those that may be used. Their order doesn't matter: ``GuestExec`` has one for each kind of target. Those that
  /// lack what they need (`ssh` its options, `local` its node) are left out.
  public var transports: [TransportName]
  /// For ``TransportName/agent``.
  public var agent: AgentOptions
  /// For ``TransportName/shell``.
  public var shell: ShellOptions
  /// For ``TransportName/console``.
  public var console: ConsoleExecOptions
  /// For ``TransportName/ssh``; nil where there is no key for the nodes.
  public var ssh: SSHOptions?
  /// The node that this machine is, for ``TransportName/local``; nil where it is none.
  public var localNode: NodeName?

  /// Puts the parts together.
  public init(
    transports: [TransportName] = TransportName.allCases, agent: AgentOptions = AgentOptions(),
    shell: ShellOptions = ShellOptions(), console: ConsoleExecOptions = ConsoleExecOptions(),
    ssh: SSHOptions? = nil, localNode: NodeName? = nil
  ) {
    self.transports = transports
    self.agent = agent
    self.shell = shell
    self.console = console
    self.ssh = ssh
    self.localNode = localNode
  }
}

extension GuestExec {
  /// With the transports that a configuration allows.
  public static func make(
    client: ProxmoxClient, loops: LoopGroup, options: ExecOptions = ExecOptions()
  ) -> GuestExec {
    var transports: [any ExecTransport] = []
    for name in TransportName.allCases where options.transports.contains(name) {
      switch name {
      case .ssh:
        if let ssh = options.ssh { transports.append(SSHTransport(options: ssh)) }
      case .local:
        if let node = options.localNode { transports.append(LocalTransport(node: node)) }
      case .agent: transports.append(AgentTransport(client: client, options: options.agent))
      case .shell:
        transports.append(
          ShellTransport(client: client, loops: loops, options: options.shell))
      case .console:
        transports.append(
          ConsoleTransport(client: client, loops: loops, options: options.console))
      case .serial: transports.append(SerialTransport(client: client, loops: loops))
      }
    }
    return GuestExec(client: client, transports: transports)
  }
}
