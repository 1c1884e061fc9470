/// A request as the HTTP server hands it on: complete, bounded, decoded.
public struct HTTPRequest: Sendable {
  /// GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS.
  public var method: String
  /// The path, percent-decoded, `..` resolved, without the query.
  public var path: String
  /// The query's names and values in order, percent-decoded.
  public var query: [(name: String, value: String)]
  /// The same as bytes: percent-encoding can say what is no UTF-8, and a command's arguments may be such.
  public var rawQuery: [(name: [UInt8], value: [UInt8])] = []
  /// The headers that the server knows, by lower-case name.
  public var headers: [String: String]
  /// The body, complete.
  public var body: [UInt8]
  /// The IP address of whoever is connected to us (a reverse proxy, where there is one).
  public var peer: String
  /// Whether the connection to us is TLS.
  public var isTLS: Bool
  /// Whether the address is not whole: a line break in it (`%0A`, `%0D`) ends it for libwebsockets, and what followed
  /// is lost. Only websocket requests are handed on with it.
  public var isCut = false
}

/// An answer. `Content-Length` and `Connection` are added by the server.
public struct HTTPResponse: Sendable {
  /// 200 to 599.
  public var status: Int
  /// Names and values; control characters are refused at sending.
  public var headers: [(name: String, value: String)]
  /// The body; not sent for HEAD, 204 and 304.
  public var body: [UInt8]
  /// The body where it is made while it is sent; ``body`` is empty then.
  public var source: HTTPBodySource?

  /// An answer from its parts.
  public init(status: Int, headers: [(name: String, value: String)] = [], body: [UInt8] = []) {
    self.status = status
    self.headers = headers
    self.body = body
  }

  /// An answer whose body is made while it is sent.
  public init(status: Int, headers: [(name: String, value: String)], source: HTTPBodySource) {
    self.init(status: status, headers: headers)
    self.source = source
  }

  static let reasons: [Int: String] = [
    101: "Switching Protocols", 200: "OK", 201: "Created", 202: "Accepted", 204: "No Content",
    206: "Partial Content",
    301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified",
    307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable",
    408: "Request Timeout", 409: "Conflict", 410: "Gone", 411: "Length Required",
    413: "Content Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Content",
    426: "Upgrade Required", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout",
  ]

  /// The header block. A header whose name or value holds a control character is left out: it could only be an
  /// attempt to write headers of its own.
  func head(closing: Bool) -> [UInt8] {
    var text = "HTTP/1.1 \(status) \(HTTPResponse.reasons[status] ?? "Status")\r\n"
    for (name, value) in headers
    where !name.isEmpty && (name + value).utf8.allSatisfy({ $0 >= 32 && $0 != 127 }) {
      text += "\(name): \(value)\r\n"
    }
    // A switch of protocols brings its own headers, and what follows is no body.
    if status == 101 { return Array((text + "\r\n").utf8) }
    if status != 204, status != 304 {
      if let source, source.length == nil {
        text += "Transfer-Encoding: chunked\r\n"
      } else {
        text += "Content-Length: \(source?.length ?? body.count)\r\n"
      }
    }
    text += closing ? "Connection: close\r\n\r\n" : "Connection: keep-alive\r\n\r\n"
    return Array(text.utf8)
  }
}

/// The way back to whoever asked. It may be used from any thread, once; later uses, and answers to a connection that
/// has gone, are ignored.
public struct HTTPReply: Sendable {
  let http: OnLoop<LoopHTTP>
  let id: UInt64

  /// Sends the answer.
  public func send(_ response: HTTPResponse) {
    let id = id
    http.execute { $0.deliver(response, to: id) }
  }
}

/// What to do with a request to become a websocket.
public enum UpgradeDecision {
  /// Go on; this object gets the events.
  case accept(any WebSocketHandler)
  /// No; this is the answer.
  case refuse(HTTPResponse)
}

/// What the HTTP server serves. Its methods are called on the loops' threads and must not block.
public protocol HTTPHandler: AnyObject, Sendable {
  /// A complete request. Answer now or later, from any thread.
  func handle(_ request: HTTPRequest, on loop: Loop, reply: HTTPReply)
  /// A websocket request, before anything was agreed. `loop` is the loop that the websocket will live on.
  func upgrade(_ request: HTTPRequest, on loop: Loop) -> UpgradeDecision
}
