import ConsoleProtocol
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import EventLoop

/// Serves `/echo` (the body), `/big` (1 MiB), `/late` (from another thread), and echoes websockets on `/ws`.
final class EchoServer: HTTPHandler {
  let sockets = Mutex<[String]>([])
  func handle(_ request: HTTPRequest, on loop: Loop, reply: HTTPReply) {
    switch request.path {
    case "/echo":
      reply.send(
        HTTPResponse(
          status: 200,
          headers: [
            ("X-Method", request.method),
            ("X-Query", request.query.map { "\($0.name)=\($0.value)" }.joined(separator: "|")),
            ("X-Raw", request.rawQuery.map { "\($0.name)=\($0.value)" }.joined(separator: "|")),
            (
              "X-Count",
              "\(request.rawQuery.count) \(request.rawQuery.map(\.value.count).reduce(0, +))"
            ),
            ("X-Bad", "a\r\nInjected: yes"), ("X-Auth", request.headers["authorization"] ?? "-"),
          ], body: request.body))
    case "/big":
      reply.send(HTTPResponse(status: 200, body: [UInt8](repeating: 0x61, count: 1 << 20)))
    case "/late":
      Task {
        try? await Task.sleep(for: .milliseconds(30))
        reply.send(HTTPResponse(status: 200, body: Array("late".utf8)))
        reply.send(HTTPResponse(status: 500))
      }
    case "/never": break
    default: reply.send(HTTPResponse(status: 404))
    }
  }
  func upgrade(_ request: HTTPRequest, on loop: Loop) -> UpgradeDecision {
    request.path == "/ws"
      ? .accept(EchoSocket()) : .refuse(HTTPResponse(status: 403, body: Array("no".utf8)))
  }
}

/// Sends back what it gets; a text `close` closes with 4242.
final class EchoSocket: WebSocketHandler {
  func webSocketOpened(_ socket: WebSocket) {}
  func webSocket(
    _ socket: WebSocket, received bytes: UnsafeMutableRawBufferPointer, isText: Bool, isFirst: Bool,
    isFinal: Bool
  ) {
    if isText {
      if String(decoding: bytes, as: UTF8.self) == "close" {
        socket.close(code: 4242, reason: "as asked")
      } else {
        socket.sendText(String(decoding: bytes, as: UTF8.self))
      }
    } else {
      socket.sendBinary(Array(bytes))
      if socket.isBacklogged { socket.pauseReading() }
    }
  }
  func webSocketPong(_ socket: WebSocket) {}
  func webSocketDrained(_ socket: WebSocket) { socket.resumeReading() }
  func webSocketClosed(_ socket: WebSocket, code: UInt16?, reason: String) {}
}

/// A client that decodes websocket frames.
final class SocketClient: StreamHandler, @unchecked Sendable {
  // Everything mutable is under the lock or touched by the loop's thread only.
  struct Seen: Sendable {
    var head = ""
    var data: [UInt8] = []
    var texts: [String] = []
    var close: (UInt16?, String)?
    var violation: String?
    var ended = false
  }
  let seen = Mutex(Seen())
  private var head: [UInt8] = []
  private var upgraded = false
  private var decoder = FrameDecoder()
  private let request: [UInt8]
  private let then: (EventLoop.Stream) -> Void
  init(request: String, then: @escaping (EventLoop.Stream) -> Void) {
    self.request = Array(request.utf8)
    self.then = then
  }
  func streamConnected(_ s: EventLoop.Stream) { s.write(request) }
  func stream(_ s: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    var position = 0
    if !upgraded {
      while position < bytes.count, !head.suffix(4).elementsEqual(Array("\r\n\r\n".utf8)) {
        head.append(bytes[position])
        position += 1
      }
      guard head.suffix(4).elementsEqual(Array("\r\n\r\n".utf8)) else { return }
      upgraded = true
      let text = String(decoding: head, as: UTF8.self)
      seen.withLock { $0.head = text }
      then(s)
    }
    while true {
      switch decoder.next(bytes, &position) {
      case .needMore: return
      case .data(let range, let kind, _):
        let piece = Array(bytes[range])
        seen.withLock {
          if kind == .text {
            $0.texts.append(String(decoding: piece, as: UTF8.self))
          } else {
            $0.data.append(contentsOf: piece)
          }
        }
      case .close(let code, let reason): seen.withLock { $0.close = (code, reason) }
      case .violation(let what):
        seen.withLock { $0.violation = what }
        return
      default: break
      }
    }
  }
  func streamDrained(_ s: EventLoop.Stream) {}
  func streamClosed(_ s: EventLoop.Stream, _ end: StreamEnd) { seen.withLock { $0.ended = true } }
}

