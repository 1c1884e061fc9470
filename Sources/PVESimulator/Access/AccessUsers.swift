import ConsoleProtocol

/// Users, groups, roles and tokens as the API changes them, with PVE's refusals.
extension AccessControl {
  /// What may be said about a user; nil leaves things as they are.
  struct UserChange {
    var isEnabled: Bool?
    var expires: Int?
    var firstName: String?
    var lastName: String?
    var email: String?
    var comment: String?
    var keys: String?
    /// Groups to be in.
    var groups: [String]?
    /// Whether the groups are added to those that the user is in.
    var appends = false
  }

  // MARK: who there is

  func userExists(_ id: String) -> Bool { users[id] != nil }

  /// - Throws: `no such user ('x@pve')`.
  func user(_ id: String) throws(APIError) -> User {
    guard let user = users[id] else { throw .died("no such user ('\(id)')") }
    return user
  }

  /// A user who may log in and call.
  /// - Throws: what keeps them from it.
  func enabledUser(_ id: String) throws(APIError) -> User {
    let user = try user(id)
    guard user.isEnabled else { throw .died("user '\(id)' is disabled") }
    guard user.expires == 0 || user.expires >= clock.now else {
      throw .died("user '\(id)' access expired")
    }
    return user
  }

  /// The user's name as it is written here: realms may not care for upper and lower case.
  /// - Throws: where that fits several users.
  func lookup(_ id: String) throws(APIError) -> String {
    guard let (_, realm) = AuthID.user(id), realms[String(realm)]?.ignoresCase == true else {
      return id
    }
    let wanted = id.lowercased()
    let matches = users.keys.filter { $0.lowercased() == wanted }
    guard matches.count < 2 else {
      throw .died(
        "ambiguous case insensitive match of username '\(id)', cannot safely grant access!")
    }
    return matches.first ?? id
  }

  /// The groups of a user, sorted.
  func groups(of user: String) -> [String] {
    groups.filter { $0.value.members.contains(user) }.map(\.key).sorted()
  }

  /// The groups on whose path somebody has one of the privileges.
  func groups(where authID: String, holdsAny privileges: PrivilegeSet) -> Set<String> {
    Set(groups.keys.filter { holdsAny(authID, privileges, on: "/access/groups/\($0)") })
  }

  /// The members of several groups.
  func members(of groups: some Sequence<String>) -> Set<String> {
    groups.reduce(into: []) { $0.formUnion(self.groups[$1]?.members ?? []) }
  }

  /// Whether somebody may see or change a user: by a privilege on `/access/groups`, or on a group that the user is in.
  func reaches(_ user: String, authID: String, with privileges: PrivilegeSet) -> Bool {
    holdsAny(authID, privileges, on: "/access/groups")
      || members(of: groups(where: authID, holdsAny: privileges)).contains(user)
  }

  /// Whether somebody may change the ACL of a path: by `Permissions.Modify`, or by the privilege to make what the path
  /// is about.
  func mayModifyACL(on path: String, authID: String) -> Bool {
    holdsAny(authID, AccessControl.privilegesToModifyACL(on: path), on: path)
  }

  /// The privileges that let one change the ACL of a path.
  static func privilegesToModifyACL(on path: String) -> PrivilegeSet {
    if path.hasPrefix("/storage/") {
      return PrivilegeSet([.permissionsModify, .datastoreAllocate])
    }
    if path.hasPrefix("/vms/") { return PrivilegeSet([.permissionsModify, .vmAllocate]) }
    if path.hasPrefix("/pool/") { return PrivilegeSet([.permissionsModify, .poolAllocate]) }
    return PrivilegeSet([.permissionsModify])
  }

  // MARK: users

  func createUser(_ id: String, password: Secret?, _ change: UserChange) throws(APIError) {
    try AccessControl.doing("create user failed") { () throws(APIError) in
      let known = (try? lookup(id)) ?? id
      guard users[known] == nil else { throw .died("user '\(known)' already exists") }
      var user = User(id)
      if let password { try checkStoresPasswords(user.realm) }
      user.password = password
      user.isEnabled = change.isEnabled ?? true
      try check(groups: change.groups)
      apply(change, to: &user)
      users[id] = user
      join(id, change)
      changed(.users, .groups)
    }
  }

  func updateUser(_ id: String, _ change: UserChange) throws(APIError) {
    try AccessControl.doing("update user failed") { () throws(APIError) in
      var user = try user(id)
      try check(groups: change.groups)
      apply(change, to: &user)
      users[id] = user
      join(id, change)
      changed(.users, .groups)
    }
  }

  private func apply(_ change: UserChange, to user: inout User) {
    func text(_ new: String?, _ old: String?) -> String? {
      guard let new else { return old }
      return new.isEmpty ? nil : new
    }
    user.isEnabled = change.isEnabled ?? user.isEnabled
    user.expires = change.expires ?? user.expires
    user.firstName = text(change.firstName, user.firstName)
    user.lastName = text(change.lastName, user.lastName)
    user.email = text(change.email, user.email)
    user.comment = text(change.comment, user.comment)
    user.keys = text(change.keys, user.keys)
  }

  private func check(groups wanted: [String]?) throws(APIError) {
    for group in wanted ?? [] where groups[group] == nil {
      throw .died("no such group '\(group)'")
    }
  }

  private func join(_ user: String, _ change: UserChange) {
    guard let wanted = change.groups else { return }
    if !change.appends { leaveGroups(user) }
    for group in wanted { groups[group]?.members.insert(user) }
  }

  private func leaveGroups(_ user: String) {
    for group in groups.keys { groups[group]?.members.remove(user) }
  }

