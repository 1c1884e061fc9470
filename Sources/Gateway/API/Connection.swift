import EventLoop

/// Who really asks, and under which name, once a trusted reverse proxy's word is taken into account.
struct Connection: Sendable {
  /// The address of the browser or program.
  let client: String
  /// Whether the address that is connected to us may speak for others.
  let isForwarded: Bool
  /// `http` or `https` as the browser sees it.
  let scheme: String
  /// The host that the browser asked for, if it is a proper one.
  let host: Authority?

  /// Looks at a request.
  init(_ request: HTTPRequest, configuration: GatewayConfiguration) {
    func isTrusted(_ address: String) -> Bool {
      IPRange.isLoopback(address) || configuration.trustedProxies.contains { $0.contains(address) }
    }
    let peer = request.peer
    isForwarded = configuration.behindProxy && isTrusted(peer)
    let own = request.isTLS ? "https" : "http"
    guard isForwarded else {
      client = peer
      scheme = own
      host = request.headers["host"].flatMap { Authority($0) }
      return
    }
    // Each proxy appends whom it saw: the last address that none of ours vouches for is the client's.
    let chain = (request.headers["x-forwarded-for"] ?? "").split(separator: ",").map {
      String($0.filter { $0 != " " && $0 != "[" && $0 != "]" })
    }
    let valid = chain.reversed().prefix { IPRange.parse($0) != nil }
    client = valid.first { !isTrusted($0) } ?? valid.last ?? peer
    let proto = request.headers["x-forwarded-proto"]?.lowercased()
    scheme = proto == "https" || proto == "http" ? proto ?? own : own
    host = (request.headers["x-forwarded-host"] ?? request.headers["host"]).flatMap {
      Authority($0)
    }
  }

  /// The origin of pages that this request's address serves, where that can be said with certainty.
  ///
  /// A plain-HTTP name that isn't loopback's is nobody's: a name that an attacker owns can point at us (DNS rebinding),
  /// and its pages would pass as our own. Under TLS the certificate stands against that, and behind a proxy the proxy.
  var ownOrigin: String? {
    guard let host, host.isLoopback || scheme == "https" || isForwarded else { return nil }
    let port = host.port.map { ":\($0)" } ?? ""
    return Origin("\(scheme)://\(host.host)\(port)")?.text
  }
}
