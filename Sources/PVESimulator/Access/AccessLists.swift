/// The ACL as the API shows and changes it.
extension AccessControl {
  /// A line of the ACL.
  struct ACLLine {
    var path: String
    var subject: ACLSubject
    var role: String
    var propagates: Bool
  }

  /// The ACL by path, subject and role.
  var aclLines: [ACLLine] {
    acl.keys.sorted().flatMap { path in
      (acl[path] ?? [:]).sorted { $0.key < $1.key }.flatMap { subject, roles in
        roles.sorted { $0.key < $1.key }.map {
          ACLLine(path: path, subject: subject, role: $0.key, propagates: $0.value)
        }
      }
    }
  }

  /// What `PUT /access/acl` asks for.
  struct ACLChange {
    var path: String
    var roles: [String]
    var users: [String] = []
    var groups: [String] = []
    var tokens: [String] = []
    var propagates = true
    var deletes = false
  }

  /// Gives or takes roles; somebody without `Permissions.Modify` can't hand out more than they have.
  func changeACL(_ change: ACLChange, as authID: String) throws(APIError) {
    guard let path = AccessPath.normalized(change.path),
      change.deletes || AccessPath.mayHaveACL(path, in: era)
    else {
      throw .invalid([.init(name: "path", text: "invalid ACL path '\(change.path)'")])
    }
    try AccessControl.doing("ACL update failed") { () throws(APIError) in
      var subjects: [ACLSubject] = []
      let own = grant(of: authID, on: path)
      for role in change.roles {
        let privileges = try existingRole(role)
        if !era.grantsMayExceedOwn { try check(role, privileges, change, own) }
        subjects = []
        for group in change.groups {
          _ = try self.group(group)
          subjects.append(.group(group))
        }
        for user in change.users {
          guard users[user] != nil else { throw .died("user '\(user)' does not exist") }
          // root@pam's roles aren't kept: it may do everything anyway.
          if user != "root@pam" { subjects.append(.user(user)) }
        }
        for token in change.tokens {
          guard let (user, name) = AuthID.token(token) else {
            throw .died(
              "'\(token)' is not a valid token ID - not able to split into user and token parts")
          }
          _ = try self.token(name, of: user)
          subjects.append(.token(token))
        }
      }
      for subject in subjects {
        for role in change.roles {
          acl[path, default: [:]][subject, default: [:]][role] =
            change.deletes ? nil : change.propagates
        }
      }
    }
    pruneACL()
    changed(.acl)
  }

  private func check(
    _ role: String, _ privileges: PrivilegeSet, _ change: ACLChange, _ own: Grant
  ) throws(APIError) {
    guard !own.privileges.contains(.permissionsModify) else { return }
    let verb = change.deletes ? "remove" : "add"
    func refuse(_ text: String) -> APIError {
      .invalid([.init(name: "role", text: "Cannot \(verb) role '\(role)'\(text)")])
    }
    guard own.privileges.isSuperset(of: privileges) else {
      throw refuse(" - requires 'Permissions.Modify' or superset of privileges.")
    }
    if change.propagates, !change.deletes, !own.propagated.isSuperset(of: privileges) {
      throw refuse(
        " with propagation - requires 'Permissions.Modify' or propagated superset of privileges.")
    }
    if role == "NoAccess" { throw refuse(" - requires 'Permissions.Modify'") }
  }

  /// Forgets paths and subjects without roles.
  func pruneACL() {
    for (path, entries) in acl {
      let left = entries.filter { !$0.value.isEmpty }
      acl[path] = left.isEmpty ? nil : left
    }
  }

  // MARK: what somebody may do, for people

  /// `GET /access/permissions` of one path, or of every path that anything is said about.
  func permissions(of authID: String, on path: String?) -> JSON {
    if let path { return .object([.init(key: path, value: flags(grant(of: authID, on: path)))]) }
    // PVE 7 has the path of pools wrong here.
    var paths: Set<String> = [
      "/", "/access", "/access/groups", "/nodes", era.major >= 8 ? "/pool" : "/pools", "/sdn",
      "/storage", "/vms",
    ]
    for path in acl.keys {
      var prefix = ""
      for part in path.split(separator: "/") {
        prefix += "/\(part)"
        paths.insert(prefix)
      }
    }
    paths.formUnion(pooledPaths())
    return .object(
      paths.sorted().compactMap { path in
        let grant = grant(of: authID, on: path)
        return grant.privileges.isEmpty ? nil : .init(key: path, value: flags(grant))
      })
  }

  private func flags(_ grant: Grant) -> JSON {
    .object(
      grant.privileges.privileges.map {
        .init(key: $0.name, value: .flag(grant.propagated.contains($0)))
      })
  }

  /// The `cap` of a login answer: what web interfaces show menus by. It looks at the top of each branch and at every
  /// path that the ACL names.
  func capabilities(of authID: String) -> JSON {
    var found: [String: PrivilegeSet] = [:]
    let knowsMappings = era.capabilitiesKnowMappings
    for name in ["vms", "access", "storage", "nodes", "sdn", "dc"] { found[name] = [] }
    if knowsMappings { found["mapping"] = [] }
    let top = ["/", "/nodes", "/access/groups", "/vms", "/storage", "/sdn"]
    for path in Set(top + (knowsMappings ? ["/mapping"] : []) + acl.keys) {
      let held = privileges(of: authID, on: path)
      guard !held.isEmpty else { continue }
      let branch = path.split(separator: "/").first.map(String.init) ?? "dc"
      if branch == "pool" {
        for part in ["vms", "storage"] {
          found[part]?.formUnion(held.intersection(AccessControl.about(part, in: era)))
        }
      } else {
        found[branch]?.formUnion(held.intersection(AccessControl.about(branch, in: era)))
      }
    }
    return .object(
      found.sorted { $0.key < $1.key }.map { name, held in
        .init(key: name, value: .object(held.names.map { .init(key: $0, value: 1) }))
      })
  }

  /// The privileges that `cap` knows about a branch of the tree.
  private static func about(_ branch: String, in era: Era) -> PrivilegeSet {
    func beginning(_ prefixes: String...) -> PrivilegeSet {
      PrivilegeSet(
        Privilege.allCases.filter { privilege in
          prefixes.contains { privilege.name.hasPrefix($0) }
        })
    }
    switch branch {
    case "vms": return beginning("VM.", "Permissions.Modify")
    case "access": return beginning("User.", "Group.", "Permissions.Modify")
    case "storage": return beginning("Datastore.", "Permissions.Modify")
    case "nodes": return beginning("Sys.", "Permissions.Modify")
    case "sdn": return beginning("SDN.", "Permissions.Modify")
    case "mapping": return beginning("Mapping.", "Permissions.Modify")
    case "dc":
      return era.capabilitiesKnowMappings
        ? beginning("SDN.", "Sys.Audit", "Sys.Modify") : beginning("SDN.", "Sys.Audit")
    default: return []
    }
  }
}
