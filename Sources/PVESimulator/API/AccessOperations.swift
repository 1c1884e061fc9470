import ConsoleProtocol

/// `/version` and `/access`.
extension PVENode {
  static let accessOperations: [Operation] = [
    Operation(method: "GET", path: "/version") { node, _ in
      APIResult([
        "version": .string(node.era.version), "release": .string(node.era.release),
        "repoid": .string(node.era.repositoryID),
      ])
    },
    Operation(method: "GET", path: "/access/domains", permission: .world) { _, _ in
      APIResult([
        ["realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication"],
        ["realm": "pve", "type": "pve", "comment": "Proxmox VE authentication server"],
      ])
    },
    Operation(method: "GET", path: "/access/ticket", permission: .world) { _, _ in
      APIResult(.null)
    },
    Operation(
      method: "POST", path: "/access/ticket",
      parameters: [
        .boolean("new-format"), .string("otp", optional: true), .string("password"),
        .string("path", optional: true, maximumLength: 64, needs: "privs"),
        .string("privs", optional: true, maximumLength: 64, format: .privilegeList, needs: "path"),
        .string("realm", optional: true, maximumLength: 32, format: .realm),
        .string("tfa-challenge", optional: true), .string("username", maximumLength: 64),
      ],
      permission: .world, isProtected: true, allowsTokens: false
    ) { node, arguments throws(APIError) in
      try node.login(arguments)
    },
    Operation(
      method: "POST", path: "/access/vncticket",
      parameters: [
        .string("authid", maximumLength: 64), .string("path", maximumLength: 64),
        .integer("port", optional: true),
        .string("privs", maximumLength: 64, format: .privilegeList), .string("vncticket"),
      ],
      permission: .world, isProtected: true
    ) { node, arguments throws(APIError) in
      let authID = arguments.text("authid") ?? ""
      let path = arguments.text("path") ?? ""
      let privileges = (arguments.text("privs") ?? "").split { $0 == "," || $0 == ";" || $0 == " " }
      let held = node.access.privileges(of: authID, on: path)
      guard
        node.tickets.isConsole(
          arguments.text("vncticket") ?? "", authID: authID, path: path,
          port: arguments.integer("port")),
        privileges.contains(where: { held.contains(String($0)) })
      else { throw .loginFailed }
      return APIResult(.null)
    },
    Operation(
      method: "GET", path: "/access/permissions",
      parameters: [.string("path", optional: true), .string("userid", optional: true)]
    ) { node, arguments throws(APIError) in
      let who = arguments.text("userid") ?? arguments.authID
      if who != arguments.authID,
        !node.access.privileges(of: arguments.authID, on: "/access").contains("Sys.Audit")
      {
        throw .forbidden("/access, Sys.Audit")
      }
      let paths =
        arguments.text("path").map { [$0] }
        ?? ["/", "/access", "/nodes", "/pool", "/sdn", "/storage", "/vms", "/mapping"]
        + node.access.entries.map(\.path).filter { $0.split(separator: "/").count > 1 }
      var members: [JSON.Member] = []
      for path in paths where !members.contains(where: { $0.key == path }) {
        let held = node.access.privileges(of: who, on: path).sorted()
        guard !held.isEmpty else { continue }
        let flags = held.map { JSON.Member(key: $0, value: 1) }
        members.append(.init(key: path, value: .object(flags)))
      }
      return APIResult(.object(members))
    },
    Operation(
      method: "GET", path: "/access/users",
      parameters: [.boolean("enabled"), .boolean("full")], isProtected: true
    ) { node, arguments in
      let mayLook = node.access.privileges(of: arguments.authID, on: "/access")
      let seesAll = mayLook.contains("User.Modify") || mayLook.contains("Sys.Audit")
      let rows = node.access.accounts.values.sorted { $0.id < $1.id }.filter {
        seesAll || $0.id == arguments.identity?.user
      }
      return APIResult(
        .array(
          rows.map { account in
            [
              "userid": .string(account.id), "enable": .flag(account.isEnabled), "expire": 0,
              "realm-type": .string(String(account.realm)),
            ]
          }))
    },
    Operation(method: "GET", path: "/access/tfa", isProtected: true) { node, arguments in
      let rows = node.access.accounts.values.sorted { $0.id < $1.id }.filter {
        $0.id == arguments.identity?.user || arguments.identity?.user == "root@pam"
      }
      return APIResult(
        .array(
          rows.filter(\.hasSecondFactor).map { account in
            var entries: [JSON] = []
            if account.totpSecret != nil {
              entries.append(["id": "totp0", "type": "totp", "description": "simulated"])
            }
            if !account.recoveryCodes.isEmpty {
              entries.append(["id": "recovery", "type": "recovery"])
            }
            return ["userid": .string(account.id), "entries": .array(entries)]
          }))
    },
  ]

  /// `POST /access/ticket`.
  fileprivate func login(_ arguments: Arguments) throws(APIError) -> APIResult {
    var user = arguments.text("username") ?? ""
    if let realm = arguments.text("realm"), !user.hasSuffix("@\(realm)") { user += "@\(realm)" }
    let password = arguments.text("password") ?? ""
    if let path = arguments.text("path"), let wanted = arguments.text("privs") {
      return try verify(user, password, path, wanted)
    }
    let desk = Login(tickets: tickets)
    let outcome: Login.Outcome?
    if let pending = arguments.text("tfa-challenge") {
      guard arguments.text("otp") == nil else { throw .loginFailed }
      outcome = desk.finish(user: user, pending: pending, response: password, access: &access)
    } else {
      outcome = desk.begin(
        user: user, password: password, otp: arguments.text("otp"), access: &access)
    }
    switch outcome {
    case nil: throw .loginFailed
    case .challenge(let user, let ticket)?:
      return APIResult([
        "username": .string(user), "ticket": .string(ticket),
        "CSRFPreventionToken": .string(tickets.csrf(user: user)), "NeedTFA": 1,
      ])
    case .complete(let user)?:
      var members: [JSON.Member] = [
        .init(key: "username", value: .string(user)),
        .init(key: "cap", value: access.capabilities(of: user)),
        .init(key: "ticket", value: .string(tickets.login(user: user))),
        .init(key: "CSRFPreventionToken", value: .string(tickets.csrf(user: user))),
      ]
      if let cluster = configuration.clusterName,
        access.privileges(of: user, on: "/").contains("Sys.Audit")
      {
        members.append(.init(key: "clustername", value: .string(cluster)))
      }
      return APIResult(.object(members))
    }
  }

  /// The verification that older termproxies use: a password or ticket, and whether it opens a path.
  private func verify(_ user: String, _ password: String, _ path: String, _ wanted: String)
    throws(APIError) -> APIResult
  {
    let isRight =
      access.accounts[user]?.password == Secret(password) || tickets.user(ofLogin: password) == user
      || tickets.isConsole(password, authID: user, path: path, port: nil)
    let held = access.privileges(of: user, on: path)
    let names = wanted.split { $0 == "," || $0 == ";" || $0 == " " }
    guard isRight, access.accounts[user] != nil,
      names.contains(where: { held.contains(String($0)) })
    else { throw .loginFailed }
    return APIResult(["username": .string(user), "cap": access.capabilities(of: user)])
  }
}
