import Testing

@testable import ConsoleProtocol

@Suite struct ConsoleUpstreamTests {
  static let mask: UInt32 = 0x1122_3344
  static let upgraded = Array(WebSocketUpgradeTests.recorded().utf8)
  static let rfbLogin = UpstreamPlan.Login.rfb(password: Secret("(5T<H7$8"))
  static let line = "root@pam!tok1:PVEVNC:6B01E1E9::Aqk58W\n"
  static let terminalLogin = UpstreamPlan.Login.termproxy(line: Secret(line))

  static func machine(
    _ login: UpstreamPlan.Login, tls: TLSPolicy? = TLSPolicy(trust: .insecure),
    maximumFrame: Int = 32768, host: String = "pve1"
  ) throws -> ConsoleUpstream {
    ConsoleUpstream(
      plan: UpstreamPlan(
        host: host, port: 8006, tls: tls,
        requestTarget: Secret("/api2/json/nodes/pve1/vncwebsocket?port=5900&vncticket=x"),
        credentialHeader: ("Authorization", Secret("PVEAPIToken=root@pam!tok1=0")), login: login,
        maximumFrame: maximumFrame, upid: "UPID:", node: try #require(NodeName("pve1"))),
      key: "dGhlIHNhbXBsZSBub25jZQ==", expectedAccept: WebSocketUpgradeTests.accept,
      mask: { mask })
  }

  /// What a leg did, with neighbouring bytes put together.
  struct Run: Equatable {
    var sent: [[UInt8]] = []
    var opcodes: [UInt8] = []
    var bytes: [UInt8] = []
    var isOpen = false
    var pongs = 0
    var failure: ConsoleFailure?
  }

  static func run(_ chunks: [[UInt8]], _ machine: inout ConsoleUpstream) -> Run {
    var run = Run()
    func note(_ bytes: [UInt8]) {
      guard let frames = ClientFrame.all(bytes) else {
        Issue.record("not whole frames")
        return
      }
      run.sent += frames.map(\.payload)
      run.opcodes += frames.map(\.opcode)
    }
    for chunk in chunks where run.failure == nil {
      var chunk = chunk
      chunk.withUnsafeMutableBytes { buffer in
        var position = 0
        for _ in 0..<10_000 {
          switch machine.next(buffer, &position) {
          case .needMore:
            #expect(position == buffer.count)
            return
          case .send(let bytes): note(bytes)
          case .challenge(let password, let challenge):
            #expect(password == Secret("(5T<H7$8"))
            note(machine.answerChallenge(challenge.reversed()))
          case .stage(let stage): #expect(stage == .login)
          case .opened:
            #expect(!run.isOpen)
            run.isOpen = true
          case .bytes(let range):
            #expect(!range.isEmpty)
            run.bytes += buffer[range]
          case .pong: run.pongs += 1
          case .failed(let failure):
            run.failure = failure
            return
          }
        }
        Issue.record("the machine never asks for more")
      }
    }
    return run
  }

  static func run(_ chunks: [[UInt8]], _ login: UpstreamPlan.Login) throws -> Run {
    var machine = try machine(login)
    return run(chunks, &machine)
  }

  static let banner = Array("RFB 003.008\n".utf8)
  static let challenge = hex("269e406f423acd150043de0e4bbd3917")
  static let serverInit = hex(
    "02d001902018000100ff00ff00ff1008000000000000000f51454d552028677565737431303029")

  @Test("the recorded screen of a VM opens at any cut of the connection")
  func recordedScreen() throws {
    let frames = [banner, hex("0102"), challenge, hex("00000000"), serverInit].map {
      serverFrame(2, $0)
    }
    let stream = Self.upgraded + frames.flatMap { $0 }
    for chunks in allCuts(stream) {
      let run = try Self.run(chunks, Self.rfbLogin)
      #expect(run.sent == [Self.banner, [2], Self.challenge.reversed()])
      #expect(run.isOpen && run.failure == nil)
      #expect(run.bytes == Self.serverInit)
    }
  }

  private var banner: [UInt8] { Self.banner }
  private var challenge: [UInt8] { Self.challenge }
  private var serverInit: [UInt8] { Self.serverInit }

  @Test(
    "the websocket may cut the login anywhere, into fragments, empty ones and with pings between")
  func loginInPieces() throws {
    let login = banner + hex("0102") + challenge + hex("00000000") + serverInit
    for piece in [1, 2, 3, 5, 7, 13, 100] {
      var stream = Self.upgraded
      var rest = login[...]
      while !rest.isEmpty {
        stream += serverFrame(2, Array(rest.prefix(piece)), fin: false)
        stream += serverFrame(9, [1])
        stream += serverFrame(0, [])
        rest = rest.dropFirst(piece)
      }
      for chunks in [[stream], stream.map { [$0] }] {
        let run = try Self.run(chunks, Self.rfbLogin)
        #expect(run.isOpen)
        #expect(run.bytes == serverInit)
        #expect(
          zip(run.sent, run.opcodes).filter { $0.1 == 2 }.map(\.0)
            == [banner, [2], challenge.reversed()])
        #expect(run.opcodes.contains(10))
      }
    }
  }

