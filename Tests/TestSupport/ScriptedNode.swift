import ConsoleProtocol
import EventLoop

/// A peer for the upstream leg that does what a test tells it, well or ill: it accepts connections, reads the upgrade
/// request, and hands over to a script. Its websocket side is its own, not the client's codec.
///
/// Proof of `@unchecked Sendable`: the state is touched on the loop's thread, or behind a lock.
package final class ScriptedNode: @unchecked Sendable {
  /// What a connection does.
  package struct Script: Sendable {
    /// Bytes sent as soon as somebody connects, before any request.
    package var greeting: [UInt8] = []
    /// The answer to the upgrade request; nil for none. `%ACCEPT%` is replaced.
    package var answer: String? =
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: %ACCEPT%\r\nSec-WebSocket-Protocol: binary\r\n\r\n"
    /// Whether the connection is cut right after the answer.
    package var cutsAfterAnswer = false
    /// Called with each data payload of the client's, already unmasked.
    package var onData: (@Sendable (Connection, [UInt8]) -> Void)?
    /// Called after the answer.
    package var onUpgrade: (@Sendable (Connection) -> Void)?
    /// Called when everything written has left.
    package var onDrained: (@Sendable (Connection) -> Void)?
    package init() {}
  }

  /// What was seen over all connections.
  package struct Seen: Sendable {
    package var connections = 0
    package var requests: [String] = []
    package var ended = 0
    package var badFrames: [String] = []
    package var largestFrame = 0
    package var pings = 0
    package var closes = 0
    package var received = StreamHash()
  }

  package let seen = Shared(Seen())
  private let loop: Loop
  private let tls: TLSContext?
  private let script: Script
  private var listener: Listener?
  package private(set) var port = 0

  package init(
    on loop: Loop, tls: TLSContext? = nil, script: Script,
    accept: @escaping @Sendable (String) -> String
  ) async throws {
    self.loop = loop
    self.tls = tls
    self.script = script
    port = try await loop.result { [self] in
      let made = try Listener.tcp(on: loop, address: .loopback(port: 0)) { [self] fd, _ in
        seen.withLock { $0.connections += 1 }
        let connection = Connection(node: self, script: script, accept: accept)
        connection.stream = try? Stream.adopt(
          on: loop, descriptor: fd, tls: tls, handler: connection)
      }
      listener = made
      return made.port
    }
  }

  package func stop() { loop.execute { [self] in listener?.close() } }

  /// One client.
  ///
  /// Proof of `@unchecked Sendable`: used on the loop's thread only.
  package final class Connection: StreamHandler, @unchecked Sendable {
    fileprivate var stream: EventLoop.Stream?
    private let node: ScriptedNode
    private let script: Script
    private let accept: @Sendable (String) -> String
    private var head: [UInt8] = []
    private var upgraded = false
    private var pending: [UInt8] = []
    /// For scripts that keep a state.
    package var note = 0

    fileprivate init(
      node: ScriptedNode, script: Script, accept: @escaping @Sendable (String) -> String
    ) {
      self.node = node
      self.script = script
      self.accept = accept
    }

    /// Sends one binary frame.
    package func send(_ bytes: [UInt8]) {
      var out: [UInt8] = [0x82]
      switch bytes.count {
      case 0..<126: out.append(UInt8(bytes.count))
      case 126..<65536: out += [126, UInt8(bytes.count >> 8), UInt8(bytes.count & 255)]
      default:
        out.append(127)
        for shift in stride(from: 56, through: 0, by: -8) {
          out.append(UInt8(bytes.count >> shift & 255))
        }
      }
      stream?.write(out + bytes)
    }

    /// Sends bytes as they are.
    package func send(raw bytes: [UInt8]) { stream?.write(bytes) }
    package var pendingBytes: Int { stream?.pendingBytes ?? 0 }
    package func pause(_ on: Bool) { on ? stream?.pauseReading() : stream?.resumeReading() }
    package func cut() { stream?.close() }
    package func closeAfterFlush() { stream?.closeAfterFlush() }

    package func streamConnected(_ s: EventLoop.Stream) {
      if !script.greeting.isEmpty { s.write(script.greeting) }
    }

    package func stream(_ s: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
      var rest = UnsafeRawBufferPointer(bytes)
      if !upgraded {
        head.append(contentsOf: rest)
        guard let end = firstEnd(head) else { return }
        upgraded = true
        let tail = Array(head[end...])
        let request = String(decoding: head[..<end], as: UTF8.self)
        node.seen.withLock { $0.requests.append(request) }
        guard let answer = script.answer else { return }
        let key =
          request.split(separator: "\r\n").first {
            $0.lowercased().hasPrefix("sec-websocket-key:")
          }?.split(separator: " ").last.map(String.init) ?? ""
        s.write(Array(answer.replacing("%ACCEPT%", with: accept(key)).utf8))
        if script.cutsAfterAnswer {
          s.closeAfterFlush()
          return
        }
        script.onUpgrade?(self)
        pending = tail
        rest = UnsafeRawBufferPointer(start: nil, count: 0)
      }
      pending.append(contentsOf: rest)
      frames(s)
    }

    private func firstEnd(_ bytes: [UInt8]) -> Int? {
      guard bytes.count >= 4 else { return nil }
      for i in 0...(bytes.count - 4) where bytes[i..<i + 4].elementsEqual([13, 10, 13, 10]) {
        return i + 4
      }
      return nil
    }

    /// Strict as pveproxy is: a frame that it would choke on is noted.
    private func frames(_ s: EventLoop.Stream) {
      var at = 0
      while pending.count - at >= 2 {
        let a = pending[at]
        let b = pending[at + 1]
        var length = Int(b & 127)
        var header = 2
        if length == 126 {
          guard pending.count - at >= 4 else { break }
          length = Int(pending[at + 2]) << 8 | Int(pending[at + 3])
          header = 4
        } else if length == 127 {
          guard pending.count - at >= 10 else { break }
          length = pending[(at + 2)..<(at + 10)].reduce(0) { $0 << 8 | Int($1) }
          header = 10
        }
        if a & 0x80 == 0 { node.seen.withLock { $0.badFrames.append("FIN=0") } }
        if a & 0x70 != 0 { node.seen.withLock { $0.badFrames.append("RSV") } }
        if b & 0x80 == 0 { node.seen.withLock { $0.badFrames.append("unmasked") } }
        if length > 131_072 { node.seen.withLock { $0.badFrames.append("\(length) bytes") } }
        guard pending.count - at >= header + 4 + length else { break }
        let mask = Array(pending[(at + header)..<(at + header + 4)])
        var payload = Array(pending[(at + header + 4)..<(at + header + 4 + length)])
        if mask != [0, 0, 0, 0] { for i in payload.indices { payload[i] ^= mask[i & 3] } }
        at += header + 4 + length
        switch a & 15 {
        case 1, 2:
          node.seen.withLock { seen in
            seen.largestFrame = max(seen.largestFrame, length)
            payload.withUnsafeBytes { seen.received.add($0) }
          }
          script.onData?(self, payload)
        case 8:
          node.seen.withLock { $0.closes += 1 }
          s.close()
          return
        case 9:
          node.seen.withLock { $0.pings += 1 }
          s.write([0x8a, UInt8(payload.count)] + payload)
        case 10: break
        default: node.seen.withLock { $0.badFrames.append("opcode \(a & 15)") }
        }
      }
      pending.removeFirst(at)
    }

    package func streamDrained(_ s: EventLoop.Stream) { script.onDrained?(self) }
    package func streamClosed(_ s: EventLoop.Stream, _ end: StreamEnd) {
      stream = nil
      node.seen.withLock { $0.ended += 1 }
    }
  }
}
