/// What the outside calls a gateway: `https://console.example.com/pve`. Its path is the prefix of everything served.
package struct PublicURL: Sendable, Hashable, CustomStringConvertible {
  /// `https://console.example.com`, as a browser writes an origin: lower case, no default port.
  package let origin: String
  /// `/pve`, or nothing. No slash at its end.
  package let prefix: String

  /// Reads `http(s)://HOST[:PORT][/PATH]`. Nil for anything else; a query, fragment or user has no place in it.
  package init?(_ text: String) {
    guard let origin = Origin(prefixOf: text) else { return nil }
    self.origin = origin.text
    var path = Substring(text).dropFirst(origin.length)
    while path.hasSuffix("/") { path = path.dropLast() }
    guard path.isEmpty || path.hasPrefix("/"), !path.contains("//"),
      path.split(separator: "/").allSatisfy({ $0 != "." && $0 != ".." }),
      path.utf8.allSatisfy({
        (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
          || "/-._~".utf8.contains($0)
      })
    else { return nil }
    prefix = String(path)
  }

  /// The URL without a slash at its end.
  package var description: String { origin + prefix }
}

/// The origin of a page, in the form in which browsers send it.
struct Origin: Hashable, Sendable {
  /// `https://portal.example.com:8443`
  let text: String
  /// How much of the text it was read from.
  let length: Int

  /// Reads exactly `http(s)://HOST[:PORT]`.
  init?(_ text: String) {
    self.init(prefixOf: text)
    guard length == text.count else { return nil }
  }

  /// Reads the origin that a URL begins with.
  init?(prefixOf text: String) {
    let scheme: String
    let lower = text.lowercased()
    if lower.hasPrefix("https://") {
      scheme = "https"
    } else if lower.hasPrefix("http://") {
      scheme = "http"
    } else {
      return nil
    }
    let authority = lower.dropFirst(scheme.count + 3).prefix { $0 != "/" }
    guard let normal = Authority(authority) else { return nil }
    length = scheme.count + 3 + authority.count
    let standard = scheme == "https" ? 443 : 80
    if let port = normal.port, port != standard {
      self.text = "\(scheme)://\(normal.host):\(port)"
    } else {
      self.text = "\(scheme)://\(normal.host)"
    }
  }
}

/// `HOST` or `HOST:PORT` of a URL or a Host header. IPv6 is in brackets.
struct Authority: Hashable, Sendable {
  /// Lower case; IPv6 with its brackets.
  let host: String
  /// Where one is given.
  let port: Int?

  /// Nil for anything that could not stand in a URL as it is.
  init?(_ text: some StringProtocol) {
    var host = Substring(text.lowercased())
    var port: Int?
    if host.hasPrefix("[") {
      guard let end = host.firstIndex(of: "]") else { return nil }
      let rest = host[host.index(after: end)...]
      host = host[...end]
      guard
        host.dropFirst().dropLast().utf8.allSatisfy({
          (48...58).contains($0) || (97...102).contains($0) || $0 == 46
        })
      else { return nil }
      if !rest.isEmpty {
        guard rest.hasPrefix(":"), let n = Self.port(rest.dropFirst()) else { return nil }
        port = n
      }
    } else {
      if let colon = host.lastIndex(of: ":") {
        guard let n = Self.port(host[host.index(after: colon)...]) else { return nil }
        port = n
        host = host[..<colon]
      }
      guard
        host.utf8.allSatisfy({
          (48...57).contains($0) || (97...122).contains($0) || $0 == 45 || $0 == 46 || $0 == 95
        })
      else { return nil }
    }
    guard (1...255).contains(host.utf8.count) else { return nil }
    self.host = String(host)
    self.port = port
  }

  private static func port(_ text: Substring) -> Int? {
    guard (1...5).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }),
      let n = Int(text), (1...65535).contains(n)
    else { return nil }
    return n
  }

  /// Whether the name means this machine.
  var isLoopback: Bool {
    if host == "localhost" || host.hasSuffix(".localhost") || host == "[::1]" { return true }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
  }
}
