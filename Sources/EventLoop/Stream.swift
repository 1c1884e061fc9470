import COpenSSL
import CSallyport
import ConsoleProtocol
import Glibc

/// How a stream ended.
public enum StreamEnd: Sendable, Hashable {
  /// The peer closed.
  case endOfStream
  /// ``Stream/close()`` or the end of the loop.
  case closedByUs
  /// No connection came about; the system's words.
  case connectFailed(String)
  /// No connection (TCP and TLS) within the time.
  case connectTimedOut
  /// The TLS peer is not the one that the policy wants. Nothing was sent to it.
  case tlsUntrusted(TLSMismatch)
  /// The TLS handshake or record layer failed; OpenSSL's words.
  case tlsFailed(String)
  /// Reading or writing failed; the system's words.
  case failed(String)
}

/// What a stream tells its owner, on the loop's thread.
public protocol StreamHandler: AnyObject {
  /// Connected (and, with TLS, trusted). For an adopted descriptor without TLS it comes in the next turn.
  func streamConnected(_ stream: Stream)
  /// Bytes arrived. The buffer may be changed in place and is valid during the call only; 16 bytes before it may be
  /// overwritten.
  func stream(_ stream: Stream, received bytes: UnsafeMutableRawBufferPointer)
  /// Everything written has been handed to the kernel.
  func streamDrained(_ stream: Stream)
  /// The last call, exactly once.
  func streamClosed(_ stream: Stream, _ end: StreamEnd)
}

/// A byte stream: TCP, TLS on either side, a unix socket, a pseudo terminal, a pipe. It belongs to one loop and is
/// touched on its thread only.
///
/// Backpressure: ``write(_:)-(UnsafeRawBufferPointer)`` takes everything and queues what the kernel refuses; a caller
/// that sees ``pendingBytes`` above zero stops its source until `streamDrained`.
public final class Stream: Loop.Pollable {
  private enum State { case connecting, sniffing, handshaking, open, lingering, closed }

  /// The loop that owns it.
  public let loop: Loop
  private var handler: (any StreamHandler)?
  private var descriptor: Int32
  private var key: UInt64 = 0
  private var polledFor: UInt32 = 0
  private var state: State
  private let tls: TLSContext?
  private var ssl: OpaquePointer?
  private var queue = OutputQueue()
  private var paused = false
  private var closeWhenFlushed = false
  private var sslWantsWrite = false
  private var timer: LoopTimer?

  private init(
    loop: Loop, descriptor: Int32, state: State, tls: TLSContext?, serverName: String?,
    handler: any StreamHandler
  ) throws(LoopError) {
    self.loop = loop
    self.descriptor = descriptor
    self.state = state
    self.tls = tls
    self.handler = handler
    if let tls {
      ssl = tls.connection(descriptor: descriptor, serverName: serverName)
      guard ssl != nil else { throw .tls(opensslReason()) }
    }
  }

  deinit {
    if let ssl { SSL_free(ssl) }
  }

  // MARK: Making one

  /// Begins to connect. The outcome arrives as `streamConnected` or `streamClosed`.
  /// - Parameters:
  ///   - tls: wraps the connection; the policy's verdict comes before `streamConnected`.
  ///   - serverName: the host's name or IP address, for SNI and the certificate's names.
  ///   - timeout: for TCP and TLS together.
  public static func connect(
    on loop: Loop, to address: SocketAddress, tls: TLSContext? = nil, serverName: String? = nil,
    timeout: Duration = .seconds(10), handler: any StreamHandler
  ) throws(LoopError) -> Stream {
    let descriptor = sp_stream_socket(address.family)
    guard descriptor >= 0 else { throw .last("socket", on: "\(address)") }
    sp_no_delay(descriptor)
    let result = address.withSockaddr { a, n in Glibc.connect(descriptor, a, n) }
    let code = errno
    let stream: Stream
    do {
      stream = try Stream(
        loop: loop, descriptor: descriptor, state: .connecting, tls: tls, serverName: serverName,
        handler: handler)
    } catch {
      Glibc.close(descriptor)
      throw error
    }
    if result != 0, code != EINPROGRESS, code != EAGAIN {
      Glibc.close(descriptor)
      throw .system(call: "connect", on: "\(address)", reason: String(cString: strerror(code)))
    }
    try stream.register(EPOLLOUT.rawValue)
    stream.timer = loop.schedule(after: timeout) { stream.end(.connectTimedOut) }
    return stream
  }

