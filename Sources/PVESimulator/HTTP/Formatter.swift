/// Where a path points inside the API: `/api2/json/nodes` is `/nodes` in the format `json`.
struct APIAddress {
  /// `json`, `extjs` …
  var format: String
  /// Starts with a slash, has none at its end.
  var path: String

  /// Nil for a path outside the API.
  init?(_ path: String) {
    guard path.hasPrefix("/api2/") else { return nil }
    let rest = path.dropFirst(6)
    format = String(rest.prefix { $0 != "/" })
    let parts = rest.dropFirst(format.count).split(separator: "/")
    self.path = "/" + parts.joined(separator: "/")
  }
}

/// Writes results and errors as `/api2/json` and `/api2/extjs` do.
enum Formatter {
  case json
  case extjs

  init?(_ name: String) {
    switch name {
    case "json": self = .json
    case "extjs": self = .extjs
    default: return nil
    }
  }

  func success(_ result: APIResult) -> Response {
    var members: [JSON.Member] = [.init(key: "data", value: result.data)]
    if let total = result.total { members.append(.init(key: "total", value: .int(total))) }
    if self == .extjs { members.append(.init(key: "success", value: 1)) }
    return Response(
      status: 200, reason: "OK", body: JSON.object(members).bytes, contentType: Response.json,
      isRelayed: result.isRelayed)
  }

  func failure(_ error: APIError, hasMessages: Bool) -> Response {
    // Messages from `die` end with a newline; the router's own don't.
    let message = error.message + (error.isRouters ? "" : "\n")
    var members: [JSON.Member] = [.init(key: "data", value: .null)]
    if !error.fields.isEmpty {
      let fields = error.fields.map { JSON.Member(key: $0.name, value: .string($0.text)) }
      members.append(.init(key: "errors", value: .object(fields)))
    }
    if hasMessages || self == .extjs {
      members.append(.init(key: "message", value: .string(message)))
    }
    if self == .extjs {
      members.append(.init(key: "success", value: 0))
      members.append(.init(key: "status", value: .int(error.status)))
    }
    // extjs wraps everything in a 200, except that a refused login stays a 401.
    let wrapped = self == .extjs && error.status != 401
    return Response(
      status: wrapped ? 200 : error.status, reason: wrapped ? "OK" : error.message,
      body: JSON.object(members).bytes,
      contentType: Response.json)
  }
}