@Suite("HTTP and websocket server", .serialized)
struct HTTPServerTests {
  /// Sends raw bytes, returns what came until the peer closed or `until` was seen.
  func exchange(_ text: String, port: Int, group: LoopGroup, until: String) async throws -> String {
    let recorder = Recorder()
    let loop = group.loops[0]
    try await loop.result {
      let s = try Stream.connect(on: loop, to: .loopback(port: port), handler: recorder)
      s.write(Array(text.utf8))
    }
    await eventually("answer to \(text.prefix(30))") {
      recorder.text.contains(until) || recorder.end != nil
    }
    return recorder.text
  }

  @Test("requests are answered, whole, one after the other, from any thread")
  func requests() async throws {
    let group = try LoopGroup(count: 2)
    defer { group.shutdown() }
    let server = try await HTTPServer(
      on: group, options: .init(address: .loopback(port: 0)), handler: EchoServer())
    let port = server.port
    let first = try await exchange(
      "POST /echo?a=1%2B&b=c%20d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: 5\r\n\r\nhello",
      port: port, group: group, until: "hello")
    #expect(first.hasPrefix("HTTP/1.1 200 OK\r\n"))
    #expect(first.contains("X-Method: POST"))
    #expect(first.contains("X-Query: a=1+|b=c d"))
    #expect(first.contains("X-Auth: Bearer k"))
    #expect(!first.contains("Injected"))
    let two = try await exchange(
      "GET /late HTTP/1.1\r\nHost: x\r\n\r\nDELETE /echo HTTP/1.1\r\nHost: x\r\n\r\n", port: port,
      group: group, until: "X-Method: DELETE")
    #expect(two.contains("late") && two.contains("X-Method: DELETE"))
    let big = try await exchange(
      "GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", port: port, group: group,
      until: "never")
    #expect(big.utf8.count > 1 << 20)
    let head = try await exchange(
      "HEAD /big HTTP/1.1\r\nHost: x\r\n\r\n", port: port, group: group, until: "\r\n\r\n")
    #expect(head.contains("Content-Length: 1048576"))
  }

