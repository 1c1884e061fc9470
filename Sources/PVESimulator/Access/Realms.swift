import ConsoleProtocol

/// Realms as the API changes them, and the passwords in them.
extension AccessControl {
  private static let directoryOptions: Set<String> = [
    "server1", "server2", "base_dn", "bind_dn", "password", "user_attr", "port", "secure",
    "sslversion", "default", "comment", "tfa", "verify", "capath", "cert", "certkey", "filter",
    "sync_attributes", "user_classes", "group_dn", "group_name_attr", "group_filter",
    "group_classes", "sync-defaults-options", "mode", "case-sensitive", "check-connection",
  ]

  /// The options that a kind of realm has.
  private static func options(of type: String) -> Set<String> {
    switch type {
    case "ldap": return directoryOptions
    case "ad": return directoryOptions.union(["domain"])
    case "openid":
      return [
        "issuer-url", "client-id", "client-key", "autocreate", "username-claim", "prompt", "scopes",
        "acr-values", "default", "comment", "groups-claim", "groups-autocreate",
        "groups-overwrite", "query-userinfo", "audiences",
      ]
    default: return ["default", "comment", "tfa"]
    }
  }

  /// The options that a kind of realm can't be without.
  private static func requiredOptions(of type: String) -> [String] {
    switch type {
    case "ldap": ["base_dn", "server1", "user_attr"]
    case "ad": ["domain", "server1"]
    case "openid": ["client-id", "issuer-url"]
    default: []
    }
  }

  /// - Throws: `domain 'x' does not exist`.
  func realm(_ id: String) throws(APIError) -> Realm {
    guard let realm = realms[id] else { throw .died("domain '\(id)' does not exist") }
    return realm
  }

  /// Changes with every change of any realm.
  var realmsDigest: String { lowerHex(sha1(document(.realms).bytes)) }

  func createRealm(_ id: String, type: String, options: [String: String]) throws(APIError) {
    try AccessControl.doing("add auth server failed") { () throws(APIError) in
      guard realms[id] == nil else { throw .died("domain '\(id)' already exists") }
      guard id != "pam", id != "pve" else { throw .died("unable to use reserved name '\(id)'") }
      guard type != "pam", type != "pve" else {
        throw .died("unable to create builtin type '\(type)'")
      }
      var realm = Realm(type: type)
      try set(options, of: &realm)
      for name in AccessControl.requiredOptions(of: type) where options[name] == nil {
        throw .died("missing value for required option '\(name)'")
      }
      keep(realm, as: id)
    }
  }

  func updateRealm(
    _ id: String, options: [String: String], delete: [String], digest: String?
  ) throws(APIError) {
    try AccessControl.doing("update auth server failed") { () throws(APIError) in
      guard digest.map({ $0 == realmsDigest }) ?? true else {
        throw .died("detected modified configuration - file changed by other user? Try again.")
      }
      var realm = try realm(id)
      guard !options.isEmpty || !delete.isEmpty else { throw .died("no options specified") }
      for name in delete {
        realm.options[name] = nil
        if name == "password" { realm.password = nil }
      }
      if realm.type == "openid", options["username-claim"] != nil {
        throw .died("can't change value of fixed parameter 'username-claim'")
      }
      try set(options, of: &realm)
      keep(realm, as: id)
    }
  }

  private func set(_ options: [String: String], of realm: inout Realm) throws(APIError) {
    let known = AccessControl.options(of: realm.type)
    for (name, value) in options.sorted(by: { $0.key < $1.key }) {
      guard known.contains(name) else { throw .died("unexpected property '\(name)'") }
      switch name {
      case "password": realm.password = Secret(value)
      // There is no directory behind the realm, so the connection is as good as any.
      case "check-connection": break
      default: realm.options[name] = value
      }
    }
  }

  private func keep(_ realm: Realm, as id: String) {
    if realm.isDefault {
      for other in realms.keys { realms[other]?.options["default"] = nil }
    }
    realms[id] = realm
    changed(.realms)
  }

  /// Deletes a realm; its users stay and can't log in. `pam` and `pve` come back as they were at first.
  func deleteRealm(_ id: String) throws(APIError) {
    guard realms[id] != nil else {
      throw .died("delete auth server failed: authentication domain '\(id)' does not exist")
    }
    realms[id] = AccessControl.builtInRealms[id]
    changed(.realms)
  }

  // MARK: passwords

  /// - Throws: where the realm's passwords are not PVE's to change.
  func checkStoresPasswords(_ realm: String) throws(APIError) {
    guard let type = realms[realm]?.type else {
      throw .died("auth domain '\(realm)' does not exist")
    }
    guard type == "pam" || type == "pve" else {
      throw .died("can't set password on auth type '\(type)'")
    }
  }

  /// Checks a password as the user's realm does.
  /// - Throws: the realm's reason, which logins hide.
  func checkPassword(_ password: String, of id: String) throws(APIError) {
    guard let user = users[id], let type = realms[user.realm]?.type else {
      throw .died("auth domain '\(AuthID.user(id)?.realm ?? "")' does not exist")
    }
    switch type {
    case "openid": throw .died("OpenID realm does not allow password verification.")
    case "pam":
      guard !password.isEmpty else { throw .died("no password") }
      guard user.password == Secret(password) else { throw .died("Authentication failure") }
    case "pve":
      guard !password.isEmpty else { throw .died("no password") }
      guard let right = user.password else { throw .died("no password set") }
      guard right == Secret(password) else { throw .died("invalid credentials") }
    default:
      guard !password.isEmpty, user.password == Secret(password) else {
        throw .died("\(user.name): Invalid credentials")
      }
    }
  }

  /// Whether a password is a user's.
  func isPassword(_ password: String, of id: String) -> Bool {
    do throws(APIError) {
      try checkPassword(password, of: id)
      return true
    } catch {
      return false
    }
  }

  /// Whoever changes a user's password or second factors says who they are once more, except root@pam; and nobody but
  /// root@pam changes root@pam.
  func reauthenticate(_ authID: String, toChange id: String, password: String?, field: String)
    throws(APIError)
  {
    _ = try user(id)
    guard authID != "root@pam" else { return }
    guard id != "root@pam" else { throw APIError(status: 403, message: "Permission check failed") }
    guard let password else {
      let what = era.major >= 8 ? "user" : "TFA data"
      throw .invalid([.init(name: field, text: "password is required to modify \(what)")])
    }
    try checkPassword(password, of: authID)
  }

  /// `PUT /access/password`.
  func changePassword(of id: String, to password: Secret, as authID: String) throws(APIError) {
    let realm = try user(id).realm
    if authID != "root@pam" {
      if authID == id {
        _ = try enabledUser(id)
      } else if id == "root@pam" || realm == "pam" {
        throw APIError(status: 403, message: "Permission check failed")
      }
    }
    try checkStoresPasswords(realm)
    setPassword(password, of: id)
  }
}
