/// The three handshakes that the protocol versions of RFB come down to.
package enum RFBVersion: Sendable, Equatable {
  /// The server decides the security type.
  case v3_3
  /// The client chooses from a list; no result after type None.
  case v3_7
  /// Always a result, and a reason with a failure.
  case v3_8

  /// The length of `RFB xxx.yyy\n`.
  package static let length = 12

  /// Reads a banner. Unknown numbers map to the newest handshake that is not newer than they are, which is what
  /// servers that announce 3.889 or 4.1 expect; nil for what is no banner, or for versions below 3.3.
  package init?(banner: some Collection<UInt8>) {
    let b = Array(banner)
    func number(_ range: Range<Int>) -> Int? {
      var value = 0
      for digit in b[range] {
        guard (48...57).contains(digit) else { return nil }
        value = value * 10 + Int(digit - 48)
      }
      return value
    }
    guard b.count == Self.length, b[0..<4] == [82, 70, 66, 32], b[7] == 46, b[11] == 10,
      let major = number(4..<7), let minor = number(8..<11), major >= 3
    else { return nil }
    switch (major, minor) {
    case (3, ..<3): return nil
    case (3, ..<7): self = .v3_3
    case (3, 7): self = .v3_7
    default: self = .v3_8
    }
  }

  /// The banner with which this version is announced.
  package var banner: [UInt8] {
    switch self {
    case .v3_3: Array("RFB 003.003\n".utf8)
    case .v3_7: Array("RFB 003.007\n".utf8)
    case .v3_8: Array("RFB 003.008\n".utf8)
    }
  }

  /// Whether a byte can stand at this place of a banner, so that a stranger is known by its first bytes.
  static func mayBegin(with byte: UInt8, at index: Int) -> Bool {
    switch index {
    case 0: byte == 82
    case 1: byte == 70
    case 2: byte == 66
    case 3: byte == 32
    case 7: byte == 46
    case 11: byte == 10
    default: (48...57).contains(byte)
    }
  }
}

/// Security types of RFB that are spoken here.
enum RFBSecurity {
  static let none: UInt8 = 1
  static let vnc: UInt8 = 2
}
