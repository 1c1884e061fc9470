import ConsoleProtocol
import Foundation
import Testing

@testable import ProxmoxClient

/// A recorded answer of a real node (tickets' signatures and certificates shortened).
struct Fixture: Sendable {
  var statusLine: String
  var headers: [(String, String)]
  var body: String

  static func path(_ name: String) -> String {
    Bundle.module.resourceURL?.appendingPathComponent("Fixtures/\(name)").path ?? name
  }

  init(_ name: String) {
    let data = FileManager.default.contents(atPath: Self.path(name + ".json")) ?? Data()
    let json = (try? JSONSerialization.jsonObject(with: data)) as? [String: Any] ?? [:]
    statusLine = json["statusLine"] as? String ?? ""
    headers = (json["headers"] as? [[String]] ?? []).map { ($0[0], $0[1]) }
    body = json["body"] as? String ?? ""
  }

  var status: Int { Int(statusLine.split(separator: " ").dropFirst().first ?? "") ?? 0 }
  var reason: String { statusLine.split(separator: " ", maxSplits: 2).last.map(String.init) ?? "" }

  /// What the client makes of it.
  func error(withBody: Bool = true) -> PVEError {
    PVEError(
      status: status, reason: reason, headers: headers.map { ($0.0, $0.1) },
      body: withBody ? Array(body.utf8) : [], method: .get, path: "/x", host: nil)
  }
}

/// A credential that needs no login.
let token = Credential.token(
  id: "root@pam!tok1", secret: Secret("00000000-0000-0000-0000-00000000abcd"))

/// A client of a scripted server without TLS.
func client(
  _ server: ScriptedServer, credential: Credential = token, second: Credential? = nil,
  timeouts: Timeouts = Timeouts(), maximumBody: Int = 32 << 20,
  clock: LoginClock = .system
) -> ProxmoxClient {
  ProxmoxClient(
    ClusterConfiguration(
      name: "test", hosts: [APIHost(host: "127.0.0.1", port: server.port)], credential: credential,
      consoleCredential: second, tls: nil, timeouts: timeouts, maximumBody: maximumBody),
    clock: clock)
}

/// The error of something that has to fail with one of the client's.
func failure<T>(_ work: () async throws -> T) async -> PVEError? {
  do {
    _ = try await work()
    return nil
  } catch let error as PVEError {
    return error
  } catch {
    Issue.record(error)
    return nil
  }
}

/// Waits until something is so, at most ten seconds.
func eventually(_ condition: () -> Bool) async -> Bool {
  for _ in 0..<1000 {
    if condition() { return true }
    try? await Task.sleep(for: .milliseconds(10))
  }
  return condition()
}
