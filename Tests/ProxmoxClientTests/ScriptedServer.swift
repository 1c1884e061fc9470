import COpenSSL
import CSallyport
import Foundation
import Synchronization

/// A server that says exactly what a test tells it to, byte by byte. One blocking thread per connection; it shares no
/// code with the client.
final class ScriptedServer: Sendable {
  /// A request as it arrived.
  struct Request: Sendable {
    var method: String
    var target: String
    var headers: [(name: String, value: String)]
    var body: String
    /// Which connection it came on, from 1.
    var connection: Int

    var path: String { String(target.prefix { $0 != "?" }) }

    func header(_ name: String) -> String? {
      headers.first { $0.name.lowercased() == name.lowercased() }?.value
    }

    /// A form field or query parameter, decoded.
    func field(_ name: String) -> String? {
      let query =
        target.split(separator: "?", maxSplits: 1).dropFirst().first.map(String.init) ?? ""
      for pair in (body.isEmpty ? query : body).split(separator: "&") {
        let parts = pair.split(separator: "=", maxSplits: 1)
        if parts.first == name[...] {
          return parts.dropFirst().first?.removingPercentEncoding ?? ""
        }
      }
      return nil
    }
  }

  typealias Script = @Sendable (Request, Connection) -> Void

  private struct State {
    var requests: [Request] = []
    var connections = 0
    var handshakes = 0
    var open = 0
    var stopped = false
  }

  let port: Int
  private let listener: Int32
  private let tls: ServerTLS?
  private let state = Mutex(State())

  /// Listens on a free port of 127.0.0.1.
  init(tls: ServerTLS? = nil, _ script: @escaping Script) throws {
    let fd = socket(AF_INET, sp_stream_type(), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(fd, $0, size) }
    }
    var length = size
    _ = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &length) }
    }
    guard fd >= 0, bound == 0, listen(fd, 128) == 0 else { throw POSIXError(.EADDRINUSE) }
    listener = fd
    port = Int(UInt16(bigEndian: address.sin_port))
    self.tls = tls
    Thread.detachNewThread { [self] in
      while true {
        let peer = accept(fd, nil, nil)
        guard peer >= 0 else { return }
        let number = state.withLock {
          $0.connections += 1
          $0.open += 1
          return $0.connections
        }
        Thread.detachNewThread { [self] in
          // OpenSSL writes to a client that is gone. Blocked for this thread only: the client has to see to itself.
          var pipe = sigset_t()
          sigemptyset(&pipe)
          sigaddset(&pipe, SIGPIPE)
          pthread_sigmask(SIG_BLOCK, &pipe, nil)
          serve(peer, number, script)
          state.withLock { $0.open -= 1 }
        }
      }
    }
  }

  deinit { stop() }

  /// Accepts no more.
  func stop() {
    let first = state.withLock { state in
      defer { state.stopped = true }
      return !state.stopped
    }
    if first { shutdown(listener, Int32(SHUT_RDWR)) }
    if first { close(listener) }
  }

  var requests: [Request] { state.withLock { $0.requests } }
  var connections: Int { state.withLock { $0.connections } }
  /// TLS handshakes that were completed.
  var handshakes: Int { state.withLock { $0.handshakes } }
  /// Connections that are open now.
  var open: Int { state.withLock { $0.open } }

  private func serve(_ fd: Int32, _ number: Int, _ script: Script) {
    guard let connection = Connection(fd, tls) else { return }
    state.withLock { $0.handshakes += 1 }
    while let request = connection.readRequest(number) {
      state.withLock { $0.requests.append(request) }
      script(request, connection)
      if connection.isClosed { return }
    }
    connection.close()
  }
}

/// A certificate and key for the scripted server, with the client certificates it asks for.
final class ServerTLS: @unchecked Sendable {
  // Immutable after init; OpenSSL counts references to a context atomically.
  let context: OpaquePointer

  init(_ name: String, askForClientOf authority: String? = nil) throws {
    guard let context = SSL_CTX_new(TLS_server_method()) else { throw POSIXError(.ENOMEM) }
    self.context = context
    guard SSL_CTX_use_certificate_file(context, Fixture.path("tls/\(name).pem"), 1) == 1,
      SSL_CTX_use_PrivateKey_file(context, Fixture.path("tls/\(name).key"), 1) == 1
    else { throw POSIXError(.ENOENT) }
    if let authority {
      SSL_CTX_load_verify_file(context, Fixture.path("tls/\(authority).pem"))
      SSL_CTX_set_verify(context, 3, nil)  // SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
      // With client certificates OpenSSL resumes sessions of a named context only.
      SSL_CTX_set_session_id_context(context, "test", 4)
    }
  }

