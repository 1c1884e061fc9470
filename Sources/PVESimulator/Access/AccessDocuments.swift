import ConsoleProtocol

/// The durable state: one document a part, and the way back.
///
/// Passwords, token secrets and second factors are in it as they are: the file that holds it is its owner's alone.
extension AccessControl {
  /// A part as it is kept.
  func document(_ part: Part) -> JSON {
    switch part {
    case .users: .array(users.values.sorted { $0.id < $1.id }.map(AccessControl.row))
    case .groups:
      .array(
        groups.sorted { $0.key < $1.key }.map { id, group in
          AccessControl.members([
            ("groupid", .string(id)), ("comment", group.comment.map { .string($0) }),
            ("users", .array(group.members.sorted().map { .string($0) })),
          ])
        })
    case .roles:
      .array(
        ownRoles.sorted { $0.key < $1.key }.map { id, privileges in
          ["roleid": .string(id), "privs": .string(privileges.names.joined(separator: ","))]
        })
    case .tokens:
      .array(
        users.values.sorted { $0.id < $1.id }.flatMap { user in
          user.tokens.sorted { $0.key < $1.key }.map {
            AccessControl.row($0.value, $0.key, user.id)
          }
        })
    case .acl:
      .array(
        aclLines.map {
          [
            "path": .string($0.path), "type": .string($0.subject.type),
            "ugid": .string($0.subject.id), "roleid": .string($0.role),
            "propagate": .flag($0.propagates),
          ]
        })
    case .realms:
      .array(
        realms.sorted { $0.key < $1.key }.map { id, realm in
          let options = realm.options.sorted { $0.key < $1.key }
          return AccessControl.members([
            ("realm", .string(id)), ("type", .string(realm.type)),
            (
              "options",
              .object(options.map { JSON.Member(key: $0.key, value: .string($0.value)) })
            ), ("password", realm.password.map { .string($0.reveal()) }),
          ])
        })
    case .tfa:
      .array(factors.sorted { $0.key < $1.key }.map { AccessControl.row($0.value, $0.key) })
    }
  }

  /// Puts a part back as its document has it.
  /// - Throws: where the document isn't one of ours.
  func restore(_ part: Part, from document: JSON) throws(SimulatorError) {
    guard case .array(let rows) = document else { throw AccessControl.broken(part) }
    switch part {
    case .users: try restoreUsers(rows)
    case .groups:
      groups = [:]
      for row in rows {
        groups[try AccessControl.text("groupid", in: row, part)] = UserGroup(
          members: Set(AccessControl.list("users", in: row).compactMap(AccessControl.text)),
          comment: AccessControl.text("comment", in: row))
      }
    case .roles:
      ownRoles = [:]
      for row in rows {
        let names = splitList(AccessControl.text("privs", in: row) ?? "")
        ownRoles[try AccessControl.text("roleid", in: row, part)] = PrivilegeSet(
          names.compactMap { Privilege($0, in: era) })
      }
    case .tokens: try restoreTokens(rows)
    case .acl:
      acl = [:]
      for row in rows {
        let path = try AccessControl.text("path", in: row, part)
        let id = try AccessControl.text("ugid", in: row, part)
        let role = try AccessControl.text("roleid", in: row, part)
        guard
          let subject = ACLSubject(
            type: try AccessControl.text("type", in: row, part), id: id)
        else { throw AccessControl.broken(part) }
        acl[path, default: [:]][subject, default: [:]][role] = AccessControl.flag(
          "propagate", in: row)
      }
    case .realms:
      realms = AccessControl.builtInRealms
      for row in rows {
        var realm = Realm(type: try AccessControl.text("type", in: row, part))
        if case .object(let options)? = row["options"] {
          for option in options { realm.options[option.key] = AccessControl.text(option.value) }
        }
        realm.password = AccessControl.text("password", in: row).map(Secret.init)
        realms[try AccessControl.text("realm", in: row, part)] = realm
      }
    case .tfa: try restoreFactors(rows)
    }
    changed()
  }

  private func restoreUsers(_ rows: [JSON]) throws(SimulatorError) {
    let tokens = users.mapValues(\.tokens)
    users = [:]
    for row in rows {
      var user = User(try AccessControl.text("userid", in: row, .users))
      user.isEnabled = AccessControl.flag("enable", in: row)
      user.expires = AccessControl.number("expire", in: row) ?? 0
      user.firstName = AccessControl.text("firstname", in: row)
      user.lastName = AccessControl.text("lastname", in: row)
      user.email = AccessControl.text("email", in: row)
      user.comment = AccessControl.text("comment", in: row)
      user.keys = AccessControl.text("keys", in: row)
      user.password = AccessControl.text("password", in: row).map(Secret.init)
      user.tokens = tokens[user.id] ?? [:]
      users[user.id] = user
    }
    if users["root@pam"] == nil { users["root@pam"] = User("root@pam") }
  }