  /// Deletes a user with everything that is the user's. root@pam comes back at once, without tokens.
  func deleteUser(_ id: String) {
    let old = users.removeValue(forKey: id)
    factors[id] = nil
    leaveGroups(id)
    dropACL(of: id, tokensOf: id)
    if id == "root@pam" {
      var root = User(id)
      root.password = old?.password
      users[id] = root
    }
    changed(.users, .groups, .tokens, .acl, .tfa)
  }

  // MARK: groups

  /// - Throws: `group 'x' does not exist`.
  func group(_ id: String) throws(APIError) -> UserGroup {
    guard let group = groups[id] else { throw .died("group '\(id)' does not exist") }
    return group
  }

  func createGroup(_ id: String, comment: String?) throws(APIError) {
    guard groups[id] == nil else {
      throw .died("create group failed: group '\(id)' already exists")
    }
    groups[id] = UserGroup(comment: comment?.isEmpty == false ? comment : nil)
    changed(.groups)
  }

  func updateGroup(_ id: String, comment: String?) throws(APIError) {
    try AccessControl.doing("update group failed") { () throws(APIError) in _ = try group(id) }
    if let comment { groups[id]?.comment = comment.isEmpty ? nil : comment }
    changed(.groups)
  }

  func deleteGroup(_ id: String) throws(APIError) {
    try AccessControl.doing("delete group failed") { () throws(APIError) in _ = try group(id) }
    groups[id] = nil
    dropACL(of: .group(id))
    changed(.groups, .acl)
  }

  // MARK: roles

  /// - Throws: `role 'x' does not exist`.
  func existingRole(_ id: String) throws(APIError) -> PrivilegeSet {
    guard let role = role(id) else { throw .died("role '\(id)' does not exist") }
    return role
  }

  func createRole(_ id: String, privileges: [String]) throws(APIError) {
    if era.reservesRoleNames, id.lowercased().hasPrefix("pve") {
      throw .invalid([
        .init(
          name: "roleid",
          text: "cannot use role ID starting with the (case-insensitive) 'PVE' namespace")
      ])
    }
    try AccessControl.doing("create role failed") { () throws(APIError) in
      guard role(id) == nil else { throw .died("role '\(id)' already exists") }
      ownRoles[id] = try privilegeSet(privileges)
    }
    changed(.roles)
  }

  func updateRole(_ id: String, privileges: [String], appends: Bool) throws(APIError) {
    guard !isBuiltIn(role: id) else {
      throw .died("auto-generated role '\(id)' cannot be modified")
    }
    try AccessControl.doing("update role failed") { () throws(APIError) in
      let old = try existingRole(id)
      ownRoles[id] = try privilegeSet(privileges).union(appends ? old : [])
    }
    changed(.roles)
  }

  func deleteRole(_ id: String) throws(APIError) {
    guard !isBuiltIn(role: id) else { throw .died("auto-generated role '\(id)' cannot be deleted") }
    try AccessControl.doing("delete role failed") { () throws(APIError) in _ = try existingRole(id)
    }
    ownRoles[id] = nil
    // The ACL's lines with an unknown role are ignored when they are read next.
    for (path, entries) in acl {
      for subject in entries.keys { acl[path]?[subject]?[id] = nil }
    }
    pruneACL()
    changed(.roles, .acl)
  }

  private func privilegeSet(_ names: [String]) throws(APIError) -> PrivilegeSet {
    var set: [Privilege] = []
    for name in names {
      guard let privilege = Privilege(name, in: era) else {
        throw .died("invalid privilege '\(name)'")
      }
      set.append(privilege)
    }
    return PrivilegeSet(set)
  }

  // MARK: tokens

  /// - Throws: `no such token 'x' for user 'y@pve'`.
  func token(_ name: String, of user: String) throws(APIError) -> APIToken {
    guard let token = try self.user(user).tokens[name] else {
      throw .died("no such token '\(name)' for user '\(user)'")
    }
    return token
  }

  /// Makes a token; its secret is in the answer and is never told again.
  func createToken(
    _ name: String, of user: String, expires: Int?, separated: Bool?, comment: String?
  )
    throws(APIError) -> APIToken
  {
    guard try self.user(user).tokens[name] == nil else {
      throw .invalid([.init(name: "tokenid", text: "Token already exists.")])
    }
    let token = APIToken(
      secret: Secret(randomUUID()), isSeparated: separated ?? true, expires: expires,
      comment: comment?.isEmpty == false ? comment : nil)
    users[user]?.tokens[name] = token
    changed(.tokens)
    return token
  }

  /// Changes a token in place.
  func updateToken(_ name: String, of user: String, _ change: (inout APIToken) -> Void)
    throws(APIError) -> APIToken
  {
    var token = try token(name, of: user)
    change(&token)
    users[user]?.tokens[name] = token
    changed(.tokens)
    return token
  }

  func deleteToken(_ name: String, of user: String) throws(APIError) {
    _ = try token(name, of: user)
    revokeToken("\(user)!\(name)")
  }

  // MARK: the words before an error

  /// Puts what was being done before the reason why it wasn't: PVE does so for everything that it does under a lock.
  static func doing<R>(_ what: String, _ body: () throws(APIError) -> R) throws(APIError) -> R {
    do throws(APIError) {
      return try body()
    } catch {
      // An exception with fields becomes text as well.
      let fields = error.fields.map { "\n\($0.name): \($0.text)" }.joined()
      let code = error.status == 500 ? "" : "\(error.status) "
      throw .died("\(what): \(code)\(error.message)\(fields)")
    }
  }
}
