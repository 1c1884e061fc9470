import ConsoleProtocol

/// Who there is in the cluster, and who may do what where: users, groups, roles, API tokens, the ACL, realms and second
/// factors.
///
/// Reads are cheap: the ACL is compiled per user or token when it is first asked about, and compiled again after a
/// change (``generation``).
///
/// Proof of `@unchecked Sendable`: whoever starts the simulator makes it and hands it to the loop once; from then on it
/// is touched on the loop's thread alone.
final class AccessControl: @unchecked Sendable {
  /// What is kept in one document of the durable state each.
  enum Part: String, CaseIterable {
    case users, groups, roles, tokens, acl, realms, tfa
  }

  let era: Era
  let clock: SimulatorClock
  /// Called after a change of what must survive a restart.
  var persist: (Part) -> Void = { _ in }

  /// Everything that survives a restart.
  struct Contents {
    var users: [String: User] = [:]
    var groups: [String: UserGroup] = [:]
    /// Roles that were made here; the built-in ones are ``Privileges/roles``.
    var ownRoles: [String: PrivilegeSet] = [:]
    /// Roles by path, by who has them; the value says whether they are handed down.
    var acl: [String: [ACLSubject: [String: Bool]]] = [:]
    var realms: [String: Realm] = AccessControl.builtInRealms
    var factors: [String: SecondFactors] = [:]
  }

  private(set) var contents = Contents()

  var users: [String: User] {
    get { contents.users }
    _modify { yield &contents.users }
  }
  var groups: [String: UserGroup] {
    get { contents.groups }
    _modify { yield &contents.groups }
  }
  var ownRoles: [String: PrivilegeSet] {
    get { contents.ownRoles }
    _modify { yield &contents.ownRoles }
  }
  var acl: [String: [ACLSubject: [String: Bool]]] {
    get { contents.acl }
    _modify { yield &contents.acl }
  }
  var realms: [String: Realm] {
    get { contents.realms }
    _modify { yield &contents.realms }
  }
  var factors: [String: SecondFactors] {
    get { contents.factors }
    _modify { yield &contents.factors }
  }

  /// Says which pool a guest is in: what is allowed on a pool is allowed on its members.
  var poolOfGuest: (Int) -> String? = { _ in nil }
  /// Says which pools a storage is in.
  var poolsOfStorage: (String) -> [String] = { _ in [] }
  /// Says which paths pools give rights on: those of all their members.
  var pooledPaths: () -> [String] = { [] }

  /// Goes up with every change that may change anybody's privileges.
  private(set) var generation: UInt64 = 0
  private var compiled: [String: CompiledSubject] = [:]
  private let root: CompiledSubject
  private let nobody = CompiledSubject(.listed(owner: nil))

  static let builtInRealms = [
    "pam": Realm(type: "pam", options: ["comment": "Linux PAM standard authentication"]),
    "pve": Realm(type: "pve", options: ["comment": "Proxmox VE authentication server"]),
  ]

  init(
    users: [SimulatedUser], realms: [SimulatedRealm] = [], rootPassword: Secret?,
    tokenSecret: Secret?, era: Era = .v9_2, clock: SimulatorClock = SimulatorClock()
  ) throws(SimulatorError) {
    self.era = era
    self.clock = clock
    root = CompiledSubject(.root(Privileges.of(era).all))
    for realm in realms { try add(realm) }
    var all = users
    if !all.contains(where: { $0.id == "root@pam" }) {
      all.insert(SimulatedUser("root@pam", tokens: ["sallyport": .init()]), at: 0)
    }
    for user in all {
      try add(
        user, rootPassword: user.id == "root@pam" ? rootPassword : nil, tokenSecret: tokenSecret)
    }
  }

  // MARK: changes

  /// To be called after every change: forgets what was compiled, and has the part kept.
  func changed(_ parts: Part...) {
    generation &+= 1
    compiled.removeAll(keepingCapacity: true)
    for part in parts { persist(part) }
  }

  /// Puts everything back as it was.
  func reset(to contents: Contents) {
    self.contents = contents
    changed()
    persistAll()
  }

