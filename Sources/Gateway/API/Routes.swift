import EventLoop

/// One entry of the API.
struct Route: Sendable {
  /// Who may use it.
  enum Access: Sendable, Equatable {
    /// Anybody who can connect.
    case anyone
    /// Who has an API key with that right.
    case right(APIRight)
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
  func match(_ segments: [Substring]) -> [String]? { Self.match(path, segments) }

  static func match(_ path: [Substring], _ segments: [Substring]) -> [String]? {
    guard segments.count == path.count else { return nil }
    var values: [String] = []
    for (mine, theirs) in zip(path, segments) {
      if mine.hasPrefix("{") { values.append(String(theirs)) } else if mine != theirs { return nil }
    }
    return values
  }

  /// Everything that the API answers. `/v1/viewer` is a websocket: see ``ControlPlane/upgrade(_:on:)``.
  static let all: [Route] = consoles + commands + fleets

  private static let consoles: [Route] = [
    Route("GET", "/healthz", .anyone) { plane, call throws(Problem) in plane.health(call) },
    Route("GET", "/readyz", .anyone) { plane, call throws(Problem) in await plane.readiness(call) },
    Route("GET", "/v1/inventory", .right(.inventory)) { plane, call throws(Problem) in
      await plane.inventory(call)
    },
    Route("POST", "/v1/consoles", .right(.consoles)) { plane, call throws(Problem) in
      try await plane.createConsole(call)
    },
    Route("GET", "/v1/consoles", .right(.consoles)) { plane, call throws(Problem) in
      try plane.listConsoles(call)
    },
    Route("GET", "/v1/consoles/{id}", .right(.consoles)) { plane, call throws(Problem) in
      try plane.showConsole(call)
    },
    Route("DELETE", "/v1/consoles/{id}", .right(.consoles)) { plane, call throws(Problem) in
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

/// One websocket of the API that carries a command. Whoever connects has shown a key with the right to run commands.
struct CommandSocket: Sendable {
  /// Makes the handler of one connection, on its loop's thread; must not block. What it throws is the answer.
  typealias Accept = @Sendable (ControlPlane, Call, Loop) throws(Problem) -> any WebSocketHandler

  let path: [Substring]
  let accept: Accept

  init(_ path: String, _ accept: @escaping Accept) {
    self.path = path.split(separator: "/")
    self.accept = accept
  }

  func match(_ segments: [Substring]) -> [String]? { Route.match(path, segments) }
}

/// A request that found its route.
struct Call: Sendable {
  /// The request.
  let request: HTTPRequest
  /// Who asks.
  let connection: Connection
  /// What the path's `{…}` stand for.
  let values: [String]
  /// The key that was shown.
  let apiKey: APIKey?
  /// Its name.
  var key: String? { apiKey?.name }
}
