import ConsoleProtocol
import EventLoop
import Foundation

/// One call of the gateway's HTTP API on a connection of its own.
final class GatewayCall: StreamHandler {
  private typealias Outcome = Result<(status: Int, body: Data), Failure>

  private let address: GatewayAddress
  private let request: [UInt8]
  private var received: [UInt8] = []
  private var done: CheckedContinuation<Outcome, Never>?
  private var stream: EventLoop.Stream?
  private var timer: LoopTimer?
  private var remaining: [SocketAddress] = []
  private var tls: TLSContext?

  /// More than this is no answer of a gateway, in bytes.
  private static let maximumAnswer = 32 << 20

  private init(_ address: GatewayAddress, _ request: [UInt8]) {
    self.address = address
    self.request = request
  }

  /// Calls and reads the answer as `T`. A refusal becomes a ``Failure`` with the gateway's own words.
  static func call<T: Decodable>(
    _ method: String, _ path: String, body: (some Encodable)? = Never?.none,
    of address: GatewayAddress,
    on loop: Loop, as type: T.Type
  ) async throws -> T {
    let json = try body.map { try JSONEncoder().encode($0) }
    var head = "\(method) \(address.prefix)\(path) HTTP/1.1\r\nHost: \(address.hostHeader)\r\n"
    head += "Authorization: Bearer \(address.key.reveal())\r\nAccept: application/json\r\n"
    head += "Connection: close\r\nUser-Agent: sallyport\r\n"
    if let json { head += "Content-Type: application/json\r\nContent-Length: \(json.count)\r\n" }
    let request = Array((head + "\r\n").utf8) + (json.map(Array.init) ?? [])
    let target = try await address.resolve()
    let outcome: Outcome = await withCheckedContinuation { done in
      loop.execute {
        let call = GatewayCall(address, request)
        call.done = done
        call.connect(on: loop, target.addresses, target.tls)
      }
    }
    let (status, data) = try outcome.get()
    guard (200..<300).contains(status) else { throw refusal(status, data, address) }
    do {
      return try JSONDecoder().decode(T.self, from: data.isEmpty ? Data("{}".utf8) : data)
    } catch {
      throw Failure(
        kind: "malformed-answer",
        sentence: "\(address.url) doesn't answer like a Sallyport gateway.",
        remedy: "Check the address; it needs the path prefix, where there is one.",
        status: .violation)
    }
  }

  private func connect(on loop: Loop, _ addresses: [SocketAddress], _ tls: TLSContext?) {
    timer = loop.schedule(after: .seconds(60)) {
      self.finish(.failure(self.address.unreachable(.connectTimedOut)))
    }
    remaining = addresses
    self.tls = tls
    connectNext(on: loop, after: .connectFailed("it has no address"))
  }

  /// Tries the next address: `localhost` has two as a rule, and a gateway listens on one.
  private func connectNext(on loop: Loop, after end: StreamEnd) {
    guard !remaining.isEmpty else { return finish(.failure(address.unreachable(end))) }
    do {
      stream = try Stream.connect(
        on: loop, to: remaining.removeFirst(), tls: tls, serverName: address.host, handler: self)
    } catch {
      connectNext(on: loop, after: .connectFailed("\(error)"))
    }
  }

  func streamConnected(_ stream: EventLoop.Stream) { stream.write(request) }

  func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    guard received.count + bytes.count <= GatewayCall.maximumAnswer else {
      return finish(.failure(address.unreachable(.failed("its answer is too large"))))
    }
    received.append(contentsOf: bytes)
    if let answer = answer(atEnd: false) { finish(answer) }
  }

  func streamDrained(_ stream: EventLoop.Stream) {}

  func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {
    if let answer = answer(atEnd: true) { return finish(answer) }
    // Until it is connected nothing was sent.
    if case .connectFailed = end { return connectNext(on: stream.loop, after: end) }
    finish(.failure(address.unreachable(end)))
  }

  private func finish(_ outcome: Outcome) {
    timer?.cancel()
    stream?.close()
    done?.resume(returning: outcome)
    done = nil
  }

  /// The answer, once it is complete.
  private func answer(atEnd: Bool) -> Outcome? {
    guard let end = received.firstRange(of: [13, 10, 13, 10]) else { return nil }
    guard case .success(let header) = HTTPAnswerHeader.parse(Array(received[..<end.upperBound]))
    else {
      return .failure(address.unreachable(.failed("it doesn't speak HTTP")))
    }
    let body = received[end.upperBound...]
    if header.values("transfer-encoding").contains(where: { $0.lowercased() == "chunked" }) {
      return GatewayCall.unchunked(body).map { .success((header.status, Data($0))) }
    }
    if let length = header.values("content-length").first.flatMap(Int.init) {
      return body.count >= length ? .success((header.status, Data(body.prefix(length)))) : nil
    }
    return atEnd || header.status == 204 ? .success((header.status, Data(body))) : nil
  }

  /// The body without its chunks' frames, which a reverse proxy may have put around it; nil while it isn't complete.
  private static func unchunked(_ bytes: ArraySlice<UInt8>) -> [UInt8]? {
    var rest = bytes
    var out: [UInt8] = []
    while let lineEnd = rest.firstRange(of: [13, 10]) {
      let digits = rest[..<lineEnd.lowerBound].prefix { $0 != UInt8(ascii: ";") }
      guard let size = Int(String(decoding: digits, as: UTF8.self), radix: 16), size >= 0 else {
        return nil
      }
      rest = rest[lineEnd.upperBound...]
      if size == 0 { return out }
      guard rest.count >= size + 2 else { return nil }
      out.append(contentsOf: rest.prefix(size))
      rest = rest.dropFirst(size + 2)
    }
    return nil
  }

  /// What `application/problem+json` says.
  private struct Problem: Decodable {
    var type: String?
    var title: String?
    var detail: String?
    var field: String?
    var remedy: String?
  }

  private static func refusal(_ status: Int, _ data: Data, _ address: GatewayAddress) -> Failure {
    let problem = try? JSONDecoder().decode(Problem.self, from: data)
    let kind = problem?.type?.split(separator: "#").last.map(String.init) ?? "http-\(status)"
    let sentence = problem?.detail ?? problem?.title ?? "The gateway answered \(status)."
    var remedy = problem?.remedy ?? ""
    if status == 401 { remedy = "Check $SALLYPORT_API_KEY or --key-file." }
    if remedy.isEmpty, status == 404, problem == nil {
      remedy = "Check the address \(address.url)."
    }
    let exit: ExitStatus =
      switch status {
      case 401, 403: .permission
      case 404, 409: .guest
      case 400, 422: .usage
      case 429: .limit
      case 502, 503, 504: .unreachable
      default: .failure
      }
    return Failure(
      kind: kind, sentence: sentence, remedy: remedy,
      details: problem?.field.map { ["field: \($0)"] } ?? [], status: exit)
  }
}
