/// Reads the table's spelling of permissions.
///
/// | spelling | check |
/// |---|---|
/// | `root` `all` `world` | root@pam only, anybody logged in, anybody |
/// | `/vms/{vmid}=VM.Audit,VM.Clone` | all of these privileges on the path |
/// | `/vms/{vmid}=VM.Audit\|VM.Clone` | one of them |
/// | `/pool/{pool}=VM.Allocate?pool` | …, and the parameter `pool` must be there |
/// | `&(a b)` `\|(a b)` | all of these checks, one of them |
/// | `modify={path}` | what it takes to change the ACL of the path |
/// | `self` `realm` | the user `userid` is the caller, is of a realm that the caller may add users to |
/// | `group=User.Modify!create` | a privilege on a group; `create` and `update` look at `groups` |
///
/// A `+` at the end: the handler refuses more.
struct PermissionReader {
  private var rest: Substring

  static func read(_ text: some StringProtocol) throws(SchemaReader.Malformed)
    -> (permission: Permission, hasExtra: Bool)
  {
    let hasExtra = text.hasSuffix("+")
    var reader = PermissionReader(rest: Substring(hasExtra ? text.dropLast() : text[...]))
    let permission = try reader.check()
    guard reader.rest.isEmpty else { throw reader.malformed() }
    return (permission, hasExtra)
  }

  private func malformed() -> SchemaReader.Malformed {
    SchemaReader.Malformed(description: "no permission: \(rest)")
  }

  private mutating func check() throws(SchemaReader.Malformed) -> Permission {
    if rest.hasPrefix("&(") { return .all(try checks()) }
    if rest.hasPrefix("|(") { return .either(try checks()) }
    let word = rest.prefix { $0 != " " && $0 != ")" }
    rest = rest[word.endIndex...]
    switch word {
    case "root": return .rootOnly
    case "all": return .anyUser
    case "world": return .world
    case "self": return .isSelf
    case "realm": return .allocatesUser
    default: break
    }
    guard let equals = word.firstIndex(of: "=") else { throw malformed() }
    let subject = String(word[..<equals])
    var names = word[word.index(after: equals)...]
    switch subject {
    case "modify": return .modifiesPermissions(on: String(names))
    case "group":
      var groups = Permission.Groups.ignored
      if let mark = names.firstIndex(of: "!") {
        groups = names[mark...] == "!create" ? .created : .updated
        names = names[..<mark]
      }
      return .inGroups(names.split(separator: "|").map(String.init), groups: groups)
    default:
      var needs: String?
      if let mark = names.firstIndex(of: "?") {
        needs = String(names[names.index(after: mark)...])
        names = names[..<mark]
      }
      guard names.contains("|") else {
        return .privileges(names.split(separator: ",").map(String.init), on: subject, needs: needs)
      }
      return .oneOf(names.split(separator: "|").map(String.init), on: subject, needs: needs)
    }
  }

  /// What stands between parentheses.
  private mutating func checks() throws(SchemaReader.Malformed) -> [Permission] {
    rest = rest.dropFirst(2)
    var out: [Permission] = []
    while !rest.isEmpty {
      out.append(try check())
      guard let end = rest.popFirst() else { break }
      if end == ")" { return out }
    }
    throw malformed()
  }
}
