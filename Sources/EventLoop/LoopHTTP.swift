import CLibwebsockets
import CSallyport
import Glibc

/// The part of an ``HTTPServer`` that lives on one loop: a virtual host of libwebsockets and its connections.
final class LoopHTTP {
  /// A request under way.
  private final class Exchange {
    let id: UInt64
    var request: HTTPRequest
    var response: HTTPResponse?
    var sent = -1
    /// A body that is being made.
    var writer: HTTPBodyWriter?
    var maker: Task<Void, Never>?
    var watch: HangUpWatch?
    init(id: UInt64, request: HTTPRequest) {
      self.id = id
      self.request = request
    }
  }

  let loop: Loop
  private let options: HTTPServer.Options
  private let handler: any HTTPHandler
  private let vhost: OpaquePointer
  private let protocols: UnsafeMutablePointer<lws_protocols>
  var listener: Listener?
  private var exchanges: [OpaquePointer: Exchange] = [:]
  private var waiting: [UInt64: OpaquePointer] = [:]
  private var streaming: [UInt64: OpaquePointer] = [:]
  private var sockets: [OpaquePointer: WebSocket] = [:]
  private var upgrading: [OpaquePointer: any WebSocketHandler] = [:]
  private var nextID: UInt64 = 0
  private static let chunk = 32 * 1024

  init(loop: Loop, options: HTTPServer.Options, handler: any HTTPHandler) throws(LoopError) {
    self.loop = loop
    self.options = options
    self.handler = handler
    protocols = LoopHTTP.table(options.subprotocols)
    var info = lws_context_creation_info()
    info.port = -2  // CONTEXT_PORT_NO_LISTEN_SERVER
    info.protocols = UnsafePointer(protocols)
    info.keepalive_timeout = 60
    info.gid = -1
    info.uid = -1
    // HTTP/2 is not offered: websockets over h2 have no receive flow control in 4.1.6.
    let alpn = strdup("http/1.1")
    info.alpn = UnsafePointer(alpn)
    let certificate = options.tls.map { strdup($0.certificateFile) } ?? nil
    let key = options.tls.map { strdup($0.keyFile) } ?? nil
    info.options = UInt64(LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT)
    if options.tls != nil {
      info.ssl_cert_filepath = UnsafePointer(certificate)
      info.ssl_private_key_filepath = UnsafePointer(key)
      // TLS 1.0 and 1.1 are off.
      info.ssl_options_set = Int(SP_SSL_OP_NO_OLD_TLS)
    }
    guard let made = lws_create_vhost(loop.inside.context, &info) else {
      throw .tls("the HTTP server can't start: certificate or key can't be used")
    }
    vhost = made
  }

  private static func table(_ subprotocols: [String]) -> UnsafeMutablePointer<lws_protocols> {
    // libwebsockets keeps the pointer until its context ends, which is when the process does or a test is over.
    let names = ["http"] + subprotocols
    let table = UnsafeMutablePointer<lws_protocols>.allocate(capacity: names.count + 1)
    table.initialize(repeating: lws_protocols(), count: names.count + 1)
    for (i, name) in names.enumerated() {
      table[i].name = UnsafePointer(strdup(name))
      table[i].callback = httpCallback
      table[i].rx_buffer_size = Loop.readSize
      table[i].tx_packet_size = Loop.readSize + 64
    }
    return table
  }

  func adopt(_ descriptor: Int32, peer: SocketAddress) {
    sp_no_delay(descriptor)
    var socket = lws_sock_file_fd_type()
    socket.sockfd = descriptor
    var kind = LWS_ADOPT_HTTP.rawValue | LWS_ADOPT_SOCKET.rawValue
    if options.tls != nil { kind |= LWS_ADOPT_ALLOW_SSL.rawValue }
    // On failure libwebsockets closes the descriptor itself.
    _ = lws_adopt_descriptor_vhost(vhost, lws_adoption_type(rawValue: kind), socket, nil, nil)
  }

  func loopEnded() {
    for socket in sockets.values { socket.ended() }
    for exchange in exchanges.values { stop(exchange) }
    sockets = [:]
    exchanges = [:]
    waiting = [:]
    upgrading = [:]
  }