  private func restoreTokens(_ rows: [JSON]) throws(SimulatorError) {
    for id in users.keys { users[id]?.tokens = [:] }
    for row in rows {
      guard let (user, name) = AuthID.token(try AccessControl.text("tokenid", in: row, .tokens))
      else { throw AccessControl.broken(.tokens) }
      users[user]?.tokens[name] = APIToken(
        secret: Secret(try AccessControl.text("value", in: row, .tokens)),
        isSeparated: AccessControl.flag("privsep", in: row),
        expires: AccessControl.number("expire", in: row),
        comment: AccessControl.text("comment", in: row))
    }
  }

  private func restoreFactors(_ rows: [JSON]) throws(SimulatorError) {
    factors = [:]
    for row in rows {
      var own = SecondFactors()
      for entry in AccessControl.list("totp", in: row) {
        let code: TOTPCode
        do throws(TOTPCode.Malformed) {
          code = try TOTPCode(uri: try AccessControl.uri(of: entry))
        } catch {
          throw AccessControl.broken(.tfa)
        }
        own.totp.append(
          TOTPFactor(
            id: try AccessControl.text("id", in: entry, .tfa),
            description: AccessControl.text("description", in: entry) ?? "",
            created: AccessControl.number("created", in: entry) ?? 0,
            isEnabled: AccessControl.flag("enable", in: entry), code: code,
            lastCounter: AccessControl.number("last-count", in: entry)))
      }
      if let recovery = row["recovery"] {
        own.recovery = RecoveryCodes(
          created: AccessControl.number("created", in: recovery) ?? 0,
          codes: AccessControl.list("entries", in: recovery).map { json -> Secret? in
            AccessControl.text(json).map(Secret.init)
          })
      }
      own.isTOTPLocked = AccessControl.flag("totp-locked", in: row)
      own.lockedUntil = AccessControl.number("tfa-locked-until", in: row)
      own.totpFailures = AccessControl.number("totp-failures", in: row) ?? 0
      own.failures = AccessControl.number("failures", in: row) ?? 0
      factors[try AccessControl.text("userid", in: row, .tfa)] = own
    }
  }

  private static func uri(of entry: JSON) throws(TOTPCode.Malformed) -> String {
    guard let uri = text("uri", in: entry) else { throw TOTPCode.Malformed(message: "no uri") }
    return uri
  }

  // MARK: rows

  private static func row(_ user: User) -> JSON {
    members([
      ("userid", .string(user.id)), ("enable", .flag(user.isEnabled)),
      ("expire", .int(user.expires)), ("firstname", user.firstName.map { .string($0) }),
      ("lastname", user.lastName.map { .string($0) }), ("email", user.email.map { .string($0) }),
      ("comment", user.comment.map { .string($0) }), ("keys", user.keys.map { .string($0) }),
      ("password", user.password.map { .string($0.reveal()) }),
    ])
  }

  private static func row(_ token: APIToken, _ name: String, _ user: String) -> JSON {
    members([
      ("tokenid", .string("\(user)!\(name)")), ("value", .string(token.secret.reveal())),
      ("privsep", .flag(token.isSeparated)), ("expire", token.expires.map { .int($0) }),
      ("comment", token.comment.map { .string($0) }),
    ])
  }

  private static func row(_ factors: SecondFactors, _ user: String) -> JSON {
    let totp = factors.totp.map { factor in
      members([
        ("id", .string(factor.id)), ("description", .string(factor.description)),
        ("created", .int(factor.created)), ("enable", .flag(factor.isEnabled)),
        ("uri", .string(factor.code.uri)), ("last-count", factor.lastCounter.map { .int($0) }),
      ])
    }
    let recovery = factors.recovery.map { recovery -> JSON in
      let codes = recovery.codes.map { code in code.map { JSON.string($0.reveal()) } ?? .null }
      return ["created": .int(recovery.created), "entries": .array(codes)]
    }
    return members([
      ("userid", .string(user)), ("totp", .array(totp)), ("recovery", recovery),
      ("totp-locked", .flag(factors.isTOTPLocked)),
      ("tfa-locked-until", factors.lockedUntil.map { .int($0) }),
      ("totp-failures", .int(factors.totpFailures)), ("failures", .int(factors.failures)),
    ])
  }

  /// An object without what is nil.
  static func members(_ all: [(String, JSON?)]) -> JSON {
    .object(all.compactMap { name, value in value.map { .init(key: name, value: $0) } })
  }

  // MARK: reading

  private static func broken(_ part: Part) -> SimulatorError {
    .configuration("the state holds no \(part.rawValue) in the place for them")
  }

  private static func text(_ json: JSON) -> String? {
    if case .string(let text) = json { text } else { nil }
  }

  private static func text(_ name: String, in row: JSON) -> String? {
    row[name].flatMap { text($0) }
  }

  private static func text(_ name: String, in row: JSON, _ part: Part) throws(SimulatorError)
    -> String
  {
    guard let text = text(name, in: row) else { throw broken(part) }
    return text
  }

  private static func number(_ name: String, in row: JSON) -> Int? {
    if case .int(let number)? = row[name] { number } else { nil }
  }

  private static func flag(_ name: String, in row: JSON) -> Bool { number(name, in: row) == 1 }

  private static func list(_ name: String, in row: JSON) -> [JSON] {
    if case .array(let items)? = row[name] { items } else { [] }
  }
}
