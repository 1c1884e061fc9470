/// An answer before it becomes bytes.
struct Response {
  /// HTTP status.
  var status: Int
  /// Reason phrase: PVE puts the error message there; only its first line is sent.
  var reason: String
  /// The body; nil or empty for none at all (then there is no `Content-Length`).
  var body: [UInt8]?
  /// `Content-Type`, where there is one.
  var contentType: String?
  /// Whether the privileged daemon made it: such answers carry two `Connection` headers.
  var isRelayed = false
  /// Whether it may be compressed.
  var isCompressible = true
  /// Whether it comes no sooner than three seconds after the request: every 401, and what a 401 is wrapped in.
  var isDelayed = false
  /// `Location`, where it is a redirection.
  var location: String?
  /// `Set-Cookie`, where it is a login by a page.
  var cookie: String?

  init(
    status: Int, reason: String, body: [UInt8]? = nil, contentType: String? = nil,
    isRelayed: Bool = false
  ) {
    self.status = status
    self.reason = reason
    self.body = body
    self.contentType = contentType
    self.isRelayed = isRelayed
    isDelayed = status == 401
  }

  static let json = "application/json;charset=UTF-8"
  static let html = "text/html;charset=UTF-8"

  /// What pveproxy itself refuses: the bare message as body, without a type. Messages that Perl died with end with
  /// a newline.
  static func plain(_ status: Int, _ message: String) -> Response {
    Response(status: status, reason: message, body: Array(message.utf8))
  }

  /// A refusal with nothing but its reason phrase.
  static func bare(_ status: Int, _ reason: String) -> Response {
    Response(status: status, reason: reason)
  }

  /// Sends the client elsewhere.
  static func moved(_ status: Int, _ reason: String, to location: String) -> Response {
    var response = Response.bare(status, reason)
    response.location = location
    return response
  }
}