  deinit { SSL_CTX_free(context) }
}

/// One connection of the scripted server. Used by its own thread only.
final class Connection {
  private let fd: Int32
  private var ssl: OpaquePointer?
  private var buffer: [UInt8] = []
  private(set) var isClosed = false

  init?(_ fd: Int32, _ tls: ServerTLS?) {
    self.fd = fd
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    guard let tls else { return }
    ssl = SSL_new(tls.context)
    SSL_set_fd(ssl, fd)
    guard SSL_accept(ssl) == 1 else {
      close()
      return nil
    }
  }

  deinit { close() }

  func close() {
    guard !isClosed else { return }
    isClosed = true
    if let ssl {
      SSL_shutdown(ssl)
      SSL_free(ssl)
    }
    ssl = nil
    Glibc.close(fd)
  }

  /// Ends the connection by a reset.
  func reset() {
    var none = linger(l_onoff: 1, l_linger: 0)
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, socklen_t(MemoryLayout<linger>.size))
    if let ssl { SSL_free(ssl) }
    ssl = nil
    isClosed = true
    Glibc.close(fd)
  }

  /// Sends bytes. False once the client is gone.
  @discardableResult
  func send(_ text: String) -> Bool { send(Array(text.utf8)) }

  @discardableResult
  func send(_ bytes: [UInt8]) -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
      let n = rest.withUnsafeBytes { raw -> Int in
        if let ssl { return Int(SSL_write(ssl, raw.baseAddress, Int32(raw.count))) }
        return Glibc.send(fd, raw.baseAddress, raw.count, Int32(MSG_NOSIGNAL))
      }
      guard n > 0 else { return false }
      rest = rest.dropFirst(n)
    }
    return true
  }

  /// A whole answer with a length; the connection stays open.
  func answer(_ status: String, _ body: String = "", headers: [(String, String)] = []) {
    var text = "HTTP/1.1 \(status)\r\nContent-Length: \(body.utf8.count)\r\n"
    for (name, value) in headers { text += "\(name): \(value)\r\n" }
    send(text + "\r\n" + body)
  }

  /// `{"data":…}` with status 200.
  func data(_ json: String) { answer("200 OK", #"{"data":\#(json)}"#) }

  /// A recorded answer.
  func answer(_ fixture: Fixture) {
    answer(
      String(fixture.statusLine.dropFirst("HTTP/1.1 ".count)), fixture.body,
      headers: fixture.headers)
  }

  func sleep(_ seconds: Double) { Thread.sleep(forTimeInterval: seconds) }

  /// Waits until the client closes (true) or twenty seconds pass (false).
  func waitForClose() -> Bool {
    var scratch = [UInt8](repeating: 0, count: 4096)
    while true {
      let n = read(&scratch)
      if n == 0 { return true }
      if n < 0 { return errno != EAGAIN }
    }
  }

  private func read(_ scratch: inout [UInt8]) -> Int {
    if let ssl { return Int(SSL_read(ssl, &scratch, Int32(scratch.count))) }
    return recv(fd, &scratch, scratch.count, 0)
  }

  private func fill() -> Bool {
    var scratch = [UInt8](repeating: 0, count: 65536)
    let n = read(&scratch)
    guard n > 0 else { return false }
    buffer.append(contentsOf: scratch.prefix(n))
    return true
  }

  func readRequest(_ number: Int) -> ScriptedServer.Request? {
    let blank = Array("\r\n\r\n".utf8)
    var end: Int?
    while end == nil {
      end = buffer.indices.first { buffer[$0...].starts(with: blank) }
      if end == nil, !fill() { return nil }
    }
    guard let end else { return nil }
    let lines = String(decoding: buffer[..<end], as: UTF8.self).components(separatedBy: "\r\n")
    buffer.removeFirst(end + 4)
    let first = lines[0].split(separator: " ")
    guard first.count == 3 else { return nil }
    let headers = lines.dropFirst().compactMap { line -> (name: String, value: String)? in
      guard let colon = line.firstIndex(of: ":") else { return nil }
      return (
        String(line[..<colon]),
        line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
      )
    }
    let length =
      headers.first { $0.name.lowercased() == "content-length" }.flatMap { Int($0.value) } ?? 0
    while buffer.count < length { if !fill() { return nil } }
    let body = String(decoding: buffer.prefix(length), as: UTF8.self)
    buffer.removeFirst(length)
    return ScriptedServer.Request(
      method: String(first[0]), target: String(first[1]), headers: headers, body: body,
      connection: number)
  }
}
