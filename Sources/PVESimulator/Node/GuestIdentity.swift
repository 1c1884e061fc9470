/// Identifiers that PVE makes for guests.
enum GuestIdentity {
  /// A network card's address with Proxmox' prefix, e.g. `BC:24:11:7A:02:9F`.
  static func randomMAC() -> String { mac(randomBytes(3)) }

  static func mac(_ tail: [UInt8]) -> String {
    "BC:24:11:" + tail.prefix(3).map { hex(Int($0), digits: 2) }.joined(separator: ":")
  }

  /// `net0` with an address where it had none.
  static func completed(net text: String, _ kind: SimulatedGuest.Kind) -> String {
    var parts = text.split(separator: ",").map(String.init)
    guard let first = parts.first else { return text }
    switch kind {
    case .qemu:
      if first.contains("=") {
        if parts.contains(where: { $0.hasPrefix("model=") || $0.hasPrefix("macaddr=") }) {
          return longForm(parts)
        }
        return text
      }
      parts[0] = "\(first)=\(randomMAC())"
    case .lxc:
      if !parts.contains(where: { $0.hasPrefix("hwaddr=") }) {
        parts.append("hwaddr=\(randomMAC())")
      }
      if !parts.contains(where: { $0.hasPrefix("type=") }) { parts.append("type=veth") }
    }
    return parts.joined(separator: ",")
  }

  /// `model=virtio,macaddr=…` as `virtio=…`.
  private static func longForm(_ parts: [String]) -> String {
    var rest = parts
    func take(_ key: String) -> String? {
      guard let i = rest.firstIndex(where: { $0.hasPrefix(key + "=") }) else { return nil }
      return String(rest.remove(at: i).dropFirst(key.count + 1))
    }
    let mac = take("macaddr") ?? randomMAC()
    guard let model = take("model") else { return parts.joined(separator: ",") }
    return (["\(model)=\(mac)"] + rest).joined(separator: ",")
  }

  /// The same card with another address: what clones get.
  static func readdressed(net text: String, _ kind: SimulatedGuest.Kind) -> String {
    let parts = text.split(separator: ",").enumerated().map { i, part -> String in
      let halves = part.split(separator: "=", maxSplits: 1)
      guard halves.count == 2 else { return String(part) }
      let isAddress = kind == .lxc ? halves[0] == "hwaddr" : i == 0 || halves[0] == "macaddr"
      return isAddress && isMAC(halves[1]) ? "\(halves[0])=\(randomMAC())" : String(part)
    }
    return parts.joined(separator: ",")
  }

  private static func isMAC(_ text: some StringProtocol) -> Bool {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    return parts.count == 6 && parts.allSatisfy { $0.count == 2 && UInt8($0, radix: 16) != nil }
  }

  /// Bytes that are a guest's own and the same at every start.
  static func bytes(of vmid: Int, _ count: Int, salt: UInt64) -> [UInt8] {
    var state = UInt64(truncatingIfNeeded: vmid) &* 0x9E37_79B9_7F4A_7C15 &+ salt
    return (0..<count).map { _ in
      state &+= 0x9E37_79B9_7F4A_7C15
      var z = state
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return UInt8(truncatingIfNeeded: z ^ (z >> 31))
    }
  }

  /// A UUID that is a guest's own and the same at every start.
  static func uuid(of vmid: Int, salt: UInt64) -> String {
    var b = bytes(of: vmid, 16, salt: salt)
    b[6] = b[6] & 0x0F | 0x40
    b[8] = b[8] & 0x3F | 0x80
    let t = Array(lowerHex(b))
    return [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(t[$0]) }.joined(separator: "-")
  }
}
