import ConsoleProtocol
import ProxmoxClient

/// A viewer's websocket, by hand.
final class RawViewer: Sendable {
  enum Frame: Sendable, Equatable {
    case text(String)
    case binary([UInt8])
    case close(code: Int, reason: String)
    case other(UInt8)
  }

  /// How an attempt to become a websocket went.
  enum Attempt: Sendable {
    case open(RawViewer)
    case refused(RawAnswer)
  }

  private let socket: RawSocket

  private init(_ socket: RawSocket) { self.socket = socket }

  static func attempt(
    _ port: Int, path: String = "/v1/viewer", subprotocol: String? = "sallyport.v1",
    version: String = "13", origin: String? = nil, headers: [String: String] = [:]
  ) async throws -> Attempt {
    try await blocking {
      let socket = try RawSocket(port: port)
      var head = "GET \(path) HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      if headers["Host"] == nil { head += "Host: 127.0.0.1:\(port)\r\n" }
      head += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: \(version)\r\n"
      if let subprotocol { head += "Sec-WebSocket-Protocol: \(subprotocol)\r\n" }
      if let origin { head += "Origin: \(origin)\r\n" }
      for (name, value) in headers { head += "\(name): \(value)\r\n" }
      try socket.write(Array((head + "\r\n").utf8))
      let (status, answer) = try socket.readHead()
      if status == 101 { return .open(RawViewer(socket)) }
      let body = try socket.read(Int(answer["content-length"] ?? "") ?? 0)
      return .refused(RawAnswer(status: status, headers: answer, body: body))
    }
  }

  /// Opens and shows a token.
  static func open(_ port: Int, token: String, terminal: Bool = true) async throws -> RawViewer {
    guard case .open(let viewer) = try await attempt(port) else {
      throw RawFailure(description: "the websocket was refused")
    }
    let size = terminal ? ",\"columns\":80,\"rows\":24" : ""
    try await viewer.send(
      text: "{\"type\":\"open\",\"token\":\"\(token)\"\(size),\"notices\":true}")
    return viewer
  }

  func send(text: String) async throws { try await send(0x81, Array(text.utf8)) }
  func send(binary: [UInt8]) async throws { try await send(0x82, binary) }

  private func send(_ first: UInt8, _ payload: [UInt8]) async throws {
    try await blocking { [socket] in
      var head: [UInt8] = [first]
      if payload.count < 126 {
        head.append(0x80 | UInt8(payload.count))
      } else {
        head += [0x80 | 126, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
      }
      try socket.write(head + [0, 0, 0, 0] + payload)
    }
  }

  func next() async throws -> Frame {
    try await blocking { [socket] in
      let head = try socket.read(2)
      var length = Int(head[1] & 127)
      if length == 126 {
        let more = try socket.read(2)
        length = Int(more[0]) << 8 | Int(more[1])
      } else if length == 127 {
        length = try socket.read(8).reduce(0) { $0 << 8 | Int($1) }
      }
      let payload = try socket.read(length)
      switch head[0] & 15 {
      case 1: return .text(String(decoding: payload, as: UTF8.self))
      case 2: return .binary(payload)
      case 8:
        let code = payload.count >= 2 ? Int(payload[0]) << 8 | Int(payload[1]) : 0
        return .close(code: code, reason: String(decoding: payload.dropFirst(2), as: UTF8.self))
      default: return .other(head[0] & 15)
      }
    }
  }

  /// The next JSON message that isn't about progress.
  func message() async throws -> JSONValue {
    while true {
      guard case .text(let text) = try await next() else { continue }
      let json = try JSONParser.parse(Array(text.utf8))
      if json["type"].string != "stage" { return json }
    }
  }

  /// Reads to the close frame.
  func closed() async throws -> (code: Int, reason: String) {
    while true {
      if case .close(let code, let reason) = try await next() { return (code, reason) }
    }
  }
}
