import EventLoop

/// The headers that tell a browser what our pages may do: as little as they need.
struct SecurityHeaders: Sendable {
  private let page: [(name: String, value: String)]
  private let answer: [(name: String, value: String)]

  init(_ configuration: GatewayConfiguration) {
    let ancestors =
      configuration.frameAncestors.isEmpty
      ? "'none'" : configuration.frameAncestors.joined(separator: " ")
    var common: [(name: String, value: String)] = [
      ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"),
      ("Cross-Origin-Resource-Policy", "same-origin"),
    ]
    if configuration.tls != nil || configuration.publicURL?.origin.hasPrefix("https:") == true {
      common.append(("Strict-Transport-Security", "max-age=31536000"))
    }
    // xterm.js writes styles into its elements; nothing else needs 'unsafe-inline', and no script has it.
    let policy = [
      "default-src 'none'", "script-src 'self'", "style-src 'self' 'unsafe-inline'",
      "img-src 'self' data: blob:", "font-src 'self'", "connect-src 'self'", "base-uri 'none'",
      "form-action 'none'", "frame-ancestors \(ancestors)",
    ].joined(separator: "; ")
    var page = common
    page.append(("Content-Security-Policy", policy))
    page.append(
      (
        "Permissions-Policy",
        "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), hid=(), "
          + "clipboard-read=(self), clipboard-write=(self), fullscreen=(self)"
      ))
    page.append(("Cross-Origin-Opener-Policy", "same-origin"))
    if configuration.frameAncestors.isEmpty { page.append(("X-Frame-Options", "DENY")) }
    self.page = page
    answer =
      common + [
        ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
        ("X-Frame-Options", "DENY"),
      ]
  }

  /// Adds them to an answer.
  func adding(to response: HTTPResponse, isPage: Bool) -> HTTPResponse {
    var out = response
    out.headers += isPage ? page : answer
    return out
  }
}
