import ConsoleProtocol
import EventLoop
import Logging
import PVESimulator
import ProxmoxClient

@testable import Gateway

/// A gateway in front of a simulated node, over TLS with its certificate pinned.
enum SimulatedBed {
  static func with(
    credential: ((Simulator) -> Credential)? = nil,
    simulator: (inout SimulatorConfiguration) -> Void = { _ in },
    _ change: (inout GatewayConfiguration, Simulator) -> Void = { _, _ in },
    _ body: (Gateway, Simulator) async throws -> Void
  ) async throws {
    var node = SimulatorConfiguration()
    node.timings = .impatient
    node.guests = [
      .vm(100, name: "web1", serial: [0: .echo]), .vm(101, name: "db1"),
      .vm(102, name: "off", running: false), .container(200, name: "ct200"),
    ]
    node.guests[3].terminal = .echo
    node.nodeShell = .echo
    simulator(&node)
    let pve = try await PVESimulator.start(node)
    var cluster = ClusterConfiguration(
      name: "demo", hosts: [APIHost(host: "127.0.0.1", port: pve.port)],
      credential: credential?(pve) ?? .token(id: pve.tokenID, secret: pve.tokenSecret))
    cluster.tls = TLSPolicy(trust: .fingerprint(pve.fingerprint))
    var configuration = GatewayConfiguration(listen: .loopback(port: 0), clusters: [cluster])
    configuration.loops = 1
    change(&configuration, pve)
    let lines = LogLines()
    let gateway = try await Gateway.start(
      configuration, logger: Logger(label: "test") { _ in lines.handler })
    let result: Result<Void, any Error>
    do {
      try await body(gateway, pve)
      result = .success(())
    } catch {
      result = .failure(error)
    }
    await gateway.stop(grace: .seconds(5))
    await pve.shutdown()
    try result.get()
  }
}

extension Gateway {
  /// A viewer on a console, its opening message sent.
  func viewer(_ target: String, _ console: Console) async throws -> RawViewer {
    let link = try await link(ConsoleOrder(target: try Target(target), console: console))
    return try await RawViewer.open(port, token: link.token.reveal(), terminal: console.isTerminal)
  }
}
