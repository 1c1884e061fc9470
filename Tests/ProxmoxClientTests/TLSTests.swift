import ConsoleProtocol
import Foundation
import Testing

@testable import ProxmoxClient

@Suite("Who is trusted", .timeLimit(.minutes(2)))
struct TLSTests {
  /// SHA-256 of a test certificate's DER form, by way of its PEM text.
  static func fingerprint(_ name: String) throws -> Fingerprint {
    let pem = try String(contentsOfFile: Fixture.path("tls/\(name).pem"), encoding: .utf8)
    let base64 = pem.split(separator: "\n").filter { !$0.hasPrefix("-----") }.joined()
    let der = Array(try #require(Data(base64Encoded: base64)))
    return try #require(Fingerprint(bytes: SHA.digest(der)))
  }

  private func trusting(
    _ server: ScriptedServer, _ trust: TLSPolicy.Trust, host: String = "127.0.0.1",
    own: TLSPolicy.ClientCertificate? = nil, pin: Fingerprint? = nil
  ) -> ProxmoxClient {
    ProxmoxClient(
      ClusterConfiguration(
        name: "test", hosts: [APIHost(host: host, port: server.port, fingerprint: pin)],
        credential: token, tls: TLSPolicy(trust: trust, clientCertificate: own)))
  }

  private func server(_ name: String, client: String? = nil) throws -> ScriptedServer {
    try ScriptedServer(tls: ServerTLS(name, askForClientOf: client)) { _, connection in
      connection.data("1")
    }
  }

  @Test("the pinned certificate is trusted, whatever its name and authority")
  func pin() async throws {
    let server = try server("selfsigned")
    let client = trusting(server, .fingerprint(try Self.fingerprint("selfsigned")))
    for _ in 0..<3 { #expect(try await client.call(.get, "/x") == .int(1)) }
    #expect(server.connections == 1)
    client.shutdown()
  }

  @Test("another certificate than the pinned one gets no byte of the request, and both are shown")
  func mismatch() async throws {
    let server = try server("node")
    let expected = try Self.fingerprint("selfsigned")
    let seen = try Self.fingerprint("node")
    let client = trusting(server, .fingerprint(expected))
    let error = await failure { try await client.call(.get, "/x") }
    #expect(error?.kind == .tlsUntrusted(expected: expected, seen: seen))
    #expect(error?.message.contains(expected.description) == true)
    #expect(error?.message.contains(seen.description) == true)
    #expect(error?.hint.contains("fingerprint: \"\(seen)\"") == true)
    #expect(error?.ending.kind == .tlsUntrusted)
    #expect(server.requests.isEmpty)
    client.shutdown()
  }

  @Test("a host's own pin goes before the cluster's policy")
  func perHost() async throws {
    let server = try server("selfsigned")
    let client = trusting(server, .systemCAs, pin: try Self.fingerprint("selfsigned"))
    #expect(try await client.call(.get, "/x") == .int(1))
    client.shutdown()
  }

  @Test("the machine's authorities don't know a node's certificate, and the error offers the pin")
  func system() async throws {
    for name in ["node", "selfsigned"] {
      let server = try server(name)
      let client = trusting(server, .systemCAs)
      let error = await failure { try await client.call(.get, "/x") }
      let seen = try Self.fingerprint(name)
      #expect(error?.kind == .tlsUntrusted(expected: nil, seen: seen))
      #expect(error?.hint.contains("fingerprint: \"\(seen)\"") == true)
      #expect(server.requests.isEmpty)
      client.shutdown()
    }
  }

  @Test("a CA file trusts what it signed, for the names in the certificate only")
  func authority() async throws {
    let good = try server("node")
    for host in ["127.0.0.1", "localhost"] {
      let client = trusting(good, .caFile(Fixture.path("tls/ca.pem")), host: host)
      #expect(try await client.call(.get, "/x") == .int(1))
      client.shutdown()
    }
    let wrongName = try server("elsewhere")
    let other = trusting(wrongName, .caFile(Fixture.path("tls/ca.pem")))
    let error = await failure { try await other.call(.get, "/x") }
    #expect(error?.kind == .tlsUntrusted(expected: nil, seen: try Self.fingerprint("elsewhere")))
    #expect(wrongName.requests.isEmpty)
    other.shutdown()
    let unknown = try server("selfsigned")
    let third = trusting(unknown, .caFile(Fixture.path("tls/ca.pem")))
    #expect(await failure { try await third.call(.get, "/x") }?.code == "tls-untrusted")
    third.shutdown()
  }

  @Test("a CA file that isn't there is the configuration's fault")
  func noFile() async throws {
    let server = try server("node")
    let client = trusting(server, .caFile("/nonexistent/ca.pem"))
    #expect(await failure { try await client.call(.get, "/x") }?.kind == .badConfiguration)
    client.shutdown()
  }

  @Test("insecure takes anything")
  func insecure() async throws {
    let server = try server("selfsigned")
    let client = trusting(server, .insecure)
    #expect(try await client.call(.get, "/x") == .int(1))
    client.shutdown()
  }

  @Test("our own certificate is shown to whoever asks for one")
  func ours() async throws {
    let server = try server("node", client: "ca")
    let pin = TLSPolicy.Trust.fingerprint(try Self.fingerprint("node"))
    let own = TLSPolicy.ClientCertificate(
      certificateFile: Fixture.path("tls/person.pem"), keyFile: Fixture.path("tls/person.key"))
    let known = trusting(server, pin, own: own)
    #expect(try await known.call(.get, "/x") == .int(1))
    known.shutdown()
    let unknown = trusting(server, pin)
    #expect(await failure { try await unknown.call(.get, "/x") } != nil)
    unknown.shutdown()
  }

  @Test("a host that speaks no TLS is a failed connection, and nothing of the request is sent")
  func plain() async throws {
    let server = try ScriptedServer { _, connection in connection.data("1") }
    let client = trusting(server, .insecure)
    let task = Task { await failure { try await client.call(.post, "/x") } }
    // The handshake's first record has no end that a plain server could wait for.
    try await Task.sleep(for: .milliseconds(200))
    client.shutdown()
    #expect(await task.value != nil)
    #expect(server.requests.isEmpty)
  }
}
