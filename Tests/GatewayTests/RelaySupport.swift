import ConsoleDial
import ConsoleProtocol
import EventLoop
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Gateway

/// Control plane of the relay's tests: every token opens what `place` says, on the scripted node.
final class FakeServices: ConsoleServices {
  let limits: RelayLimits
  let plan: @Sendable () throws -> UpstreamPlan
  let tls: TLSContext?
  let grant: Grant
  let mints = Atomic<Int>(0)
  let released = Atomic<Int>(0)
  let logins = Atomic<Int>(0)
  let failures = Mutex<[UpstreamFailure]>([])
  let records = Mutex<[SessionRecord]>([])
  let mintError: Ending?

  init(
    limits: RelayLimits, grant: Grant, tls: TLSContext? = nil, mintError: Ending? = nil,
    plan: @escaping @Sendable () throws -> UpstreamPlan
  ) {
    self.limits = limits
    self.grant = grant
    self.tls = tls
    self.plan = plan
    self.mintError = mintError
  }

  func redeem(_ token: Secret, peer: String) -> Result<Grant, Ending> {
    token == Secret("good")
      ? .success(grant)
      : .failure(Ending(hop: .viewer, kind: .linkUnknown, sentence: "no such link"))
  }
  func mint(_ grant: Grant, size: (columns: Int, rows: Int)?, attempt: Int) async throws(Ending)
    -> MintedConsole
  {
    mints.wrappingAdd(1, ordering: .relaxed)
    if let mintError { throw mintError }
    guard let plan = try? plan(), let node = NodeName("pve1"), let id = VMID(100) else {
      throw Ending(hop: .gateway, kind: .apiError, sentence: "test")
    }
    return MintedConsole(
      plan: plan, addresses: [.loopback(port: plan.port)], tls: tls,
      place: Place(node: node, kind: .qemu(id), name: "web1"),
      loginOver: { [self] in logins.wrappingAdd(1, ordering: .relaxed) })
  }
  func diagnose(_ failure: UpstreamFailure, of grant: Grant, minted: MintedConsole?) async -> Ending
  {
    failures.withLock { $0.append(failure) }
    switch failure {
    case .notConnected(.tlsUntrusted(let m)):
      return Ending(hop: .api, kind: .tlsUntrusted, sentence: m.description)
    case .notConnected: return Ending(hop: .api, kind: .apiUnreachable, sentence: "not reached")
    case .console(let f): return f.ending
    case .silent: return Ending(hop: .worker, kind: .workerTimeout, sentence: "silent")
    case .endedOpen: return Ending(hop: .worker, kind: .workerExited, sentence: "ended")
    }
  }
  func release(_ minted: MintedConsole) { released.wrappingAdd(1, ordering: .relaxed) }
  func opened(
    _ grant: Grant, peer: String, end: @escaping @Sendable (Ending) -> Void
  ) -> SessionRecord {
    let record = SessionRecord(grant: grant, peer: peer, end: end)
    records.withLock { $0.append(record) }
    return record
  }
}

/// The smallest gateway around a relay.
final class RelayServer: HTTPHandler {
  let services: FakeServices
  init(_ services: FakeServices) { self.services = services }
  func handle(_ request: HTTPRequest, on loop: Loop, reply: HTTPReply) {
    reply.send(HTTPResponse(status: 404))
  }
  func upgrade(_ request: HTTPRequest, on loop: Loop) -> UpgradeDecision {
    .accept(ViewerSession(loop: loop, services: services, peer: request.peer))
  }
}

/// Gateway, node and viewers of one test.
final class RelayBench: Sendable {
  let group: LoopGroup
  let other: LoopGroup
  let services: FakeServices
  let server: HTTPServer
  let node: ScriptedNode

  static let fastLimits: RelayLimits = {
    var limits = RelayLimits()
    limits.dial = .milliseconds(800)
    limits.firstMessage = .milliseconds(600)
    return limits
  }()

  init(
    console: Console, readOnly: Bool = false, limits: RelayLimits = RelayBench.fastLimits,
    maxDuration: Duration? = nil, idle: Duration? = nil, maximumFrame: Int = 32_768,
    login: UpstreamPlan.Login? = nil, nodeTLS: TLSContext? = nil, policy: TLSPolicy? = nil,
    mintError: Ending? = nil, script: ScriptedNode.Script
  ) async throws {
    group = try LoopGroup(count: 1)
    other = try LoopGroup(count: 1)
    node = try await ScriptedNode(
      on: other.loops[0], tls: nodeTLS, script: script, accept: { RelayBench.accept($0) })
    let port = node.port
    let name = try #require(NodeName("pve1"))
    let inner =
      login
      ?? (console.isTerminal
        ? .termproxy(line: Secret("root@pam:PVEVNC:x\n")) : .rfb(password: Secret("password")))
    services = FakeServices(
      limits: limits,
      grant: Grant(
        id: "s1", cluster: "test", target: .name("web1"), console: console, readOnly: readOnly,
        maxDuration: maxDuration, idle: idle),
      tls: try policy.map { try TLSContext.client($0) }, mintError: mintError,
      plan: {
        UpstreamPlan(
          host: "127.0.0.1", port: port, tls: policy,
          requestTarget: Secret(
            "/api2/json/nodes/pve1/qemu/100/vncwebsocket?port=5900&vncticket=x"),
          credentialHeader: ("Authorization", Secret("PVEAPIToken=a@pve!b=c")), login: inner,
          maximumFrame: maximumFrame, upid: "UPID:pve1:0:0:0:vncproxy:100:root@pam:", node: name)
      })
    server = try await HTTPServer(
      on: group, options: .init(address: .loopback(port: 0), subprotocols: ["sallyport.v1"]),
      handler: RelayServer(services))
  }

  static func accept(_ key: String) -> String {
    // Computed by the openssl program once for all tests would be slower than asking the library.
    RelayCrypto.accept(for: key)
  }

  func viewer(
    token: String = "good", acks: Bool = false, keeps: Bool = true, answersPings: Bool = true
  ) async throws -> ViewerClient {
    let viewer = ViewerClient(
      on: other.loops[0],
      first:
        "{\"type\":\"open\",\"token\":\"\(token)\",\"columns\":100,\"rows\":30,\"acks\":\(acks),\"notices\":true}",
      keeps: keeps, answersPings: answersPings)
    try await viewer.connect(port: server.port)
    return viewer
  }

  func stop() {
    group.shutdown()
    other.shutdown()
  }
}
