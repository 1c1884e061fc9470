/// An answer before it becomes bytes.
struct Response {
  /// HTTP status.
  var status: Int
  /// Reason phrase: PVE puts the error message there, its first line.
  var reason: String
  /// The body; nil for none at all (no `Content-Length`, as pveproxy's own errors have it).
  var body: [UInt8]?
  /// `Content-Type`, where there is one.
  var contentType: String?
  /// Whether the privileged daemon made it: such answers carry two `Connection` headers.
  var isRelayed = false

  static let json = "application/json;charset=UTF-8"

  /// What pveproxy itself refuses: the bare message as body, without a type.
  static func plain(_ status: Int, _ message: String) -> Response {
    Response(status: status, reason: message, body: Array((message + "\n").utf8))
  }

  /// A refusal with nothing but its reason phrase.
  static func bare(_ status: Int, _ reason: String) -> Response {
    Response(status: status, reason: reason)
  }

  /// The bytes on the wire, headers in the order in which Perl's HTTP::Headers writes them.
  func serialized(keepAlive: Bool, now: Int) -> [UInt8] {
    let date = httpDate(now)
    let phrase = reason.prefix { $0 != "\n" && $0 != "\r" }
    var text = "HTTP/1.1 \(status) \(phrase)\r\nCache-Control: max-age=0\r\n"
    if keepAlive {
      if isRelayed { text += "Connection: close\r\n" }
      text += "Connection: Keep-Alive\r\n"
    } else {
      text += "Connection: close\r\n"
    }
    text += "Date: \(date)\r\nPragma: no-cache\r\nServer: pve-api-daemon/3.0\r\n"
    if let body { text += "Content-Length: \(body.count)\r\n" }
    if let contentType { text += "Content-Type: \(contentType)\r\n" }
    text += "Expires: \(date)\r\n\r\n"
    return Array(text.utf8) + (body ?? [])
  }
}
