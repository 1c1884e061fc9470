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
      execs[cluster.name] = GuestExec(client: cluster.client, transports: [])
    }
    try await self.init(configuration.exec, clusters: clusters, execs: execs, logger: logger)
  }
}
