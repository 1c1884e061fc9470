import ConsoleProtocol

extension JSONValue: CustomStringConvertible {
  /// Compact JSON, the fields in alphabetical order.
  public var description: String { encoded(pretty: false) }

  /// JSON text, the fields in alphabetical order; pretty means indented by two spaces.
  public func encoded(pretty: Bool) -> String {
    var out = ""
    write(to: &out, pretty: pretty, indent: 0)
    return out
  }

  private func write(to out: inout String, pretty: Bool, indent: Int) {
    func newline(_ level: Int) {
      guard pretty else { return }
      out += "\n" + String(repeating: "  ", count: level)
    }
    switch self {
    case .null: out += "null"
    case .bool(let b): out += b ? "true" : "false"
    case .int(let n): out += String(n)
    case .double(let d): out += d.isFinite ? String(d) : "null"
    case .string(let s): out.appendJSONString(s)
    case .array(let items):
      if items.isEmpty {
        out += "[]"
        return
      }
      out += "["
      for (i, item) in items.enumerated() {
        if i > 0 { out += "," }
        newline(indent + 1)
        item.write(to: &out, pretty: pretty, indent: indent + 1)
      }
      newline(indent)
      out += "]"
    case .object(let fields):
      if fields.isEmpty {
        out += "{}"
        return
      }
      out += "{"
      for (i, field) in fields.sorted(by: { $0.key < $1.key }).enumerated() {
        if i > 0 { out += "," }
        newline(indent + 1)
        out.appendJSONString(field.key)
        out += pretty ? ": " : ":"
        field.value.write(to: &out, pretty: pretty, indent: indent + 1)
      }
      newline(indent)
      out += "}"
    }
  }
}
