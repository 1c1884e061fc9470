import ConsoleProtocol
import EventLoop
import ProxmoxClient
import Synchronization

/// A gateway's answer.
struct GatewayAnswer: Sendable {
  var status: Int
  var body: [UInt8]
  /// The value of `Sallyport-…` headers and the like, by lower-case name.
  var headers: [String: String]

  /// The body as JSON; null where it is none.
  var json: JSONValue { (try? JSONParser.parse(body)) ?? .null }
}

/// Why a call of a gateway came to nothing.
enum GatewayFailure: Error {
  /// There is no connection: the call may be tried again where a second arrival does no harm.
  case broken(Failure)
  /// The gateway says no.
  case refused(Int, Failure)

  /// For the person.
  var failure: Failure {
    switch self {
    case .broken(let failure), .refused(_, let failure): failure
    }
  }
}

/// Calls of a gateway's API: connections are used again, and answers can be read as they come.
final class GatewayClient: Sendable {
  let address: GatewayAddress
  private let loops: LoopGroup
  let loop: Loop
  private let target = Mutex<(addresses: [SocketAddress], tls: TLSContext?)?>(nil)
  private let idle: Mutex<[OnLoop<GatewayConnection>]> = Mutex([])

  init(_ address: GatewayAddress) throws(Failure) {
    self.address = address
    loops = try Parsing.loops()
    loop = loops.next()
  }

  /// Ends every connection.
  func close() { loops.shutdown() }

  /// One call, its answer complete. A call that found its kept connection closed is made again on a new one.
  /// - Parameter patience: how long to wait for the answer.
  func call(
    _ method: String, _ path: String, headers: [(String, String)] = [], json: JSONValue? = nil,
    body: [UInt8] = [], patience: Duration = .seconds(100)
  ) async throws(GatewayFailure) -> GatewayAnswer {
    var headers = headers
    var body = body
    if let json {
      body = Array(json.encoded(pretty: false).utf8)
      headers.append(("Content-Type", "application/json"))
    }
    let request = request(method, path, headers, body)
    while true {
      let kept = idle.withLock { $0.popLast() }
      let connection = try await self.connection(kept)
      let outcome = await withCheckedContinuation { done in
        connection.execute { $0.ask(request, patience: patience) { done.resume(returning: $0) } }
      }
      switch outcome {
      case .success(let (answer, reusable)):
        if reusable { idle.withLock { $0.append(connection) } }
        guard (200..<300).contains(answer.status) else {
          throw .refused(answer.status, refusal(answer))
        }
        return answer
      case .failure(let end):
        // A kept connection may have been closed just now, before our call was read.
        if kept != nil, end.nothingCame { continue }
        throw .broken(address.unreachable(end.end))
      }
    }
  }

  /// An answer of server-sent events, on a connection of its own.
  func events(
    _ path: String, headers: [(String, String)] = []
  ) async throws(GatewayFailure) -> GatewayEvents {
    let request = request("GET", path, headers + [("Accept", "text/event-stream")], [])
    let connection = try await self.connection(nil)
    let queue = GatewayEvents(connection)
    let outcome = await withCheckedContinuation { done in
      connection.execute { $0.follow(request, into: queue) { done.resume(returning: $0) } }
    }
    switch outcome {
    case .success(nil): return queue
    case .success(let answer?): throw .refused(answer.status, refusal(answer))
    case .failure(let end): throw .broken(address.unreachable(end.end))
    }
  }

  private func connection(
    _ kept: OnLoop<GatewayConnection>?
  ) async throws(GatewayFailure) -> OnLoop<GatewayConnection> {
    if let kept { return kept }
    let (addresses, tls): ([SocketAddress], TLSContext?)
    if let known = target.withLock({ $0 }) {
      (addresses, tls) = known
    } else {
      do throws(Failure) {
        let found = try await address.resolve()
        target.withLock { $0 = found }
        (addresses, tls) = found
      } catch {
        throw .broken(error)
      }
    }
    let (address, loop) = (address, loop)
    return await withCheckedContinuation { done in
      loop.execute {
        let connection = GatewayConnection(address, addresses: addresses, tls: tls, loop: loop)
        done.resume(returning: OnLoop(connection, loop: loop))
      }
    }
  }

  private func request(
    _ method: String, _ path: String, _ headers: [(String, String)], _ body: [UInt8]
  ) -> [UInt8] {
    var head = "\(method) \(address.prefix)\(path) HTTP/1.1\r\nHost: \(address.hostHeader)\r\n"
    head += "Authorization: Bearer \(address.key.reveal())\r\nUser-Agent: sallyport\r\n"
    if !headers.contains(where: { $0.0 == "Accept" }) { head += "Accept: application/json\r\n" }
    for (name, value) in headers { head += "\(name): \(value)\r\n" }
    if method != "GET" || !body.isEmpty { head += "Content-Length: \(body.count)\r\n" }
    return Array((head + "\r\n").utf8) + body
  }

  /// What `application/problem+json` says.
  private func refusal(_ answer: GatewayAnswer) -> Failure {
    let problem = answer.json
    let kind =
      problem["type"].string?.split(separator: "#").last.map(String.init) ?? "http-\(answer.status)"
    var remedy = problem["remedy"].string ?? ""
    if answer.status == 401 { remedy = "Check $SALLYPORT_API_KEY or --key-file." }
    if remedy.isEmpty, problem.isNull { remedy = "Check the address \(address.url)." }
    let status: ExitStatus =
      switch answer.status {
      case 401, 403: .permission
      case 404, 409, 410: .guest
      case 400, 413, 422: .usage
      case 429: .limit
      case 502, 503, 504: .unreachable
      default: .failure
      }
    return Failure(
      kind: kind,
      sentence: problem["detail"].string ?? problem["title"].string
        ?? "The gateway answered \(answer.status).",
      remedy: remedy, details: problem["field"].string.map { ["field: \($0)"] } ?? [],
      status: status)
  }
}
