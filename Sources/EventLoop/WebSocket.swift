import CLibwebsockets
import Glibc

/// What a websocket tells its owner, on the loop's thread.
public protocol WebSocketHandler: AnyObject {
  /// The handshake is done.
  func webSocketOpened(_ socket: WebSocket)
  /// A piece of a message: pieces of one message come in order, `isFirst` and `isFinal` mark its ends. The buffer may
  /// be changed in place and is valid during the call only.
  func webSocket(
    _ socket: WebSocket, received bytes: UnsafeMutableRawBufferPointer, isText: Bool, isFirst: Bool,
    isFinal: Bool)
  /// A pong arrived.
  func webSocketPong(_ socket: WebSocket)
  /// Everything written has been handed to the kernel.
  func webSocketDrained(_ socket: WebSocket)
  /// The last call, exactly once. `code` and `reason` are the peer's, where it closed in good order.
  func webSocketClosed(_ socket: WebSocket, code: UInt16?, reason: String)
}

/// The server's end of a websocket. It belongs to one loop and is touched on its thread only.
///
/// Every send takes all; what the kernel refuses is kept, so a caller that sees ``isBacklogged`` stops its source until
/// `webSocketDrained`. What is sent meanwhile all the same (a ping, a last frame) waits in a queue of ours: 4.1.6 loses
/// its place in a frame when it is given a message while it still holds a part of another.
public final class WebSocket {
  /// The loop that owns it.
  public let loop: Loop
  private var wsi: OpaquePointer?
  var handler: (any WebSocketHandler)?
  private var closing: (code: UInt16, reason: String)?
  private var peerClose: (code: UInt16, reason: String)?
  private var killer: LoopTimer?
  private var paused = false
  private var queue: [(bytes: [UInt8], kind: lws_write_protocol)] = []
  private var queued = 0
  private static let prefix = 16  // LWS_PRE
  /// More than this in the queue means that the viewer asks (for pongs, say) and never reads.
  private static let bound = 4 << 20

  init(wsi: OpaquePointer, loop: Loop, handler: any WebSocketHandler) {
    self.wsi = wsi
    self.loop = loop
    self.handler = handler
  }

  /// Whether it can still send.
  public var isOpen: Bool { wsi != nil && closing == nil }

  /// Whether the kernel has refused bytes that are now kept in memory.
  public var isBacklogged: Bool {
    guard let wsi else { return false }
    return !queue.isEmpty || lws_partial_buffered(wsi) != 0
  }

  /// Sends one binary message out of a buffer of which the 16 bytes in front may be overwritten.
  public func sendBinary(inPlace bytes: UnsafeMutableRawBufferPointer) {
    guard let wsi, closing == nil, let base = bytes.baseAddress, !bytes.isEmpty else { return }
    guard !isBacklogged else {
      enqueue(Array(bytes), LWS_WRITE_BINARY)
      return
    }
    let p = base.assumingMemoryBound(to: UInt8.self)
    _ = lws_write(wsi, p, bytes.count, LWS_WRITE_BINARY)
    if lws_partial_buffered(wsi) != 0 { lws_callback_on_writable(wsi) }
  }

  /// Sends one binary message.
  public func sendBinary(_ bytes: [UInt8]) { send(bytes, LWS_WRITE_BINARY) }

  /// Sends one text message.
  public func sendText(_ text: String) { send(Array(text.utf8), LWS_WRITE_TEXT) }

  /// Sends a ping; the pong comes back as `webSocketPong`.
  public func sendPing() { send([0x73, 0x70], LWS_WRITE_PING) }

  /// Sends a pong that nobody asked for (RFC 6455 §5.5.3 allows it). A peer whose pings can't be read, because reading
  /// rests, hears by it that we are alive.
  public func sendPong() { send([], LWS_WRITE_PONG) }

  private func send(_ bytes: [UInt8], _ kind: lws_write_protocol) {
    guard closing == nil, wsi != nil else { return }
    if isBacklogged {
      enqueue(bytes, kind)
    } else {
      write(bytes, kind)
    }
  }

  private func enqueue(_ bytes: [UInt8], _ kind: lws_write_protocol) {
    queued += bytes.count + 64
    guard queued <= WebSocket.bound else {
      kill()
      return
    }
    queue.append((bytes, kind))
    if let wsi { lws_callback_on_writable(wsi) }
  }

  private func write(_ bytes: [UInt8], _ kind: lws_write_protocol) {
    guard let wsi else { return }
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: bytes.count + WebSocket.prefix) {
      room in
      guard let base = room.baseAddress else { return }
      bytes.withUnsafeBufferPointer { from in
        if let source = from.baseAddress {
          memcpy(base + WebSocket.prefix, source, bytes.count)
        }
      }
      _ = lws_write(wsi, base + WebSocket.prefix, bytes.count, kind)
    }
    if lws_partial_buffered(wsi) != 0 { lws_callback_on_writable(wsi) }
  }

  /// Stops reading: the viewer is held back by TCP.
  public func pauseReading() {
    guard let wsi, !paused else { return }
    paused = true
    lws_rx_flow_control(wsi, 0)
  }

  /// Reads again.
  public func resumeReading() {
    guard let wsi, paused else { return }
    paused = false
    lws_rx_flow_control(wsi, 1)
  }

  /// Closes with a code and a reason (cut to 123 bytes) once what was written has left, or after five seconds.
  public func close(code: UInt16, reason: String) {
    guard let wsi, closing == nil else { return }
    closing = (code, reason)
    // A paused connection could not see the peer's answer to the close frame.
    resumeReading()
    lws_callback_on_writable(wsi)
    killer = loop.schedule(after: .seconds(5)) { self.kill() }
  }

  /// Cuts the connection without a word.
  public func kill() {
    guard let wsi else { return }
    lws_set_timeout(wsi, PENDING_TIMEOUT_CLOSE_SEND, -1)  // LWS_TO_KILL_ASYNC
  }

  // MARK: Called by the server

  /// -1 ends the connection.
  func writable() -> Int32 {
    guard let wsi else { return -1 }
    if !queue.isEmpty {
      let waiting = queue
      var sent = 0
      while sent < waiting.count, lws_partial_buffered(wsi) == 0 {
        queued -= waiting[sent].bytes.count + 64
        write(waiting[sent].bytes, waiting[sent].kind)
        sent += 1
      }
      queue.removeFirst(sent)
      if isBacklogged {
        lws_callback_on_writable(wsi)
        return 0
      }
    }
    if let closing {
      var reason = Array(closing.reason.utf8.prefix(123))
      reason.withUnsafeMutableBufferPointer {
        lws_close_reason(
          wsi, lws_close_status(rawValue: UInt32(closing.code)), $0.baseAddress, $0.count)
      }
      return -1
    }
    handler?.webSocketDrained(self)
    return 0
  }

  func peerCloses(_ payload: UnsafeRawBufferPointer) {
    guard payload.count >= 2 else { return }
    let code = UInt16(payload[0]) << 8 | UInt16(payload[1])
    peerClose = (code, String(decoding: payload[2...].prefix(123), as: UTF8.self))
  }

  func ended() {
    killer?.cancel()
    killer = nil
    wsi = nil
    let last = handler
    handler = nil
    last?.webSocketClosed(self, code: peerClose?.code, reason: peerClose?.reason ?? "")
  }
}
