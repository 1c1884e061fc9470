import CZlib
import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("Answers as pveproxy sends them: compressed, plain, old, many")
  struct HTTPAnswerTests {
    private func inflated(_ bytes: [UInt8], gzip: Bool) -> [UInt8]? {
      var stream = z_stream()
      guard
        inflateInit2_(
          &stream, gzip ? 31 : 15, zlibVersion(), Int32(MemoryLayout<z_stream>.size)) == Z_OK
      else { return nil }
      defer { inflateEnd(&stream) }
      var out = [UInt8](repeating: 0, count: 1 << 20)
      var input = bytes
      let room = out.count
      let result = input.withUnsafeMutableBufferPointer { from in
        out.withUnsafeMutableBufferPointer { to in
          stream.next_in = from.baseAddress
          stream.avail_in = UInt32(from.count)
          stream.next_out = to.baseAddress
          stream.avail_out = UInt32(to.count)
          return inflate(&stream, Z_FINISH)
        }
      }
      guard result == Z_STREAM_END else { return nil }
      return Array(out.prefix(room - Int(stream.avail_out)))
    }

    @Test(
      "over a kilobyte is compressed where the client takes it, with the header where PVE has it",
      arguments: [("gzip", "x-gzip, deflate"), ("deflate", "deflate")])
    func compression(_ encoding: String, _ accepted: String) async throws {
      try await withNode { pve in
        let auth = TestCredential.token(pve).lines
        let plain = try await pve.call("GET", "/access/permissions", as: .token(pve))
        #expect(plain.header("Content-Encoding") == nil)
        let port = pve.port
        let (head, body) = try await blocking {
          let connection = try TestConnection(port: port)
          try connection.write(
            "GET /api2/json/access/permissions HTTP/1.1\r\nAccept-Encoding: \(accepted)\r\n"
              + "Connection: close\r\n\(auth)\r\n")
          let head = try connection.read(upTo: "\r\n\r\n")
          return (head, connection.readToEnd(seconds: 10) ?? [])
        }
        #expect(
          head.contains("\r\nServer: pve-api-daemon/3.0\r\nContent-Encoding: \(encoding)\r\n"))
        #expect(head.contains("\r\nContent-Length: \(body.count)\r\n"))
        let text = inflated(body, gzip: encoding == "gzip").map {
          String(decoding: $0, as: UTF8.self)
        }
        #expect(text.map { $0 == plain.body } == true)
        #expect(plain.body.utf8.count > 1024)
        // A kilobyte or less isn't worth it.
        let short = try await pve.call(
          "GET", "/version", as: .token(pve), headers: "Accept-Encoding: \(encoding)\r\n")
        #expect(short.header("Content-Encoding") == nil)
      }
    }

    @Test("plain HTTP on the TLS port is sent to https; without a Host there is no answer")
    func plainHTTP() async throws {
      try await withNode({ $0.timings.idleTimeout = .seconds(2) }) { pve in
        let port = pve.port
        let cases = [
          ("GET /api2/json/version?a=b HTTP/1.1\r\nHost: pve1:8006\r\n\r\n", 301),
          ("POST /x HTTP/1.1\r\nHost: http://pve1\r\n\r\n", 308),
          ("HEAD / HTTP/1.1\r\nHost: pve1\r\n\r\n", 501),
        ]
        for (request, status) in cases {
          let answer = try await blocking {
            let connection = try PlainConnection(port: port)
            try connection.write(request)
            return try TestAnswer(connection.readToEnd(seconds: 10) ?? [])
          }
          #expect(answer.status == status)
          switch status {
          case 301:
            #expect(answer.reason == "Moved Permanently")
            #expect(answer.header("Location") == "https://pve1:8006/api2/json/version?a=b")
          case 308: #expect(answer.header("Location") == "https://pve1/x")
          default: #expect(answer.header("Location") == nil)
          }
        }
        let silence = try await blocking {
          let connection = try PlainConnection(port: port)
          try connection.write("GET / HTTP/1.1\r\n\r\n")
          return connection.readToEnd(seconds: 10)
        }
        #expect(silence?.isEmpty == true)
      }
    }

    @Test("HTTP/1.0 is answered in kind, and kept open only when asked")
    func oldHTTP() async throws {
      try await withNode { pve in
        let auth = TestCredential.token(pve).lines
        let port = pve.port
        let (closed, kept) = try await blocking {
          let one = try TestConnection(port: port)
          try one.write("GET /api2/json/version HTTP/1.0\r\n\(auth)\r\n")
          let closed = String(decoding: one.readToEnd(seconds: 10) ?? [], as: UTF8.self)
          let two = try TestConnection(port: port)
          try two.write("GET /api2/json/version HTTP/1.0\r\nConnection: keep-alive\r\n\(auth)\r\n")
          return (closed, try two.read(upTo: "\r\n\r\n"))
        }
        #expect(closed.hasPrefix("HTTP/1.0 200 OK\r\n"))
        #expect(closed.contains("\r\nConnection: close\r\n"))
        #expect(kept.contains("\r\nConnection: Keep-Alive\r\n"))
        let bad = try await pve.raw("nonsense\r\n\r\n")
        #expect(bad.status == 400)
      }
    }

    @Test("a worker retires after a thousand requests: each connection gets its last answer")
    func retirement() throws {
      let workers = ProxyWorkers()
      let taken = (0..<6).compactMap { _ in workers.take() }
      #expect(taken.map(\.index) == [0, 1, 2, 0, 1, 2])
      for _ in 0..<999 { workers.began(on: taken[0]) }
      #expect(!taken[0].isRetired)
      workers.began(on: taken[3])
      #expect(taken[0].isRetired)
      #expect(taken[0] === taken[3])
      #expect(!taken[1].isRetired)
      let next = try #require(workers.take())
      #expect(next.index == 0)
      #expect(next !== taken[0])
    }

    @Test("a worker takes five hundred connections, keeps none of the last twenty alive")
    func fullWorkers() {
      let workers = ProxyWorkers()
      var taken: [ProxyWorker] = []
      while let worker = workers.take() {
        taken.append(worker)
        #expect(worker.keepsAlive == (worker.connections < 480))
        guard taken.count <= 1500 else { break }
      }
      #expect(taken.count == 1500)
      workers.release(taken[7])
      #expect(workers.take() === taken[7])
    }

    @Test("pages: a browser that isn't logged in is sent to log in, and gets its cookie")
    func pages() async throws {
      try await withNode { pve in
        let stranger = try await pve.call("GET", "/api2/html/nodes")
        #expect(stranger.status == 301)
        #expect(stranger.header("Location") == "/api2/html/access/ticket")
        let form = try await pve.call("GET", "/api2/html/access/ticket")
        #expect(form.body.contains("name=\"password\""))
        let login = try await pve.call(
          "POST", "/api2/html/access/ticket",
          ["username": "root@pam", "password": pve.rootPassword.reveal()])
        #expect(login.status == 301)
        let cookie = try #require(login.header("Set-Cookie")).prefix { $0 != ";" }
        let page = try await pve.call(
          "GET", "/api2/html/version", as: .header("Cookie", String(cookie)))
        #expect(page.status == 200)
        #expect(page.header("Content-Type") == "text/html;charset=UTF-8")
        #expect(page.body.contains("&quot;release&quot; : &quot;9.2&quot;"))
        let htmljs = try await pve.call("GET", "/api2/htmljs/version", as: .token(pve))
        #expect(htmljs.header("Content-Type") == "text/html;charset=UTF-8")
        #expect(htmljs.body.hasPrefix("{&quot;data&quot;:"))
        let refused = try await pve.call("GET", "/api2/html/nodes/<x>/status", as: .token(pve))
        #expect(!refused.body.contains("<x>"))
      }
    }

    @Test("a refused login in extjs is a 200 that says 401, as late as any 401")
    func extjsLogin() async throws {
      try await withNode({ $0.timings.failureDelay = .milliseconds(400) }) { pve in
        let start = ContinuousClock.now
        let answer = try await pve.call(
          "POST", "/api2/extjs/access/ticket", ["username": "root@pam", "password": "wrong"])
        #expect(ContinuousClock.now - start >= .milliseconds(390))
        #expect(answer.status == 200)
        #expect(answer.json["status"] == 401)
        #expect(answer.json["success"] == 0)
      }
    }

    @Test("PVE 7: server errors without a body, 64 KiB at most, broken JSON is a 501")
    func oldEra() async throws {
      try await withNode({ $0.era = .v7_4 }) { pve in
        let auth = TestCredential.token(pve).lines
        let start = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(auth)"
        let chunked = try await pve.raw(
          "POST /api2/json/access/ticket \(start)Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        #expect(chunked.status == 501)
        #expect(chunked.reason == "chunked transfer encoding not supported")
        #expect(chunked.body.isEmpty)
        let large = try await pve.raw(
          "POST /api2/json/access/ticket \(start)Content-Length: 65537\r\n\r\n")
        #expect(large.reason == "for data too large")
        let json = try await pve.raw(
          "POST /api2/json/nodes/pve1/termproxy \(start)Content-Type: application/json\r\n"
            + "Content-Length: 1\r\n\r\n{")
        #expect(json.status == 501)
        #expect(json.body.isEmpty)
        let missing = try await pve.call("GET", "/nodes/pve1/qemu/999/config", as: .token(pve))
        #expect(missing.status == 500)
        #expect(missing.json["message"] == nil)
        let deflated = try await pve.call(
          "GET", "/access/permissions", as: .token(pve), headers: "Accept-Encoding: deflate\r\n")
        #expect(deflated.header("Content-Encoding") == nil)
      }
    }
  }
}
