/// A call as the HTTP side understood it.
struct APICall {
  /// `GET`, `POST`, `PUT` or `DELETE`.
  var method: String
  /// Relative to the API, e.g. `/nodes/pve1/status`.
  var path: String
  /// Who calls; nil where nobody has to be logged in.
  var identity: Identity?
  /// Query and body.
  var parameters: Parameters
  /// Whether another node passed it on (`PVEDisableProxy`): it is not passed on again.
  var isForwarded = false
  /// The file that came with it.
  var upload: UploadedFile?
}

/// What a handler answers.
struct APIResult {
  /// Takes the answer that comes later.
  typealias Done = (Result<APIResult, APIError>) -> Void

  /// The `data` member.
  var data: JSON
  /// The `total` member of lists that are served in pages.
  var total: Int?
  /// Where a websocket upgrade of this request leads.
  var dial: DialTarget?
  /// Whether the privileged daemon answered.
  var isRelayed = false

  /// Begins what the answer waits for; nil where it is here already.
  private(set) var later: ((@escaping Done) -> Void)?

  init(_ data: JSON, total: Int? = nil, dial: DialTarget? = nil) {
    self.data = data
    self.total = total
    self.dial = dial
  }

  /// An answer that takes time. `begin` is called once, on the loop, and must call what it is given exactly once,
  /// on the loop, now or later.
  static func later(_ begin: @escaping (@escaping Done) -> Void) -> APIResult {
    var result = APIResult(.null)
    result.later = begin
    return result
  }
}

/// What pveproxy connects a websocket to.
enum DialTarget: Hashable, CustomStringConvertible {
  /// A console worker's TCP port.
  case port(Int)
  /// A migration tunnel's unix socket.
  case socket(String)

  var description: String {
    switch self {
    case .port(let port): "port \(port)"
    case .socket(let path): path
    }
  }
}

/// A refusal, in PVE's words.
struct APIError: Error {
  struct Field {
    var name: String
    var text: String
  }

  var status: Int
  var message: String
  /// The `errors` map.
  var fields: [Field] = []
  /// Whether the router made it; its messages have no newline at their end.
  var isRouters = false
  /// Whether there is a reason phrase and no body.
  var isBare = false

  /// Any plain `die`: a 500.
  static func died(_ message: String) -> APIError { APIError(status: 500, message: message) }

  /// A 400 with the fields' texts.
  static func invalid(_ fields: [Field]) -> APIError {
    APIError(status: 400, message: "Parameter verification failed.", fields: fields)
  }

  /// A 403.
  static func forbidden(_ what: String) -> APIError {
    APIError(status: 403, message: "Permission check failed (\(what))")
  }

  /// The uniform 401 of every login.
  static let loginFailed = APIError(status: 401, message: "authentication failure")

  static func notImplemented(_ method: String, _ path: String) -> APIError {
    APIError(
      status: 501, message: "Method '\(method) \(path)' not implemented", isRouters: true)
  }
}
