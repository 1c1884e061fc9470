/// Reads JSON bodies as PVE's Perl reader does, and fails with its texts: they end up in a 500's reason phrase.
struct JSONReader {
  /// What was wrong, in the words of the Perl reader, with the place in characters.
  struct Malformed: Error {
    let message: String
  }

  /// The Perl reader's own limit.
  private static let deepest = 512

  private let bytes: [UInt8]
  private var at = 0

  private init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// Reads one value that fills the whole input.
  static func read(_ bytes: [UInt8]) throws(Malformed) -> JSON {
    var reader = JSONReader(bytes)
    reader.skipSpace()
    let value = try reader.value(depth: 0)
    reader.skipSpace()
    guard reader.at == bytes.count else { throw reader.fail("garbage after JSON object") }
    return value
  }

  private var next: UInt8? { at < bytes.count ? bytes[at] : nil }

  private func fail(_ text: String) -> Malformed {
    let rest = bytes.dropFirst(at).prefix(20)
    let shown = rest.isEmpty ? "(end of string)" : String(decoding: rest, as: UTF8.self)
    return Malformed(message: "\(text), at character offset \(at) (before \"\(shown)\")")
  }

  private mutating func skipSpace() {
    while let c = next, c == 32 || c == 9 || c == 10 || c == 13 { at += 1 }
  }

  private mutating func value(depth: Int) throws(Malformed) -> JSON {
    guard depth < JSONReader.deepest else {
      throw fail(
        "json text or perl structure exceeds maximum nesting level (max_depth set too low?)")
    }
    skipSpace()
    switch next {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case .some(45), .some(48...57): return try number()
    default:
      throw fail("malformed JSON string, neither tag, array, object, number, string or atom")
    }
  }

  private mutating func word(_ text: String, _ value: JSON) throws(Malformed) -> JSON {
    guard bytes.dropFirst(at).starts(with: text.utf8) else { throw fail("'\(text)' expected") }
    at += text.utf8.count
    return value
  }

  private mutating func object(depth: Int) throws(Malformed) -> JSON {
    at += 1
    var members: [JSON.Member] = []
    var places: [String: Int] = [:]
    skipSpace()
    if next == UInt8(ascii: "}") {
      at += 1
      return .object([])
    }
    while true {
      skipSpace()
      guard next == UInt8(ascii: "\"") else { throw fail("'\"' expected") }
      let key = try string()
      skipSpace()
      guard next == UInt8(ascii: ":") else { throw fail("':' expected") }
      at += 1
      let value = try value(depth: depth + 1)
      // The last of a name counts, in the place of the first.
      if let place = places[key] {
        members[place].value = value
      } else {
        places[key] = members.count
        members.append(.init(key: key, value: value))
      }
      skipSpace()
      switch next {
      case UInt8(ascii: ","): at += 1
      case UInt8(ascii: "}"):
        at += 1
        return .object(members)
      default: throw fail(", or } expected while parsing object/hash")
      }
    }
  }

  private mutating func array(depth: Int) throws(Malformed) -> JSON {
    at += 1
    var items: [JSON] = []
    skipSpace()
    if next == UInt8(ascii: "]") {
      at += 1
      return .array([])
    }
    while true {
      items.append(try value(depth: depth + 1))
      skipSpace()
      switch next {
      case UInt8(ascii: ","): at += 1
      case UInt8(ascii: "]"):
        at += 1
        return .array(items)
      default: throw fail(", or ] expected while parsing array")
      }
    }
  }

  private mutating func string() throws(Malformed) -> String {
    at += 1
    var out: [UInt8] = []
    while let c = next {
      if let end = endOfPlainRun {
        out.append(contentsOf: bytes[at..<end])
        at = end
        continue
      }
      at += 1
      switch c {
      case UInt8(ascii: "\""): return String(decoding: out, as: UTF8.self)
      case UInt8(ascii: "\\"): try escape(into: &out)
      case 0..<32: throw fail("invalid character 0x\(hex(Int(c), digits: 2)) encountered")
      default: out.append(c)
      }
    }
    throw fail("unexpected end of string while parsing JSON string")
  }

  /// Where characters that need no thought end; nil where there are none here. An agent's answer may be one of 22 MiB.
  private var endOfPlainRun: Int? {
    let start = at
    let end = bytes.withUnsafeBufferPointer { bytes in
      var at = start
      while at < bytes.count, bytes[at] >= 32, bytes[at] != 34, bytes[at] != 92 { at += 1 }
      return at
    }
    return end > start ? end : nil
  }

  private mutating func escape(into out: inout [UInt8]) throws(Malformed) {
    guard let c = next else {
      throw fail("unexpected end of string while parsing JSON string")
    }
    at += 1
    switch c {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(c)
    case UInt8(ascii: "b"): out.append(8)
    case UInt8(ascii: "f"): out.append(12)
    case UInt8(ascii: "n"): out.append(10)
    case UInt8(ascii: "r"): out.append(13)
    case UInt8(ascii: "t"): out.append(9)
    case UInt8(ascii: "u"):
      var code = try hexUnit()
      if (0xD800..<0xDC00).contains(code) {
        guard bytes.dropFirst(at).starts(with: "\\u".utf8) else {
          throw fail("missing low surrogate character in surrogate pair")
        }
        at += 2
        let low = try hexUnit()
        guard (0xDC00..<0xE000).contains(low) else {
          throw fail("surrogate pair expected")
        }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else {
        throw fail("missing high surrogate character in surrogate pair")
      }
      out += String(Character(scalar)).utf8
    default: throw fail("illegal backslash escape sequence in string")
    }
  }

  private mutating func hexUnit() throws(Malformed) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let c = next, let digit = hexValue(c) else {
        throw fail("malformed \\uXXXX character escape")
      }
      code = code << 4 | UInt32(digit)
      at += 1
    }
    return code
  }

  /// One number of JSON's grammar: no leading zeros, and digits wherever there may be some.
  private mutating func number() throws(Malformed) -> JSON {
    let start = at
    var isWhole = true
    if next == UInt8(ascii: "-") { at += 1 }
    let first = next
    guard skipDigits() > 0 else {
      throw fail("malformed number (no digits after initial minus)")
    }
    if first == UInt8(ascii: "0"), at - start > (bytes[start] == UInt8(ascii: "-") ? 2 : 1) {
      throw fail("malformed number (leading zero must not be followed by another digit)")
    }
    if next == UInt8(ascii: ".") {
      isWhole = false
      at += 1
      guard skipDigits() > 0 else {
        throw fail("malformed number (no digits after decimal point)")
      }
    }
    if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
      isWhole = false
      at += 1
      if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { at += 1 }
      guard skipDigits() > 0 else {
        throw fail("malformed number (no digits after exp sign)")
      }
    }
    return try finish(start: start, isWhole: isWhole)
  }

  private mutating func skipDigits() -> Int {
    let start = at
    while let c = next, (48...57).contains(c) { at += 1 }
    return at - start
  }

  private func finish(start: Int, isWhole: Bool) throws(Malformed) -> JSON {
    let text = String(decoding: bytes[start..<at], as: UTF8.self)
    if isWhole, let v = Int(text) { return .int(v) }
    guard let v = Double(text), v.isFinite else {
      throw fail("malformed number (no digits after initial minus)")
    }
    // To Perl, 2.0 is 2.
    if v == v.rounded(), abs(v) < 1e15 { return .int(Int(v)) }
    return .double(v)
  }
}
