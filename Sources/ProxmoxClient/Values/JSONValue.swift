/// A JSON value as PVE answers it, read tolerantly: PVE is written in Perl, where a number may come as a string
/// and a truth value as 0, 1, "1" or an empty string.
public enum JSONValue: Sendable, Hashable {
  case null
  case bool(Bool)
  case int(Int)
  case double(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  /// Whether there is nothing: `null`, or a field that is not there.
  public var isNull: Bool { self == .null }

  /// Text; numbers and truth values as their text. Nil for the rest.
  public var string: String? {
    switch self {
    case .string(let s): s
    case .int(let n): String(n)
    case .double(let d): String(d)
    case .bool(let b): b ? "1" : "0"
    default: nil
    }
  }

  /// A whole number, also from text (`"5900"`), a truth value, or a number like `5900.0`.
  public var int: Int? {
    switch self {
    case .int(let n): n
    case .double(let d): Int(exactly: d)
    case .string(let s): Int(s) ?? Double(s).flatMap { Int(exactly: $0) }
    case .bool(let b): b ? 1 : 0
    default: nil
    }
  }

  /// A number, also from text. Never infinite, never NaN.
  public var double: Double? {
    let d: Double? =
      switch self {
      case .int(let n): Double(n)
      case .double(let d): d
      case .string(let s): Double(s)
      case .bool(let b): b ? 1 : 0
      default: nil
      }
    guard let d, d.isFinite else { return nil }
    return d
  }

  /// A truth value: `true`, 1, "1", "true", "yes", "on" and their opposites; an empty text is false.
  public var bool: Bool? {
    switch self {
    case .bool(let b): b
    case .int(let n): n != 0
    case .double(let d): d != 0
    case .string(let s):
      switch s.lowercased() {
      case "1", "true", "yes", "on": true
      case "0", "false", "no", "off", "": false
      default: nil
      }
    default: nil
    }
  }

  /// The elements, or nil if it is no array.
  public var array: [JSONValue]? { if case .array(let a) = self { a } else { nil } }

  /// The fields, or nil if it is no object.
  public var object: [String: JSONValue]? { if case .object(let o) = self { o } else { nil } }

  /// A field, or null where there is none.
  public subscript(key: String) -> JSONValue { object?[key] ?? .null }
}
