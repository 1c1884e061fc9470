import ConsoleProtocol

/// Users, tokens and who may do what where.
struct AccessControl {
  struct Account {
    var id: String
    var password: Secret
    var isEnabled = true
    var totpSecret: [UInt8]?
    var recoveryCodes: [Int: Secret] = [:]
    var tokens: [String: TokenRecord] = [:]
    /// The last counter whose TOTP code was used: a code is good once.
    var lastTOTPCounter = 0
    /// Wrong TOTP codes in a row; eight lock it.
    var totpFailures = 0

    var realm: Substring { id.split(separator: "@").last ?? "" }
    var hasSecondFactor: Bool { totpSecret != nil || !recoveryCodes.isEmpty }
  }

  struct TokenRecord {
    var secret: Secret
    var separated: Bool
  }

  /// One role of one user or token (`user@realm!name`) on one path.
  struct Entry {
    var path: String
    var subject: String
    var role: String
    var propagates: Bool
  }

  private(set) var accounts: [String: Account] = [:]
  private(set) var entries: [Entry] = []

  init(users: [SimulatedUser], rootPassword: Secret?, tokenSecret: Secret?) throws(SimulatorError) {
    var all = users
    if !all.contains(where: { $0.id == "root@pam" }) {
      all.insert(SimulatedUser("root@pam", tokens: ["sallyport": .init()]), at: 0)
    }
    for user in all {
      guard user.id.split(separator: "@").count == 2, user.id.utf8.count <= 64 else {
        throw .configuration("'\(user.id)' is no user: it should be name@realm")
      }
      let isRoot = user.id == "root@pam"
      var account = Account(
        id: user.id,
        password: (isRoot ? rootPassword : nil) ?? user.password ?? Secret(randomPassword(16)))
      if let secret = user.totpSecret {
        guard let bytes = base32Decoded(secret.reveal()) else {
          throw .configuration("the TOTP secret of \(user.id) is not base32")
        }
        account.totpSecret = bytes
      }
      for (i, code) in user.recoveryCodes.enumerated() { account.recoveryCodes[i] = code }
      for (name, token) in user.tokens {
        let given = isRoot && name == "sallyport" ? tokenSecret : nil
        account.tokens[name] = TokenRecord(
          secret: given ?? token.secret ?? Secret(randomUUID()), separated: token.separated)
        try add(token.roles, subject: "\(user.id)!\(name)")
      }
      try add(user.roles, subject: user.id)
      accounts[user.id] = account
    }
  }

  private mutating func add(_ roles: [String: String], subject: String) throws(SimulatorError) {
    for (path, role) in roles {
      guard Privileges.roles[role] != nil else {
        throw .configuration("there is no role '\(role)' (for \(subject) on \(path))")
      }
      entries.append(Entry(path: path, subject: subject, role: role, propagates: true))
    }
  }

  /// Changes an account in place (failure counters, used codes).
  mutating func update(_ id: String, _ change: (inout Account) -> Void) {
    guard var account = accounts[id] else { return }
    change(&account)
    accounts[id] = account
  }

  /// The privileges of an auth id (`user@realm` or `user@realm!token`) on a path.
  ///
  /// root@pam has all of them. On the way down from `/`, roles given on a deeper path replace those inherited;
  /// a separated token has what both it and its user have.
  func privileges(of authID: String, on path: String) -> Set<String> {
    let parts = authID.split(separator: "!", maxSplits: 1)
    let user = String(parts.first ?? "")
    let ofUser = user == "root@pam" ? Set(Privileges.all) : inherited(by: user, on: path)
    guard parts.count == 2 else { return ofUser }
    guard let token = accounts[user]?.tokens[String(parts[1])] else { return [] }
    return token.separated ? ofUser.intersection(inherited(by: authID, on: path)) : ofUser
  }

  private func inherited(by subject: String, on path: String) -> Set<String> {
    var found: Set<String> = []
    for prefix in AccessControl.prefixes(of: path) {
      let here = entries.filter {
        $0.subject == subject && $0.path == prefix && ($0.propagates || prefix == path)
      }
      guard !here.isEmpty else { continue }
      found =
        here.contains { $0.role == "NoAccess" }
        ? [] : here.reduce(into: []) { $0.formUnion(Privileges.roles[$1.role] ?? []) }
    }
    return found
  }

  /// `/`, `/vms`, `/vms/100` for `/vms/100`.
  private static func prefixes(of path: String) -> [String] {
    var out = ["/"]
    var current = ""
    for part in path.split(separator: "/") {
      current += "/" + part
      out.append(current)
    }
    return out
  }

  /// The `cap` of a login answer.
  func capabilities(of authID: String) -> JSON {
    .object(
      Privileges.capabilityGroups.map { group in
        let held = privileges(of: authID, on: group.path)
        let members = group.privileges.filter { held.contains($0) }
        return .init(key: group.name, value: .object(members.map { .init(key: $0, value: 1) }))
      })
  }
}
