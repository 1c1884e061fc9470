import ConsoleProtocol
import Synchronization

/// A client of one cluster's API (or of a single node's).
///
/// ```swift
/// let client = ProxmoxClient(ClusterConfiguration(
///   name: "home", hosts: [APIHost(host: "pve1.example")],
///   credential: .token(id: "root@pam!sallyport", secret: secret)))
/// let nodes = try await client.call(.get, "/nodes")
/// let place = try await client.resolve(Target("qemu/100"))
/// let plan = try await client.mint(.vnc, of: place)
/// ```
///
/// Every method may be called from any task at any time. Cancelling the task ends the transfer under it. What fails
/// throws a ``PVEError``.
public final class ProxmoxClient: Sendable {
  /// What the client was made of.
  public let configuration: ClusterConfiguration
  let connection: APIConnection
  let primary: Identity
  let secondary: Identity?
  let versions = VersionCache()
  let resources = ResourceCache()
  let turns = ConsoleTurns()

  /// Makes a client. Nothing is sent before the first call.
  public convenience init(_ configuration: ClusterConfiguration) {
    self.init(configuration, clock: .system)
  }

  init(_ configuration: ClusterConfiguration, clock: LoginClock) {
    self.configuration = configuration
    connection = APIConnection(configuration)
    primary = Identity(configuration.credential, connection: connection, clock: clock)
    secondary = configuration.consoleCredential.map { [connection] in
      Identity($0, connection: connection, clock: clock)
    }
    let versions = versions
    connection.whenLost { versions.forget($0) }
  }

  /// Ends every call under way and the client's thread. Later calls fail with ``PVEError/Kind/shutDown``.
  public func shutdown() { connection.shutdown() }

  /// Makes one call and gives the answer's `data`.
  /// - Parameters:
  ///   - path: below `/api2/json`, e.g. `/nodes/pve1/status`; percent-encode what isn't plain.
  ///   - parameters: go into the body of POST and PUT, and into the query of GET and DELETE.
  /// - Throws: any status that isn't 2xx, and everything on the way there.
  public func call(
    _ method: HTTPMethod, _ path: String, _ parameters: [Parameter] = []
  ) async throws(PVEError) -> JSONValue {
    try await perform(APIRequest(method: method, path: path, parameters: parameters)).value
  }

  /// Makes one call as somebody, on one host or any.
  func perform(
    _ request: APIRequest, by identity: Identity? = nil, on host: APIHost? = nil
  ) async throws(PVEError) -> AnswerReader {
    try await envelope(request, by: identity, on: host).reader
  }

  /// The same with the answer's other fields beside `data`.
  func envelope(
    _ request: APIRequest, by identity: Identity? = nil, on host: APIHost? = nil
  ) async throws(PVEError) -> (
    reader: AnswerReader, json: JSONValue, authorization: Identity.Authorization
  ) {
    let identity = identity ?? primary
    var mayLogInAgain = true
    while true {
      let authorization = try await identity.authorization(for: request)
      var authorized = request
      authorized.headers += authorization.headers
      let (answer, used) = try await connection.exchange(authorized, on: host)
      if answer.status == 401, mayLogInAgain, identity.wasRefused(authorization) {
        // A 401 comes before anything ran, so the call can be made again; once.
        mayLogInAgain = false
        continue
      }
      let json = try authorized.read(
        answer, from: used, secrets: connection.secrets(of: authorized))
      return (AnswerReader(value: json["data"], request: request, host: used), json, authorization)
    }
  }
}
