/// Reads JSON from bytes that nobody vouches for. It never traps: nesting is limited, a key that comes twice
/// keeps its last value, a number too large for `Int` becomes a `Double`, bytes that are no UTF-8 are replaced.
package struct JSONParser {
  /// What is wrong, and at which byte.
  package struct Failure: Error, Sendable, CustomStringConvertible {
    package let offset: Int
    package let reason: String
    package var description: String { "\(reason) at byte \(offset)" }
  }

  /// PVE nests less than ten deep.
  static let maximumDepth = 128

  private let bytes: [UInt8]
  private var at = 0

  /// Reads one value with nothing but white space around it.
  package static func parse(_ bytes: [UInt8]) throws(Failure) -> JSONValue {
    var parser = JSONParser(bytes: bytes)
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { parser.at = 3 }
    let value = try parser.value(depth: 0)
    parser.skipSpace()
    guard parser.peek == nil else { throw parser.failure("something follows the value") }
    return value
  }

  private init(bytes: [UInt8]) { self.bytes = bytes }

  private var peek: UInt8? { at < bytes.count ? bytes[at] : nil }

  private func failure(_ reason: String) -> Failure { Failure(offset: at, reason: reason) }

  private mutating func skipSpace() {
    while let c = peek, c == 32 || c == 10 || c == 13 || c == 9 { at += 1 }
  }

  private mutating func value(depth: Int) throws(Failure) -> JSONValue {
    guard depth < Self.maximumDepth else { throw failure("nested too deep") }
    skipSpace()
    switch peek {
    case nil: throw failure("the text ends early")
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return try number()
    }
  }

  private mutating func word(_ text: StaticString, _ value: JSONValue) throws(Failure) -> JSONValue
  {
    let count = text.utf8CodeUnitCount
    let matches = text.withUTF8Buffer { bytes.dropFirst(at).starts(with: $0) }
    guard matches else { throw failure("no JSON value") }
    at += count
    return value
  }

  private mutating func object(depth: Int) throws(Failure) -> JSONValue {
    at += 1
    var fields: [String: JSONValue] = [:]
    skipSpace()
    if peek == UInt8(ascii: "}") {
      at += 1
      return .object(fields)
    }
    while true {
      skipSpace()
      guard peek == UInt8(ascii: "\"") else { throw failure("a field's name is missing") }
      let key = try string()
      skipSpace()
      guard peek == UInt8(ascii: ":") else { throw failure("':' is missing") }
      at += 1
      fields[key] = try value(depth: depth + 1)
      skipSpace()
      switch peek {
      case UInt8(ascii: ","): at += 1
      case UInt8(ascii: "}"):
        at += 1
        return .object(fields)
      default: throw failure("',' or '}' is missing")
      }
    }
  }

  private mutating func array(depth: Int) throws(Failure) -> JSONValue {
    at += 1
    var items: [JSONValue] = []
    skipSpace()
    if peek == UInt8(ascii: "]") {
      at += 1
      return .array(items)
    }
    while true {
      items.append(try value(depth: depth + 1))
      skipSpace()
      switch peek {
      case UInt8(ascii: ","): at += 1
      case UInt8(ascii: "]"):
        at += 1
        return .array(items)
      default: throw failure("',' or ']' is missing")
      }
    }
  }

  private mutating func number() throws(Failure) -> JSONValue {
    let start = at
    while let c = peek {
      switch c {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"),
        UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"):
        at += 1
        continue
      default: break
      }
      break
    }
    let text = String(decoding: bytes[start..<at], as: UTF8.self)
    if let n = Int(text) { return .int(n) }
    guard let d = Double(text), d.isFinite else {
      at = start
      throw failure("no JSON value")
    }
    return .double(d)
  }

  private mutating func string() throws(Failure) -> String {
    at += 1
    var out: [UInt8] = []
    while true {
      // Up to the next quote or backslash in one piece: most strings have no escape.
      let start = at
      while let c = peek, c != UInt8(ascii: "\""), c != UInt8(ascii: "\\") { at += 1 }
      out.append(contentsOf: bytes[start..<at])
      guard let c = peek else { throw failure("a string does not end") }
      at += 1
      if c == UInt8(ascii: "\"") { return String(decoding: out, as: UTF8.self) }
      try escape(into: &out)
    }
  }

  private mutating func escape(into out: inout [UInt8]) throws(Failure) {
    guard let c = peek else { throw failure("a string does not end") }
    at += 1
    switch c {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(c)
    case UInt8(ascii: "b"): out.append(8)
    case UInt8(ascii: "f"): out.append(12)
    case UInt8(ascii: "n"): out.append(10)
    case UInt8(ascii: "r"): out.append(13)
    case UInt8(ascii: "t"): out.append(9)
    case UInt8(ascii: "u"):
      var code = try hex4()
      if (0xD800..<0xDC00).contains(code), peek == UInt8(ascii: "\\"), at + 1 < bytes.count,
        bytes[at + 1] == UInt8(ascii: "u")
      {
        let resume = at
        at += 2
        let low = try hex4()
        if (0xDC00..<0xE000).contains(low) {
          code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
        } else {
          at = resume
        }
      }
      // A guest's binary output is full of these, six bytes for one.
      if code < 0x80 {
        out.append(UInt8(truncatingIfNeeded: code))
        return
      }
      // Half of a surrogate pair is no character.
      let scalar = Unicode.Scalar(code) ?? "\u{FFFD}"
      out.append(contentsOf: Array(String(Character(scalar)).utf8))
    default: throw failure("an unknown escape")
    }
  }

  private mutating func hex4() throws(Failure) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let c = peek, let digit = HexDigit.value(c) else {
        throw failure("four hexadecimal digits are missing")
      }
      value = value << 4 | UInt32(digit)
      at += 1
    }
    return value
  }
}
