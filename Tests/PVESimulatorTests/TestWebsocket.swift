@testable import PVESimulator

/// A websocket client by hand: blocking, and able to send what no library would.
final class TestWebsocket {
  let connection: TestConnection
  private(set) var answer = ""
  private var isOpen = false

  /// A mint answer's part that matters here.
  struct Mint: Sendable {
    var user: String
    var ticket: String
    var port: String
    var upid: String
    var password: String
    var place: String
  }

  convenience init(
    _ pve: Simulator, _ mint: Mint, as credential: TestCredential, protocols: String = "binary",
    extra: String = ""
  ) throws {
    try self.init(port: pve.port, mint, as: credential, protocols: protocols, extra: extra)
  }

  convenience init(
    port: Int, node: String = "pve1", _ mint: Mint, as credential: TestCredential,
    protocols: String = "binary", extra: String = ""
  ) throws {
    let query = "port=\(mint.port)&vncticket=\(TestWebsocket.encoded(mint.ticket))"
    try self.init(
      port: port, target: "/api2/json/nodes/\(node)\(mint.place)/vncwebsocket?\(query)",
      as: credential, protocols: protocols, extra: extra)
  }

  init(
    port: Int, target: String, as credential: TestCredential, protocols: String = "binary",
    extra: String = ""
  ) throws {
    connection = try TestConnection(port: port)
    try connection.write(
      "GET \(target) HTTP/1.1\r\nHost: x\r\n"
        + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        + (protocols.isEmpty ? "" : "Sec-WebSocket-Protocol: \(protocols)\r\n")
        + credential.lines + extra + "\r\n")
  }

  static func encoded(_ text: String) -> String {
    text.utf8.map { byte in
      let letter = (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
      return letter
        ? String(Character(Unicode.Scalar(byte)))
        : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
    }.joined()
  }

  /// Awaits the 101.
  func open() throws {
    answer = try connection.read(upTo: "\r\n\r\n")
    guard answer.hasPrefix("HTTP/1.1 101 ") else { throw ClientFailure(description: answer) }
    isOpen = true
  }

  func send(_ bytes: [UInt8], opcode: UInt8 = 2) throws {
    try connection.write(clientFrame(opcode: opcode, bytes))
  }

  func send(_ text: String) throws { try send(Array(text.utf8)) }

  /// Types into a terminal.
  func type(_ text: String) throws { try send("0:\(text.utf8.count):\(text)") }

  /// The next frame; nil at the end of the connection.
  func frame(seconds: Double = 15) throws -> (opcode: UInt8, payload: [UInt8])? {
    guard let first = try? connection.read(2, seconds: seconds) else { return nil }
    guard first[0] & 0xF0 == 0x80, first[1] & 0x80 == 0 else {
      throw ClientFailure(description: "a frame that the node must not send")
    }
    var length = Int(first[1])
    if length == 126 {
      length = try connection.read(2).reduce(0) { $0 << 8 | Int($1) }
    } else if length == 127 {
      length = try connection.read(8).reduce(0) { $0 << 8 | Int($1) }
    }
    guard length <= 131_072 else { throw ClientFailure(description: "frame too large") }
    return (first[0] & 15, try connection.read(length, seconds: seconds))
  }

  private var held: [UInt8] = []

  /// Console bytes up to and with a marker.
  func read(upTo marker: String, seconds: Double = 15) throws -> String {
    let wanted = Array(marker.utf8)
    while true {
      if let range = held.firstRange(of: wanted) {
        defer { held.removeFirst(range.upperBound) }
        return String(decoding: held[..<range.upperBound], as: UTF8.self)
      }
      guard let frame = try frame(seconds: seconds) else {
        throw ClientFailure(
          description:
            "'\(marker)' did not come after \(String(decoding: held, as: UTF8.self).debugDescription)"
        )
      }
      if frame.opcode == 2 { held += frame.payload }
    }
  }

  /// So many console bytes.
  func read(_ count: Int, seconds: Double = 15) throws -> [UInt8] {
    while held.count < count {
      guard let frame = try frame(seconds: seconds) else {
        throw ClientFailure(description: "\(count) bytes did not come, only \(held.count)")
      }
      if frame.opcode == 2 { held += frame.payload }
    }
    defer { held.removeFirst(count) }
    return Array(held.prefix(count))
  }

  /// Whether the connection ends within a time, with no frame before its end.
  func ends(seconds: Double = 5) -> Bool {
    while true {
      guard let more = connection.readSome(seconds: seconds) else { return true }
      if more.isEmpty { return false }
    }
  }

  /// How many console bytes came, once there are so many or nothing more comes.
  func readCount(_ wanted: Int, seconds: Double = 10) throws -> Int {
    var count = held.count
    held = []
    while count < wanted, let frame = try frame(seconds: seconds) { count += frame.payload.count }
    return count
  }

  /// Console bytes until nothing more comes for a time.
  func everything(seconds: Double) -> String {
    var all = held
    held = []
    while let frame = try? frame(seconds: seconds) { all += frame.payload }
    return String(decoding: all, as: UTF8.self)
  }

  /// Waits, and keeps what comes.
  func pause(seconds: Double) {
    let frames = everything(seconds: seconds)
    held += Array(frames.utf8)
  }

  /// Whether nothing at all comes for a time.
  func isSilent(seconds: Double) -> Bool {
    guard let more = connection.readSome(seconds: seconds) else { return false }
    return more.isEmpty
  }
}

extension Simulator {
  /// Mints a console.
  func mint(
    _ place: String, _ kind: String, _ form: [String: String] = [:], as credential: TestCredential,
    node: String = "pve1", port: Int? = nil
  ) async throws -> TestWebsocket.Mint {
    let answer = try await call(
      "POST", "/nodes/\(node)\(place)/\(kind)", form, as: credential, port: port)
    guard answer.status == 200, let user = answer.data["user"]?.asText,
      let ticket = answer.data["ticket"]?.asText, let port = answer.data["port"]?.asText,
      let upid = answer.data["upid"]?.asText
    else { throw ClientFailure(description: "no mint: \(answer.status) \(answer.reason)") }
    return .init(
      user: user, ticket: ticket, port: port, upid: upid,
      password: answer.data["password"]?.asText ?? "", place: place)
  }

