import EventLoop

/// One entry of the API.
struct Route: Sendable {
  /// Who may use it.
  enum Access: Sendable {
    /// Anybody who can connect.
    case anyone
    /// Who has an API key.
    case key
  }

  /// The answer to one request.
  typealias Answer = @Sendable (ControlPlane, Call) async throws(Problem) -> HTTPResponse

  let method: String
  let path: [Substring]
  let access: Access
  let answer: Answer

  init(_ method: String, _ path: String, _ access: Access, _ answer: @escaping Answer) {
    self.method = method
    self.path = path.split(separator: "/")
    self.access = access
    self.answer = answer
  }

  /// The values of the path's `{…}` parts; nil if it is another path.
  func match(_ segments: [Substring]) -> [String]? {
    guard segments.count == path.count else { return nil }
    var values: [String] = []
    for (mine, theirs) in zip(path, segments) {
      if mine.hasPrefix("{") { values.append(String(theirs)) } else if mine != theirs { return nil }
    }
    return values
  }

  /// Everything that the API answers. `/v1/viewer` is a websocket: see ``ControlPlane/upgrade(_:on:)``.
  static let all: [Route] = [
    Route("GET", "/healthz", .anyone) { plane, call throws(Problem) in plane.health(call) },
    Route("GET", "/readyz", .anyone) { plane, call throws(Problem) in await plane.readiness(call) },
    Route("GET", "/v1/inventory", .key) { plane, call throws(Problem) in
      await plane.inventory(call)
    },
    Route("POST", "/v1/consoles", .key) { plane, call throws(Problem) in
      try await plane.createConsole(call)
    },
    Route("GET", "/v1/consoles", .key) { plane, call throws(Problem) in
      try plane.listConsoles(call)
    },
    Route("GET", "/v1/consoles/{id}", .key) { plane, call throws(Problem) in
      try plane.showConsole(call)
    },
    Route("DELETE", "/v1/consoles/{id}", .key) { plane, call throws(Problem) in
      try plane.endConsole(call)
    },
    Route("GET", "/v1/viewer", .anyone) { _, _ throws(Problem) in
      var problem = Problem(
        426, "upgrade-required", "This is a websocket.",
        remedy: "Connect with a websocket that offers the subprotocol \(Gateway.subprotocol).")
      problem.headers = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
      throw problem
    },
  ]
}

/// A request that found its route.
struct Call: Sendable {
  /// The request.
  let request: HTTPRequest
  /// Who asks.
  let connection: Connection
  /// What the path's `{…}` stand for.
  let values: [String]
  /// The name of the key that was shown.
  let key: String?
}
