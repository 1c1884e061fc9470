/// Lower-case hexadecimal.
enum Hexadecimal {
  static func encode(_ bytes: [UInt8]) -> [UInt8] {
    let digits = Array("0123456789abcdef".utf8)
    var out: [UInt8] = []
    out.reserveCapacity(bytes.count * 2)
    for byte in bytes {
      out.append(digits[Int(byte >> 4)])
      out.append(digits[Int(byte & 15)])
    }
    return out
  }
}

/// Base64 with padding, without line ends.
enum Base64 {
  private static let digits = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  static func encode(_ bytes: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity((bytes.count + 2) / 3 * 4)
    var i = 0
    while i < bytes.count {
      let left = bytes.count - i
      let n =
        UInt32(bytes[i]) << 16 | (left > 1 ? UInt32(bytes[i + 1]) << 8 : 0)
        | (left > 2 ? UInt32(bytes[i + 2]) : 0)
      out.append(digits[Int(n >> 18)])
      out.append(digits[Int(n >> 12 & 63)])
      out.append(left > 1 ? digits[Int(n >> 6 & 63)] : UInt8(ascii: "="))
      out.append(left > 2 ? digits[Int(n & 63)] : UInt8(ascii: "="))
      i += 3
    }
    return out
  }

  private static let values: [UInt8] = {
    var out = [UInt8](repeating: 255, count: 256)
    for (i, digit) in digits.enumerated() { out[Int(digit)] = UInt8(i) }
    return out
  }()

  /// Nil for what is no base64 in whole groups of four; several texts may follow each other.
  static func decode(_ text: [UInt8]) -> [UInt8]? {
    guard text.count.isMultiple(of: 4) else { return nil }
    var out: [UInt8] = []
    out.reserveCapacity(text.count / 4 * 3)
    for i in stride(from: 0, to: text.count, by: 4) {
      let padding =
        text[i + 3] == UInt8(ascii: "=") ? (text[i + 2] == UInt8(ascii: "=") ? 2 : 1) : 0
      var n: UInt32 = 0
      for k in 0..<4 - padding {
        let value = values[Int(text[i + k])]
        guard value < 64 else { return nil }
        n |= UInt32(value) << (18 - 6 * UInt32(k))
      }
      out.append(UInt8(n >> 16 & 255))
      if padding < 2 { out.append(UInt8(n >> 8 & 255)) }
      if padding < 1 { out.append(UInt8(n & 255)) }
    }
    return out
  }
}
