/// A value in a flat JSON object.
enum FlatJSONValue: Equatable {
  case string(String)
  case integer(Int64)
  case bool(Bool)
  case null
}

/// Why a text is not a flat JSON object.
struct FlatJSONError: Error, Equatable {
  let sentence: String
}

/// Reads one JSON object whose values are strings, integers, booleans or null: all that viewers send. Nesting,
/// fractions, repeated names and trailing bytes are errors, so that nothing is left to interpretation.
struct FlatJSONReader {
  private let bytes: [UInt8]
  private var at = 0

  static func read(_ bytes: [UInt8]) throws(FlatJSONError) -> [(name: String, value: FlatJSONValue)]
  {
    var reader = FlatJSONReader(bytes: bytes)
    return try reader.object()
  }

  private init(bytes: [UInt8]) { self.bytes = bytes }

  private var peek: UInt8? { at < bytes.count ? bytes[at] : nil }

  private mutating func skipSpace() {
    while let c = peek, c == 32 || (9...10).contains(c) || c == 13 { at += 1 }
  }

  private mutating func expect(_ character: Unicode.Scalar) throws(FlatJSONError) {
    skipSpace()
    guard let c = peek, UInt32(c) == character.value else {
      throw FlatJSONError(sentence: "'\(character)' was expected at byte \(at)")
    }
    at += 1
  }

  private mutating func object() throws(FlatJSONError) -> [(name: String, value: FlatJSONValue)] {
    var members: [(name: String, value: FlatJSONValue)] = []
    try expect("{")
    skipSpace()
    if peek == UInt8(ascii: "}") {
      at += 1
    } else {
      while true {
        skipSpace()
        let name = try string()
        guard !members.contains(where: { $0.name == name }) else {
          throw FlatJSONError(sentence: "field '\(name.prefix(40))' appears twice")
        }
        guard members.count < 32 else { throw FlatJSONError(sentence: "there are too many fields") }
        try expect(":")
        skipSpace()
        members.append((name, try value()))
        skipSpace()
        if peek == UInt8(ascii: ",") {
          at += 1
          continue
        }
        try expect("}")
        break
      }
    }
    skipSpace()
    guard at == bytes.count else {
      throw FlatJSONError(sentence: "there is more behind the object, at byte \(at)")
    }
    return members
  }

  private mutating func value() throws(FlatJSONError) -> FlatJSONValue {
    switch peek ?? 0 {
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t") where word("true"): return .bool(true)
    case UInt8(ascii: "f") where word("false"): return .bool(false)
    case UInt8(ascii: "n") where word("null"): return .null
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .integer(try integer())
    default:
      throw FlatJSONError(
        sentence: "a string, whole number, true, false or null was expected at byte \(at)")
    }
  }

  private mutating func word(_ text: StaticString) -> Bool {
    let count = text.utf8CodeUnitCount
    guard bytes.count - at >= count else { return false }
    for i in 0..<count where bytes[at + i] != text.utf8Start[i] { return false }
    at += count
    return true
  }

  private mutating func integer() throws(FlatJSONError) -> Int64 {
    let start = at
    if peek == UInt8(ascii: "-") { at += 1 }
    let digits = at
    while let c = peek, (48...57).contains(c) { at += 1 }
    if let c = peek, c == 46 || c == 69 || c == 101 {
      throw FlatJSONError(sentence: "a whole number was expected at byte \(start)")
    }
    let leadingZero = at - digits > 1 && bytes[digits] == 48
    guard !leadingZero, let number = Int64(String(decoding: bytes[start..<at], as: UTF8.self))
    else { throw FlatJSONError(sentence: "malformed number at byte \(start)") }
    return number
  }

  private mutating func string() throws(FlatJSONError) -> String {
    guard peek == UInt8(ascii: "\"") else {
      throw FlatJSONError(sentence: "a string was expected at byte \(at)")
    }
    let start = at
    at += 1
    var out: [UInt8] = []
    while let c = peek {
      at += 1
      switch c {
      case UInt8(ascii: "\""):
        guard let text = String(validating: out, as: UTF8.self) else {
          throw FlatJSONError(sentence: "the string at byte \(start) is not UTF-8")
        }
        return text
      case UInt8(ascii: "\\"): out.append(contentsOf: try escape())
      case 0..<32: throw FlatJSONError(sentence: "a control character stands in a string")
      default: out.append(c)
      }
    }
    throw FlatJSONError(sentence: "a string does not end")
  }

  /// What follows a backslash, as UTF-8.
  private mutating func escape() throws(FlatJSONError) -> [UInt8] {
    let malformed = FlatJSONError(sentence: "malformed escape at byte \(at)")
    guard let c = peek else { throw malformed }
    at += 1
    switch c {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [c]
    case UInt8(ascii: "b"): return [8]
    case UInt8(ascii: "f"): return [12]
    case UInt8(ascii: "n"): return [10]
    case UInt8(ascii: "r"): return [13]
    case UInt8(ascii: "t"): return [9]
    case UInt8(ascii: "u"):
      var code = try hex4(malformed)
      if (0xd800..<0xdc00).contains(code), bytes.count - at >= 6, bytes[at] == 92,
        bytes[at + 1] == UInt8(ascii: "u")
      {
        at += 2
        let low = try hex4(malformed)
        guard (0xdc00..<0xe000).contains(low) else { throw malformed }
        code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw malformed }
      return Array(String(scalar).utf8)
    default: throw malformed
    }
  }

  private mutating func hex4(_ malformed: FlatJSONError) throws(FlatJSONError) -> UInt32 {
    guard bytes.count - at >= 4 else { throw malformed }
    var code: UInt32 = 0
    for c in bytes[at..<at + 4] {
      guard let digit = Character(Unicode.Scalar(c)).hexDigitValue else { throw malformed }
      code = code << 4 | UInt32(digit)
    }
    at += 4
    return code
  }
}

/// Writes one JSON object, field by field.
struct FlatJSONWriter {
  private var text = "{"

  init(type: String) { add("type", type) }

  mutating func add(_ name: String, _ value: String) {
    key(name)
    text.appendJSONString(value)
  }

  mutating func add(_ name: String, _ value: Int64) {
    key(name)
    text += String(value)
  }

  mutating func add(_ name: String, _ value: Bool) {
    key(name)
    text += value ? "true" : "false"
  }

  mutating func add(_ name: String, _ values: [String]) {
    key(name)
    text += "["
    for (index, value) in values.enumerated() {
      if index > 0 { text += "," }
      text.appendJSONString(value)
    }
    text += "]"
  }

  /// The finished object.
  var json: String { text + "}" }

  private mutating func key(_ name: String) {
    if text.utf8.count > 1 { text += "," }
    text.appendJSONString(name)
    text += ":"
  }
}

extension String {
  /// Appends a text as a JSON string, quoted and escaped.
  package mutating func appendJSONString(_ value: String) {
    self += "\""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": self += "\\\""
      case "\\": self += "\\\\"
      case "\n": self += "\\n"
      case "\r": self += "\\r"
      case "\t": self += "\\t"
      case "\0"..<" ", "\u{7f}":
        let digits = String(scalar.value, radix: 16)
        self += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
      default: unicodeScalars.append(scalar)
      }
    }
    self += "\""
  }
}