  /// Mints, dials and logs in to a terminal, and does something with it.
  func terminal<R: Sendable>(
    _ place: String, _ form: [String: String] = [:], as credential: TestCredential,
    _ body: @escaping @Sendable (TestWebsocket) throws -> R
  ) async throws -> R {
    let mint = try await mint(place, "termproxy", form, as: credential)
    return try await blocking {
      let socket = try TestWebsocket(self, mint, as: credential)
      try socket.open()
      try socket.send("\(mint.user):\(mint.ticket)\n")
      _ = try socket.read(upTo: "OK")
      return try body(socket)
    }
  }

  /// A task's exit status, once it ended.
  func exitStatus(_ upid: String, as credential: TestCredential) async throws -> String? {
    for _ in 0..<200 {
      let answer = try await call(
        "GET", "/nodes/pve1/tasks/\(TestWebsocket.encoded(upid))/status", as: credential)
      if answer.data["status"]?.asText == "stopped" { return answer.data["exitstatus"]?.asText }
      try await Task.sleep(for: .milliseconds(20))
    }
    return nil
  }
}

/// A node for one test: quick refusals, and gone afterwards.
func withNode<R: Sendable>(
  _ change: (inout SimulatorConfiguration) -> Void = { _ in },
  _ body: (Simulator) async throws -> R
) async throws -> R {
  var configuration = SimulatorConfiguration()
  configuration.timings = .impatient
  change(&configuration)
  let pve = try await PVESimulator.start(configuration)
  do {
    let result = try await body(pve)
    await pve.shutdown()
    return result
  } catch {
    await pve.shutdown()
    throw error
  }
}
