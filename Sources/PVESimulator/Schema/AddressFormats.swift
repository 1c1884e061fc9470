import Glibc

/// Addresses and networks.
extension NamedFormats {
  static func addresses(_ name: String) -> TextFormat.Check? {
    func plain(_ what: String, _ fits: @escaping @Sendable (String) -> Bool) -> TextFormat.Check {
      { fits($0) ? nil : "value does not look like a valid \(what)" }
    }
    switch name {
    case "ipv4": return plain("IPv4 address", isIPv4)
    case "ipv6": return plain("IPv6 address", isIPv6)
    case "ip": return plain("IP address") { isIPv4($0) || isIPv6($0) }
    case "ipv4mask": return plain("IP netmask", isNetmask)
    case "CIDRv4": return plain("IPv4 CIDR network") { isNetwork($0, v4: 8...32, v6: nil) }
    case "CIDRv6": return plain("IPv6 CIDR network") { isNetwork($0, v4: nil, v6: 8...128) }
    case "CIDR": return plain("CIDR network") { isNetwork($0, v4: 8...32, v6: 8...128) }
    case "FullRangeCIDR": return plain("CIDR network") { isNetwork($0, v4: 0...32, v6: 0...128) }
    case "pve-ipv4-config":
      return plain("ipv4 network configuration") {
        $0 == "dhcp" || $0 == "manual" || isNetwork($0, v4: 8...32, v6: nil)
      }
    case "pve-ipv6-config":
      return plain("ipv6 network configuration") {
        $0 == "auto" || $0 == "dhcp" || $0 == "manual" || isNetwork($0, v4: nil, v6: 8...128)
      }
    case "IPorCIDR": return plain("IP address or CIDR network", isAddressOrNetwork)
    case "IPorCIDRorAlias":
      let alias = try? Pattern("((dc|guest|sdn)/)?[A-Za-z][A-Za-z0-9\\-\\_]+")
      return plain("IP address or CIDR network") {
        alias?.matches($0) == true || isAddressOrNetwork($0)
      }
    case "lxc-ip-with-ll-iface":
      let host = try? Pattern("host")
      return plain("IP address") {
        let halves = $0.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
        if halves.count == 2 { return isIPv6(String(halves[0])) && !halves[1].isEmpty }
        return host?.matches($0) == true || isIPv4($0) || isIPv6($0)
      }
    case "dns-name": return plain("DNS name", isDNSName)
    case "address":
      return {
        isIPv4($0) || isIPv6($0) || isDNSName($0)
          ? nil : "value does not look like a valid address: \($0)"
      }
    case "pve-storage-server":
      return plain("server name or IP address") { isIPv4($0) || isIPv6($0) || isDNSName($0) }
    case "pve-storage-portal-dns":
      return plain("portal address") { text in
        isIPv4(text) || isIPv6(text) || isDNSName(text)
          || hostAndPort(text).map { isIPv4($0) || isIPv6($0) || isDNSName($0) } == true
      }
    case "mac-addr":
      return rule("(?i:[a-f0-9][02468ace](?::[a-f0-9]{2}){5})") { _ in
        "value does not look like a valid unicast MAC address"
      }
    case "mac-prefix":
      return rule("(?i:[a-f0-9][02468ace](?::[a-f0-9]{2}){0,2}:?)") { _ in
        "value is not a valid unicast MAC address prefix"
      }
    default: return nil
    }
  }

  @Sendable static func isIPv4(_ text: String) -> Bool {
    var address = in_addr()
    return inet_pton(AF_INET, text, &address) == 1
  }

  @Sendable static func isIPv6(_ text: String) -> Bool {
    var address = in6_addr()
    return inet_pton(AF_INET6, text, &address) == 1
  }

  @Sendable private static func isNetmask(_ text: String) -> Bool {
    var address = in_addr()
    guard inet_pton(AF_INET, text, &address) == 1 else { return false }
    let host = ~UInt32(bigEndian: address.s_addr)
    return host & (host &+ 1) == 0
  }

  @Sendable private static func isDNSName(_ text: String) -> Bool {
    let labels = text.split(separator: ".", omittingEmptySubsequences: false)
    return labels.allSatisfy { label in
      !label.isEmpty && !label.hasPrefix("-") && !label.hasSuffix("-")
        && label.utf8.allSatisfy { isLetterOrDigit($0) || $0 == 45 }
    }
  }

  static func isLetterOrDigit(_ c: UInt8) -> Bool {
    (48...57).contains(c) || (65...90).contains(c) || (97...122).contains(c)
  }

  private static func isNetwork(_ text: String, v4: ClosedRange<Int>?, v6: ClosedRange<Int>?)
    -> Bool
  {
    let halves = text.split(separator: "/", omittingEmptySubsequences: false)
    guard halves.count == 2, halves[1].utf8.allSatisfy({ (48...57).contains($0) }),
      let bits = Int(halves[1])
    else { return false }
    if let v4, isIPv4(String(halves[0])) { return v4.contains(bits) }
    if let v6, isIPv6(String(halves[0])) { return v6.contains(bits) }
    return false
  }

  @Sendable private static func isAddressOrNetwork(_ text: String) -> Bool {
    isIPv4(text) || isIPv6(text) || isNetwork(text, v4: 0...32, v6: 0...128)
  }

  /// The host of `host:port` or `[v6]:port`.
  private static func hostAndPort(_ text: String) -> String? {
    guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
      (1...65_535).contains(port)
    else { return nil }
    let host = text[..<colon]
    return host.hasPrefix("[") && host.hasSuffix("]")
      ? String(host.dropFirst().dropLast()) : String(host)
  }
}
