import ConsoleProtocol
import Logging
import ProxmoxClient

/// The control plane of consoles without a gateway around it, for the command line: consoles are checked, minted and
/// explained in the same way, and there are no links.
package final class DirectConsoles: Sendable {
  /// What a session needs.
  package let services: any ConsoleServices
  private let broker: ConsoleBroker

  /// For the consoles of one cluster.
  package init(_ cluster: ClusterConfiguration, logger: Logger) {
    broker = ConsoleBroker(
      GatewayConfiguration(clusters: [cluster]), clusters: Clusters([cluster]), logger: logger)
    services = broker
  }

  /// Ends every call under way. To be called when all consoles have been left: their connections' ends end the workers.
  package func stop() {
    broker.reaper.stop()
    broker.clusters.shutdown()
  }
}