  // MARK: Requests

  func deliver(_ response: HTTPResponse, to id: UInt64) {
    guard let wsi = waiting.removeValue(forKey: id), let exchange = exchanges[wsi],
      exchange.id == id, exchange.response == nil
    else { return }
    exchange.response = response
    if let source = response.source, exchange.request.method != "HEAD" {
      let on = OnLoop(self, loop: loop)
      let writer = HTTPBodyWriter { on.execute { $0.proceed(id) } }
      exchange.writer = writer
      streaming[id] = wsi
      exchange.watch = HangUpWatch(lws_get_socket_fd(wsi), on: loop) { [weak self] in
        self?.hungUp(id)
      }
      exchange.maker = Task {
        await source.produce(writer)
        writer.finish()
      }
    }
    lws_callback_on_writable(wsi)
  }

  /// A streamed body has more to send.
  private func proceed(_ id: UInt64) {
    if let wsi = streaming[id] { lws_callback_on_writable(wsi) }
  }

  /// Whoever reads a body that is being made has gone.
  private func hungUp(_ id: UInt64) {
    guard let wsi = streaming[id], let exchange = exchanges[wsi] else { return }
    stop(exchange)
    lws_set_timeout(wsi, PENDING_TIMEOUT_CLOSE_SEND, -1)  // LWS_TO_KILL_ASYNC
  }

  /// Nobody reads a body any longer that is being made.
  private func stop(_ exchange: Exchange) {
    streaming[exchange.id] = nil
    exchange.watch?.stop()
    exchange.watch = nil
    exchange.writer?.close()
    exchange.maker?.cancel()
  }

  fileprivate func begin(_ wsi: OpaquePointer, path: String) -> Int32 {
    guard let method = Self.method(wsi) else {
      return refuse(wsi, .init(status: 501))
    }
    var request = read(wsi, path: path, method: method)
    nextID += 1
    guard !request.isCut else {
      return refuse(
        wsi, problem(400, "bad-address", "the address holds a line break, which can't be read here")
      )
    }
    guard request.headers["transfer-encoding"] == nil else {
      return refuse(wsi, problem(411, "length-required", "send the body with a Content-Length"))
    }
    let length = request.headers["content-length"].map { Int($0) ?? -1 } ?? 0
    guard length >= 0 else {
      return refuse(wsi, problem(400, "bad-request", "Content-Length is not a number"))
    }
    guard length <= options.maximumBody else {
      return refuse(
        wsi,
        problem(
          413, "body-too-large",
          "the body has \(length) bytes; at most \(options.maximumBody) are taken"))
    }
    request.body.reserveCapacity(length)
    let exchange = Exchange(id: nextID, request: request)
    exchanges[wsi] = exchange
    // Without a body the request is complete; libwebsockets then reports no body, or an empty one, which is ignored.
    if length == 0 { dispatch(wsi, exchange) }
    return 0
  }

  fileprivate func body(_ wsi: OpaquePointer, _ bytes: UnsafeRawBufferPointer) -> Int32 {
    guard let exchange = exchanges[wsi], exchange.response == nil else { return 0 }
    guard exchange.request.body.count + bytes.count <= options.maximumBody else { return -1 }
    exchange.request.body.append(contentsOf: bytes)
    return 0
  }

  fileprivate func bodyComplete(_ wsi: OpaquePointer) {
    guard let exchange = exchanges[wsi], waiting[exchange.id] == nil, exchange.response == nil
    else {
      return
    }
    dispatch(wsi, exchange)
  }

