import ConsoleProtocol
import EventLoop

/// A viewer made of a raw stream: connects to a gateway's websocket, says what it is told, remembers what it sees.
///
/// Proof of `@unchecked Sendable`: `seen` is behind a lock, the rest is touched by the loop's thread only.
package final class ViewerClient: StreamHandler, @unchecked Sendable {
  /// What came so far.
  package struct Seen: Sendable {
    package var status = ""
    package var texts: [String] = []
    package var data: [UInt8] = []
    package var hash = StreamHash()
    package var close: Close?
    package var violation: String?
    package var isOver = false
    package var frames = 0
    package var pings = 0
    package var isReady: Bool { texts.contains { $0.contains("\"ready\"") } }
    package var ended: String? { texts.first { $0.contains("\"ended\"") } }
  }
  /// A close frame.
  package struct Close: Sendable, Equatable {
    package var code: UInt16?
    package var reason: String
  }

  package let seen = Shared(Seen())
  private let loop: Loop
  private let request: String
  private let first: String?
  private let keeps: Bool
  private let answersPings: Bool
  private var head: [UInt8] = []
  private var upgraded = false
  private var decoder = FrameDecoder()
  private var stream: EventLoop.Stream?
  private let encoder = FrameEncoder(maximumFrame: 1 << 20, zeroMask: false)
  /// Called on the loop for data, where given.
  package var onData: ((ViewerClient, UnsafeRawBufferPointer) -> Void)?
  package var onDrained: ((ViewerClient) -> Void)?

  /// - Parameters:
  ///   - first: the first text message.
  ///   - keeps: whether data is kept, or only hashed.
  package init(
    on loop: Loop, path: String = "/v1/viewer", headers: String = "", first: String?,
    keeps: Bool = true,
    answersPings: Bool = true
  ) {
    self.loop = loop
    self.first = first
    self.keeps = keeps
    self.answersPings = answersPings
    request =
      "GET \(path) HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
      + "Sec-WebSocket-Protocol: sallyport.v1\r\n\(headers)\r\n"
  }

  /// Connects.
  package func connect(port: Int) async throws {
    try await loop.result { [self] in
      stream = try Stream.connect(on: loop, to: .loopback(port: port), handler: self)
    }
  }

  /// Sends one binary message.
  package func send(_ bytes: [UInt8]) {
    loop.execute { [self] in stream?.write(encoder.frame(.binary, bytes, mask: { 0x0102_0304 })) }
  }

  /// Sends one text message.
  package func send(text: String) {
    loop.execute { [self] in
      stream?.write(encoder.frame(.text, Array(text.utf8), mask: { 0x0506_0708 }))
    }
  }

  /// Sends bytes as they are.
  package func send(raw bytes: [UInt8]) { loop.execute { [self] in stream?.write(bytes) } }

  /// Sends within a callback on the loop.
  package func sendNow(_ bytes: [UInt8]) {
    stream?.write(encoder.frame(.binary, bytes, mask: { 0x0102_0304 }))
  }

  /// Bytes that wait for the kernel; loop only.
  package var pendingBytes: Int { stream?.pendingBytes ?? 0 }

  /// Stops or resumes reading.
  package func pause(_ on: Bool) {
    loop.execute { [self] in on ? stream?.pauseReading() : stream?.resumeReading() }
  }

  /// Sends a close frame.
  package func close(code: UInt16 = 1000) {
    loop.execute { [self] in stream?.write(encoder.close(code: code, reason: "", mask: { 0 })) }
  }

  /// Cuts the connection.
  package func cut() { loop.execute { [self] in stream?.close() } }

  package func streamConnected(_ s: EventLoop.Stream) { s.write(Array(request.utf8)) }

  package func stream(_ s: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    var position = 0
    if !upgraded {
      while position < bytes.count, !head.suffix(4).elementsEqual([13, 10, 13, 10]) {
        head.append(bytes[position])
        position += 1
      }
      guard head.suffix(4).elementsEqual([13, 10, 13, 10]) else { return }
      upgraded = true
      let status = String(decoding: head.prefix { $0 != 13 }, as: UTF8.self)
      seen.withLock { $0.status = status }
      if status.contains("101"), let first {
        s.write(encoder.frame(.text, Array(first.utf8), mask: { 0x1111_2222 }))
      }
    }
    while true {
      switch decoder.next(bytes, &position) {
      case .needMore: return
      case .data(let range, let kind, let isFinal):
        let piece = UnsafeRawBufferPointer(rebasing: bytes[range])
        if kind == .text {
          seen.withLock { $0.texts.append(String(decoding: piece, as: UTF8.self)) }
        } else {
          if let onData { onData(self, piece) }
          seen.withLock {
            $0.frames += isFinal ? 1 : 0
            if keeps { $0.data.append(contentsOf: piece) } else { $0.hash.add(piece) }
          }
        }
      case .ping(let payload):
        seen.withLock { $0.pings += 1 }
        if answersPings { s.write(encoder.pong(payload, mask: { 0 })) }
      case .pong: break
      case .close(let code, let reason):
        seen.withLock { $0.close = Close(code: code, reason: reason) }
        s.write(encoder.close(code: code ?? 1000, reason: "", mask: { 0 }))
      case .violation(let what):
        seen.withLock { $0.violation = what }
        return
      }
    }
  }

  package func streamDrained(_ s: EventLoop.Stream) { onDrained?(self) }
  package func streamClosed(_ s: EventLoop.Stream, _ end: StreamEnd) {
    stream = nil
    seen.withLock { $0.isOver = true }
  }
}
