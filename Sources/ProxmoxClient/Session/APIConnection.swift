import ConsoleProtocol
import Synchronization

/// One call as it goes to a node: everything but who we are.
struct APIRequest: Sendable {
  var method: HTTPMethod
  /// Below `/api2/json`, starting with `/`.
  var path: String
  var parameters: [Parameter] = []
  /// Credentials: they go out, and are cut out of every error.
  var headers: [(name: String, value: Secret)] = []
  /// Whether it must never be sent a second time once a byte of it went out, although it is a GET: what is asked for
  /// may be told once only.
  var atMostOnce = false
  /// The largest answer in bytes, where the configuration's limit doesn't fit.
  var maximumBody: Int?
  /// Whether sending it twice does no harm.
  var mayRepeat: Bool { method.isIdempotent && !atMostOnce }

  func error(
    _ kind: PVEError.Kind, _ message: String, host: APIHost? = nil, hint: String? = nil
  ) -> PVEError {
    PVEError(
      kind: kind, message: message, method: method, path: path, host: host?.description,
      hint: hint ?? PVEError.hint(for: kind))
  }
}

/// A cluster's addresses: tries them in order, stays with the one that worked last. A certificate that isn't trusted ends
/// the search at once: that is a finding for a person, not an outage to go around.
final class APIConnection: Sendable {
  let configuration: ClusterConfiguration
  private let transport: CurlTransport
  private let preferred = Mutex(0)
  /// Told about a host that couldn't be reached: what is known about it may have changed when it is back.
  private let lost = Mutex<(@Sendable (APIHost) -> Void)?>(nil)

  init(_ configuration: ClusterConfiguration) {
    self.configuration = configuration
    transport = CurlTransport(maximumConnections: configuration.maximumConnections)
  }

  func shutdown() { transport.shutdown() }

  func whenLost(_ action: @escaping @Sendable (APIHost) -> Void) { lost.withLock { $0 = action } }

  /// The hosts, the one that worked last first.
  var hostsInOrder: [APIHost] {
    let hosts = configuration.hosts
    guard !hosts.isEmpty else { return [] }
    let first = preferred.withLock { $0 } % hosts.count
    return Array(hosts[first...] + hosts[..<first])
  }

  private func prefer(_ host: APIHost) {
    if let index = configuration.hosts.firstIndex(of: host) { preferred.withLock { $0 = index } }
  }

  /// Makes the call on one host, or on the first that can be reached. Another host is tried only where nothing of the
  /// request was sent, or where the call can run twice without harm.
  /// - Returns: the answer whatever its status, and the host that gave it.
  func exchange(
    _ request: APIRequest, on host: APIHost? = nil
  ) async throws(PVEError) -> (answer: HTTPAnswer, host: APIHost) {
    let hosts = host.map { [$0] } ?? hostsInOrder
    guard !hosts.isEmpty else {
      throw request.error(
        .badConfiguration, "cluster '\(configuration.name)' has no hosts",
        hint: "Name at least one host in the configuration")
    }
    try check(request)
    var last: PVEError?
    for host in hosts {
      switch await transport.send(prepare(request, for: host)) {
      case .success(let answer):
        prefer(host)
        return (answer, host)
      case .failure(let failure):
        let error = request.error(failure.kind, failure.message, host: host)
          .scrubbed(of: secrets(of: request))
        if error.nothingWasSent { lost.withLock { $0 }?(host) }
        guard
          error.nothingWasSent
            || (request.mayRepeat && error.kind == .connectionLost)
        else { throw error }
        // The first host's trouble tells more than a stand-in's, unless there is only one.
        if last == nil { last = error }
      }
    }
    var error = last ?? request.error(.connectFailed, "no host was reached")
    if hosts.count > 1 {
      error.message += " (and none of the other \(hosts.count - 1) hosts could be reached)"
    }
    throw error
  }

  /// What must not show up in an error of this request.
  func secrets(of request: APIRequest) -> [Secret] {
    // A header's value begins with its scheme, which is no secret; the part behind the last '=' of a token is.
    request.headers.flatMap { header -> [Secret] in
      let text = header.value.reveal()
      let bare = text.split(separator: "=", maxSplits: header.name == "Authorization" ? 2 : 1)
      return [header.value] + (bare.last.map { [Secret(String($0))] } ?? [])
    }
      + request.parameters.filter { Self.isSecret($0.name) }.flatMap(\.values)
  }

  private static func isSecret(_ name: String) -> Bool {
    ["password", "otp", "tfa-challenge", "response", "ticket", "vncticket"].contains(name)
  }

  private func check(_ request: APIRequest) throws(PVEError) {
    let fine =
      request.path.hasPrefix("/") && request.path.utf8.count <= 4096
      && request.path.utf8.allSatisfy { $0 > 32 && $0 < 127 && $0 != 0x23 && $0 != 0x5C }
    guard fine else {
      throw PVEError(
        kind: .badConfiguration, message: "the path is no path of the API", method: request.method,
        path: PVEError.clean(String(request.path.prefix(200))),
        hint: "Use a path like /nodes/pve1/status, percent-encoded")
    }
  }

  private func prepare(_ request: APIRequest, for host: APIHost) -> HTTPRequest {
    let form = Parameter.encode(request.parameters)
    var target = "/api2/json" + request.path
    if !request.method.hasBody, !form.isEmpty {
      target += (request.path.contains("?") ? "&" : "?") + form
    }
    return HTTPRequest(
      host: host, method: request.method, target: target, headers: request.headers,
      body: request.method.hasBody ? Array(form.utf8) : nil,
      tls: host.policy(configuration.tls), timeouts: configuration.timeouts,
      maximumBody: request.maximumBody ?? configuration.maximumBody, proxy: configuration.proxy,
      mayRepeat: request.mayRepeat)
  }
}

extension APIRequest {
  /// The answer's JSON. - Throws: any status that isn't 2xx, and what isn't JSON.
  func read(_ answer: HTTPAnswer, from host: APIHost, secrets: [Secret]) throws(PVEError)
    -> JSONValue
  {
    guard (200..<300).contains(answer.status) else {
      throw PVEError(
        status: answer.status, reason: answer.reason, headers: answer.headers, body: answer.body,
        method: method, path: path, host: host.description
      ).scrubbed(of: secrets)
    }
    do {
      let json = try JSONParser.parse(answer.body)
      guard json.object != nil else {
        throw malformed("the answer is no JSON object", "data", host, answer.status)
      }
      return json
    } catch let error as JSONParser.Failure {
      throw malformed("the answer is no JSON: \(error)", nil, host, answer.status)
    } catch let error as PVEError {
      throw error
    } catch {
      throw malformed("the answer is no JSON", nil, host, answer.status)
    }
  }

  private func malformed(_ message: String, _ field: String?, _ host: APIHost, _ status: Int)
    -> PVEError
  {
    var e = error(.malformedAnswer(field: field), message, host: host)
    e.status = status
    return e
  }
}
