import ConsoleProtocol

/// Steers the simulator over HTTP: `/simulator`, on the port of every node and outside of Proxmox VE's API.
///
/// It asks for no credential by default, as it is reachable from this machine only. Web pages are kept out: a request
/// with an `Origin`, one that a browser made for a page, or one for a host name that isn't this machine's is refused, and
/// bodies must be declared as JSON. ``SimulatorConfiguration/controlToken`` makes it ask for a token.
final class ControlDesk {
  /// A refusal: a status and a sentence.
  struct Refusal: Error {
    var status: Int
    var sentence: String

    static func bad(_ sentence: String) -> Refusal { Refusal(status: 400, sentence: sentence) }
    static func missing(_ sentence: String) -> Refusal { Refusal(status: 404, sentence: sentence) }
  }

  /// A request to `/simulator`.
  struct Request {
    var method: String
    /// The path's parts behind `/simulator`.
    var path: [String]
    var query: Parameters
    /// The body's JSON; nil without one.
    var body: JSON?

    /// The body's members, of which there may be no others than those named.
    func fields(_ known: String...) throws(Refusal) -> [String: JSON] {
      guard let body else { return [:] }
      guard case .object(let members) = body else { throw .bad("the body is no JSON object") }
      for member in members where !known.contains(member.key) {
        throw .bad("unknown field '\(member.key)'; there are: \(known.joined(separator: ", "))")
      }
      return Dictionary(members.map { ($0.key, $0.value) }) { $1 }
    }

    /// A number of the query.
    func number(_ name: String) throws(Refusal) -> Int? {
      guard let text = query[name]?.text else { return nil }
      guard let number = Int(text), number >= 0 else {
        throw .bad("'\(name)' is a whole number from 0 on, not '\(text)'")
      }
      return number
    }
  }

  unowned let cluster: Cluster

  init(cluster: Cluster) { self.cluster = cluster }

  /// Whether a path is the simulator's own.
  static func owns(_ path: Substring) -> Bool {
    path.hasPrefix("/simulator") && (path.utf8.count == 10 || path.hasPrefix("/simulator/"))
  }

  /// Answers a request.
  func answer(_ head: RequestHead, _ body: [UInt8]) -> Response {
    do throws(Refusal) {
      try admit(head)
      var request = Request(
        method: head.method, path: head.path.split(separator: "/").dropFirst().map(String.init),
        query: Parameters(form: head.query.utf8))
      request.body = try ControlDesk.json(head, body)
      return ControlDesk.response(200, try route(request))
    } catch {
      return ControlDesk.response(error.status, ["error": .string(error.sentence)])
    }
  }

  private static func response(_ status: Int, _ json: JSON) -> Response {
    let reason =
      switch status {
      case 200: "OK"
      case 400: "Bad Request"
      case 401: "Unauthorized"
      case 403: "Forbidden"
      case 404: "Not Found"
      case 405: "Method Not Allowed"
      default: "Unsupported Media Type"
      }
    return Response(
      status: status, reason: reason, body: json.bytes + [10], contentType: Response.json)
  }

  // MARK: who may

  private func admit(_ head: RequestHead) throws(Refusal) {
    if head.header("origin") != nil || (head.header("sec-fetch-site") ?? "none") != "none" {
      throw Refusal(status: 403, sentence: "requests from web pages are refused")
    }
    let host = head.header("host") ?? ""
    guard host.isEmpty || isOurs(host) else {
      throw Refusal(
        status: 403, sentence: "requests for another host than this machine are refused")
    }
    guard let token = cluster.configuration.controlToken else { return }
    let header = head.header("authorization") ?? ""
    guard header.hasPrefix("Bearer "), Secret(String(header.dropFirst(7))) == token else {
      throw Refusal(
        status: 401, sentence: "the control token is missing or wrong (Authorization: Bearer …)")
    }
  }

  /// A name that a page could have pointed at this machine by its own DNS is not ours.
  private func isOurs(_ host: String) -> Bool {
    let name: Substring =
      host.hasPrefix("[")
      ? host.prefix { $0 != "]" }.dropFirst() : host.prefix { $0 != ":" }
    let lower = name.lowercased()
    let isLoopback =
      lower.hasPrefix("127.") && lower.utf8.allSatisfy { (48...57).contains($0) || $0 == 46 }
    return ["localhost", "::1"].contains(lower) || isLoopback
      || cluster.nodes.contains { $0.name == lower }
  }

  private static func json(_ head: RequestHead, _ body: [UInt8]) throws(Refusal) -> JSON? {
    guard !body.isEmpty else { return nil }
    let type = (head.header("content-type") ?? "").prefix { $0 != ";" && $0 != " " }
    guard type.lowercased() == "application/json" else {
      throw Refusal(status: 415, sentence: "a body is JSON, with Content-Type: application/json")
    }
    do throws(JSONReader.Malformed) {
      return try JSONReader.read(body)
    } catch {
      throw .bad(error.message)
    }
  }

  // MARK: what there is

  private func route(_ request: Request) throws(Refusal) -> JSON {
    let method = request.method
    switch (request.path.first, request.path.count) {
    case (nil, _):
      try allow(["GET"], method)
      return report
    case ("journal", 1):
      try allow(["GET", "DELETE"], method)
      return method == "GET" ? try journal(request) : clearJournal()
    case ("faults", 1):
      try allow(["GET", "POST", "PUT", "DELETE"], method)
      return try faults(request)
    case ("faults", 2):
      try allow(["GET", "DELETE"], method)
      return try fault(request, id: request.path[1])
    case ("clock", 1):
      try allow(["GET", "POST"], method)
      return try clock(request)
    case ("reset", 1):
      try allow(["POST"], method)
      _ = try request.fields()
      cluster.reset()
      return report
    case ("tasks", 3) where request.path[2] == "kill":
      try allow(["POST"], method)
      return try killTask(request.path[1])
    case ("guests", 3):
      return try guest(request, request.path[1], request.path[2])
    default:
      throw .missing("there is no /simulator/\(request.path.joined(separator: "/"))")
    }
  }

  /// - Throws: a 405 for other methods.
  func allow(_ methods: [String], _ method: String) throws(Refusal) {
    guard methods.contains(method) else {
      throw Refusal(
        status: 405,
        sentence: "'\(method)' is not for this; there is \(methods.joined(separator: ", "))")
    }
  }
}