  /// Takes over a descriptor (an accepted socket, a terminal, a pipe) and makes it non-blocking. With `tls` from
  /// ``TLSContext/server(certificatePEM:keyPEM:)`` the handshake is awaited, ten seconds at most.
  /// - Parameter plainToo: a client that doesn't begin with a TLS handshake is served without TLS
  ///   (``isEncrypted``).
  public static func adopt(
    on loop: Loop, descriptor: Int32, tls: TLSContext? = nil, plainToo: Bool = false,
    handler: any StreamHandler
  ) throws(LoopError) -> Stream {
    let flags = fcntl(descriptor, F_GETFL)
    if flags >= 0 { _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) }
    sp_no_delay(descriptor)
    let stream = try Stream(
      loop: loop, descriptor: descriptor,
      state: tls == nil ? .open : plainToo ? .sniffing : .handshaking, tls: tls, serverName: nil,
      handler: handler)
    try stream.register(EPOLLIN.rawValue)
    if tls == nil {
      loop.later {
        guard stream.state == .open else { return }
        stream.handler?.streamConnected(stream)
      }
    } else {
      stream.timer = loop.schedule(after: .seconds(10)) {
        stream.end(.connectTimedOut)
      }
    }
    return stream
  }

  private func register(_ events: UInt32) throws(LoopError) {
    do {
      key = try loop.poll(descriptor, events: events, item: self)
      polledFor = events
    } catch {
      Glibc.close(descriptor)
      descriptor = -1
      state = .closed
      handler = nil
      throw error
    }
  }

  // MARK: Using it

  /// Bytes that wait for the kernel.
  public var pendingBytes: Int { queue.count }

  /// Whether ``pauseReading()`` is in force.
  public var isReadingPaused: Bool { paused }

  /// Whether bytes can flow.
  public var isOpen: Bool { state == .open }

  /// Whether it is TLS.
  public var isEncrypted: Bool { ssl != nil }

  /// The SHA-256 of the peer's certificate, with TLS.
  public var peerFingerprint: Fingerprint? { ssl.flatMap(TLSContext.fingerprint) }

  /// Writes all of it, or queues what the kernel doesn't take. Ignored once the stream is closing.
  public func write(_ bytes: UnsafeRawBufferPointer) {
    guard !closeWhenFlushed, state != .closed, state != .lingering, !bytes.isEmpty else { return }
    guard state == .open, queue.isEmpty else {
      queue.append(bytes)
      return
    }
    let written = send(bytes)
    if written < 0 { return }
    if written < bytes.count {
      queue.append(UnsafeRawBufferPointer(rebasing: bytes[written...]))
      updatePolling()
    }
  }

  /// Writes all of it, or queues what the kernel doesn't take.
  public func write(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { write($0) }
  }

  /// Stops reading; the kernel's buffer fills and the peer is held back. Also hides an end of stream.
  public func pauseReading() {
    guard !paused else { return }
    paused = true
    updatePolling()
  }

  /// Reads again.
  public func resumeReading() {
    guard paused else { return }
    paused = false
    updatePolling()
    if let ssl, SSL_pending(ssl) > 0 {
      loop.later { self.readable() }
    }
  }

  /// Closes in good order once everything written has left: with TLS a `close_notify`, then a half-close, then the
  /// peer's end is awaited for two seconds.
  public func closeAfterFlush() {
    guard state == .open || state == .handshaking || state == .connecting else { return }
    closeWhenFlushed = true
    if state == .open, queue.isEmpty { linger() }
  }

  /// Closes at once; what is queued is dropped. `streamClosed` follows in the loop's next turn.
  public func close() { end(.closedByUs) }

  /// The same without TLS's `close_notify`: as when a process dies.
  public func closeAbruptly() { end(.closedByUs, saysGoodbye: false) }

  // MARK: Events

  func loopEnds() { end(.closedByUs) }

  func ready(_ events: UInt32) {
    switch state {
    case .connecting: connected()
    case .sniffing: sniff()
    case .handshaking: handshake()
    case .open:
      if events & EPOLLOUT.rawValue != 0 { flush() }
      if state == .open, events & ~EPOLLOUT.rawValue != 0 { readable() }
    case .lingering: discard()
    case .closed: break
    }
  }

  private func connected() {
    var code: Int32 = 0
    var size = socklen_t(4)
    getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size)
    guard code == 0 else {
      end(.connectFailed(String(cString: strerror(code))))
      return
    }
    if ssl == nil {
      opened()
    } else {
      state = .handshaking
      handshake()
    }
  }

  /// A TLS client's first byte is 22, the record type of a handshake.
  private func sniff() {
    let first = sp_peek(descriptor)
    if first == -1 { return }
    if first == 22 || first == -2 {
      state = .handshaking
      handshake()
      return
    }
    if let ssl { SSL_free(ssl) }
    ssl = nil
    opened()
  }

  private func handshake() {
    guard let ssl, let tls else { return }
    ERR_clear_error()
    let result = SSL_do_handshake(ssl)
    if result == 1 {
      if let mismatch = tls.verdict(ssl) {
        end(.tlsUntrusted(mismatch))
      } else {
        opened()
      }
      return
    }
    switch SSL_get_error(ssl, result) {
    case SSL_ERROR_WANT_READ: setPolling(EPOLLIN.rawValue)
    case SSL_ERROR_WANT_WRITE: setPolling(EPOLLOUT.rawValue)
    case SSL_ERROR_SYSCALL where errno == 0 || ERR_peek_error() == 0:
      end(.tlsFailed("the peer closed the connection during the TLS handshake"))
    default: end(.tlsFailed(opensslReason()))
    }
  }

  private func opened() {
    timer?.cancel()
    timer = nil
    state = .open
    handler?.streamConnected(self)
    guard state == .open else { return }
    flush()
    updatePolling()
    if let ssl, state == .open, SSL_pending(ssl) > 0 {
      loop.later { self.readable() }
    }
  }

  private func readable() {
    guard state == .open, !paused else { return }
    let base = loop.readBuffer + Loop.readOffset
    if ssl != nil {
      readTLS(base)
      return
    }
    let n = read(descriptor, base, Loop.readSize)
    if n > 0 {
      handler?.stream(self, received: UnsafeMutableRawBufferPointer(start: base, count: n))
    } else if n == 0 {
      end(.endOfStream)
    } else if errno == EIO {
      // A pseudo terminal whose last process is gone.
      end(.endOfStream)
    } else if errno != EAGAIN, errno != EINTR {
      end(.failed(String(cString: strerror(errno))))
    }
  }

  /// Fills the buffer from several records, so that one pass over the relay moves up to 64 KiB.
  private func readTLS(_ base: UnsafeMutableRawPointer) {
    guard let ssl else { return }
    var got = 0
    var ending: StreamEnd?
    ERR_clear_error()
    while Loop.readSize - got >= 16 * 1024 {
      let n = SSL_read(ssl, base + got, Int32(Loop.readSize - got))
      if n > 0 {
        got += Int(n)
        continue
      }
      let code = errno
      switch SSL_get_error(ssl, n) {
      case SSL_ERROR_WANT_READ: break
      case SSL_ERROR_WANT_WRITE: sslWantsWrite = true
      case SSL_ERROR_ZERO_RETURN: ending = .endOfStream
      case SSL_ERROR_SYSCALL:
        ending =
          code == 0 || code == EAGAIN ? .endOfStream : .failed(String(cString: strerror(code)))
      default: ending = .tlsFailed(opensslReason())
      }
      break
    }
    if got > 0 {
      handler?.stream(self, received: UnsafeMutableRawBufferPointer(start: base, count: got))
    }
    guard state == .open else { return }
    if let ending {
      end(ending)
    } else if !paused, SSL_pending(ssl) > 0 {
      loop.later { self.readable() }
    } else if sslWantsWrite {
      updatePolling()
    }
  }

  private func flush() {
    sslWantsWrite = false
    guard !queue.isEmpty else {
      if closeWhenFlushed { linger() }
      updatePolling()
      return
    }
    // A copy of the queue's header: `send` may end the stream, which empties the queue itself.
    let waiting = queue
    let written = waiting.withBytes { send($0) }
    guard written >= 0, state == .open else { return }
    queue.removeFirst(written)
    updatePolling()
    if queue.isEmpty {
      if closeWhenFlushed {
        linger()
      } else {
        handler?.streamDrained(self)
      }
    }
  }

  /// What the kernel took, possibly nothing; -1 after the stream has ended.
  private func send(_ bytes: UnsafeRawBufferPointer) -> Int {
    var done = 0
    while done < bytes.count {
      let rest = bytes.count - done
      if let ssl {
        ERR_clear_error()
        let n = SSL_write(ssl, bytes.baseAddress.map { $0 + done }, Int32(min(rest, 1 << 30)))
        if n > 0 {
          done += Int(n)
          continue
        }
        let code = errno
        switch SSL_get_error(ssl, n) {
        case SSL_ERROR_WANT_WRITE, SSL_ERROR_WANT_READ: return done
        case SSL_ERROR_SYSCALL:
          end(
            .failed(code == 0 ? "the peer closed the connection" : String(cString: strerror(code))))
        default: end(.tlsFailed(opensslReason()))
        }
        return -1
      }
      let n = Glibc.write(descriptor, bytes.baseAddress.map { $0 + done }, rest)
      if n > 0 {
        done += n
        continue
      }
      if n < 0, errno == EINTR { continue }
      if n < 0, errno == EAGAIN { return done }
      // A peer that has gone: what it sent before is still read, so the end is reported by the read side.
      if n < 0, errno == EPIPE || errno == ECONNRESET {
        loop.later { self.end(.endOfStream) }
        queue.removeAll()
        return -1
      }
      end(.failed(String(cString: strerror(errno))))
      return -1
    }
    return done
  }

  private func updatePolling() {
    guard state == .open else { return }
    var events: UInt32 = paused ? 0 : EPOLLIN.rawValue
    if !queue.isEmpty || sslWantsWrite { events |= EPOLLOUT.rawValue }
    setPolling(events)
  }

  private func setPolling(_ events: UInt32) {
    guard events != polledFor else { return }
    polledFor = events
    loop.repoll(descriptor, key: key, events: events)
  }

  private func linger() {
    guard state == .open else { return }
    state = .lingering
    if let ssl {
      ERR_clear_error()
      _ = SSL_shutdown(ssl)
    }
    shutdown(descriptor, Int32(SHUT_WR))
    setPolling(EPOLLIN.rawValue)
    timer = loop.schedule(after: .seconds(2)) { self.end(.closedByUs) }
  }

  private func discard() {
    let n = read(descriptor, loop.readBuffer, Loop.readSize)
    if n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)) { return }
    end(.closedByUs)
  }

  private func end(_ how: StreamEnd, saysGoodbye: Bool = true) {
    guard state != .closed else { return }
    if let ssl, state == .open, saysGoodbye {
      ERR_clear_error()
      _ = SSL_shutdown(ssl)
    }
    state = .closed
    timer?.cancel()
    timer = nil
    queue.removeAll()
    loop.unpoll(descriptor, key: key)
    if let ssl {
      SSL_free(ssl)
      self.ssl = nil
    }
    Glibc.close(descriptor)
    descriptor = -1
    loop.later { [self] in
      let last = handler
      handler = nil
      last?.streamClosed(self, how)
    }
  }
}
