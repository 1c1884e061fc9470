/// Paths that permissions are given on, e.g. `/vms/100`.
enum AccessPath {
  private static func isWord(_ c: UInt8) -> Bool {
    (48...57).contains(c) || (65...90).contains(c) || (97...122).contains(c)
  }

  private static func isNameByte(_ c: UInt8) -> Bool { isWord(c) || c == 45 || c == 46 || c == 95 }

  /// With one slash between parts and none at the end; nil for characters that paths can't have.
  static func normalized(_ path: String) -> String? {
    guard !path.isEmpty, path != "0",
      path.utf8.allSatisfy({ isNameByte($0) || $0 == UInt8(ascii: "/") })
    else { return nil }
    return "/" + path.split(separator: "/").joined(separator: "/")
  }

  /// Whether roles may be given on a normalized path.
  static func mayHaveACL(_ path: String, in era: Era) -> Bool {
    let parts = path.split(separator: "/")
    guard let first = parts.first else { return true }
    let rest = parts.dropFirst()
    switch first {
    case "access":
      return rest.isEmpty || ((rest.first == "groups" || rest.first == "realm") && rest.count <= 2)
    case "nodes", "storage": return rest.count <= 1
    case "pool": return rest.count <= (era.poolsNest ? 3 : 1)
    case "vms":
      guard let id = rest.first else { return true }
      return rest.count == 1 && id.utf8.count >= 3 && id.first != "0"
        && id.utf8.allSatisfy { (48...57).contains($0) }
    case "mapping": return era.major >= 8 && rest.count <= 2
    case "sdn": return isSDN(Array(rest), in: era)
    default: return false
    }
  }

  private static func isSDN(_ parts: [Substring], in era: Era) -> Bool {
    guard let first = parts.first else { return true }
    switch first {
    case "zones":
      guard parts.count == 4 else { return parts.count <= (era.major >= 8 ? 3 : 2) }
      // A VLAN.
      let tag = parts[3].utf8
      return era.major >= 8 && tag.count <= 4 && tag.first != 48
        && tag.allSatisfy { (48...57).contains($0) }
    case "vnets": return era.major < 8 && parts.count <= 2
    case "controllers", "dns", "ipams": return era.major >= 8 && parts.count <= 2
    case "fabrics": return era.major >= 9 && parts.count <= 2
    default: return false
    }
  }
}

/// User names (`user@realm`) and token names (`user@realm!token`).
enum AuthID {
  /// Name and realm of a user; nil for what isn't one.
  static func user(_ id: some StringProtocol) -> (name: Substring, realm: Substring)? {
    let text = Substring(id)
    guard (3...64).contains(text.unicodeScalars.count), let at = text.lastIndex(of: "@") else {
      return nil
    }
    let name = text[..<at]
    let realm = text[text.index(after: at)...]
    guard !name.isEmpty, isRealm(realm),
      !name.unicodeScalars.contains(where: {
        $0.properties.isWhitespace || $0 == ":" || $0 == "/"
      })
    else { return nil }
    return (name, realm)
  }

  /// Realms and token names look alike: a letter, then letters, digits, dots, dashes and underscores.
  static func isRealm(_ text: some StringProtocol) -> Bool {
    let bytes = text.utf8
    guard bytes.count >= 2, let first = bytes.first,
      (65...90).contains(first) || (97...122).contains(first)
    else { return false }
    return bytes.allSatisfy {
      (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
        || $0 == 45 || $0 == 46 || $0 == 95
    }
  }

  /// The user and the token's name of a full token id; nil for what isn't one, e.g. a user's name.
  static func token(_ id: String) -> (user: String, token: String)? {
    guard let mark = id.utf8.lastIndex(of: UInt8(ascii: "!")) else { return nil }
    let name = id[id.index(after: mark)...]
    let owner = id[..<mark]
    guard isRealm(name), user(owner) != nil else { return nil }
    return (String(owner), String(name))
  }

  /// Groups and roles are named with letters, digits, dots, dashes and underscores.
  static func isGroupOrRole(_ text: String) -> Bool {
    !text.isEmpty
      && text.utf8.allSatisfy {
        (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
          || $0 == 45 || $0 == 46 || $0 == 95
      }
  }
}
