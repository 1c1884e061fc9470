import ConsoleProtocol
import EventLoop
import Logging
import ProxmoxClient
import Synchronization

/// What the HTTP server serves: the API, the viewer's websocket and the page. Requests come on the loops' threads; what
/// takes time is done in a task.
final class ControlPlane: HTTPHandler {
  let configuration: GatewayConfiguration
  let broker: ConsoleBroker
  let jobs: JobEngine
  let fleets: FleetEngine
  let prefix: String
  private let files: StaticFiles
  private let headers: SecurityHeaders
  private let origins: Origins
  private let viewers: ViewerCount
  private let logger: Logger
  private let stopping = Atomic(false)
  private let address = Mutex("")
  /// Times of command streams.
  let commandTimings: CommandStream.Timings

  init(
    _ configuration: GatewayConfiguration, broker: ConsoleBroker, jobs: JobEngine,
    fleets: FleetEngine, logger: Logger,
    commandTimings: CommandStream.Timings = CommandStream.Timings()
  ) {
    self.commandTimings = commandTimings
    self.configuration = configuration
    self.broker = broker
    self.jobs = jobs
    self.fleets = fleets
    self.logger = logger
    prefix = configuration.publicURL?.prefix ?? ""
    files = StaticFiles(root: configuration.webRoot ?? StaticFiles.find())
    headers = SecurityHeaders(configuration)
    origins = Origins(configuration)
    viewers = ViewerCount(maximum: configuration.limits.maximumSessions)
  }

  /// The URL for links where a request doesn't say how it got here; known once the server listens.
  var fallbackURL: String {
    get { address.withLock { $0 } }
    set { address.withLock { $0 = newValue } }
  }

  var isStopping: Bool { stopping.load(ordering: .relaxed) }

  /// Takes no new link and no new viewer.
  func stop() { stopping.store(true, ordering: .sequentiallyConsistent) }

  // MARK: Requests

  func handle(_ request: HTTPRequest, on loop: Loop, reply: HTTPReply) {
    let begun = ContinuousClock.now
    let connection = Connection(request, configuration: configuration)
    let path = local(request.path)
    guard let path else {
      // `/pve` is not `/pve/`: the page's relative addresses need the slash.
      let redirect = HTTPResponse(status: 308, headers: [("Location", prefix + "/")])
      finish(reply, redirect, request, connection, key: nil, begun: begun, isPage: false)
      return
    }
    let segments = path.split(separator: "/")
    if segments.first == "k8s" {
      kubernetes(request, connection, segments.dropFirst().map(String.init), reply, begun: begun)
      return
    }
    let matching = Route.all.compactMap { route in route.match(segments).map { (route, $0) } }
    guard !matching.isEmpty else {
      let response = page(path, request)
      finish(reply, response, request, connection, key: nil, begun: begun, isPage: true)
      return
    }
    // HEAD is GET; the server leaves the body out.
    let method = request.method == "HEAD" ? "GET" : request.method
    guard let (route, values) = matching.first(where: { $0.0.method == method }) else {
      let response = Self.wrongMethod(request.method, allowed: matching.map(\.0.method)).response
      finish(reply, response, request, connection, key: nil, begun: begun, isPage: false)
      return
    }
    Task {
      var name: String?
      let response: HTTPResponse
      do throws(Problem) {
        let key = try key(request, needed: route.access != .anyone)
        name = key?.name
        if case .right(let right) = route.access { try key?.demand(right) }
        let call = Call(request: request, connection: connection, values: values, apiKey: key)
        if route.access != .anyone, isStopping {
          throw Problem(
            503, "server-shutdown", ConsoleBroker.shutdown.sentence,
            remedy: "Try again in a moment.")
        }
        response = try await route.answer(self, call)
      } catch {
        if error.status == 401 { try? await Task.sleep(for: .milliseconds(100)) }
        response = error.response
      }
      finish(reply, response, request, connection, key: name, begun: begun, isPage: false)
    }
  }

