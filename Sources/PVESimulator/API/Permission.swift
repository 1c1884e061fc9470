/// Who may call an operation: an expression over the call's parameters, as in PVE's schema.
indirect enum Permission: Sendable, Equatable {
  /// What `groups` means to a check of ``inGroups(_:groups:)``.
  enum Groups: Sendable, Equatable {
    /// It isn't looked at.
    case ignored
    /// The groups of a user who is being made: the caller must be in charge of each.
    case created
    /// Groups that a user gets: the caller must be in charge of each, and of the user.
    case updated
  }

  /// Anybody, logged in or not.
  case world
  /// Anybody who is logged in.
  case anyUser
  /// `root@pam` with a ticket; a token of root's is not root.
  case rootOnly
  /// All of these privileges on a path, e.g. `/vms/{vmid}`; only if the parameter `needs` is there.
  case privileges([String], on: String, needs: String? = nil)
  /// One of these privileges on a path.
  case oneOf([String], on: String, needs: String? = nil)
  /// All of these.
  case all([Permission])
  /// One of these.
  case either([Permission])
  /// What it takes to change the ACL of a path.
  case modifiesPermissions(on: String)
  /// The user that `userid` names.
  case isSelf
  /// `Realm.AllocateUser` on the realm of `userid`.
  case allocatesUser
  /// One of these privileges on all groups, or on one that the user `userid` is in.
  case inGroups([String], groups: Groups = .ignored)

  /// - Throws: the 403 that says what is missing, or the 500 for a user that there isn't.
  func check(_ identity: Identity?, arguments: Parameters, access: AccessControl) throws(APIError) {
    if case .world = self { return }
    guard let identity else { throw .forbidden("user != null") }
    if case .anyUser = self { return }
    guard identity.authID != "root@pam" else { return }
    try evaluate(
      Evaluation(authID: identity.authID, arguments: arguments, access: access),
      isAlternative: false)
  }

  private struct Evaluation {
    var authID: String
    var arguments: Parameters
    var access: AccessControl

    func held(on path: String) -> PrivilegeSet { access.privileges(of: authID, on: path) }

    /// Puts parameters into a path; what isn't there becomes a dash.
    func fill(_ template: String) -> String {
      guard template.contains("{") else { return template }
      var out = ""
      var rest = template[...]
      while let open = rest.firstIndex(of: "{"), let close = rest[open...].firstIndex(of: "}") {
        out += rest[..<open]
        let value = arguments[String(rest[rest.index(after: open)..<close])]?.text ?? ""
        out += value.isEmpty || value == "0" ? "-" : value
        rest = rest[rest.index(after: close)...]
      }
      return Evaluation.normalized(out + rest)
    }

    /// One slash where there are several, none at the end.
    private static func normalized(_ path: String) -> String {
      "/" + path.split(separator: "/").joined(separator: "/")
    }
  }

  /// - Parameter isAlternative: whether it is one of several, whose refusals PVE doesn't tell.
  private func evaluate(_ call: Evaluation, isAlternative: Bool) throws(APIError) {
    switch self {
    case .world, .anyUser: return
    case .rootOnly: throw .forbidden("user != root@pam")
    case .privileges(let names, let template, let needs):
      try Permission.require(needs, call)
      let path = call.fill(template)
      let held = call.held(on: path)
      for name in names where !held.contains(name) { throw .forbidden("\(path), \(name)") }
    case .oneOf(let names, let template, let needs):
      try Permission.require(needs, call)
      try Permission.checkAny(names, on: call.fill(template), call)
    case .all(let parts):
      for part in parts { try part.evaluate(call, isAlternative: false) }
    case .either(let parts):
      for part in parts {
        do throws(APIError) {
          try part.evaluate(call, isAlternative: true)
          return
        } catch {
          // A group of checks tells its refusal all the same.
          if case .all = part { throw error }
        }
      }
      throw .forbidden()
    case .modifiesPermissions(let template):
      let path = call.fill(template)
      var names = ["Permissions.Modify"]
      let parts = path.split(separator: "/")
      if parts.count > 1 {
        switch parts[0] {
        case "storage": names.append("Datastore.Allocate")
        case "vms": names.append("VM.Allocate")
        case "pool": names.append("Pool.Allocate")
        default: break
        }
      }
      try Permission.checkAny(names, on: path, call)
    case .isSelf:
      let user = try Permission.existingUser(call)
      guard call.authID == user else { throw .forbidden() }
    case .allocatesUser:
      let user = call.arguments["userid"]?.text ?? ""
      guard let at = user.lastIndex(of: "@") else {
        throw .died("value '\(user)' does not look like a valid user name")
      }
      let path = "/access/realm/\(user[user.index(after: at)...])"
      guard call.held(on: path).contains("Realm.AllocateUser") else {
        throw .forbidden("\(path), Realm.AllocateUser")
      }
    case .inGroups(let names, let groups):
      try Permission.checkGroups(names, groups, call)
    }
  }

  private static func require(_ parameter: String?, _ call: Evaluation) throws(APIError) {
    guard let parameter, call.arguments[parameter] == nil else { return }
    throw .forbidden()
  }

  private static func checkAny(_ names: [String], on path: String, _ call: Evaluation)
    throws(APIError)
  {
    let held = call.held(on: path)
    guard names.contains(where: held.contains) else {
      throw .forbidden("\(path), \(names.joined(separator: "|"))")
    }
  }

  private static func existingUser(_ call: Evaluation) throws(APIError) -> String {
    let user = call.arguments["userid"]?.text ?? ""
    guard call.access.userExists(user) else { throw .died("no such user ('\(user)')") }
    return user
  }

  private static func checkGroups(_ names: [String], _ groups: Groups, _ call: Evaluation)
    throws(APIError)
  {
    let user = groups == .created ? "" : try existingUser(call)
    let ofAll = call.held(on: "/access/groups")
    guard !names.contains(where: ofAll.contains) else { return }
    func isInCharge(of group: String) -> Bool {
      let ofGroup = call.held(on: "/access/groups/\(group)")
      return names.contains(where: ofGroup.contains)
    }
    let wanted = names.joined(separator: "|")
    if groups != .ignored {
      let given = splitList(call.arguments["groups"]?.text ?? "")
      guard !given.isEmpty else { throw .forbidden("/access/groups, \(wanted)") }
      for group in given where !isInCharge(of: group) {
        throw .forbidden("/access/groups/\(group), \(wanted)")
      }
    }
    guard groups != .created else { return }
    guard call.access.groups(of: user).contains(where: isInCharge) else { throw .forbidden() }
  }
}

extension APIError {
  /// A 403 that doesn't say what is missing.
  fileprivate static func forbidden() -> APIError {
    APIError(status: 403, message: "Permission check failed")
  }
}
