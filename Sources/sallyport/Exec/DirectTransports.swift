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
    var out: [any ExecTransport] = [
      AgentTransport(client: client, options: agent),
      ShellTransport(client: client, loops: loops),
      ConsoleTransport(client: client, loops: loops),
      SerialTransport(client: client, loops: loops),
    ]
    if let ssh = try ssh(options) { out.append(SSHTransport(options: ssh)) }
    if let name = options.localNode {
      guard let node = NodeName(name) else {
        throw Failure.usage("'\(name.prefix(80))' is no node's name.")
      }
      out.append(LocalTransport(node: node))
    } else if options.via == .local {
      throw Failure.usage(
        "Nothing says which node this machine is.", remedy: "Give --local-node NAME.")
    }
    return out
  }

  /// For ssh, where anything says that it is wanted; nil else.
  private static func ssh(_ options: TransportOptions) throws -> SSHOptions? {
    let user = options.sshUser ?? Environment["SALLYPORT_SSH_USER"]
    let isWanted =
      user != nil || options.sshKey != nil || options.sshKnownHosts != nil
      || options.sshPort != nil || !options.sshHost.isEmpty || options.via == .ssh
    guard isWanted else { return nil }
    var ssh = SSHOptions()
    if let user { ssh.user = user }
    if let port = options.sshPort { ssh.port = port }
    ssh.identityFile = options.sshKey
    ssh.agentSocket = Environment["SSH_AUTH_SOCK"]
    ssh.knownHostsFile = options.sshKnownHosts
    for entry in options.sshHost {
      let parts = entry.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.count == 2, let node = NodeName(parts[0]) else {
        throw Failure.usage(
          "'\(entry.prefix(80))' names no node's address.", remedy: "Use --ssh-host pve1=192.0.2.1."
        )
      }
      ssh.hosts[node] = parts[1]
    }
    return ssh
  }
}
