import Testing

@testable import ConsoleProtocol

@Suite struct WebSocketUpgradeTests {
  static let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

  /// What the recorded node answered.
  static func recorded(_ status: String = "101 Switching Protocols", _ extra: [String] = [])
    -> String
  {
    ([
      "HTTP/1.1 \(status)", "Upgrade: websocket", "Connection: upgrade",
      "Sec-WebSocket-Accept: \(accept)", "Sec-WebSocket-Protocol: binary",
    ] + extra)
    .joined(separator: "\r\n") + "\r\n\r\n"
  }

  static func machine(subprotocol: String? = "binary") -> WebSocketUpgrade {
    WebSocketUpgrade(
      requestTarget: Secret("/api2/json/nodes/pve1/vncwebsocket?port=5900&vncticket=PVEVNC%3A1"),
      hostHeader: "pve1:8006", credential: ("Authorization", Secret("PVEAPIToken=root@pam!a=1")),
      subprotocol: subprotocol, key: "dGhlIHNhbXBsZSBub25jZQ==", expectedAccept: accept)
  }

  /// The last event, and the bytes that were left over.
  static func run(
    _ chunks: [[UInt8]], subprotocol: String? = "binary", close: Bool = false
  ) -> (WebSocketUpgrade.Event, [UInt8]) {
    var machine = machine(subprotocol: subprotocol)
    var last = WebSocketUpgrade.Event.needMore
    var rest: [UInt8] = []
    for chunk in chunks {
      var chunk = chunk
      chunk.withUnsafeMutableBytes { buffer in
        var position = 0
        if last == .needMore { last = machine.next(buffer, &position) }
        rest.append(contentsOf: buffer[position...])
      }
    }
    if last == .needMore, close { last = machine.closed() }
    return (last, rest)
  }

  static func run(_ text: String, subprotocol: String? = "binary", close: Bool = false)
    -> WebSocketUpgrade.Event
  {
    run([Array(text.utf8)], subprotocol: subprotocol, close: close).0
  }

