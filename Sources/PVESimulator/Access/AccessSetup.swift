import ConsoleProtocol

/// Users, tokens and realms that Swift gives: at the start, and while the simulator runs.
extension AccessControl {
  /// Passwords and token secrets, for the simulator's owner.
  struct Credentials: Sendable {
    /// By user.
    var passwords: [String: Secret]
    /// By full token id.
    var tokens: [String: Secret]
  }

  /// Every password and token secret there is.
  var credentials: Credentials {
    var out = Credentials(passwords: [:], tokens: [:])
    for user in users.values {
      out.passwords[user.id] = user.password
      for (name, token) in user.tokens { out.tokens["\(user.id)!\(name)"] = token.secret }
    }
    return out
  }

  /// Adds a realm, or replaces the one of that name.
  func add(_ realm: SimulatedRealm) throws(SimulatorError) {
    guard AuthID.isRealm(realm.id), realm.id.utf8.count <= 32, realm.id != "pam", realm.id != "pve"
    else { throw .configuration("'\(realm.id)' is no name for a realm") }
    var options: [String: String] = [:]
    switch realm.kind {
    case .ldap:
      options = ["server1": "ldap.example", "base_dn": "dc=example", "user_attr": "uid"]
    case .ad: options = ["server1": "ad.example", "domain": "example"]
    case .openid: options = ["issuer-url": "https://id.example", "client-id": "pve"]
    }
    options["comment"] = realm.comment
    if !realm.isCaseSensitive { options["case-sensitive"] = "0" }
    realms[realm.id] = Realm(type: realm.kind.rawValue, options: options)
    changed(.realms)
  }

  /// Adds a user with tokens, roles and second factors, or replaces the one of that name.
  func add(_ user: SimulatedUser, rootPassword: Secret? = nil, tokenSecret: Secret? = nil)
    throws(SimulatorError)
  {
    guard AuthID.user(user.id) != nil else {
      throw .configuration("'\(user.id)' is no user: it should be name@realm")
    }
    var record = User(user.id)
    record.password = rootPassword ?? user.password ?? Secret(randomPassword(16))
    var factors = SecondFactors()
    if let secret = user.totpSecret {
      guard let bytes = base32Decoded(secret.reveal()) else {
        throw .configuration("the TOTP secret of \(user.id) is not base32")
      }
      factors.totp.append(
        TOTPFactor(
          id: randomUUID(), description: "simulated", created: clock.now,
          code: TOTPCode(secret: bytes, account: user.id)))
    }
    if !user.recoveryCodes.isEmpty {
      factors.recovery = RecoveryCodes(created: clock.now, codes: user.recoveryCodes)
    }
    if !factors.isEmpty { record.keys = "x" }
    for (name, token) in user.tokens {
      guard AuthID.isRealm(name) else {
        throw .configuration(
          "'\(name)' is no token name: those are two or more letters, digits, dots, dashes and "
            + "underscores after a letter")
      }
      let given = user.id == "root@pam" && name == "sallyport" ? tokenSecret : nil
      record.tokens[name] = APIToken(
        secret: given ?? token.secret ?? Secret(randomUUID()), isSeparated: token.separated)
    }
    let known = users[user.id]
    users[user.id] = record
    if known != nil { dropACL(of: user.id, tokensOf: user.id) }
    self.factors[user.id] = factors.isEmpty ? nil : factors
    for (name, token) in user.tokens {
      try give(token.roles, to: .token("\(user.id)!\(name)"))
    }
    try give(user.roles, to: .user(user.id))
    changed(.users, .tokens, .tfa, .acl)
  }

  private func give(_ roles: [String: String], to subject: ACLSubject) throws(SimulatorError) {
    for (path, name) in roles {
      guard role(name) != nil else {
        throw .configuration("there is no role '\(name)' (for \(subject.id) on \(path))")
      }
      guard let path = AccessPath.normalized(path) else {
        throw .configuration("'\(path)' is no path for a role (for \(subject.id))")
      }
      acl[path, default: [:]][subject, default: [:]][name] = true
    }
  }

  /// Gives a user another password; false where there is no such user.
  @discardableResult
  func setPassword(_ password: Secret, of user: String) -> Bool {
    guard users[user] != nil else { return false }
    users[user]?.password = password
    changed(.users)
    return true
  }

  /// Gives a user a token, or another secret to a token of that name; nil where there is no such user.
  @discardableResult
  func setToken(_ name: String, of user: String, _ token: SimulatedUser.Token) -> Secret? {
    guard users[user] != nil, AuthID.isRealm(name) else { return nil }
    let secret = token.secret ?? Secret(randomUUID())
    users[user]?.tokens[name] = APIToken(secret: secret, isSeparated: token.separated)
    for (path, role) in token.roles {
      guard self.role(role) != nil, let path = AccessPath.normalized(path) else { continue }
      acl[path, default: [:]][.token("\(user)!\(name)"), default: [:]][role] = true
    }
    changed(.tokens, .acl)
    return secret
  }

  /// Takes a token away; false where there was none.
  @discardableResult
  func revokeToken(_ id: String) -> Bool {
    guard let (user, name) = AuthID.token(id), users[user]?.tokens[name] != nil else {
      return false
    }
    users[user]?.tokens[name] = nil
    dropACL(of: .token(id))
    changed(.tokens, .acl)
    return true
  }

  // MARK: what goes with what is deleted

  /// Forgets every role of somebody.
  func dropACL(of subject: ACLSubject) {
    for path in acl.keys {
      acl[path]?[subject] = nil
      if acl[path]?.isEmpty == true { acl[path] = nil }
    }
  }

  /// Forgets every role of a user and of the user's tokens.
  func dropACL(of user: String, tokensOf owner: String) {
    for path in acl.keys {
      acl[path] = acl[path]?.filter { entry in
        switch entry.key {
        case .user(let id): id != user
        case .token(let id): AuthID.token(id)?.user != owner
        case .group: true
        }
      }
      if acl[path]?.isEmpty == true { acl[path] = nil }
    }
  }
}
