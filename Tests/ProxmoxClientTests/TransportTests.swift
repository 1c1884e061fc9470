import ConsoleProtocol
import Synchronization
import Testing

@testable import ProxmoxClient

@Suite("The transport", .timeLimit(.minutes(2)))
struct TransportTests {
  @Test("an answer cut into single bytes is one answer")
  func split() async throws {
    let server = try ScriptedServer { _, connection in
      for byte in "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"data\":[1,\"ä\"]}".utf8
        .dropLast()
      {
        connection.send([byte])
      }
      connection.close()
    }
    // The last byte is missing on purpose: the length says 16 and the text has 17 bytes.
    let client = client(server)
    #expect(
      await failure { try await client.call(.get, "/x") }?.kind == .malformedAnswer(field: nil))
    client.shutdown()
  }

  @Test("chunked answers, with both Connection headers, are read")
  func chunked() async throws {
    let server = try ScriptedServer { _, connection in
      connection.send(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: Keep-Alive\r\nTransfer-Encoding: chunked\r\n\r\n"
      )
      for piece in [#"{"data""#, ":[1,2", "]}"] {
        connection.sleep(0.02)
        connection.send(String(piece.utf8.count, radix: 16) + "\r\n" + piece + "\r\n")
      }
      connection.send("0\r\n\r\n")
    }
    let client = client(server)
    #expect(try await client.call(.get, "/x") == .array([.int(1), .int(2)]))
    client.shutdown()
  }

  @Test("an answer that ends early is an error, not half a value")
  func truncated() async throws {
    let server = try ScriptedServer { _, connection in
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\":1}")
      connection.close()
    }
    let client = client(server)
    #expect(await failure { try await client.call(.get, "/x") }?.kind == .connectionLost)
    client.shutdown()
  }

  @Test(
    "recorded refusals arrive with status, message and path",
    arguments: [
      "no-credential", "missing-guest", "unknown-path", "console-without-privilege", "broken-json",
    ])
  func recorded(_ name: String) async throws {
    let server = try ScriptedServer { _, connection in connection.answer(Fixture(name)) }
    let client = client(server)
    let error = await failure {
      try await client.call(.post, "/nodes/pve1/x", [Parameter("a", "b")])
    }
    #expect(error?.kind == Fixture(name).error().kind)
    #expect(error?.status == Fixture(name).status)
    #expect(error?.path == "/nodes/pve1/x" && error?.method == .post)
    #expect(error?.host == "127.0.0.1:\(server.port)")
    client.shutdown()
  }

  @Test(
    "what isn't HTTP or isn't JSON is malformed",
    arguments: [
      "garbage\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
      "HTTP/1.1 204 No Content\r\n\r\n",
    ])
  func garbage(_ bytes: String) async throws {
    let server = try ScriptedServer { _, connection in
      connection.send(bytes)
      connection.close()
    }
    let client = client(server)
    guard case .malformedAnswer = await failure({ try await client.call(.get, "/x") })?.kind else {
      Issue.record("another kind")
      return
    }
    client.shutdown()
  }

  @Test(
    "a body over the limit is refused whether its length is told or not, on errors and logins too",
    arguments: [
      (true, "200 OK"), (false, "200 OK"), (true, "500 x"), (false, "500 x"), (false, "401 x"),
    ])
  func tooLarge(_ told: Bool, _ status: String) async throws {
    let server = try ScriptedServer { _, connection in
      connection.send(
        "HTTP/1.1 \(status)\r\n" + (told ? "Content-Length: 100000000" : "Connection: close")
          + "\r\n\r\n")
      let block = [UInt8](repeating: 32, count: 65536)
      for _ in 0..<1600 { if !connection.send(block) { break } }
      connection.close()
    }
    let client = client(
      server,
      credential: .password(user: "root@pam", password: Secret("secret"), secondFactor: nil),
      maximumBody: 1 << 20)
    #expect(
      await failure { try await client.call(.get, "/x") }?.kind == .bodyTooLarge(limit: 1 << 20))
    client.shutdown()
  }

  @Test("headers without end are refused")
  func headers() async throws {
    let server = try ScriptedServer { _, connection in
      connection.send("HTTP/1.1 200 OK\r\n")
      for n in 0..<100_000 { if !connection.send("X-\(n): 0123456789\r\n") { break } }
      connection.close()
    }
    let client = client(server)
    let error = await failure { try await client.call(.get, "/x") }
    guard case .bodyTooLarge = error?.kind else {
      Issue.record("\(String(describing: error))")
      return
    }
    client.shutdown()
  }

  @Test(
    "a redirect is an error that says where it points, without its query",
    arguments: [301, 302, 307, 308])
  func redirect(_ status: Int) async throws {
    let server = try ScriptedServer { _, connection in
      connection.answer("\(status) Moved", headers: [("Location", "https://evil.example/x?y=z")])
    }
    let client = client(server)
    let error = await failure { try await client.call(.get, "/x") }
    #expect(error?.kind == .redirected(to: "https://evil.example/x"))
    #expect(server.requests.count == 1)
    client.shutdown()
  }

  @Test("connect, total and idle time-outs are told apart")
  func timeouts() async throws {
    let server = try ScriptedServer { request, connection in
      if request.path.hasSuffix("/drip") {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in 0..<40 {
          if !connection.send(" ") { break }
          connection.sleep(0.1)
        }
      } else {
        _ = connection.waitForClose()
      }
      connection.close()
    }
    let dripping = client(
      server, timeouts: Timeouts(total: .milliseconds(1500), idle: .seconds(10)))
    #expect(await failure { try await dripping.call(.get, "/drip") }?.kind == .timedOut(.total))
    dripping.shutdown()
    let silent = client(server, timeouts: Timeouts(total: .seconds(30), idle: .seconds(1)))
    #expect(await failure { try await silent.call(.get, "/x") }?.kind == .timedOut(.idle))
    silent.shutdown()
  }

  @Test("nobody there is connectFailed, and a name that doesn't exist too")
  func nobody() async throws {
    let server = try ScriptedServer { _, _ in }
    server.stop()
    let client = client(server)
    #expect(await failure { try await client.call(.post, "/x") }?.kind == .connectFailed)
    client.shutdown()
    let other = ProxmoxClient(
      ClusterConfiguration(
        name: "x", hosts: [APIHost(host: "no-such-host.invalid")], credential: token))
    #expect(await failure { try await other.call(.get, "/x") }?.kind == .connectFailed)
    other.shutdown()
  }

  @Test("cancelling the task closes the connection, and other calls go on")
  func cancel() async throws {
    let closed = Mutex(false)
    let server = try ScriptedServer { request, connection in
      guard request.path.hasSuffix("/slow") else { return connection.data("1") }
      let saw = connection.waitForClose()
      closed.withLock { $0 = saw }
      connection.close()
    }
    let client = client(server)
    let slow = Task { await failure { try await client.call(.get, "/slow") } }
    #expect(await eventually { server.requests.count == 1 })
    slow.cancel()
    #expect(await slow.value?.kind == .cancelled)
    #expect(await eventually { closed.withLock { $0 } })
    #expect(try await client.call(.get, "/quick") == .int(1))
    client.shutdown()
  }

  @Test("a task that is cancelled already sends nothing")
  func cancelledBefore() async throws {
    let server = try ScriptedServer { _, connection in connection.data("1") }
    let client = client(server)
    let task = Task {
      while !Task.isCancelled { await Task.yield() }
      return await failure { try await client.call(.get, "/x") }
    }
    task.cancel()
    #expect(await task.value?.kind == .cancelled)
    #expect(server.requests.isEmpty)
    client.shutdown()
  }

  @Test("after shutdown every call fails at once, those under way too")
  func shutdown() async throws {
    let server = try ScriptedServer { _, connection in
      _ = connection.waitForClose()
      connection.close()
    }
    let client = client(server)
    let running = Task { await failure { try await client.call(.get, "/x") } }
    #expect(await eventually { server.requests.count == 1 })
    client.shutdown()
    client.shutdown()
    #expect(await running.value?.kind == .shutDown)
    #expect(await failure { try await client.call(.get, "/x") }?.kind == .shutDown)
  }

  @Test("connections are kept and used again")
  func reuse() async throws {
    let server = try ScriptedServer { _, connection in connection.data("1") }
    let client = client(server)
    for _ in 0..<20 { _ = try await client.call(.get, "/x") }
    #expect(server.connections == 1)
    client.shutdown()
  }

  @Test("a read is made again when the kept connection is found closed; a write never is")
  func neverTwice() async throws {
    // Each connection answers one request, takes the next one and closes without a word.
    let seen = Mutex<[Int: Int]>([:])
    let server = try ScriptedServer { request, connection in
      let number = seen.withLock { seen -> Int in
        seen[request.connection, default: 0] += 1
        return seen[request.connection] ?? 0
      }
      if number == 1 { connection.data("1") } else { connection.close() }
    }
    let reader = client(server)
    _ = try await reader.call(.get, "/x")
    #expect(try await reader.call(.get, "/again") == .int(1))
    #expect(server.requests.filter { $0.path.hasSuffix("/again") }.count == 2)
    reader.shutdown()
    for method in [HTTPMethod.post, .put, .delete] {
      for parameters in [[], [Parameter("a", "b")]] {
        let writer = client(server)
        _ = try await writer.call(.get, "/x")
        let before = server.requests.count
        let error = await failure { try await writer.call(method, "/write", parameters) }
        #expect(error?.kind == .connectionLost)
        #expect(server.requests.count == before + 1)
        writer.shutdown()
      }
    }
  }

  @Test("parameters go where PVE reads them, and a form's type and length are told")
  func placement() async throws {
    let server = try ScriptedServer { _, connection in connection.data("null") }
    let client = client(server)
    for method in HTTPMethod.allCases {
      _ = try await client.call(method, "/x", [Parameter("a", "1 2")])
      _ = try await client.call(method, "/x")
    }
    let seen = server.requests.map { "\($0.method) \($0.target) \($0.body)" }
    #expect(
      seen == [
        "GET /api2/json/x?a=1%202 ", "GET /api2/json/x ", "POST /api2/json/x a=1%202",
        "POST /api2/json/x ", "PUT /api2/json/x a=1%202", "PUT /api2/json/x ",
        "DELETE /api2/json/x?a=1%202 ", "DELETE /api2/json/x ",
      ])
    for request in server.requests {
      #expect(request.header("Expect") == nil)
      #expect(request.header("Transfer-Encoding") == nil)
      let hasBody = request.method == "POST" || request.method == "PUT"
      #expect((request.header("Content-Length") != nil) == hasBody)
      #expect(
        request.header("Authorization")
          == "PVEAPIToken=root@pam!tok1=00000000-0000-0000-0000-00000000abcd")
    }
    client.shutdown()
  }

  @Test(
    "a path that could break out of its line or place is refused",
    arguments: [
      "x", "/a b", "/a\r\nX: y", "/a#b", "/ä", "/a\\b",
    ])
  func badPaths(_ path: String) async throws {
    let server = try ScriptedServer { _, connection in connection.data("1") }
    let client = client(server)
    #expect(await failure { try await client.call(.get, path) }?.kind == .badConfiguration)
    #expect(server.connections == 0)
    client.shutdown()
  }

  @Test("no secret is in any error")
  func secrets() async throws {
    let server = try ScriptedServer { request, connection in
      let all =
        request.headers.map { $0.value }.joined(separator: " ") + request.body + request.target
      connection.answer("500 echo \(all)", #"{"data":null,"message":"echo \#(all)"}"#)
    }
    let byToken = client(server)
    let first = await failure { try await byToken.call(.post, "/x") }
    #expect(first?.description.contains("echo") == true)
    #expect(first?.description.contains("abcd") == false)
    byToken.shutdown()
    let byPassword = client(
      server,
      credential: .password(user: "a@pam", password: Secret("very+secret"), secondFactor: nil))
    let second = await failure { try await byPassword.call(.get, "/x") }
    #expect(second?.description.contains("echo") == true)
    #expect(second?.description.contains("very") == false)
    byPassword.shutdown()
  }
}
