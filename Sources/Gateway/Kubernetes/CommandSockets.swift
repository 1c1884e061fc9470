import ConsoleProtocol
import EventLoop
import GuestExec

extension CommandSocket {
  /// Every one that there is.
  static let all: [CommandSocket] = [
    CommandSocket("/v1/exec/stream") { plane, call, loop throws(Problem) in
      let query = try CommandQuery(call.request, known: JobOrder.streamParameters)
      let wanted = try CommandStream.Wanted(query, byDefault: true)
      let order = try JobOrder(query, wanted, plane.jobs.configuration)
      return try plane.stream(.order(order), wanted, call, on: loop)
    },
    CommandSocket("/v1/exec/{id}/stream") { plane, call, loop throws(Problem) in
      let query = try CommandQuery(
        call.request,
        known: ["stdin", "stdout", "stderr", "tty", "stdoutOffset", "stderrOffset"])
      let wanted = try CommandStream.Wanted(query, byDefault: true)
      let position = ExecPosition(
        stdout: try query.int("stdoutOffset", 0...Int.max) ?? 0,
        stderr: try query.int("stderrOffset", 0...Int.max) ?? 0)
      let work = CommandStream.Work.attach(id: call.values.first ?? "", from: position)
      return try plane.stream(work, wanted, call, on: loop)
    },
    CommandSocket("/k8s/api/v1/namespaces/{namespace}/pods/{pod}/exec") {
      plane, call, loop throws(Problem) in
      let (order, wanted) = try plane.kubernetesOrder(call)
      return try plane.stream(.order(order), wanted, call, on: loop)
    },
  ]

  /// The subprotocols that they agree on; the server has to know them.
  static let subprotocols = RemoteCommand.Version.allCases.map(\.rawValue)
}

extension ControlPlane {
  /// The key that a command's websocket shows: as a header, or as a subprotocol, which is all that a browser can do.
  func commandKey(_ request: HTTPRequest) throws(Problem) -> APIKey {
    let offer = RemoteCommandOffer(request.headers["sec-websocket-protocol"] ?? "")
    if request.headers["authorization"] == nil, offer.bearer != nil || offer.hasBadBearer {
      if !offer.hasBadBearer, let bearer = offer.bearer,
        let key = configuration.apiKeys.match(bearer)
      {
        return key
      }
      throw Problem(
        401, "unauthenticated",
        "The subprotocol \(RemoteCommand.bearerPrefix)… holds no API key of this gateway.",
        remedy: "Send the key in base64url without padding, or as Authorization: Bearer KEY.")
    }
    guard let key = try key(request, needed: true) else {
      throw Problem(401, "unauthenticated", "This needs an API key.")
    }
    return key
  }

  /// Nil if the request may go on. The rules are those of viewers, with one more: a program that shows its key in a
  /// header, which no page can do with a websocket, may name our own address as its origin (Python's client does),
  /// also where a page of that name wouldn't be trusted.
  func commandOriginRefusal(
    _ request: HTTPRequest, _ connection: Connection, _ origins: Origins
  ) -> Problem? {
    guard let problem = origins.refusal(request, connection) else { return nil }
    if request.headers["authorization"] != nil, let host = connection.host,
      let origin = request.headers["origin"].flatMap({ Origin($0)?.text }),
      origin
        == Origin("\(connection.scheme)://\(host.host)" + (host.port.map { ":\($0)" } ?? ""))?.text
    {
      return nil
    }
    return problem
  }

  /// The handler of a websocket whose request is in order.
  fileprivate func stream(
    _ work: CommandStream.Work, _ wanted: CommandStream.Wanted, _ call: Call, on loop: Loop
  ) throws(Problem) -> any WebSocketHandler {
    let request = call.request
    try request.checkWebSocketVersion()
    let offer = request.headers["sec-websocket-protocol"] ?? ""
    // The server agrees on the first that it knows, and it knows the viewers' too.
    guard !offer.contains(Gateway.subprotocol), let version = RemoteCommandOffer(offer).version
    else {
      throw Problem(
        400, "unknown-subprotocol",
        "None of the subprotocols that are spoken here was offered.",
        remedy:
          "Offer \(CommandSocket.subprotocols.joined(separator: " or ")) in Sec-WebSocket-Protocol."
      )
    }
    // libwebsockets 4.1.6 takes 127 bytes of offers, and looks at them one by one up to the one that it knows, none of
    // which may have more than 63.
    let before = offer.split(separator: ",").prefix { !$0.contains(version.rawValue) }
    guard offer.utf8.count <= 127, before.allSatisfy({ $0.utf8.count <= 60 }) else {
      throw Problem(
        400, "unknown-subprotocol", "The subprotocols that were offered can't be read.",
        remedy:
          "Offer \(version.rawValue) first and the key behind it, 127 bytes in all; or send the key as Authorization: "
          + "Bearer KEY.")
    }
    return CommandStream(
      work, wanted, version: version, by: try caller(call), engine: jobs, on: loop,
      timings: commandTimings)
  }
}