  @Test("a screen without a password that speaks 3.3 or 3.7 opens before the server's next byte")
  func oldScreens() throws {
    for (banner, rest, answers) in [
      ("RFB 003.003\n", [0, 0, 0, 1] as [UInt8], 1), ("RFB 003.007\n", [1, 1], 2),
    ] {
      for chunks in allCuts(
        Self.upgraded + serverFrame(2, Array(banner.utf8)) + serverFrame(2, rest))
      {
        let run = try Self.run(chunks, .rfb(password: Secret("")))
        #expect(run.isOpen)
        #expect(run.sent.count == answers)
      }
    }
  }

  @Test(
    "the recorded terminal opens: the line leaves alone, OK glued to output is split at any cut")
  func recordedTerminal() throws {
    let output = hex(
      "7374617274696e672073657269616c207465726d696e616c206f6e20696e746572666163652073657269616c300d0a"
    )
    for ok in [
      serverFrame(2, [79, 75] + output), serverFrame(2, [79, 75]) + serverFrame(2, output),
      serverFrame(2, [79]) + serverFrame(2, [75] + output),
    ] {
      for chunks in allCuts(Self.upgraded + ok) {
        let run = try Self.run(chunks, Self.terminalLogin)
        #expect(run.sent == [Array(Self.line.utf8)])
        #expect(run.isOpen)
        #expect(run.bytes == output)
      }
    }
  }

  @Test("a tunnel is open as soon as the websocket is")
  func tunnel() throws {
    let run = try Self.run([Self.upgraded + serverFrame(2, [1, 2])], UpstreamPlan.Login.none)
    #expect(run.isOpen && run.sent.isEmpty && run.bytes == [1, 2])
  }

  @Test("the request is there until the upgrade, and its secrets are forgotten after it")
  func request() throws {
    var machine = try Self.machine(Self.terminalLogin, host: "2001:db8::1")
    let text = String(decoding: machine.requestBytes(), as: UTF8.self)
    #expect(text.contains("\r\nHost: [2001:db8::1]:8006\r\n"))
    #expect(text.contains("\r\nSec-WebSocket-Protocol: binary\r\n"))
    #expect(!text.contains("Extensions"))
    _ = Self.run([Self.upgraded], &machine)
    #expect(machine.requestBytes().isEmpty)
  }

  @Test("small frames of one read come out as one range, large ones stay where they are")
  func coalesced() throws {
    var machine = try Self.machine(.none)
    _ = Self.run([Self.upgraded], &machine)
    let large = [UInt8](repeating: 9, count: 20_000)
    var read =
      serverFrame(2, [1, 2]) + serverFrame(2, [3]) + serverFrame(2, []) + serverFrame(2, [4, 5])
      + serverFrame(9, [7]) + serverFrame(2, [6]) + serverFrame(2, large) + serverFrame(2, [8])
    var events: [ConsoleUpstream.Event] = []
    var bytes: [[UInt8]] = []
    read.withUnsafeMutableBytes { buffer in
      var position = 0
      while true {
        let event = machine.next(buffer, &position)
        if event == .needMore { break }
        if case .bytes(let range) = event { bytes.append(Array(buffer[range])) }
        events.append(event)
      }
    }
    #expect(bytes == [[1, 2, 3, 4, 5], [6], large + [8]])
    #expect(events.count == 4)
    if case .send(let pong) = events[1] {
      #expect(ClientFrame.all(pong)?.map(\.payload) == [[7]])
    } else {
      Issue.record("no pong")
    }
  }