  /// A request under `/k8s`, where refusals have Kubernetes' form too.
  private func kubernetes(
    _ request: HTTPRequest, _ connection: Connection, _ path: [String], _ reply: HTTPReply,
    begun: ContinuousClock.Instant
  ) {
    Task {
      var name: String?
      let response: HTTPResponse
      do throws(Problem) {
        let key = try key(request, needed: true)
        name = key?.name
        response = await kubernetes(
          Call(request: request, connection: connection, values: path, apiKey: key))
      } catch {
        try? await Task.sleep(for: .milliseconds(100))
        response = KubernetesStatus.response(KubernetesStatus.explained(error, request, connection))
      }
      finish(reply, response, request, connection, key: name, begun: begun, isPage: false)
    }
  }

  /// The path below the prefix. A reverse proxy may have taken the prefix off already, so both forms are understood.
  /// Nil for the prefix without its slash.
  private func local(_ path: String) -> String? {
    guard !prefix.isEmpty else { return path }
    if path == prefix { return nil }
    return path.hasPrefix(prefix + "/") ? String(path.dropFirst(prefix.count)) : path
  }

  private func page(_ path: String, _ request: HTTPRequest) -> HTTPResponse {
    guard request.method == "GET" || request.method == "HEAD" else {
      return Self.wrongMethod(request.method, allowed: ["GET"]).response
    }
    if let response = files.answer(path, request) { return response }
    return Problem(
      404, "not-found", "There is nothing at this address.",
      remedy: "The API is at \(prefix)/v1/, the page at \(prefix)/."
    ).response
  }

  private static func wrongMethod(_ method: String, allowed: [String]) -> Problem {
    let all = allowed.contains("GET") ? allowed + ["HEAD"] : allowed
    let list = all.sorted().joined(separator: ", ")
    var problem = Problem(
      405, "method-not-allowed", "\(method) is not possible here.", remedy: "Use \(list).")
    problem.headers = [("Allow", list)]
    return problem
  }

  /// The key that a request shows.
  func key(_ request: HTTPRequest, needed: Bool) throws(Problem) -> APIKey? {
    let parts = (request.headers["authorization"] ?? "").split(separator: " ", maxSplits: 1)
    if parts.count == 2, parts[0].lowercased() == "bearer" {
      let shown = Secret(String(parts[1].drop { $0 == " " }))
      if let key = configuration.apiKeys.match(shown) { return key }
    }
    guard needed else { return nil }
    var problem = Problem(
      401, "unauthenticated",
      parts.isEmpty
        ? "This needs an API key." : "The Authorization header holds no API key of this gateway.",
      remedy: configuration.apiKeys.isEmpty
        ? "No key is configured: add one to apiKeys, or set SALLYPORT_API_KEY_FILE."
        : "Send it as Authorization: Bearer KEY.")
    problem.headers = [("WWW-Authenticate", "Bearer realm=\"sallyport\"")]
    throw problem
  }

  private func finish(
    _ reply: HTTPReply, _ response: HTTPResponse, _ request: HTTPRequest, _ connection: Connection,
    key: String?, begun: ContinuousClock.Instant, isPage: Bool
  ) {
    reply.send(headers.adding(to: response, isPage: isPage && response.status != 404))
    log(request, connection, response.status, key: key, begun: begun, isQuiet: isPage)
  }

  /// One line per request. The query is left out, and so is every header: both may hold what nobody should read later.
  private func log(
    _ request: HTTPRequest, _ connection: Connection, _ status: Int, key: String?,
    begun: ContinuousClock.Instant, isQuiet: Bool
  ) {
    let quiet = isQuiet || request.path.hasSuffix("/healthz") || request.path.hasSuffix("/readyz")
    let level: Logger.Level = quiet && status < 500 ? .debug : .info
    let milliseconds = Int((ContinuousClock.now - begun).seconds * 1000)
    logger.log(
      level: level, "request",
      metadata: [
        "method": "\(request.method)", "path": "\(Scrubber(nil).line(request.path))",
        "status": "\(status)", "ms": "\(milliseconds)", "key": "\(key ?? "-")",
        "peer": "\(connection.client)",
      ])
  }