  @Test("bodies that are too large, chunked or of no known length are refused")
  func bodies() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    let server = try await HTTPServer(
      on: group, options: .init(address: .loopback(port: 0), maximumBody: 1000),
      handler: EchoServer())
    let large = try await exchange(
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", port: server.port,
      group: group,
      until: "at most 1000")
    #expect(large.hasPrefix("HTTP/1.1 413"))
    #expect(large.contains("application/problem+json"))
    let chunked = try await exchange(
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", port: server.port,
      group: group, until: "}")
    #expect(chunked.hasPrefix("HTTP/1.1 411"))
    let empty = try await exchange(
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", port: server.port,
      group: group,
      until: "\r\n\r\n")
    #expect(empty.hasPrefix("HTTP/1.1 200"))
    for hostile in [
      "GARBAGE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\r\n\r\n\r\n",
      "GET " + String(repeating: "/a", count: 20_000) + " HTTP/1.1\r\n\r\n",
    ] {
      _ = try await exchange(hostile, port: server.port, group: group, until: "\r\n\r\n")
    }
    let after = try await exchange(
      "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n", port: server.port, group: group, until: "\r\n\r\n")
    #expect(after.hasPrefix("HTTP/1.1 200"))
  }

  static func handshake(_ path: String, extra: String = "") -> String {
    "GET \(path) HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\(extra)\r\n"
  }

  @Test("a websocket echoes 4 MiB and texts, and closes with the code and reason that it was told")
  func webSocket() async throws {
    let group = try LoopGroup(count: 2)
    defer { group.shutdown() }
    let server = try await HTTPServer(
      on: group, options: .init(address: .loopback(port: 0), subprotocols: ["sallyport.v1"]),
      handler: EchoServer())
    let sent = (0..<4 << 20).map { UInt8(truncatingIfNeeded: ($0 &* 40503) >> 7) }
    let client = SocketClient(
      request: Self.handshake(
        "/ws",
        extra:
          "Sec-WebSocket-Protocol: sallyport.v1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
      )
    ) { s in
      let encoder = FrameEncoder(maximumFrame: 100_000, zeroMask: false)
      sent.withUnsafeBytes { payload in
        var out = [UInt8](repeating: 0, count: encoder.encodedSize(of: payload.count))
        let n = out.withUnsafeMutableBytes {
          encoder.encode(.binary, payload, into: $0, mask: { 0x1234_5678 })
        }
        s.write(Array(out.prefix(n)))
      }
      s.write(encoder.frame(.text, Array("grüße".utf8), mask: { 0 }))
      s.write(encoder.frame(.text, Array("close".utf8), mask: { 7 }))
    }
    let loop = group.loops[0]
    try await loop.result {
      _ = try Stream.connect(on: loop, to: .loopback(port: server.port), handler: client)
    }
    await eventually("the close", within: .seconds(60)) {
      client.seen.withLock { $0.close != nil || $0.ended }
    }
    let seen = client.seen.withLock { $0 }
    #expect(seen.head.contains("101"))
    #expect(!seen.head.lowercased().contains("deflate"))
    #expect(seen.head.contains("sallyport.v1"))
    let firstDifference = zip(seen.data, sent).enumerated().first { $0.element.0 != $0.element.1 }?
      .offset
    #expect(seen.data.count == sent.count)
    #expect(firstDifference == nil)
    #expect(seen.texts == ["grüße"])
    #expect(seen.close?.0 == 4242)
    #expect(seen.close?.1 == "as asked")
    #expect(seen.violation == nil)
  }

  @Test("a refused upgrade gets its HTTP answer")
  func refusedUpgrade() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    let server = try await HTTPServer(
      on: group, options: .init(address: .loopback(port: 0)), handler: EchoServer())
    let answer = try await exchange(
      Self.handshake("/elsewhere"), port: server.port, group: group, until: "no")
    #expect(answer.hasPrefix("HTTP/1.1 403"))
  }

  @Test(
    "a query's values are the bytes that were sent, long ones and many, and never cut in silence")
  func query() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    let server = try await HTTPServer(
      on: group, options: .init(address: .loopback(port: 0)), handler: EchoServer())
    func ask(_ query: String) async throws -> String {
      try await exchange(
        "GET /echo?\(query) HTTP/1.1\r\nHost: x\r\n\r\n", port: server.port, group: group,
        until: "\r\n\r\n")
    }
    let bytes = try await ask("c=%FF%C3&c=a+b%2B%26%3D%3B%25&c=&c=%09%01&d")
    let expected = [
      "c=[255, 195]", "c=\(Array("a b+&=;%".utf8))", "c=[]", "c=[9, 1]", "d=[]",
    ].map { "\(Array($0.prefix(1).utf8))" + $0.dropFirst() }
    #expect(bytes.contains("X-Raw: \(expected.joined(separator: "|"))\r\n"), "\(bytes)")
    // Such an address is cut by libwebsockets: it must not be taken for a shorter one.
    for cut in ["a=1%0Ab&c=2", "a=1%0db&c=2", "a=%0A", "a=1&b%0D=2"] {
      let answer = try await ask(cut)
      #expect(answer.hasPrefix("HTTP/1.1 400"), "\(cut): \(answer)")
    }
    let long = try await ask("c=" + String(repeating: "x", count: 50_000))
    #expect(long.contains("X-Count: 1 50000\r\n"), "\(long.prefix(300))")
    for count in [10, 40, 63, 64, 65, 80, 90, 200] {
      let answer = try await ask(
        (0..<count).map { "c=\($0 % 10)" }.joined(separator: "&"))
      // More than libwebsockets holds is refused; some of it would be another command.
      if answer.hasPrefix("HTTP/1.1 200") {
        #expect(answer.contains("X-Count: \(count) \(count)\r\n"), "\(count): \(answer)")
      } else {
        #expect(count > 80, "\(count): \(answer)")
      }
    }
  }

  @Test("a taken port is an error at once")
  func taken() async throws {
    let group = try LoopGroup(count: 2)
    defer { group.shutdown() }
    let server = try await HTTPServer(
      on: group, options: .init(address: .loopback(port: 0)), handler: EchoServer())
    await #expect(throws: LoopError.self) {
      let other = try LoopGroup(count: 1)
      defer { other.shutdown() }
      _ = try await HTTPServer(
        on: other, options: .init(address: .loopback(port: server.port)), handler: EchoServer())
    }
  }

  @Test("the same over TLS, with HTTP/1.1 agreed by ALPN")
  func tls() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    let certificate = try TestCertificate()
    let server = try await HTTPServer(
      on: group,
      options: .init(
        address: .loopback(port: 0), tls: (certificate.certificateFile, certificate.keyFile)),
      handler: EchoServer())
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/curl")
    process.arguments = [
      "-sS", "-v", "--cacert", certificate.certificateFile, "https://localhost:\(server.port)/echo",
      "-d", "over TLS",
    ]
    let out = Pipe()
    let err = Pipe()
    process.standardOutput = out
    process.standardError = err
    try process.run()
    let answer = String(decoding: out.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    let log = String(decoding: err.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(answer == "over TLS")
    #expect(log.contains("http/1.1"))
  }
}
