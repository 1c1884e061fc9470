import Synchronization
import Testing

@testable import PVESimulator

extension NodeTests {
  /// Noise through real sockets. The node has to close every connection in its own time, to stay within bounds, and to
  /// answer afterwards as if nothing had been.
  @Suite("The node and noise")
  struct FuzzNodeTests {
    private static let attackers = 4
    /// No program of this machine is behind any console.
    private static func harmless(_ configuration: inout SimulatorConfiguration) {
      configuration.timings.listenerLife = .seconds(2)
      configuration.nodeShell = .echo
      configuration.guests = [
        .vm(100, name: "vm", serial: [0: .echo]), .container(200, name: "ct", terminal: .echo),
      ]
    }

    /// Runs attackers side by side, each with noise of its own, until the time is over.
    private func attack(
      _ what: String, _ pve: Simulator,
      _ body: @escaping @Sendable (inout Noise) throws -> Void
    ) async throws {
      let noise = Noise.announced(what)
      let end = ContinuousClock.now + Noise.duration
      let before = residentMemory()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<Self.attackers {
          group.addTask {
            try await blocking {
              var mine = noise.other(number)
              repeat { try body(&mine) } while ContinuousClock.now < end
            }
          }
        }
        try await group.waitForAll()
      }
      // It answers as always …
      for _ in 0..<3 {
        let answer = try await pve.call("GET", "/version", as: .token(pve))
        #expect(answer.status == 200, "seed \(noise.seed)")
      }
      // … holds nothing, and has not grown much.
      var left = -1
      for _ in 0..<200 where left != 0 {
        try await Task.sleep(for: .milliseconds(50))
        left = await pve.counts().connections
      }
      #expect(left == 0, "seed \(noise.seed): connections are left")
      #expect(residentMemory() - before < 512 << 20, "seed \(noise.seed)")
    }

    private static let words = [
      "\r\n", "\r\n\r\n", " ", ":", "%00", "%", "?", "&", "=", "/", "//", "..", "HTTP/1.1", "\0",
      "Content-Length: 5\r\n", "Content-Length: 99999999\r\n", "Expect: 100-continue\r\n",
      "Transfer-Encoding: chunked\r\n", "Upgrade: websocket\r\n", "Connection: close\r\n",
      "Accept-Encoding: gzip\r\n", "vncwebsocket", "{", "\"",
    ]

    @Test("spoiled requests: every connection is answered or closed in time")
    func requests() async throws {
      try await withNode({
        Self.harmless(&$0)
        $0.timings.idleTimeout = .seconds(2)
      }) { pve in
        let port = pve.port
        let auditor = try await pve.login("auditor@pve").lines
        let token = TestCredential.token(pve).lines
        let form = "a=1&b=%C3%A9;c"
        let samples = [
          "GET /api2/json/version HTTP/1.1\r\nHost: x\r\n\(token)\r\n",
          "GET /api2/extjs/cluster/resources?type=vm HTTP/1.1\r\nAccept-Encoding: gzip\r\n\(auditor)\r\n",
          "GET /api2/html/nodes HTTP/1.0\r\n\(auditor)\r\n",
          "POST /api2/json/access/ticket HTTP/1.1\r\nContent-Length: \(form.utf8.count)\r\n\r\n\(form)",
          "POST /api2/json/nodes/pve1/qemu/100/vncproxy HTTP/1.1\r\nContent-Type: application/json\r\n"
            + "\(auditor)Content-Length: 15\r\n\r\n{\"websocket\":1}",
          "PUT /api2/json/nodes/pve1/qemu/100/config HTTP/1.1\r\n\(auditor)Content-Length: 7\r\n\r\ncores=4",
          "GET /api2/json/nodes/pve1/qemu/100/vncwebsocket?port=5900&vncticket=x HTTP/1.1\r\n"
            + "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a\r\n\(auditor)\r\n",
          "POST /api2/json/nodes/pve1/storage/local/upload HTTP/1.1\r\n\(token)"
            + "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 150\r\n\r\n"
            + "--B\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\niso\r\n--B\r\n"
            + "Content-Disposition: form-data; name=\"filename\"; filename=\"a.iso\"\r\n\r\nxxx\r\n--B--",
          "GET / HTTP/1.1\r\n\r\n",
        ]
        let hangs = Mutex<[String]>([])
        try await attack("requests", pve) { noise in
          var bytes: [UInt8] = []
          for _ in 0..<1 + noise.below(3) { bytes += Array(noise.pick(samples).utf8) }
          bytes = noise.once(in: 10) ? noise.bytes(noise.length(5000)) : bytes
          bytes = noise.spoiled(bytes, words: Self.words)
          let pieces = noise.pieces(of: bytes)
          if noise.once(in: 5) {
            let connection = try PlainConnection(port: port)
            for piece in pieces where (try? connection.write(piece)) == nil { break }
            if noise.once(in: 3) { return }
            if connection.readToEnd(seconds: 10) == nil {
              hangs.withLock { $0.append(String(decoding: bytes, as: UTF8.self)) }
            }
            return
          }
          let connection = try TestConnection(port: port)
          for piece in pieces.prefix(300) where (try? connection.write(piece)) == nil { break }
          if noise.once(in: 3) { return }
          if connection.readToEnd(seconds: 10) == nil {
            hangs.withLock { $0.append(String(decoding: bytes, as: UTF8.self)) }
          }
        }
        #expect(hangs.withLock { $0 } == [])
      }
    }

