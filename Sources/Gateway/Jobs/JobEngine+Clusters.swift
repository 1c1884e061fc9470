import ConsoleProtocol
import EventLoop
import GuestExec
import Logging

extension JobEngine {
  /// An engine for a gateway's clusters.
  /// - Throws: ``ConfigurationError`` where the folder for jobs can't be used.
  convenience init(
    _ configuration: GatewayConfiguration, clusters: Clusters, loops: LoopGroup, logger: Logger
  ) async throws {
    var execs: [String: GuestExec] = [:]
    for cluster in clusters.all {
      let ways = configuration.clusterExec[cluster.name] ?? ClusterExec()
      execs[cluster.name] = GuestExec.make(
        client: cluster.client, loops: loops, options: ways.options)
    }
    try await self.init(configuration.exec, clusters: clusters, execs: execs, logger: logger)
  }
}

extension ClusterExec {
  /// The same as the transports take it.
  var options: ExecOptions {
    var agent = AgentOptions()
    agent.bootWait = agentWait
    agent.mode = agentMode
    var out = ExecOptions(agent: agent, localNode: localNode)
    if let transports { out.transports = transports }
    if let ssh {
      var hosts: [NodeName: String] = [:]
      for (node, host) in ssh.hosts { if let node = NodeName(node) { hosts[node] = host } }
      out.ssh = SSHOptions(
        hosts: hosts, domain: ssh.domain, user: ssh.user, port: ssh.port,
        identityFile: ssh.identityFile, knownHostsFile: ssh.knownHostsFile, sudo: ssh.sudo)
    }
    return out
  }
}
