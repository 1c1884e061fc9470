import ConsoleProtocol
import EventLoop
import Gateway
import ProxmoxClient

/// Consoles through a gateway: each line is a link of its own, redeemed at once.
struct GatewaySource: ConsoleSource {
  let address: GatewayAddress

  func line(
    to target: Target, console: Console?, size: TerminalSize?, readOnly: Bool, on loop: Loop
  ) async throws -> OnLoop<PendingLine> {
    let link = try await GatewayLink.create(
      LinkRequest(
        target: target.description, console: console?.description, ttl: 30,
        readOnly: readOnly ? true : nil, cluster: address.cluster), at: address, on: loop)
    let (addresses, tls) = try await address.resolve()
    let address = address
    return OnLoop(
      PendingLine { user in
        GatewayLine(
          address: address, origin: link.origin ?? address.origin, token: Secret(link.token),
          size: size, addresses: addresses, tls: tls, loop: loop, user: user)
      }, loop: loop)
  }

  func close() async {}
}

/// Consoles with the cluster's own credential, from here.
struct DirectSource: ConsoleSource {
  let cluster: ClusterConfiguration
  let consoles: DirectConsoles

  init(_ cluster: ClusterConfiguration) {
    self.cluster = cluster
    consoles = DirectConsoles(cluster, logger: Logs.start(.error))
  }

  func line(
    to target: Target, console: Console?, size: TerminalSize?, readOnly: Bool, on loop: Loop
  ) async throws -> OnLoop<PendingLine> {
    let grant = Grant(
      id: "cli", cluster: cluster.name, target: target, console: console ?? .terminal,
      readOnly: readOnly)
    let services = consoles.services
    return OnLoop(
      PendingLine { user in
        DirectLine(grant: grant, size: size, services: services, loop: loop, user: user)
      }, loop: loop)
  }

  func close() async { consoles.stop() }
}

extension Connection {
  /// Where consoles come from by this way.
  var source: any ConsoleSource {
    switch self {
    case .gateway(let address): GatewaySource(address: address)
    case .cluster(let cluster): DirectSource(cluster)
    }
  }
}
