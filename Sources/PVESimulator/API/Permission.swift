/// Who may call an operation: an expression over the path's parameters, as in PVE's schema.
indirect enum Permission: Sendable {
  /// Anybody, logged in or not.
  case world
  /// Anybody who is logged in.
  case anyUser
  /// `root@pam` with a ticket; a token of root's is not root.
  case rootOnly
  /// All of these privileges on a path, e.g. `/vms/{vmid}`.
  case privileges([String], on: String)
  /// One of these privileges on a path.
  case oneOf([String], on: String)
  /// All of these.
  case all([Permission])

  /// - Throws: the 403 that names path and privilege.
  func check(_ identity: Identity?, arguments: Parameters, access: AccessControl) throws(APIError) {
    switch self {
    case .world: return
    case .anyUser: guard identity != nil else { throw .forbidden("user != root@pam") }
    case .rootOnly:
      guard identity?.authID == "root@pam" else { throw .forbidden("user != root@pam") }
    case .privileges(let names, let template):
      let path = Permission.fill(template, arguments)
      let held = access.privileges(of: identity?.authID ?? "", on: path)
      for name in names where !held.contains(name) { throw .forbidden("\(path), \(name)") }
    case .oneOf(let names, let template):
      let path = Permission.fill(template, arguments)
      let held = access.privileges(of: identity?.authID ?? "", on: path)
      guard names.contains(where: held.contains) else {
        throw .forbidden("\(path), \(names.joined(separator: "|"))")
      }
    case .all(let parts):
      for part in parts { try part.check(identity, arguments: arguments, access: access) }
    }
  }

  private static func fill(_ template: String, _ arguments: Parameters) -> String {
    var out = template
    for pair in arguments.pairs {
      guard let text = pair.value.text else { continue }
      out = out.replacing("{\(pair.name)}", with: text)
    }
    return out
  }
}
