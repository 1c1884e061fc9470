/// `virtio=AA:BB:CC:DD:EE:FF,bridge=vmbr0`: several values in one text.
enum PropertyString {
  /// A text that is no such list, in PVE's words.
  struct Malformed: Error, CustomStringConvertible {
    let description: String
  }

  /// Takes a property string apart. Other names of keys become the keys that they stand for, truth values become 1
  /// and 0. Values are not checked.
  static func parse(_ text: String, _ keys: PropertySchemas) throws(Malformed)
    -> [(key: String, value: String)]
  {
    var out: [(key: String, value: String)] = []
    var usedDefault = false
    func has(_ key: String) -> Bool { out.contains { $0.key == key } }
    func duplicate(_ key: String) -> Malformed {
      Malformed(description: "duplicate key in comma-separated list property: \(key)")
    }
    for part in text.split(separator: ",") {
      if part.allSatisfy(\.isWhitespace) { continue }
      guard let equals = part.firstIndex(of: "=") else {
        if usedDefault, let key = keys.defaultKey { throw duplicate(key) }
        guard let key = keys.defaultKey else {
          throw Malformed(
            description: "value without key, but schema does not define a default key")
        }
        guard !has(key) else { throw duplicate(key) }
        usedDefault = true
        out.append((key, String(part)))
        continue
      }
      var key = String(part[..<equals])
      var value = String(part[part.index(after: equals)...])
      guard !key.isEmpty, !value.isEmpty else {
        throw Malformed(description: "missing key in comma-separated list property")
      }
      guard !has(key) else { throw duplicate(key) }
      var schema = keys[key]
      if let alias = schema?.facts.alias {
        if let other = schema?.facts.keyAlias {
          guard !has(other) else {
            throw Malformed(description: "key alias '\(other)' is already defined")
          }
          out.append((other, key))
        }
        key = alias
        schema = keys[key]
      }
      guard let schema else {
        throw Malformed(description: "invalid key in comma-separated list property: \(key)")
      }
      if schema.kind == .boolean { value = truth(value) ?? value }
      if let i = out.firstIndex(where: { $0.key == key }) {
        out[i].value = value
      } else {
        out.append((key, value))
      }
    }
    return out
  }

  private static func truth(_ text: String) -> String? {
    switch text.lowercased() {
    case "1", "on", "yes", "true": "1"
    case "0", "off", "no", "false": "0"
    default: nil
    }
  }
}
