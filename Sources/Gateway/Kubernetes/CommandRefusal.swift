import ConsoleDial
import ConsoleProtocol
import EventLoop

/// Says why there is no stream, to a client that hides what an HTTP answer says: kubectl takes any refusal of its
/// websocket for a server without websockets, tries SPDY instead, and shows the outcome of that.
///
/// The whole conversation is one answer: the upgrade, the status, the close frame. Nothing is read of what comes back.
enum CommandRefusal {
  /// Nil where the request is none that hides refusals.
  static func response(_ problem: Problem, to request: HTTPRequest) -> HTTPResponse? {
    let offer = RemoteCommandOffer(request.headers["sec-websocket-protocol"] ?? "")
    guard (request.headers["user-agent"] ?? "").hasPrefix("kubectl"), let version = offer.version,
      let key = request.headers["sec-websocket-key"]
    else { return nil }
    let status = RemoteCommandStatus(problem)
    let message = RemoteCommand.message(.status, Array(status.json.utf8))
    // 1000: after any other code kubectl shows the code in place of the status.
    return HTTPResponse(
      status: 101,
      headers: [
        ("Upgrade", "websocket"), ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", RelayCrypto.accept(for: key)),
        ("Sec-WebSocket-Protocol", version.rawValue),
      ], body: frame(0x82, message) + frame(0x88, [0x03, 0xE8]))
  }

  /// One whole frame of a server.
  private static func frame(_ first: UInt8, _ payload: [UInt8]) -> [UInt8] {
    if payload.count < 126 { return [first, UInt8(payload.count)] + payload }
    let cut = payload.prefix(65_535)
    return [first, 126, UInt8(cut.count >> 8), UInt8(cut.count & 255)] + cut
  }
}
