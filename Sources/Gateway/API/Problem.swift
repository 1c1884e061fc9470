import ConsoleProtocol
import EventLoop
import ProxmoxClient

/// A refusal of the API in the form of RFC 9457: a kind to switch on, a sentence, and what to do.
package struct Problem: Error, Sendable, CustomStringConvertible {
  /// The HTTP status.
  package var status: Int
  /// A short word, the same for ever.
  package var kind: String
  /// One sentence for a person. Holds no secret.
  package var detail: String
  /// The field of the request that is wrong.
  package var field: String?
  /// What to do about it.
  package var remedy: String?
  /// More fields of the answer, e.g. the candidates of an ambiguous name.
  package var more: [String: JSONValue] = [:]
  /// Headers that belong to the status, e.g. `Allow`.
  var headers: [(name: String, value: String)] = []

  /// Puts the parts together.
  package init(
    _ status: Int, _ kind: String, _ detail: String, field: String? = nil, remedy: String? = nil
  ) {
    self.status = status
    self.kind = kind
    self.detail = detail
    self.field = field
    self.remedy = remedy
  }

  /// `kind: detail`
  package var description: String { "\(kind): \(detail)" }

  /// As JSON.
  var json: JSONValue {
    var out = more
    out["type"] = .string("about:blank#\(kind)")
    out["title"] = .string(Self.titles[status] ?? "Error")
    out["status"] = .int(status)
    out["detail"] = .string(detail)
    if let field { out["field"] = .string(field) }
    if let remedy, !remedy.isEmpty { out["remedy"] = .string(remedy) }
    return .object(out)
  }

  /// As an answer.
  var response: HTTPResponse {
    HTTPResponse(
      status: status,
      headers: [
        ("Content-Type", "application/problem+json"), ("Cache-Control", "no-store"),
      ] + headers, body: Array(json.description.utf8))
  }

  private static let titles: [Int: String] = [
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 409: "Conflict", 413: "Content Too Large",
    415: "Unsupported Media Type", 422: "Unprocessable Content", 426: "Upgrade Required",
    429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout",
  ]
}

extension Problem {
  /// What PVE, or the way to it, refused. Ours are 4xx; what an operator has to mend is 502, so that nobody takes PVE's
  /// opinion of our credential for our opinion of theirs.
  init(_ error: PVEError, cluster: String, field: String? = nil) {
    let ending = error.consoleEnding
    let status: Int
    var named = field
    switch error.kind {
    case .targetNotFound, .guestNotFound, .nodeNotFound: status = 404
    case .ambiguousTarget, .locked, .guestNotRunning: status = 409
    case .noSuchConsole: status = 422
    case .timedOut: status = 504
    case .shutDown, .cancelled: status = 503
    default: status = 502
    }
    if status >= 500 { named = nil }
    self.init(
      status, error.code, "Cluster '\(cluster)': \(ending.sentence)", field: named,
      remedy: ending.remedy)
    if case .ambiguousTarget(let candidates) = error.kind {
      more["candidates"] = .array(candidates.map { Problem.candidate($0, cluster: cluster) })
    }
    if case .tlsUntrusted(let expected, let seen) = error.kind {
      if let expected { more["expected"] = .string(expected.description) }
      if let seen { more["seen"] = .string(seen.description) }
    }
  }

  /// A guest that could have been meant.
  static func candidate(_ place: Place, cluster: String) -> JSONValue {
    var out: [String: JSONValue] = [
      "cluster": .string(cluster), "target": .string(place.description),
      "node": .string(place.node.value),
    ]
    if let name = place.name { out["name"] = .string(name) }
    return .object(out)
  }
}

extension HTTPResponse {
  /// A JSON answer, which no cache keeps.
  static func json(
    _ status: Int, _ value: JSONValue, headers: [(name: String, value: String)] = []
  ) -> HTTPResponse {
    HTTPResponse(
      status: status,
      headers: [("Content-Type", "application/json"), ("Cache-Control", "no-store")] + headers,
      body: Array(value.description.utf8))
  }

  /// Server-sent events, which no cache keeps and no proxy gathers.
  static func serverSentEvents(_ source: HTTPBodySource) -> HTTPResponse {
    HTTPResponse(
      status: 200,
      headers: [
        ("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"),
        ("X-Accel-Buffering", "no"),
      ], source: source)
  }
}

extension HTTPRequest {
  /// Refuses a websocket of another version than RFC 6455's.
  func checkWebSocketVersion() throws(Problem) {
    guard let version = headers["sec-websocket-version"], version != "13" else { return }
    var problem = Problem(
      426, "upgrade-required", "Websocket version \(version.prefix(20)) is not spoken here.",
      remedy: "Use version 13 (RFC 6455).")
    problem.headers = [("Sec-WebSocket-Version", "13")]
    throw problem
  }
}
