import ConsoleProtocol

/// `/access/users` and API tokens.
extension PVENode {
  static let userOperations: [Operation] = [
    Operation("GET", "/access/users") { node, arguments in
      let access = node.access
      let isFull = arguments.flag("full")
      let enabled = arguments.text("enabled").map { $0 == "1" }
      let rows = access.users.values.sorted { $0.id < $1.id }.filter {
        node.maySee($0.id, arguments) && (enabled ?? $0.isEnabled) == $0.isEnabled
      }
      return APIResult(
        .array(
          rows.map { user in
            var members = node.members(of: user)
            members.append(("userid", .string(user.id)))
            members.append(("realm-type", access.realms[user.realm].map { .string($0.type) }))
            if isFull {
              let groups = access.groups(of: user.id).joined(separator: ",")
              members.append(("groups", .string(groups)))
              if !user.tokens.isEmpty {
                members.append(("tokens", .array(user.tokenRows)))
              }
            }
            if node.era.locksSecondFactors, let factors = access.factors[user.id] {
              members += factors.lockMembers(at: node.clock.now).map { ($0.key, $0.value) }
            }
            return AccessControl.members(members)
          }))
    },
    Operation("POST", "/access/users") { node, arguments throws(APIError) in
      try node.access.createUser(
        arguments.text("userid") ?? "", password: arguments.text("password").map(Secret.init),
        AccessControl.UserChange(arguments))
      return APIResult(.null)
    },
    Operation("GET", "/access/users/{userid}") { node, arguments throws(APIError) in
      let user = try node.access.user(arguments.text("userid") ?? "")
      let tokens = user.tokens.sorted { $0.key < $1.key }
      return APIResult(
        AccessControl.members(
          node.members(of: user) + [
            ("groups", .array(node.access.groups(of: user.id).map { .string($0) })),
            (
              "tokens",
              tokens.isEmpty
                ? .null : .object(tokens.map { .init(key: $0.key, value: $0.value.info) })
            ),
          ]))
    },
    Operation("PUT", "/access/users/{userid}") { node, arguments throws(APIError) in
      try node.access.updateUser(
        arguments.text("userid") ?? "", AccessControl.UserChange(arguments))
      return APIResult(.null)
    },
    Operation("DELETE", "/access/users/{userid}") { node, arguments in
      node.access.deleteUser(arguments.text("userid") ?? "")
      return APIResult(.null)
    },
  ]

  /// Whether the caller may see a user: themselves, and whom they may look at or change.
  func maySee(_ user: String, _ arguments: Arguments) -> Bool {
    user == arguments.authID
      || access.reaches(
        user, authID: arguments.authID, with: PrivilegeSet([.userModify, .sysAudit]))
  }

  /// What the API tells of a user.
  fileprivate func members(of user: User) -> [(String, JSON?)] {
    // In PVE's file the e-mail address stands before the comment and the keys, so it is there and empty where one of
    // those is.
    let email = user.email ?? (user.comment != nil || user.keys != nil ? "" : nil)
    return [
      ("enable", .flag(user.isEnabled)), ("expire", .int(user.expires)),
      ("firstname", user.firstName.map { .string($0) }),
      ("lastname", user.lastName.map { .string($0) }), ("email", email.map { .string($0) }),
      ("comment", user.comment.map { .string($0) }), ("keys", user.keys.map { .string($0) }),
    ]
  }

  // MARK: tokens

  static let tokenOperations: [Operation] = [
    Operation("GET", "/access/users/{userid}/token") { node, arguments throws(APIError) in
      APIResult(.array(try node.access.user(arguments.text("userid") ?? "").tokenRows))
    },
    Operation("GET", "/access/users/{userid}/token/{tokenid}") { node, arguments throws(APIError) in
      APIResult(try node.token(arguments).info)
    },
    Operation("POST", "/access/users/{userid}/token/{tokenid}") {
      node, arguments throws(APIError) in
      let user = arguments.text("userid") ?? ""
      let name = arguments.text("tokenid") ?? ""
      let token = try node.access.createToken(
        name, of: user, expires: arguments.integer("expire"),
        separated: arguments.text("privsep").map { $0 == "1" }, comment: arguments.text("comment"))
      return APIResult([
        "info": AccessControl.members([
          // What the caller sent comes back as it came: as text.
          ("privsep", arguments.text("privsep").map { .string($0) } ?? 1),
          ("expire", arguments.text("expire").map { .string($0) }),
          ("comment", token.comment.map { .string($0) }),
        ]), "value": .string(token.secret.reveal()), "full-tokenid": .string("\(user)!\(name)"),
      ])
    },
    Operation("PUT", "/access/users/{userid}/token/{tokenid}") { node, arguments throws(APIError) in
      let user = arguments.text("userid") ?? ""
      let name = arguments.text("tokenid") ?? ""
      let cleared = arguments.list("delete")
      let isNew = arguments.flag("regenerate")
      let token = try node.access.updateToken(name, of: user) { token in
        if let text = arguments.text("privsep") { token.isSeparated = text == "1" }
        if let number = arguments.integer("expire") { token.expires = number }
        if let text = arguments.text("comment"), !text.isEmpty { token.comment = text }
        if cleared.contains("comment") { token.comment = nil }
        if cleared.contains("expire") { token.expires = nil }
        if isNew { token.secret = Secret(randomUUID()) }
      }
      return APIResult(
        AccessControl.members([
          ("privsep", arguments.text("privsep").map { .string($0) } ?? .flag(token.isSeparated)),
          ("expire", arguments.text("expire").map { .string($0) } ?? .int(token.expires ?? 0)),
          ("comment", token.comment.map { .string($0) }),
          ("value", isNew ? .string(token.secret.reveal()) : nil),
          ("full-tokenid", isNew ? .string("\(user)!\(name)") : nil),
        ]))
    },
    Operation("DELETE", "/access/users/{userid}/token/{tokenid}") {
      node, arguments throws(APIError) in
      try node.access.deleteToken(
        arguments.text("tokenid") ?? "", of: arguments.text("userid") ?? "")
      return APIResult(.null)
    },
  ]

  fileprivate func token(_ arguments: Arguments) throws(APIError) -> APIToken {
    try access.token(arguments.text("tokenid") ?? "", of: arguments.text("userid") ?? "")
  }
}

extension AccessControl.UserChange {
  fileprivate init(_ arguments: Arguments) {
    isEnabled = arguments.text("enable").map { $0 == "1" }
    expires = arguments.integer("expire")
    firstName = arguments.text("firstname")
    lastName = arguments.text("lastname")
    email = arguments.text("email")
    comment = arguments.text("comment")
    keys = arguments.text("keys")
    groups = arguments.text("groups").map { splitList($0) }
    appends = arguments.flag("append")
  }
}

extension APIToken {
  /// What the API tells of a token: never its secret.
  fileprivate var info: JSON {
    AccessControl.members([
      ("privsep", .flag(isSeparated)), ("expire", .int(expires ?? 0)),
      ("comment", comment.map { .string($0) }),
    ])
  }
}

extension User {
  /// The rows of the user's tokens.
  fileprivate var tokenRows: [JSON] {
    tokens.sorted { $0.key < $1.key }.map { name, token in
      guard case .object(let members) = token.info else { return .null }
      return .object([.init(key: "tokenid", value: .string(name))] + members)
    }
  }
}
