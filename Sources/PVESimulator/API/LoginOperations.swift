import ConsoleProtocol

/// Logging in: tickets, PVE 7's second step, the check of console tickets, OpenID, and passwords.
extension PVENode {
  static let loginOperations: [Operation] = [
    Operation("GET", "/access/ticket") { _, _ in APIResult(.null) },
    Operation("POST", "/access/ticket") { node, arguments throws(APIError) in
      try node.login(arguments)
    },
    Operation("POST", "/access/vncticket") { node, arguments throws(APIError) in
      try node.checkConsoleTicket(arguments)
      return APIResult(.null)
    },
    // Removed in 8.0.
    Operation("POST", "/access/tfa") { node, arguments throws(APIError) in
      try node.finishOldLogin(arguments)
    },
    Operation("PUT", "/access/password") { node, arguments throws(APIError) in
      let user = arguments.text("userid") ?? ""
      if node.era.passwordChangesNeedConfirmation {
        try node.access.reauthenticate(
          arguments.authID, toChange: user, password: arguments.text("confirmation-password"),
          field: "confirmation-password")
      }
      try node.access.changePassword(
        of: user, to: Secret(arguments.text("password") ?? ""), as: arguments.authID)
      return APIResult(.null)
    },
    Operation("GET", "/access/openid") { _, _ in
      APIResult([["subdir": "auth-url"], ["subdir": "login"]])
    },
    Operation("POST", "/access/openid/auth-url") { node, arguments throws(APIError) in
      let id = arguments.text("realm") ?? ""
      guard let realm = node.access.realms[id] else {
        throw .died("authentication domain '\(id)' does not exist")
      }
      guard realm.type == "openid" else {
        throw .died("wrong realm type (\(realm.type) != openid)")
      }
      let issuer = realm.options["issuer-url"] ?? ""
      throw .died(
        "OpenID discovery of '\(issuer)' failed: a simulated cluster reaches no provider")
    },
    // A login begins at the provider, so nobody comes back with a state that this cluster gave out.
    Operation("POST", "/access/openid/login") { _, _ throws(APIError) in throw .loginFailed },
  ]

  /// `POST /access/ticket`.
  func login(_ arguments: Arguments) throws(APIError) -> APIResult {
    var user = arguments.text("username") ?? ""
    if let realm = arguments.text("realm"), !realm.isEmpty { user += "@\(realm)" }
    user = try access.lookup(user)
    let password = arguments.text("password") ?? ""
    let otp = arguments.text("otp")
    if let path = arguments.text("path"), let wanted = arguments.text("privs"), !path.isEmpty,
      !wanted.isEmpty
    {
      try verify(user, password, otp, path, wanted)
      return APIResult(
        AccessControl.members([
          ("username", .string(user)), ("cap", access.capabilities(of: user)),
          ("clustername", clusterName(for: user)),
        ]))
    }
    let desk = Login(tickets: tickets, access: access)
    let outcome: Login.Outcome?
    if let pending = arguments.text("tfa-challenge") {
      guard otp == nil else { throw .loginFailed }
      outcome = desk.finish(user: user, pending: pending, response: password)
    } else {
      let isNew = arguments.text("new-format").map { $0 == "1" } ?? !era.hasOldSecondFactor
      outcome = desk.begin(user: user, password: password, otp: otp, newFormat: isNew)
    }
    guard let outcome else { throw .loginFailed }
    var members: [(String, JSON?)] = [
      ("username", .string(outcome.user)),
      ("CSRFPreventionToken", .string(tickets.csrf(user: outcome.user))),
      ("clustername", clusterName(for: outcome.user)),
    ]
    switch outcome {
    case .challenge(_, let ticket): members += [("ticket", .string(ticket)), ("NeedTFA", 1)]
    case .complete(let user):
      members += [
        ("ticket", .string(tickets.login(user: user))), ("cap", access.capabilities(of: user)),
      ]
    }
    return APIResult(AccessControl.members(members))
  }

  /// The cluster's name, for those who may see it.
  private func clusterName(for user: String) -> JSON? {
    guard let name = configuration.clusterName, access.holds(user, .sysAudit, on: "/") else {
      return nil
    }
    return .string(name)
  }

  /// Whether a user's password or ticket opens a path; older termproxies ask so. A console ticket does too, where it
  /// names no port.
  private func verify(
    _ user: String, _ password: String, _ otp: String?, _ path: String, _ wanted: String
  ) throws(APIError) {
    do throws(APIError) {
      _ = try access.enabledUser(user)
    } catch {
      throw .loginFailed
    }
    guard let normalized = AccessPath.normalized(path) else { throw .loginFailed }
    let isRight =
      tickets.user(ofLogin: password) == user
      || tickets.isConsole(password, authID: user, path: normalized, port: nil)
      || Login(tickets: tickets, access: access).isPassword(password, of: user, otp: otp)
    guard isRight, holdsAll(user, wanted, on: normalized) else { throw .loginFailed }
  }

  private func holdsAll(_ authID: String, _ wanted: String, on path: String) -> Bool {
    let names = splitList(wanted)
    let held = access.privileges(of: authID, on: path)
    return !names.isEmpty && names.allSatisfy { held.contains($0) }
  }

  /// `POST /access/vncticket`.
  func checkConsoleTicket(_ arguments: Arguments) throws(APIError) {
    let authID = arguments.text("authid") ?? ""
    let isFull = era.consoleTicketCheckIsFull
    guard let path = AccessPath.normalized(arguments.text("path") ?? ""),
      tickets.isConsole(
        arguments.text("vncticket") ?? "", authID: authID, path: path,
        port: isFull ? arguments.integer("port") : nil),
      !isFull || holdsAll(authID, arguments.text("privs") ?? "", on: path)
    else { throw .loginFailed }
  }

  /// `POST /access/tfa`: the second step of PVE 7's old login, asked with the half ticket as credential.
  fileprivate func finishOldLogin(_ arguments: Arguments) throws(APIError) -> APIResult {
    let user = try access.user(arguments.authID)
    guard access.factors[user.id]?.totp.isEmpty == false else {
      throw .died("no u2f data available")
    }
    let desk = Login(tickets: tickets, access: access)
    guard desk.acceptsOld(arguments.text("response") ?? "", of: user) else { throw .loginFailed }
    return APIResult([
      "ticket": .string(tickets.login(user: user.id)), "cap": access.capabilities(of: user.id),
    ])
  }
}