  private func dispatch(_ wsi: OpaquePointer, _ exchange: Exchange) {
    waiting[exchange.id] = wsi
    // How long an answer may take is the handler's business.
    lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0)
    handler.handle(
      exchange.request, on: loop, reply: HTTPReply(http: OnLoop(self, loop: loop), id: exchange.id))
  }

  /// Answers at once and ends the connection, because what follows on it can't be trusted to be a request.
  private func refuse(_ wsi: OpaquePointer, _ response: HTTPResponse) -> Int32 {
    write(wsi, response.head(closing: true) + response.body, LWS_WRITE_HTTP_HEADERS)
    return -1
  }

  private func problem(_ status: Int, _ kind: String, _ detail: String) -> HTTPResponse {
    let reason = HTTPResponse.reasons[status] ?? ""
    let text =
      "{\"type\":\"about:blank#\(kind)\",\"title\":\"\(reason)\",\"status\":\(status),\"detail\":\"\(detail)\"}"
    return HTTPResponse(
      status: status, headers: [("Content-Type", "application/problem+json")],
      body: Array(text.utf8))
  }

  fileprivate func writable(_ wsi: OpaquePointer) -> Int32 {
    guard let exchange = exchanges[wsi], let response = exchange.response else { return 0 }
    if let writer = exchange.writer { return stream(wsi, exchange, writer) }
    let silent =
      exchange.request.method == "HEAD" || response.status == 204 || response.status == 304
    let body = silent ? [] : response.body
    if exchange.sent < 0 {
      exchange.sent = 0
      let head = response.head(closing: false)
      // A small answer goes out as one packet.
      if body.count <= 4096 {
        write(wsi, head + body, LWS_WRITE_HTTP_HEADERS)
        return complete(wsi)
      }
      write(wsi, head, LWS_WRITE_HTTP_HEADERS)
    } else {
      let end = min(body.count, exchange.sent + LoopHTTP.chunk)
      write(wsi, Array(body[exchange.sent..<end]), LWS_WRITE_HTTP)
      exchange.sent = end
    }
    if exchange.sent >= body.count { return complete(wsi) }
    lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, 30)
    lws_callback_on_writable(wsi)
    return 0
  }

  /// A stopped reader keeps its connection for that long.
  private static let patience: Int32 = 600

  private func stream(
    _ wsi: OpaquePointer, _ exchange: Exchange, _ writer: HTTPBodyWriter
  ) -> Int32 {
    guard exchange.sent >= 0, let response = exchange.response else {
      exchange.sent = 0
      write(wsi, exchange.response?.head(closing: false) ?? [], LWS_WRITE_HTTP_HEADERS)
      if writer.hasMore { lws_callback_on_writable(wsi) }
      return 0
    }
    let (bytes, isLast) = writer.take(limit: LoopHTTP.chunk)
    exchange.sent += bytes.count
    if let length = response.source?.length {
      // More or less than was promised can only be told by cutting the connection.
      guard exchange.sent <= length, !isLast || exchange.sent == length else { return -1 }
      write(wsi, bytes, LWS_WRITE_HTTP)
    } else {
      var framed: [UInt8] = []
      if !bytes.isEmpty {
        framed = Array((String(bytes.count, radix: 16) + "\r\n").utf8) + bytes + [13, 10]
      }
      if isLast { framed += Array("0\r\n\r\n".utf8) }
      write(wsi, framed, LWS_WRITE_HTTP)
    }
    if isLast {
      stop(exchange)
      return complete(wsi)
    }
    if writer.hasMore || lws_partial_buffered(wsi) != 0 {
      lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, LoopHTTP.patience)
      lws_callback_on_writable(wsi)
    } else {
      lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0)
    }
    return 0
  }

  private func write(_ wsi: OpaquePointer, _ bytes: [UInt8], _ kind: lws_write_protocol) {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: bytes.count + 16) { room in
      guard let base = room.baseAddress, !bytes.isEmpty else { return }
      bytes.withUnsafeBufferPointer { from in
        if let source = from.baseAddress { memcpy(base + 16, source, bytes.count) }
      }
      _ = lws_write(wsi, base + 16, bytes.count, kind)
    }
  }

  private func complete(_ wsi: OpaquePointer) -> Int32 {
    exchanges[wsi] = nil
    return lws_http_transaction_completed(wsi) != 0 ? -1 : 0
  }

  fileprivate func closed(_ wsi: OpaquePointer) {
    if let exchange = exchanges.removeValue(forKey: wsi) {
      waiting[exchange.id] = nil
      stop(exchange)
    }
    upgrading[wsi] = nil
  }

  // MARK: Websockets

  fileprivate func confirm(_ wsi: OpaquePointer) -> Int32 {
    // libwebsockets has closed the path with a NUL by now.
    var pointer: UnsafeMutablePointer<CChar>?
    var length: Int32 = 0
    _ = lws_http_get_uri_and_method(wsi, &pointer, &length)
    let path = pointer.map {
      String(
        decoding: UnsafeRawBufferPointer(start: $0, count: Int(max(0, length))), as: UTF8.self)
    }
    let request = read(wsi, path: path ?? "/", method: "GET")
    switch handler.upgrade(request, on: loop) {
    case .refuse(let response):
      write(wsi, response.head(closing: true) + response.body, LWS_WRITE_HTTP_HEADERS)
      return 1
    case .accept(let owner):
      upgrading[wsi] = owner
      return 0
    }
  }

  fileprivate func established(_ wsi: OpaquePointer) -> Int32 {
    guard let owner = upgrading.removeValue(forKey: wsi) else { return -1 }
    let socket = WebSocket(wsi: wsi, loop: loop, handler: owner)
    sockets[wsi] = socket
    owner.webSocketOpened(socket)
    return 0
  }

  fileprivate func socket(_ wsi: OpaquePointer) -> WebSocket? { sockets[wsi] }

  fileprivate func socketClosed(_ wsi: OpaquePointer) {
    sockets.removeValue(forKey: wsi)?.ended()
    closed(wsi)
  }

  // MARK: Reading headers

  private static func method(_ wsi: OpaquePointer) -> String? {
    var pointer: UnsafeMutablePointer<CChar>?
    var length: Int32 = 0
    switch lws_http_get_uri_and_method(wsi, &pointer, &length) {
    case Int32(LWSHUMETH_GET): return "GET"
    case Int32(LWSHUMETH_POST): return "POST"
    case Int32(LWSHUMETH_PUT): return "PUT"
    case Int32(LWSHUMETH_PATCH): return "PATCH"
    case Int32(LWSHUMETH_DELETE): return "DELETE"
    case Int32(LWSHUMETH_HEAD): return "HEAD"
    case Int32(LWSHUMETH_OPTIONS): return "OPTIONS"
    default: return nil
    }
  }

  private static let known: [(String, lws_token_indexes)] = [
    ("host", WSI_TOKEN_HOST), ("origin", WSI_TOKEN_ORIGIN),
    ("authorization", WSI_TOKEN_HTTP_AUTHORIZATION), ("cookie", WSI_TOKEN_HTTP_COOKIE),
    ("content-type", WSI_TOKEN_HTTP_CONTENT_TYPE),
    ("content-length", WSI_TOKEN_HTTP_CONTENT_LENGTH),
    ("transfer-encoding", WSI_TOKEN_HTTP_TRANSFER_ENCODING), ("accept", WSI_TOKEN_HTTP_ACCEPT),
    ("if-none-match", WSI_TOKEN_HTTP_IF_NONE_MATCH), ("range", WSI_TOKEN_HTTP_RANGE),
    ("user-agent", WSI_TOKEN_HTTP_USER_AGENT),
    ("x-forwarded-for", WSI_TOKEN_X_FORWARDED_FOR), ("sec-websocket-protocol", WSI_TOKEN_PROTOCOL),
    ("sec-websocket-version", WSI_TOKEN_VERSION), ("sec-websocket-key", WSI_TOKEN_KEY),
  ]
  private static let custom = [
    "x-forwarded-proto", "x-forwarded-host", "idempotency-key", "last-event-id",
  ]

  private func read(_ wsi: OpaquePointer, path: String, method: String) -> HTTPRequest {
    var headers: [String: String] = [:]
    for (name, token) in LoopHTTP.known {
      let length = lws_hdr_total_length(wsi, token)
      guard length > 0 else { continue }
      headers[name] = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(length) + 1) {
        room in
        let n = lws_hdr_copy(wsi, room.baseAddress, length + 1, token)
        return n > 0 ? text(room, n) : nil
      }
    }
    for name in LoopHTTP.custom {
      let key = name + ":"
      let count = Int32(key.utf8.count)
      let length = lws_hdr_custom_length(wsi, key, count)
      guard length > 0 else { continue }
      headers[name] = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(length) + 1) {
        room in
        let n = lws_hdr_custom_copy(wsi, room.baseAddress, length + 1, key, count)
        return n > 0 ? text(room, n) : nil
      }
    }
    let raw = arguments(wsi)
    let query = raw.map {
      (
        name: String(decoding: $0.name, as: UTF8.self),
        value: String(decoding: $0.value, as: UTF8.self)
      )
    }
    let peer = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { room -> String in
      guard let base = room.baseAddress, lws_get_peer_simple(wsi, base, 64) != nil else {
        return ""
      }
      return String(cString: base)
    }
    return HTTPRequest(
      method: method, path: path, query: query, rawQuery: raw, headers: headers, body: [],
      peer: peer, isTLS: options.tls != nil,
      isCut: lws_hdr_total_length(wsi, WSI_TOKEN_HTTP) <= 0)
  }

  /// The query's parts. None is left out or cut: libwebsockets refuses a request with more than it can hold.
  private func arguments(_ wsi: OpaquePointer) -> [(name: [UInt8], value: [UInt8])] {
    guard lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_URI_ARGS) > 0 else { return [] }
    var out: [(name: [UInt8], value: [UInt8])] = []
    let capacity = Int32(Loop.maximumHead + 1)
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(capacity)) { room in
      var i: Int32 = 0
      while true {
        let n = lws_hdr_copy_fragment(wsi, room.baseAddress, capacity, WSI_TOKEN_HTTP_URI_ARGS, i)
        guard n >= 0 else { break }
        i += 1
        guard n > 0 else { continue }
        let bytes = UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: room[..<Int(n)]))
        let parts = bytes.split(
          separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
        out.append((Array(parts[0]), parts.count > 1 ? Array(parts[1]) : []))
      }
    }
    return out
  }

  private func text(_ room: UnsafeMutableBufferPointer<CChar>, _ n: Int32) -> String {
    String(
      decoding: UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: room[..<Int(n)])),
      as: UTF8.self)
  }
}