  // MARK: The viewer's websocket

  func upgrade(_ request: HTTPRequest, on loop: Loop) -> UpgradeDecision {
    let begun = ContinuousClock.now
    let connection = Connection(request, configuration: configuration)
    do throws(Problem) {
      if let owner = try commandSocket(request, connection, on: loop) {
        let key = (owner as? CommandStream)?.key.name
        log(request, connection, 101, key: key, begun: begun, isQuiet: false)
        return .accept(owner)
      }
      try admit(request, connection)
      let session = ViewerSession(loop: loop, services: broker, peer: connection.client)
      guard viewers.add(session) else {
        throw Problem(
          503, Ending.Kind.tooManySessions.rawValue,
          "There are \(configuration.limits.maximumSessions) viewers already.",
          remedy: "Try again later, or raise limits.maximumSessions.")
      }
      log(request, connection, 101, key: nil, begun: begun, isQuiet: false)
      return .accept(session)
    } catch {
      log(request, connection, error.status, key: nil, begun: begun, isQuiet: false)
      let isKubernetes = local(request.path)?.hasPrefix("/k8s/") == true
      if isKubernetes, let response = CommandRefusal.response(error, to: request) {
        return .refuse(response)
      }
      let response = isKubernetes ? KubernetesStatus.response(error) : error.response
      return .refuse(headers.adding(to: response, isPage: false))
    }
  }

  /// Where the path is a command's websocket: who is to serve it, once the request has shown a key with the right to
  /// run commands, as a POST must. Nil for every other path.
  private func commandSocket(
    _ request: HTTPRequest, _ connection: Connection, on loop: Loop
  ) throws(Problem) -> (any WebSocketHandler)? {
    guard let path = local(request.path) else { return nil }
    let segments = path.split(separator: "/")
    for route in CommandSocket.all {
      guard let values = route.match(segments) else { continue }
      if let problem = commandOriginRefusal(request, connection, origins) { throw problem }
      let key = try commandKey(request)
      try key.demand(.exec)
      guard !isStopping else {
        throw Problem(
          503, "server-shutdown", ConsoleBroker.shutdown.sentence, remedy: "Try again in a moment.")
      }
      let call = Call(request: request, connection: connection, values: values, apiKey: key)
      return try route.accept(self, call, loop)
    }
    return nil
  }

  private func admit(_ request: HTTPRequest, _ connection: Connection) throws(Problem) {
    guard let path = local(request.path), path == "/v1/viewer" else {
      if local(request.path)?.hasPrefix("/k8s/") == true {
        throw Problem(
          404, "not-found", "There is no such stream.",
          remedy:
            "There are kubectl exec and kubectl cp; attach and port-forward are not possible here.")
      }
      throw Problem(
        404, "not-found", "There is no websocket at this address.",
        remedy: "The viewer's websocket is \(prefix)/v1/viewer.")
    }
    if let problem = origins.refusal(request, connection) { throw problem }
    try request.checkWebSocketVersion()
    let offered = (request.headers["sec-websocket-protocol"] ?? "").split(separator: ",").map {
      $0.filter { $0 != " " }
    }
    guard offered.contains(Gateway.subprotocol) else {
      throw Problem(
        400, "unknown-subprotocol", "The subprotocol \(Gateway.subprotocol) was not offered.",
        remedy: "Offer it in Sec-WebSocket-Protocol.")
    }
    guard !isStopping else {
      throw Problem(
        503, "server-shutdown", ConsoleBroker.shutdown.sentence, remedy: "Try again in a moment.")
    }
  }
}
