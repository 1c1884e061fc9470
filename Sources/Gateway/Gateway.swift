import ConsoleProtocol
import EventLoop
import Foundation
import Logging
import Synchronization

/// The service: an HTTP server with the API, the page and the viewers' websocket, in front of one or more clusters.
///
/// ```swift
/// let configuration = try GatewayConfiguration.load(file: "sallyport.yaml", environment: environment)
/// let gateway = try await Gateway.start(configuration, logger: logger)
/// print(gateway.url)
/// await gateway.stop(grace: .seconds(5))
/// ```
package final class Gateway: Sendable {
  /// The websocket subprotocol of viewers.
  package static let subprotocol = "sallyport.v1"

  /// What it was started with.
  package let configuration: GatewayConfiguration
  /// The port in use, also where 0 was asked for.
  package let port: Int
  /// Where people reach it: the public URL where one is configured, else the address it listens on. No slash at its end.
  package let url: String

  private let group: LoopGroup
  private let server: HTTPServer
  private let plane: ControlPlane
  private let broker: ConsoleBroker
  private let keeper: Task<Void, Never>
  private let stopped = Atomic(false)

  private init(
    configuration: GatewayConfiguration, group: LoopGroup, server: HTTPServer, plane: ControlPlane,
    broker: ConsoleBroker, url: String
  ) {
    self.configuration = configuration
    self.group = group
    self.server = server
    self.plane = plane
    self.broker = broker
    self.url = url
    port = server.port
    keeper = Task { await Gateway.keepHouse(broker) }
  }

  /// Starts it. When it returns, connections are being accepted. Clusters are not waited for: `GET /readyz` tells how they
  /// are.
  /// - Throws: ``ConfigurationError``, or `LoopError` when the address is taken or a certificate can't be used.
  package static func start(
    _ configuration: GatewayConfiguration, logger: Logger
  ) async throws -> Gateway {
    try configuration.check()
    for warning in configuration.warnings { logger.warning("\(warning)") }
    if configuration.apiKeys.isEmpty {
      logger.warning("no API key is configured: nobody can ask for links")
    }
    let broker = ConsoleBroker(
      configuration, clusters: Clusters(configuration.clusters), logger: logger)
    let group = try LoopGroup(count: configuration.loops ?? LoopGroup.cores)
    let jobs: JobEngine
    let fleets: FleetEngine
    do {
      jobs = try await JobEngine(
        configuration, clusters: broker.clusters, loops: group, logger: logger)
      fleets = try await FleetEngine(jobs, keys: configuration.apiKeys)
    } catch {
      broker.clusters.shutdown()
      await join(group)
      throw error
    }
    let plane = ControlPlane(
      configuration, broker: broker, jobs: jobs, fleets: fleets, logger: logger)
    let options = HTTPServer.Options(
      address: configuration.listen,
      tls: configuration.tls.map { ($0.certificateFile, $0.keyFile) },
      subprotocols: [subprotocol] + CommandSocket.subprotocols)
    let server: HTTPServer
    do {
      server = try await HTTPServer(on: group, options: options, handler: plane)
    } catch {
      broker.clusters.shutdown()
      await join(group)
      throw error
    }
    let address = SocketAddress(ip: configuration.listen.ip, port: server.port)
    let local =
      (configuration.tls == nil ? "http://" : "https://")
      + (address?.description ?? "127.0.0.1:\(server.port)")
    plane.fallbackURL = local
    await fleets.start()
    return Gateway(
      configuration: configuration, group: group, server: server, plane: plane, broker: broker,
      url: configuration.publicURL?.description ?? local)
  }

  /// Makes a link without the API, for whoever runs in this process.
  /// - Throws: ``Problem``
  package func link(_ order: ConsoleOrder) async throws(Problem) -> ConsoleLink {
    try await broker.link(order, base: url, key: nil, configuration: configuration)
  }

  /// Stops it: no new connection, every session ends as `server-shutdown`, then the loops end. Returns when all is over,
  /// which is a moment after `grace` at the latest.
  package func stop(grace: Duration) async {
    guard !stopped.exchange(true, ordering: .sequentiallyConsistent) else { return }
    keeper.cancel()
    plane.stop()
    server.stopAccepting()
    broker.stop()
    await plane.fleets.stop()
    async let jobsAreOver: Void = plane.jobs.stop(grace: grace)
    await withTaskGroup(of: Void.self) { tasks in
      tasks.addTask { await self.broker.sessions.drained() }
      tasks.addTask { try? await Task.sleep(for: grace) }
      await tasks.next()
      tasks.cancelAll()
      broker.sessions.giveUpWaiting()
    }
    await jobsAreOver
    // The last close frames are on their way to the viewers.
    try? await Task.sleep(for: .milliseconds(100))
    broker.reaper.stop()
    broker.clusters.shutdown()
    await Gateway.join(group)
  }

  /// Joining threads blocks, which tasks must not.
  private static func join(_ group: LoopGroup) async {
    await withCheckedContinuation { continuation in
      Thread.detachNewThread {
        group.shutdown()
        continuation.resume()
      }
    }
  }

  /// Ends links whose time is over, and asks clusters how they are.
  private static func keepHouse(_ broker: ConsoleBroker) async {
    while !Task.isCancelled {
      broker.sweepLinks()
      await withTaskGroup(of: Void.self) { group in
        for cluster in broker.clusters.all {
          group.addTask { await cluster.probe(ifOlderThan: .seconds(30)) }
        }
      }
      try? await Task.sleep(for: .seconds(5))
    }
  }
}
