import ConsoleProtocol
import Testing

@testable import ProxmoxClient

@Suite("Several hosts", .timeLimit(.minutes(2)))
struct FailoverTests {
  private func node(_ name: String) throws -> ScriptedServer {
    try ScriptedServer { request, connection in
      if request.path.hasSuffix("/version") { return connection.answer(Fixture("version")) }
      if request.path.hasSuffix("/termproxy") {
        return connection.answer(Fixture("qemu-termproxy"))
      }
      if request.path.hasSuffix("/fails") { return connection.answer("500 no") }
      if request.path.hasSuffix("/drops") { return connection.close() }
      connection.data(#""\#(name)""#)
    }
  }

  private func client(_ servers: ScriptedServer...) -> ProxmoxClient {
    ProxmoxClient(
      ClusterConfiguration(
        name: "test", hosts: servers.map { APIHost(host: "127.0.0.1", port: $0.port) },
        credential: token, tls: nil))
  }

  @Test("the next host is used when the first isn't there, and kept")
  func sticky() async throws {
    let (a, b) = (try node("a"), try node("b"))
    a.stop()
    let client = client(a, b)
    #expect(try await client.call(.get, "/x").string == "b")
    #expect(try await client.call(.post, "/x").string == "b")
    #expect(client.connection.hostsInOrder.first?.port == b.port)
    client.shutdown()
  }

  @Test("an answer of any status is an answer: no second host is asked")
  func answers() async throws {
    let (a, b) = (try node("a"), try node("b"))
    let client = client(a, b)
    #expect(await failure { try await client.call(.get, "/fails") }?.status == 500)
    #expect(b.connections == 0)
    client.shutdown()
  }

  @Test("a lost connection moves a read to the next host, and never a write")
  func lost() async throws {
    let (a, b) = (try node("a"), try node("b"))
    let client = client(a, b)
    #expect(await failure { try await client.call(.post, "/drops") }?.kind == .connectionLost)
    #expect(b.connections == 0)
    #expect(await failure { try await client.call(.get, "/drops") }?.kind == .connectionLost)
    #expect(b.connections > 0)
    client.shutdown()
  }

  @Test(
    "with nobody there the error says so of all, and none configured is the configuration's fault")
  func nobody() async throws {
    let (a, b) = (try node("a"), try node("b"))
    a.stop()
    b.stop()
    let client = client(a, b)
    let error = await failure { try await client.call(.get, "/x") }
    #expect(error?.kind == .connectFailed && error?.message.contains("other 1 hosts") == true)
    client.shutdown()
    let none = self.client()
    #expect(await failure { try await none.call(.get, "/x") }?.kind == .badConfiguration)
    #expect(
      await failure { try await none.mint(.terminal, of: MintTests.place("node/pve1")) }?.kind
        == .badConfiguration)
    none.shutdown()
  }

  @Test(
    "a host that takes the connection and says nothing in the handshake is a connect time-out, and passed over"
  )
  func silent() async throws {
    // It waits for an HTTP request, and the handshake's first record is none.
    let silent = try ScriptedServer { _, _ in }
    let good = try ScriptedServer(tls: ServerTLS("node")) { _, connection in connection.data("1") }
    let pin = try TLSTests.fingerprint("node")
    func client(_ servers: [ScriptedServer]) -> ProxmoxClient {
      ProxmoxClient(
        ClusterConfiguration(
          name: "test", hosts: servers.map { APIHost(host: "127.0.0.1", port: $0.port) },
          credential: token, tls: TLSPolicy(trust: .fingerprint(pin)),
          timeouts: Timeouts(connect: .milliseconds(400))))
    }
    let alone = client([silent])
    #expect(await failure { try await alone.call(.post, "/x") }?.kind == .timedOut(.connect))
    alone.shutdown()
    let both = client([silent, good])
    #expect(try await both.call(.post, "/x").int == 1)
    #expect(good.requests.count == 1 && silent.requests.isEmpty)
    both.shutdown()
  }

  @Test("a certificate that isn't trusted is told, not gone around")
  func untrusted() async throws {
    let bad = try ScriptedServer(tls: ServerTLS("selfsigned")) { _, connection in
      connection.data("1")
    }
    let good = try ScriptedServer(tls: ServerTLS("node")) { _, connection in connection.data("1") }
    let client = ProxmoxClient(
      ClusterConfiguration(
        name: "test", hosts: [bad, good].map { APIHost(host: "127.0.0.1", port: $0.port) },
        credential: token, tls: TLSPolicy(trust: .fingerprint(try TLSTests.fingerprint("node")))))
    #expect(await failure { try await client.call(.get, "/x") }?.code == "tls-untrusted")
    #expect(good.connections == 0)
    client.shutdown()
  }

  @Test("mint and dial are on one host, also when the first is down")
  func mint() async throws {
    let (a, b) = (try node("a"), try node("b"))
    a.stop()
    let client = client(a, b)
    let plan = try await client.mint(.terminal, of: MintTests.place("node/pve1"))
    #expect(plan.port == b.port)
    #expect(b.requests.map(\.method) == ["GET", "POST"])
    client.shutdown()
  }
}