  /// Has every part kept, e.g. in a state file that is new.
  func persistAll() {
    for part in Part.allCases { persist(part) }
  }

  /// Forgets what was allowed on a path and below it, because what it named is gone.
  func removeACL(on path: String) {
    let gone = acl.keys.filter { $0 == path || $0.hasPrefix(path + "/") }
    guard !gone.isEmpty else { return }
    for path in gone { acl[path] = nil }
    changed(.acl)
  }

  // MARK: roles

  /// The privileges of a role, or nil where there is none of that name.
  func role(_ name: String) -> PrivilegeSet? {
    Privileges.of(era).roles[name] ?? ownRoles[name]
  }

  /// Whether a role is PVE's own.
  func isBuiltIn(role: String) -> Bool { Privileges.of(era).roles[role] != nil }

  // MARK: what somebody may do

  /// The privileges of an auth id (`user@realm` or `user@realm!token`) on a path.
  func privileges(of authID: String, on path: String) -> PrivilegeSet {
    grant(of: authID, on: path).privileges
  }

  /// The privileges of an auth id on a guest; cheaper than with the path, for lists of many.
  func privileges(of authID: String, onGuest vmid: Int) -> PrivilegeSet {
    subject(authID).grant(onGuest: vmid, pool: poolOfGuest(vmid)).privileges
  }

  /// Whether an auth id has a privilege on a path.
  func holds(_ authID: String, _ privilege: Privilege, on path: String) -> Bool {
    privileges(of: authID, on: path).contains(privilege)
  }

  /// Whether an auth id has one of several privileges on a path.
  func holdsAny(_ authID: String, _ privileges: PrivilegeSet, on path: String) -> Bool {
    !self.privileges(of: authID, on: path).isDisjoint(with: privileges)
  }

  /// The privileges on a path, and which of them are handed down.
  func grant(of authID: String, on path: String) -> Grant {
    let subject = subject(authID)
    if let vmid = CompiledSubject.vmid(in: path) {
      return subject.grant(onGuest: vmid, pool: poolOfGuest(vmid))
    }
    let pools = path.hasPrefix("/storage/") ? poolsOfStorage(String(path.dropFirst(9))) : []
    return subject.grant(on: path, pools: pools)
  }

  private func subject(_ authID: String) -> CompiledSubject {
    if authID == "root@pam" { return root }
    if let known = compiled[authID] { return known }
    let made = compile(authID)
    compiled[authID] = made
    return made
  }

  private func compile(_ authID: String) -> CompiledSubject {
    guard let (owner, name) = AuthID.token(authID) else {
      let memberships = groups.filter { $0.value.members.contains(authID) }.map(\.key)
      return CompiledSubject(
        .listed(owner: nil),
        rules: rules(for: .user(authID), or: memberships.map { .group($0) }))
    }
    guard let token = users[owner]?.tokens[name] else { return nobody }
    guard token.isSeparated else { return subject(owner) }
    return CompiledSubject(
      .listed(owner: owner == "root@pam" ? nil : subject(owner)),
      rules: rules(for: .token(authID), or: []))
  }

  /// What the ACL says about somebody, path by path: what is given to them, or else to their groups.
  private func rules(for own: ACLSubject, or others: [ACLSubject]) -> [String: CompiledSubject.Rule]
  {
    var rules: [String: CompiledSubject.Rule] = [:]
    for (path, entries) in acl {
      let mine = entries[own] ?? [:]
      var theirs: [String: Bool] = [:]
      for group in others {
        theirs.merge(entries[group] ?? [:]) { $0 || $1 }
      }
      func grant(_ propagatingOnly: Bool) -> Grant? {
        for roles in [mine, theirs] {
          let applying = roles.filter { $0.value || !propagatingOnly }
          if applying.isEmpty { continue }
          return applying.reduce(into: Grant()) {
            $0.add($1.key, role($1.key) ?? [], propagates: $1.value)
          }
        }
        return nil
      }
      let rule = CompiledSubject.Rule(here: grant(false), below: grant(true))
      if rule.here != nil { rules[path] = rule }
    }
    return rules
  }
}
