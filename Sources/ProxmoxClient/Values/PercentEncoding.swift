/// The value of a hexadecimal digit's byte.
enum HexDigit {
  static func value(_ c: UInt8) -> UInt8? {
    switch c {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): c - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): c - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): c - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}

/// Percent-encoding. PVE's tickets hold `+ / = : @ %`, and pveproxy reads `+` as a space and splits at `;`, so only
/// RFC 3986's unreserved characters ever stay as they are.
enum PercentEncoding {
  private static func isUnreserved(_ c: UInt8) -> Bool {
    switch c {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
      UInt8(ascii: "_"), UInt8(ascii: "~"):
      true
    default: false
    }
  }

  private static func encode(_ text: String, keep: (UInt8) -> Bool) -> String {
    let digits = Array("0123456789ABCDEF".utf8)
    var out: [UInt8] = []
    out.reserveCapacity(text.utf8.count + text.utf8.count / 4)
    for c in text.utf8 {
      if keep(c) {
        out.append(c)
      } else {
        out.append(UInt8(ascii: "%"))
        out.append(digits[Int(c >> 4)])
        out.append(digits[Int(c & 15)])
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  /// For query values, form bodies and path segments.
  static func encode(_ text: String) -> String { encode(text, keep: isUnreserved) }

  /// For a cookie's value or a header: what a cookie may hold stays (RFC 6265's cookie-octet), except `%`,
  /// because pveproxy decodes it.
  static func cookie(_ text: String) -> String {
    encode(text) { c in
      switch c {
      case 0x21, 0x23, 0x24, 0x26...0x2B, 0x2D...0x3A, 0x3C...0x5B, 0x5D...0x7E: true
      default: false
      }
    }
  }

  /// The bytes behind the escapes, as text. An escape that is none stays as it is.
  static func decode(_ text: some StringProtocol) -> String {
    let bytes = Array(text.utf8)
    var out: [UInt8] = []
    var i = 0
    while i < bytes.count {
      if bytes[i] == UInt8(ascii: "%"), i + 2 < bytes.count,
        let high = HexDigit.value(bytes[i + 1]), let low = HexDigit.value(bytes[i + 2])
      {
        out.append(high << 4 | low)
        i += 3
      } else {
        out.append(bytes[i])
        i += 1
      }
    }
    return String(decoding: out, as: UTF8.self)
  }
}