/// All events of libwebsockets for one HTTP server on one loop.
private func httpCallback(
  _ wsi: OpaquePointer?, _ reason: lws_callback_reasons, _ user: UnsafeMutableRawPointer?,
  _ bytes: UnsafeMutableRawPointer?, _ length: Int
) -> Int32 {
  guard let wsi, let http = Loop.of(wsi)?.inside.http else { return 0 }
  switch reason {
  case LWS_CALLBACK_HTTP:
    let path = UnsafeRawBufferPointer(start: bytes, count: length)
    return http.begin(wsi, path: String(decoding: path, as: UTF8.self))
  case LWS_CALLBACK_HTTP_BODY:
    return http.body(wsi, UnsafeRawBufferPointer(start: bytes, count: length))
  case LWS_CALLBACK_HTTP_BODY_COMPLETION:
    http.bodyComplete(wsi)
  case LWS_CALLBACK_HTTP_WRITEABLE:
    return http.writable(wsi)
  case LWS_CALLBACK_CLOSED_HTTP:
    http.closed(wsi)
  case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
    return http.confirm(wsi)
  case LWS_CALLBACK_ESTABLISHED:
    return http.established(wsi)
  case LWS_CALLBACK_RECEIVE:
    guard let socket = http.socket(wsi) else { return -1 }
    socket.handler?.webSocket(
      socket, received: UnsafeMutableRawBufferPointer(start: bytes, count: length),
      isText: lws_frame_is_binary(wsi) == 0, isFirst: lws_is_first_fragment(wsi) != 0,
      isFinal: lws_is_final_fragment(wsi) != 0)
  case LWS_CALLBACK_RECEIVE_PONG:
    if let socket = http.socket(wsi) { socket.handler?.webSocketPong(socket) }
  case LWS_CALLBACK_SERVER_WRITEABLE:
    return http.socket(wsi)?.writable() ?? -1
  case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
    http.socket(wsi)?.peerCloses(UnsafeRawBufferPointer(start: bytes, count: length))
  case LWS_CALLBACK_CLOSED:
    http.socketClosed(wsi)
  default: break
  }
  return 0
}
