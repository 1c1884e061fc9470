import ConsoleProtocol
import EventLoop
import GuestExec
import ProxmoxClient

/// The transports of a process without a gateway, the best first.
enum DirectTransports {
  /// All that the options allow. Those that need more than the cluster's credential (ssh, local) are there where
  /// something says so.
  static func all(
    client: ProxmoxClient, loops: LoopGroup, options: TransportOptions
  ) throws -> [any ExecTransport] {
    var agent = AgentOptions()
    if let wait = options.agentWait { agent.bootWait = .seconds(wait) }
    return [
      AgentTransport(client: client, options: agent),
      ShellTransport(client: client, loops: loops),
      ConsoleTransport(client: client, loops: loops),
      SerialTransport(client: client, loops: loops),
    ]
  }
}