  @Test("random streams of frames at random cuts bring every byte in order")
  func randomStreams() throws {
    var random = Random(seed: 11)
    for _ in 0..<60 {
      var stream = Self.upgraded
      var expected: [UInt8] = []
      for _ in 0..<40 {
        let payload = random.bytes(
          [0, 1, 10, 200, 9000, 70_000].randomElement(using: &random) ?? 0)
        expected += payload
        stream += serverFrame(2, payload)
        if Int.random(in: 0..<5, using: &random) == 0 { stream += serverFrame(10, []) }
      }
      let run = try Self.run(randomCuts(stream, &random, upTo: 65536), .none)
      #expect(run.bytes == expected)
      #expect(run.failure == nil)
    }
  }

  // MARK: Ends

  static func end(_ stream: [UInt8], _ login: UpstreamPlan.Login) throws -> ConsoleFailure? {
    var machine = try machine(login)
    let run = run([stream], &machine)
    let closed = machine.closed()
    #expect(machine.stage == nil)
    #expect(machine.closed() == closed)
    if let failure = run.failure { #expect(closed == failure) }
    return closed
  }

  @Test("each end of a connection has its reason")
  func ends() throws {
    let refusal = Array("HTTP/1.1 401 No ticket\r\nContent-Length: 0\r\n\r\n".utf8)
    let noTicket = ConsoleFailure.upgradeRefused(status: 401, reason: "No ticket", body: "")
    #expect(try Self.end(refusal, Self.rfbLogin) == noTicket)
    #expect(try Self.end([], Self.rfbLogin) == .closedEarly(.upgrade))
    #expect(try Self.end(Array("HTTP/1.1 101".utf8), Self.rfbLogin) == .closedEarly(.upgrade))
    // A stopped VM: upgraded, then closed without a banner.
    #expect(try Self.end(Self.upgraded, Self.rfbLogin) == .closedBeforeGreeting)
    #expect(
      try Self.end(Self.upgraded + serverFrame(2, Self.banner), Self.rfbLogin)
        == .closedEarly(.login))
    // The recorded wrong login line: a silent close.
    #expect(try Self.end(Self.upgraded, Self.terminalLogin) == .termproxyRefused)
    #expect(
      try Self.end(Self.upgraded + serverFrame(2, [79]), Self.terminalLogin) == .termproxyRefused)
    #expect(
      try Self.end(Self.upgraded + serverFrame(2, [1]), Self.terminalLogin) == .termproxyRefused)
    #expect(try Self.end(Self.upgraded + serverFrame(2, [79, 75]), Self.terminalLogin) == .ended)
    #expect(
      try Self.end(Self.upgraded + serverFrame(2, [79, 75]) + [0x82], Self.terminalLogin)
        == .closedEarly(.open))
    #expect(
      try Self.end(Self.upgraded + serverFrame(2, Array("login: ".utf8)), Self.rfbLogin)
        == .notRFB([UInt8(ascii: "l")]))
    let failed = Self.banner + [1, 2] + Self.challenge + [0, 0, 0, 1] + [0, 0, 0, 2, 110, 111]
    #expect(
      try Self.end(Self.upgraded + serverFrame(2, failed), Self.rfbLogin)
        == .rfbAuthFailed(reason: "no"))
    #expect(
      try Self.end(
        Self.upgraded + serverFrame(2, Self.banner + [0, 0, 0, 0, 1, 66]), Self.rfbLogin)
        == .rfbRefused(reason: "B"))
    #expect(
      try Self.end(Self.upgraded + serverFrame(2, Self.banner + [1, 30]), Self.rfbLogin)
        == .rfbViolation("the server offers security types 30 only"))
  }

  @Test("a broken frame ends it, after the bytes that came before")
  func brokenFrame() throws {
    let run = try Self.run([Self.upgraded + serverFrame(2, [1, 2]) + [0xc2, 0]], .none)
    #expect(run.bytes == [1, 2])
    guard case .frameViolation? = run.failure else {
      Issue.record("no violation")
      return
    }
  }

  @Test("a close frame is answered, then it is over")
  func closeFrame() throws {
    let run = try Self.run(
      [Self.upgraded + serverFrame(2, [1]) + serverFrame(8, [0x03, 0xe9] + Array("gone".utf8))],
      .none)
    #expect(run.bytes == [1])
    #expect(run.opcodes == [8] && run.sent == [[0x03, 0xe9]])
    #expect(run.failure == .closedByPeer(code: 1001, reason: "gone"))
  }

  @Test("a pong of the node is told apart from its bytes")
  func pong() throws {
    #expect(try Self.run([Self.upgraded + serverFrame(10, [])], .none).pongs == 1)
  }

  @Test("every failure has an ending with a sentence")
  func endings() {
    let all: [ConsoleFailure] = [
      .upgradeRefused(status: 401, reason: "No ticket", body: ""),
      .upgradeRefused(status: 403, reason: "", body: ""),
      .upgradeRefused(status: 596, reason: "x", body: ""),
      .upgradeRefused(status: 500, reason: "x", body: ""), .upgradeViolation("x"), .notRFB([1]),
      .rfbRefused(reason: ""), .rfbAuthFailed(reason: "x"), .rfbViolation("x"), .termproxyRefused,
      .closedBeforeGreeting, .closedEarly(.upgrade), .closedEarly(.login), .closedEarly(.open),
      .frameViolation("x"), .ended, .closedByPeer(code: nil, reason: ""),
    ]
    for failure in all {
      #expect(!failure.ending.sentence.isEmpty)
      #expect(failure.ending.closeReason.utf8.count <= 123)
    }
    #expect(all[0].ending.kind == .ticketRejected)
    #expect(all[1].ending.kind == .permissionDenied)
  }

  // MARK: Towards PVE

  @Test(
    "verified TLS has the zero mask, everything else has not",
    arguments: [
      (TLSPolicy(trust: .systemCAs), [0, 0, 0, 0] as [UInt8]),
      (TLSPolicy(trust: .insecure), [0x44, 0x33, 0x22, 0x11]), (nil, [0x44, 0x33, 0x22, 0x11]),
    ] as [(TLSPolicy?, [UInt8])])
  func masks(_ tls: TLSPolicy?, _ mask: [UInt8]) throws {
    let machine = try Self.machine(.none, tls: tls)
    for bytes in [machine.writer.ping(), machine.writer.close(code: 1000, reason: "x")] {
      #expect(ClientFrame.all(bytes)?.map(\.mask) == [mask])
    }
    var out = [UInt8](repeating: 0, count: machine.writer.encodedSize(of: 3))
    let count = ([1, 2, 3] as [UInt8]).withUnsafeBytes { input in
      out.withUnsafeMutableBytes { machine.writer.encode(input, into: $0) }
    }
    #expect(count == out.count)
    #expect(
      ClientFrame.all(out) == [ClientFrame(fin: true, opcode: 2, mask: mask, payload: [1, 2, 3])])
  }

  @Test("a terminal's input leaves as whole frames with the header first")
  func terminalInput() throws {
    let machine = try Self.machine(Self.terminalLogin, maximumFrame: 1000)
    var input = TerminalInput(maximumFrame: 1000)
    var out = [UInt8](repeating: 0, count: machine.writer.encodedSize(of: 1000))
    #expect(
      out.withUnsafeMutableBytes { machine.writer.encode(&input, at: .zero, into: $0) } == .idle)
    input.open(at: .zero)
    let paste = [UInt8](repeating: 66, count: 2500)
    paste.withUnsafeBytes { input.enqueue($0) }
    var frames: [ClientFrame] = []
    loop: while true {
      switch out.withUnsafeMutableBytes({ machine.writer.encode(&input, at: .zero, into: $0) }) {
      case .encoded(let count): frames += ClientFrame.all(Array(out[..<count])) ?? []
      case .wait(let until):
        #expect(until > .zero)
        break loop
      case .idle: break loop
      }
    }
    #expect(frames.map(\.payload.count) == [1000, 1000, 507])
    #expect(frames.flatMap(\.payload) == Array("0:2500:".utf8) + paste)
  }

  @Test("hostile nodes never trap the machine, and end it the same however they are cut")
  func fuzz() throws {
    var random = Random(seed: 12)
    for round in 0..<1500 {
      let login = [Self.rfbLogin, Self.terminalLogin, .none][round % 3]
      var stream = Self.upgraded
      stream += serverFrame(2, Self.banner + [1, 2] + Self.challenge + [0, 0, 0, 0])
      stream += serverFrame(2, random.bytes(20)) + serverFrame(9, [1]) + serverFrame(8, [])
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let at = Int.random(in: Self.upgraded.count..<stream.count, using: &random)
        stream[at] = UInt8.random(in: 0...255, using: &random)
      }
      let whole = try Self.run([stream], login)
      let cut = try Self.run(randomCuts(stream, &random, upTo: 30), login)
      #expect(whole == cut)
    }
  }
}
