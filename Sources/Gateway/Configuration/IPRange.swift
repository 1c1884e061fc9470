import Glibc

/// An IP address or a network in CIDR form: whose word on forwarded addresses is believed.
package struct IPRange: Sendable, Hashable, CustomStringConvertible {
  private let bytes: [UInt8]
  private let bits: Int
  /// As it was written.
  package let description: String

  /// Reads `192.0.2.1`, `10.0.0.0/8`, `2001:db8::/32`. Nil for anything else.
  package init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard let first = parts.first, parts.count <= 2, let bytes = IPRange.parse(String(first)) else {
      return nil
    }
    var bits = bytes.count * 8
    if parts.count == 2 {
      guard let n = Int(parts[1]), (0...bits).contains(n) else { return nil }
      bits = n
    }
    self.bytes = bytes
    self.bits = bits
    description = text
  }

  /// Whether an address is in it. IPv4 addresses in IPv6 form count as IPv4.
  package func contains(_ address: String) -> Bool {
    guard let other = IPRange.parse(address), other.count == bytes.count else { return false }
    var left = bits
    for (a, b) in zip(bytes, other) {
      guard left > 0 else { return true }
      let mask: UInt8 = left >= 8 ? 0xFF : ~(0xFF >> UInt8(left))
      guard a & mask == b & mask else { return false }
      left -= 8
    }
    return true
  }

  /// Whether an address is this machine's own.
  static func isLoopback(_ address: String) -> Bool {
    guard let bytes = parse(address) else { return false }
    return bytes.count == 4
      ? bytes.first == 127 : bytes.dropLast().allSatisfy { $0 == 0 } && bytes.last == 1
  }

  /// Four or sixteen bytes; nil for what is no IP address.
  static func parse(_ text: String) -> [UInt8]? {
    var four = in_addr()
    if inet_pton(AF_INET, text, &four) == 1 { return withUnsafeBytes(of: four) { Array($0) } }
    var six = in6_addr()
    guard inet_pton(AF_INET6, text, &six) == 1 else { return nil }
    let bytes = withUnsafeBytes(of: six) { Array($0) }
    let mapped = bytes[..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xFF && bytes[11] == 0xFF
    return mapped ? Array(bytes[12...]) : bytes
  }
}
