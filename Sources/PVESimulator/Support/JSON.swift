/// A JSON value whose objects keep the order in which they were built.
///
/// The simulator has its own JSON, so that a mistake in the client's reader can't hide behind the same mistake
/// in the writer that it is tested with.
enum JSON: Sendable, Equatable {
  case null
  case bool(Bool)
  case int(Int)
  case double(Double)
  case string(String)
  case array([JSON])
  case object([Member])
  /// JSON text that is written already; for long lists, where a tree per row would cost too much.
  case raw([UInt8])

  struct Member: Sendable, Equatable {
    var key: String
    var value: JSON
  }

  /// The member of an object, or nil.
  subscript(key: String) -> JSON? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.key == key }?.value
  }

  /// PVE writes truth as 1 and 0.
  static func flag(_ value: Bool) -> JSON { .int(value ? 1 : 0) }

  /// The text as bytes.
  var bytes: [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(256)
    write(into: &out)
    return out
  }

  /// The text.
  var text: String { String(decoding: bytes, as: UTF8.self) }

  /// Appends the text.
  func write(into out: inout [UInt8]) {
    switch self {
    case .raw(let text): out += text
    case .null: out += "null".utf8
    case .bool(let v): out += (v ? "true" : "false").utf8
    case .int(let v): out += String(v).utf8
    case .double(let v):
      out += (v == v.rounded() && abs(v) < 1e15 ? String(Int(v)) : String(v)).utf8
    case .string(let v): JSON.write(string: v, into: &out)
    case .array(let items):
      out.append(UInt8(ascii: "["))
      for (i, item) in items.enumerated() {
        if i > 0 { out.append(UInt8(ascii: ",")) }
        item.write(into: &out)
      }
      out.append(UInt8(ascii: "]"))
    case .object(let members):
      out.append(UInt8(ascii: "{"))
      for (i, member) in members.enumerated() {
        if i > 0 { out.append(UInt8(ascii: ",")) }
        JSON.write(string: member.key, into: &out)
        out.append(UInt8(ascii: ":"))
        member.value.write(into: &out)
      }
      out.append(UInt8(ascii: "}"))
    }
  }

  /// Appends a string in quotes.
  static func write(string: String, into out: inout [UInt8]) {
    out.append(UInt8(ascii: "\""))
    var string = string
    string.withUTF8 { bytes in
      // Runs of ordinary characters go in one piece: answers may hold 32 MiB of a guest's output.
      var from = 0
      var at = 0
      while at < bytes.count {
        let c = bytes[at]
        if c >= 32, c != 34, c != 92, c != 127 {
          at += 1
          continue
        }
        out.append(contentsOf: bytes[from..<at])
        escape(c, into: &out)
        at += 1
        from = at
      }
      out.append(contentsOf: bytes[from...])
    }
    out.append(UInt8(ascii: "\""))
  }

  private static func escape(_ c: UInt8, into out: inout [UInt8]) {
    switch c {
    case UInt8(ascii: "\""): out += "\\\"".utf8
    case UInt8(ascii: "\\"): out += "\\\\".utf8
    case 8: out += "\\b".utf8
    case 9: out += "\\t".utf8
    case 10: out += "\\n".utf8
    case 12: out += "\\f".utf8
    case 13: out += "\\r".utf8
    case 0..<32, 127:
      out += "\\u00".utf8
      out.append(hexDigit(c >> 4))
      out.append(hexDigit(c & 15))
    default: out.append(c)
    }
  }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByArrayLiteral,
  ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral, ExpressibleByFloatLiteral
{
  init(stringLiteral value: String) { self = .string(value) }
  init(integerLiteral value: Int) { self = .int(value) }
  init(floatLiteral value: Double) { self = .double(value) }
  init(arrayLiteral elements: JSON...) { self = .array(elements) }
  init(dictionaryLiteral elements: (String, JSON)...) {
    self = .object(elements.map { Member(key: $0.0, value: $0.1) })
  }
  init(nilLiteral: ()) { self = .null }
}
