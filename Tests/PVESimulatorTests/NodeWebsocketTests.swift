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
        $0.timings.listenerLife = .seconds(3)
        $0.timings.portReservation = .seconds(20)
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

    @Test(
      "or it ends its worker, one of three, where the node is like that; another takes its place")
    func killWorker() async throws {
      let bad: [[UInt8]] = [
        clientFrame(mask: nil, [1]), clientFrame(fin: false, [1]), clientFrame(opcode: 3, [1]),
        clientFrame(opcode: 0, [1]), [0xC2] + clientFrame([1]).dropFirst(),
        [0x82, 0xFF, 0, 0, 0, 0, 0, 2, 0, 1],
      ]
      try await withNode({
        echoNode(&$0)
        $0.behaviour.badFrame = .killWorker
      }) { pve in
        let token = TestCredential.token(pve)
        for frame in bad {
          var mints: [TestWebsocket.Mint] = []
          for _ in 0..<6 { mints.append(try await pve.mint("/qemu/100", "termproxy", as: token)) }
          let all = mints
          let alive = try await blocking {
            let sockets = try all.map { mint in
              let socket = try TestWebsocket(pve, mint, as: token)
              try socket.open()
              try socket.send("\(mint.user):\(mint.ticket)\n")
              _ = try socket.read(upTo: "serial0\r\n")
              return socket
            }
            try sockets[0].connection.write(frame)
            guard sockets[0].ends() else { throw ClientFailure(description: "alive") }
            return sockets.count { $0.isSilent(seconds: 0.3) }
          }
          // Six connections on three workers: two were the dead one's.
          #expect(alive == 4)
        }
        #expect(try await pve.call("GET", "/version", as: token).status == 200)
      }
    }

    @Test("a dead port ends its worker as well, where the node is like that")
    func deadPortKills() async throws {
      try await withNode({
        echoNode(&$0)
        $0.behaviour.deadPort = .killWorker
      }) { pve in
        let token = TestCredential.token(pve)
        let mint = try await pve.mint("/qemu/100", "termproxy", as: token)
        let ended = try await blocking {
          let first = try TestWebsocket(pve, mint, as: token)
          try first.open()
          return try TestWebsocket(pve, mint, as: token).ends()
        }
        #expect(ended)
      }
    }

    @Test(
      "a reload of pveproxy lets consoles live, and closes what is kept alive after its answer")
    func reload() async throws {
      try await withNode(echoNode) { pve in
        let token = TestCredential.token(pve)
        let mint = try await pve.mint("/qemu/100", "termproxy", as: token)
        let sockets = try await blocking {
          let socket = try TestWebsocket(pve, mint, as: token)
          try socket.open()
          try socket.send("\(mint.user):\(mint.ticket)\n")
          _ = try socket.read(upTo: "serial0\r\n")
          let kept = try TestConnection(port: pve.port)
          try kept.write("GET /api2/json/version HTTP/1.1\r\n\(token.lines)\r\n")
          let answer = try kept.read(upTo: "}}")
          return UncheckedBox((socket, kept, answer))
        }
        #expect(sockets.value.2.contains("Connection: Keep-Alive"))
        await pve.reloadProxy()
        let answer = try await blocking {
          let (socket, kept, _) = sockets.value
          try socket.type("alive")
          _ = try socket.read(upTo: "alive")
          try kept.write("GET /api2/json/version HTTP/1.1\r\n\(token.lines)\r\n")
          return kept.readToEnd(seconds: 5).map { String(decoding: $0, as: UTF8.self) }
        }
        #expect(answer?.contains("Connection: close") == true)
        await pve.killWorker(0)
        await pve.killWorker(1)
        await pve.killWorker(2)
        // The console is an old worker's, and those are no longer among the three.
        try await blocking {
          try sockets.value.0.type("still")
          _ = try sockets.value.0.read(upTo: "still")
        }
        await pve.killConnections()
        #expect(try await blocking { sockets.value.0.ends() })
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
  }
}

/// Carries a test's own client between its blocking steps, which never overlap.
struct UncheckedBox<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}