    /// Consoles, and what their clients say first.
    private enum Console: CaseIterable {
      case nodeTerminal, nodeScreen, serial, screen, container, containerScreen

      var place: String {
        switch self {
        case .nodeTerminal, .nodeScreen: ""
        case .serial, .screen: "/qemu/100"
        case .container, .containerScreen: "/lxc/200"
        }
      }

      var kind: String {
        switch self {
        case .nodeTerminal, .serial, .container: "termproxy"
        case .nodeScreen: "vncshell"
        case .screen, .containerScreen: "vncproxy"
        }
      }

      var isScreen: Bool { kind != "termproxy" }
    }

    @Test("noise as websocket frames into every kind of console")
    func consoles() async throws {
      try await withNode(Self.harmless) { pve in
        let port = pve.port
        let root = try await pve.login()
        let opened = Mutex<Set<String>>([])
        try await attack("consoles", pve) { noise in
          let console = noise.pick(Console.allCases)
          let answer = try Self.ask(
            port, "POST /api2/json/nodes/pve1\(console.place)/\(console.kind)", root,
            console.isScreen ? "websocket=1" : "")
          guard let mint = Self.mint(answer, console.place) else { return }
          let socket = try TestWebsocket(
            port: port, mint, as: root, extra: noise.once(in: 5) ? "X: y\r\n" : "")
          // A port that was given away in between never answers.
          guard (try? socket.open()) != nil else { return }
          opened.withLock { _ = $0.insert("\(console)") }
          try? Self.talk(socket, console, mint, &noise)
        }
        #expect(opened.withLock { $0.count } > 1)
      }
    }

    private static func ask(
      _ port: Int, _ request: String, _ credential: TestCredential, _ form: String
    ) throws -> TestAnswer {
      let connection = try TestConnection(port: port)
      try connection.write(
        "\(request) HTTP/1.1\r\nConnection: close\r\n\(credential.lines)Content-Length: \(form.utf8.count)\r\n\r\n\(form)"
      )
      return try TestAnswer(connection.readToEnd(seconds: 15) ?? [])
    }

    private static func mint(_ answer: TestAnswer, _ place: String) -> TestWebsocket.Mint? {
      guard answer.status == 200, let user = answer.data["user"]?.asText,
        let ticket = answer.data["ticket"]?.asText, let port = answer.data["port"]?.asText
      else { return nil }
      return .init(
        user: user, ticket: ticket, port: port, upid: "",
        password: answer.data["password"]?.asText ?? "", place: place)
    }

    /// Says what gets a client in, most of the time, and then noise.
    private static func talk(
      _ socket: TestWebsocket, _ console: Console, _ mint: TestWebsocket.Mint, _ noise: inout Noise
    ) throws {
      if !noise.once(in: 4) {
        if console.isScreen {
          _ = try socket.read(12, seconds: 3)
          try socket.send("RFB 003.008\n")
          _ = try socket.read(2, seconds: 3)
          try socket.send([2])
          let challenge = try socket.read(16, seconds: 3)
          let password = Array(mint.password.utf8)
          try socket.send(vncResponse(challenge: challenge, password: password))
          try socket.send([1])
        } else {
          try socket.send("\(mint.user):\(mint.ticket)\n")
        }
      }
      for _ in 0..<noise.below(30) {
        let payload =
          console.isScreen
          ? screenMessage(&noise)
          : noise.spoiled(
            Array(noise.pick(["0:5:hello", "1:80:24:", "2", "1:9999:9999:", "0:100000:"]).utf8),
            words: ["0:", "1:", ":", "\r", "\u{1B}[", "\u{1C}"])
        for piece in noise.pieces(of: FuzzParserTests.frame(&noise, payload: payload)).prefix(50) {
          try socket.connection.write(piece)
        }
        if noise.once(in: 5) { _ = socket.connection.readSome(seconds: 0.01) }
      }
    }

    /// An RFB client's message, mostly as it should be.
    private static func screenMessage(_ noise: inout Noise) -> [UInt8] {
      let message: [UInt8] =
        switch noise.below(8) {
        case 0: [0, 0, 0, 0] + noise.bytes(16)
        case 1: [2, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0xFF, 0xFF, 0xFF, 0x21]
        case 2: [3, UInt8(noise.below(2)), 0, 0, 0, 0, 255, 255, 255, 255]
        case 3: [4, 1, 0, 0] + noise.bytes(4)
        case 4: [5, UInt8(noise.below(256))] + noise.bytes(4)
        case 5: [6, 0, 0, 0, 0, 0, 0, 3, 97, 98, 99]
        case 6: [0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]
        default: noise.bytes(noise.length(2000))
        }
      return noise.spoiled(message, words: ["\u{3}", "\0\0\0\0"])
    }
  }
}