  @Test("the request offers one subprotocol, no extension, and carries the credential")
  func request() {
    let text = String(decoding: Self.machine().request(), as: UTF8.self)
    #expect(
      text == """
        GET /api2/json/nodes/pve1/vncwebsocket?port=5900&vncticket=PVEVNC%3A1 HTTP/1.1\r
        Host: pve1:8006\r
        Upgrade: websocket\r
        Connection: Upgrade\r
        Sec-WebSocket-Version: 13\r
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
        Sec-WebSocket-Protocol: binary\r
        Authorization: PVEAPIToken=root@pam!a=1\r
        \r

        """)
  }

  @Test("a line break in a value can't begin a header of its own")
  func injection() {
    let machine = WebSocketUpgrade(
      requestTarget: Secret("/a b\r\nX: 1"), hostHeader: "h\r\nY: 2",
      credential: ("Cookie", Secret("a=b\r\n\r\nGET / HTTP/1.1")), subprotocol: nil, key: "k",
      expectedAccept: "")
    let lines = String(decoding: machine.request(), as: UTF8.self).split(
      separator: "\r\n", omittingEmptySubsequences: false)
    #expect(lines.count == 9)
    #expect(lines.first == "GET /abX:1 HTTP/1.1")
    #expect(lines[1] == "Host: hY: 2")
    #expect(lines[6] == "Cookie: a=bGET / HTTP/1.1")
  }

  @Test("a recorded 101 is taken at any cut, and the first frame's bytes stay")
  func upgraded() {
    let frame: [UInt8] = [0x82, 2, 79, 75]
    for chunks in allCuts(Array(Self.recorded().utf8) + frame) {
      let (event, rest) = Self.run(chunks)
      #expect(event == .upgraded)
      #expect(rest == frame)
    }
  }

  @Test("a 101 without a subprotocol is fine")
  func noSubprotocol() {
    let text = Self.recorded().replacing("Sec-WebSocket-Protocol: binary\r\n", with: "")
    #expect(Self.run(text) == .upgraded)
    #expect(Self.run(text, subprotocol: nil) == .upgraded)
  }

  @Test(
    "a 101 that isn't exactly in order is a violation",
    arguments: [
      recorded().replacing("websocket", with: "h2c"),
      recorded().replacing("Connection: upgrade", with: "Connection: close"),
      recorded().replacing(accept, with: "AAAA"),
      recorded().replacing("Sec-WebSocket-Accept: \(accept)\r\n", with: ""),
      recorded("101 Switching Protocols", ["Sec-WebSocket-Accept: \(accept)"]),
      recorded("101 Switching Protocols", ["Sec-WebSocket-Extensions: permessage-deflate"]),
      recorded().replacing("Protocol: binary", with: "Protocol: binary, base64"),
      recorded("100 Continue"),
      recorded().replacing("HTTP/1.1", with: "HTTP/2.0"),
      recorded().replacing("\r\n", with: "\n").replacing("\n\n", with: "\n\r\n\r\n"),
      recorded().replacing("Upgrade:", with: "Upgrade :"),
      recorded().replacing("Upgrade:", with: "Upgrade"),
      "SSH-2.0-OpenSSH_9.2p1\r\n", "\u{16}\u{3}\u{1}", "HTTP/1.1 1x1 No\r\n\r\n",
      "HTTP/1.1 101\r\n\r\n",
    ])
  func violations(_ text: String) {
    guard case .violation = Self.run(text) else {
      Issue.record("\(Self.run(text)) for \(text.debugDescription)")
      return
    }
  }

  @Test("a subprotocol that was not asked for is a violation")
  func unaskedSubprotocol() {
    guard case .violation = Self.run(Self.recorded(), subprotocol: nil) else {
      Issue.record("taken")
      return
    }
  }

  @Test("a recorded refusal gives status, reason phrase and body at any cut")
  func refused() {
    let body = #"{"data":null,"message":"permission denied - invalid PVEVNC ticket\n"}"#
    let text =
      "HTTP/1.1 401 permission denied - invalid PVEVNC ticket\r\nCache-Control: max-age=0\r\n"
      + "Connection: close\r\nServer: pve-api-daemon/3.0\r\nContent-Length: \(body.utf8.count)\r\n"
      + "Content-Type: application/json;charset=UTF-8\r\n\r\n" + body
    for chunks in allCuts(Array(text.utf8)) {
      #expect(
        Self.run(chunks).0
          == .refused(status: 401, reason: "permission denied - invalid PVEVNC ticket", body: body))
    }
  }

  @Test("a refusal without a length is read until the connection closes")
  func refusedUntilClose() {
    let text = "HTTP/1.1 401 No ticket\r\nConnection: close\r\n\r\n"
    #expect(Self.run(text) == .needMore)
    #expect(Self.run(text, close: true) == .refused(status: 401, reason: "No ticket", body: ""))
    #expect(
      Self.run(text + "why", close: true) == .refused(status: 401, reason: "No ticket", body: "why")
    )
    #expect(
      Self.run("HTTP/1.1 500\r\nContent-Length: 9\r\n\r\nshort", close: true)
        == .refused(status: 500, reason: "", body: "short"))
  }

  @Test("of a refusal's endless body 64 KiB are kept")
  func longBody() {
    for length in ["", "Content-Length: 99999999\r\n"] {
      let text = "HTTP/1.1 500 x\r\n\(length)\r\n" + String(repeating: "y", count: 70_000)
      guard case .refused(500, "x", let body) = Self.run(text) else {
        Issue.record("no refusal")
        continue
      }
      #expect(body.utf8.count == 64 << 10)
    }
  }

  @Test("a chunked refusal is told by its header alone, a malformed length is a violation")
  func oddBodies() {
    #expect(
      Self.run("HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        == .refused(status: 502, reason: "Bad Gateway", body: ""))
    #expect(
      Self.run("HTTP/1.1 502 x\r\nContent-Length: -1\r\n\r\n")
        == .violation("malformed Content-Length"))
  }

  @Test("a header without an end is given up at 16 KiB")
  func endlessHeader() {
    let text = "HTTP/1.1 200 OK\r\nX: " + String(repeating: "y", count: 20_000)
    guard case .violation = Self.run(text) else {
      Issue.record("still reading")
      return
    }
  }

  @Test("a close before the end of the header is a violation")
  func earlyClose() {
    for text in ["", "HT", "HTTP/1.1 101 Switching Protocols\r\n"] {
      guard case .violation = Self.run(text, close: true) else {
        Issue.record("no violation")
        continue
      }
    }
  }

  @Test("mutated answers never trap and never upgrade without the right accept value")
  func fuzz() {
    var random = Random(seed: 1)
    let good = Array(Self.recorded().utf8)
    for _ in 0..<3000 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let at = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.remove(at: at)
        default: bytes.insert(UInt8.random(in: 0...255, using: &random), at: at)
        }
      }
      let (event, _) = Self.run(randomCuts(bytes, &random, upTo: 40), close: true)
      #expect(event != .needMore)
      if event == .upgraded {
        #expect(String(decoding: bytes, as: UTF8.self).contains(Self.accept))
      }
    }
  }
}
