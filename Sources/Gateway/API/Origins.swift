import ConsoleProtocol
import EventLoop

/// Whose pages may open the viewer's websocket.
///
/// Exactly our own origin and those configured. A request without `Origin` is let through: every browser sends one with
/// a websocket, so what has none is a program, and a program needs the link's token like everybody else. `Origin: null`
/// (a sandboxed frame, a file) is refused.
struct Origins: Sendable {
  private let allowed: Set<String>

  init(_ configuration: GatewayConfiguration) {
    var all = Set(configuration.allowedOrigins)
    if let own = configuration.publicURL?.origin { all.insert(own) }
    allowed = all
  }

  /// Nil if the request may go on.
  func refusal(_ request: HTTPRequest, _ connection: Connection) -> Problem? {
    guard let text = request.headers["origin"] else { return nil }
    if let origin = Origin(text)?.text {
      if allowed.contains(origin) || origin == connection.ownOrigin { return nil }
    }
    return Problem(
      403, Ending.Kind.originRefused.rawValue,
      "Pages of the origin '\(text.prefix(200))' may not open consoles here.",
      remedy:
        "Open the link itself. If this is Sallyport's own page under another name or behind a proxy, set "
        + "publicURL; if the page is your portal's, add its origin to allowedOrigins.")
  }
}
