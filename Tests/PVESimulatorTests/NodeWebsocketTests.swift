import ConsoleProtocol
import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("vncwebsocket, its tickets and its silences")
  struct NodeWebsocketTests {
    private func echoNode(_ configuration: inout SimulatorConfiguration) {
      configuration.guests = [.vm(100, name: "e", serial: [0: .echo]), .container(200, name: "c")]
    }

    @Test("the 101 echoes the subprotocol as it came, whatever it is, and no extension")
    func handshake() async throws {
      try await withNode(echoNode) { pve in
        let token = TestCredential.token(pve)
        for (asked, echoed) in [
          ("binary", "binary"), ("binary, base64", "binary, base64"), ("x", "x"), ("", nil),
        ] {
          let mint = try await pve.mint("/qemu/100", "termproxy", as: token)
          let answer = try await blocking {
            let socket = try TestWebsocket(
              pve, mint, as: token, protocols: asked,
              extra:
                "Sec-WebSocket-Extensions: permessage-deflate\r\nOrigin: https://evil.example\r\n")
            try socket.open()
            return socket.answer
          }
          #expect(
            answer
              == "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
              + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
              + (echoed.map { "Sec-WebSocket-Protocol: \($0)\r\n" } ?? "") + "\r\n")
        }
      }
    }

    @Test("without Upgrade the ticket is only checked; another identity, port or age is refused")
    func tickets() async throws {
      try await withNode(echoNode) { pve in
        let token = TestCredential.token(pve)
        let root = try await pve.login()
        let mint = try await pve.mint("/qemu/100", "termproxy", as: token)
        let ticket = TestWebsocket.encoded(mint.ticket)
        func check(_ place: String, _ port: String, _ ticket: String, _ who: TestCredential)
          async throws
          -> TestAnswer
        {
          try await pve.call(
            "GET", "/nodes/pve1\(place)/vncwebsocket?port=\(port)&vncticket=\(ticket)", as: who)
        }
        #expect(
          try await check("/qemu/100", mint.port, ticket, token).body
            == #"{"data":{"port":"5900"}}"#)
        let refused = try await check("/qemu/100", mint.port, ticket, root)
        #expect(refused.status == 401)
        #expect(
          refused.body == #"{"data":null,"message":"permission denied - invalid PVEVNC ticket\n"}"#)
        #expect(try await check("/qemu/100", "5914", ticket, token).status == 401)
        #expect(try await check("/lxc/200", mint.port, ticket, token).status == 401)
        #expect(try await check("", mint.port, ticket, token).status == 401)
        let low = try await check("/qemu/100", "80", ticket, token)
        #expect(low.json["errors"]?["port"] == "value must have a minimum value of 5900")
        let plus = mint.ticket.replacing("/", with: "%2F").replacing("=", with: "%3D")
        if mint.ticket.contains("+") {
          #expect(try await check("/qemu/100", mint.port, plus, token).status == 401)
        }
        let version = try await pve.call(
          "GET", "/nodes/pve1/qemu/100/vncwebsocket?port=\(mint.port)&vncticket=\(ticket)",
          as: token,
          headers: "Upgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 8\r\n")
        #expect(version.status == 500)
        #expect(version.reason == "unsupported websocket-version '8'")
        pve.clock.advance(seconds: 41)
        #expect(try await check("/qemu/100", mint.port, ticket, token).status == 401)
      }
    }

    @Test("a listener takes one connection and waits so long; afterwards dialling hangs")
    func listener() async throws {
      try await withNode({
        echoNode(&$0)
        $0.timings.listenerLife = .seconds(1)
        $0.timings.portReservation = .seconds(5)
      }) { pve in
        let token = TestCredential.token(pve)
        let used = try await pve.mint("/qemu/100", "termproxy", as: token)
        let late = try await pve.mint("/qemu/100", "termproxy", as: token)
        #expect(used.port == "5900")
        #expect(late.port == "5901")
        let silent = try await blocking {
          let first = try TestWebsocket(pve, used, as: token)
          try first.open()
          let second = try TestWebsocket(pve, used, as: token)
          return second.isSilent(seconds: 1)
        }
        #expect(silent)
        let exit = try await pve.exitStatus(late.upid, as: token)
        #expect(exit?.hasSuffix("failed: exit code 1") == true)
        let alsoSilent = try await blocking {
          try TestWebsocket(pve, late, as: token).isSilent(seconds: 0.5)
        }
        #expect(alsoSilent)
      }
    }

    @Test("a hundred listeners are all there are")
    func exhaustion() async throws {
      try await withNode({
        echoNode(&$0)
        $0.timings.listenerLife = .seconds(60)
        $0.timings.portReservation = .seconds(60)
      }) { pve in
        let token = TestCredential.token(pve)
        for i in 0..<100 {
          let mint = try await pve.mint("/qemu/100", "termproxy", as: token)
          #expect(mint.port == "\(5900 + i)")
        }
        let full = try await pve.call("POST", "/nodes/pve1/qemu/100/termproxy", as: token)
        #expect(full.status == 500)
        #expect(full.reason == "unable to find free port (5900-6000)")
      }
    }

    @Test("text counts as binary, ping gets a pong, close gets no close frame")
    func frames() async throws {
      try await withNode(echoNode) { pve in
        try await pve.terminal("/qemu/100", as: .token(pve)) { terminal in
          _ = try terminal.read(upTo: "serial0\r\n")
          try terminal.send(Array("0:2:hi".utf8), opcode: 1)
          _ = try terminal.read(upTo: "hi")
          try terminal.send([UInt8](repeating: 5, count: 200), opcode: 9)
          let pong = try terminal.frame()
          guard pong?.opcode == 10, pong?.payload.count == 200 else {
            throw ClientFailure(description: "no pong")
          }
          let data = [UInt8](repeating: 97, count: 131_063)
          try terminal.send(Array("0:131063:".utf8) + data)
          try terminal.send("")
          _ = try terminal.read(131_063)
          try terminal.connection.write(clientFrame(opcode: 8, [3, 232]))
          while let more = terminal.connection.readSome(seconds: 5) {
            guard !more.isEmpty else { throw ClientFailure(description: "not closed") }
            if more.contains(0x88) { throw ClientFailure(description: "a close frame came") }
          }
        }
      }
    }

    @Test("a malformed frame freezes its connection")
    func freeze() async throws {
      try await withNode(echoNode) { pve in
        try await pve.terminal("/qemu/100", as: .token(pve)) { terminal in
          _ = try terminal.read(upTo: "serial0\r\n")
          try terminal.connection.write(clientFrame(fin: false, Array("0:1:a".utf8)))
          try terminal.type("b")
          guard terminal.isSilent(seconds: 0.5) else {
            throw ClientFailure(description: "not frozen")
          }
        }
      }
    }

    @Test("or it ends its worker, with every connection that the worker serves")
    func killWorker() async throws {
      try await withNode({
        echoNode(&$0)
        $0.behaviour.badFrame = .killWorker
      }) { pve in
        let token = TestCredential.token(pve)
        let mint = try await pve.mint("/qemu/100", "termproxy", as: token)
        let ended = try await blocking {
          // Each of the three workers has one of these.
          let bystanders = try (0..<3).map { _ in try TestConnection(port: pve.port) }
          let bad = try TestWebsocket(pve, mint, as: token)
          try bad.open()
          try bad.connection.write(clientFrame(mask: nil, [1]))
          guard bad.ends() else { throw ClientFailure(description: "alive") }
          return bystanders.count { $0.readToEnd(seconds: 0.3) != nil }
        }
        #expect(ended == 1)
        #expect(try await pve.call("GET", "/version", as: token).status == 200)
      }
    }

    @Test(
      "nothing holds back a writer whose backend doesn't read, nor a program whose client doesn't")
    func noBackpressure() async throws {
      try await withNode({
        $0.guests = [
          .vm(100, name: "s", serial: [0: .command(["/bin/sh", "-c", "stty raw -echo; yes"])])
        ]
        $0.behaviour.relayBuffer = 8 << 20
      }) { pve in
        let token = TestCredential.token(pve)
        let mint = try await pve.mint("/qemu/100", "termproxy", as: token)
        // Not reading: eight megabytes are queued, then the node ends it.
        let socket = try await blocking {
          let socket = try TestWebsocket(pve, mint, as: token)
          try socket.open()
          try socket.send("\(mint.user):\(mint.ticket)\n")
          _ = try socket.read(upTo: "OK")
          return UncheckedBox(socket)
        }
        #expect(try await pve.exitStatus(mint.upid, as: token) != nil)
        #expect(try await blocking { socket.value.ends() })
      }
    }

    @Test("faults in the handshake: no answer, garbage, half an answer, silence behind it")
    func dialFaults() async throws {
      for fault in [
        Behaviour.DialFault.neverAnswers, .answersGarbage, .closesMidHandshake, .silentAfterUpgrade,
      ] {
        try await withNode({
          echoNode(&$0)
          $0.behaviour.dialFault = fault
        }) { pve in
          let token = TestCredential.token(pve)
          let mint = try await pve.mint("/qemu/100", "termproxy", as: token)
          let seen = try await blocking { () -> [UInt8]? in
            let socket = try TestWebsocket(pve, mint, as: token)
            if fault == .neverAnswers { return socket.isSilent(seconds: 0.4) ? [] : nil }
            if fault == .silentAfterUpgrade {
              try socket.open()
              try socket.send("\(mint.user):\(mint.ticket)\n")
              return socket.isSilent(seconds: 0.4) ? [] : nil
            }
            return socket.connection.readToEnd(seconds: 5)
          }
          switch fault {
          case .answersGarbage: #expect(seen?.count == 64)
          case .closesMidHandshake: #expect(seen?.count == 48)
          default: #expect(seen == [])
          }
        }
      }
    }

    @Test("killing the task ends the console")
    func killTask() async throws {
      try await withNode(echoNode) { pve in
        let token = TestCredential.token(pve)
        let mint = try await pve.mint("/qemu/100", "termproxy", as: token)
        let socket = try await blocking {
          let socket = try TestWebsocket(pve, mint, as: token)
          try socket.open()
          return UncheckedBox(socket)
        }
        let answer = try await pve.call(
          "DELETE", "/nodes/pve1/tasks/\(TestWebsocket.encoded(mint.upid))", as: token)
        #expect(answer.status == 200)
        #expect(try await blocking { socket.value.ends() })
        #expect(try await pve.exitStatus(mint.upid, as: token) == "interrupted by signal")
      }
    }

    @Test("a migration tunnel answers version and quits")
    func tunnel() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        let mint = try await pve.call("POST", "/nodes/pve1/qemu/150/mtunnel", as: token)
        let socketPath = mint.data["socket"]?.asText ?? ""
        let ticket = mint.data["ticket"]?.asText ?? ""
        #expect(socketPath == "/run/qemu-server/150.mtunnel")
        #expect(ticket.hasPrefix("PVETUNNEL:"))
        let text = try await blocking {
          let connection = try TestConnection(port: pve.port)
          try connection.write(
            "GET /api2/json/nodes/pve1/qemu/150/mtunnelwebsocket?socket=\(TestWebsocket.encoded(socketPath))"
              + "&ticket=\(TestWebsocket.encoded(ticket)) HTTP/1.1\r\nUpgrade: websocket\r\n"
              + "Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\(token.lines)\r\n")
          _ = try connection.read(upTo: "\r\n\r\n")
          try connection.write(
            clientFrame(Array("{\"cmd\":\"version\"}\n{\"cmd\":\"quit\"}\n".utf8)))
          return try connection.read(upTo: "{\"success\":true}\n")
        }
        #expect(text.contains(#"{"api":2,"age":0,"success":true}"#))
        let upid = mint.data["upid"]?.asText ?? ""
        #expect(try await pve.exitStatus(upid, as: token) == "OK")
      }
    }
  }
}

/// Carries a test's own client between its blocking steps, which never overlap.
struct UncheckedBox<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}
