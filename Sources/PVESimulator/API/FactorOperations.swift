import ConsoleProtocol

/// Second factors: `/access/tfa`, and what `/access/users` has of them.
extension PVENode {
  static let factorOperations: [Operation] = [
    Operation("GET", "/access/tfa") { node, arguments in
      let rows = node.access.factors.sorted { $0.key < $1.key }.filter {
        // PVE 7 shows everybody's to root@pam alone.
        node.era.locksSecondFactors
          ? node.maySee($0.key, arguments)
          : arguments.authID == "root@pam" || arguments.authID == $0.key
      }
      return APIResult(
        .array(
          rows.map { user, factors in
            .object(
              [
                .init(key: "userid", value: .string(user)),
                .init(key: "entries", value: .array(factors.entries)),
              ] + (node.era.locksSecondFactors ? factors.lockMembers(at: node.clock.now) : []))
          }))
    },
    Operation("GET", "/access/tfa/{userid}") { node, arguments in
      let user = arguments.text("userid") ?? ""
      return APIResult(.array(node.access.factors[user]?.entries ?? []))
    },
    Operation("POST", "/access/tfa/{userid}") { node, arguments throws(APIError) in
      let user = arguments.text("userid") ?? ""
      try node.reauthenticate(arguments)
      return APIResult(
        try node.access.addFactor(
          AccessControl.NewFactor(
            type: arguments.text("type") ?? "", description: arguments.text("description"),
            totp: arguments.text("totp"), value: arguments.text("value"),
            challenge: arguments.text("challenge")), to: user))
    },
    Operation("GET", "/access/tfa/{userid}/{id}") { node, arguments throws(APIError) in
      let user = arguments.text("userid") ?? ""
      let id = arguments.text("id") ?? ""
      let entries = node.access.factors[user]?.entries ?? []
      guard let entry = entries.first(where: { $0["id"] == .string(id) }) else {
        throw APIError(status: 404, message: "No such tfa entry '\(id)'")
      }
      return APIResult(entry)
    },
    Operation("PUT", "/access/tfa/{userid}/{id}") { node, arguments throws(APIError) in
      try node.reauthenticate(arguments)
      try node.access.updateFactor(
        arguments.text("id") ?? "", of: arguments.text("userid") ?? "",
        description: arguments.text("description"),
        isEnabled: arguments.text("enable").map { $0 == "1" })
      return APIResult(.null)
    },
    Operation("DELETE", "/access/tfa/{userid}/{id}") { node, arguments throws(APIError) in
      try node.reauthenticate(arguments)
      try node.access.deleteFactor(
        arguments.text("id") ?? "", of: arguments.text("userid") ?? "")
      return APIResult(.null)
    },
    Operation("GET", "/access/users/{userid}/tfa") { node, arguments throws(APIError) in
      let id = arguments.text("userid") ?? ""
      let realm = String(AuthID.user(id)?.realm ?? "")
      guard let config = node.access.realms[realm] else {
        throw .died("auth domain '\(realm)' does not exist")
      }
      let factors = node.access.factors[id] ?? SecondFactors()
      var types: JSON?
      var kind: JSON?
      if arguments.flag("multiple") {
        types = .array(
          (factors.totp.isEmpty ? [] : ["totp"]) + (factors.recovery == nil ? [] : ["recovery"]))
      } else if !factors.isEmpty {
        // The name that old second factors had; recovery codes alone are none of them.
        kind = factors.totp.isEmpty ? "incompatible" : "oath"
      }
      return APIResult(
        AccessControl.members([
          ("realm", config.requiredFactor.map { .string($0) }), ("types", types), ("user", kind),
        ]))
    },
    Operation("PUT", "/access/users/{userid}/unlock-tfa") { node, arguments throws(APIError) in
      APIResult(.flag(try node.access.unlockFactors(of: arguments.text("userid") ?? "")))
    },
  ]

  /// Changes of second factors need the caller's password once more.
  fileprivate func reauthenticate(_ arguments: Arguments) throws(APIError) {
    try access.reauthenticate(
      arguments.authID, toChange: arguments.text("userid") ?? "",
      password: arguments.text("password"), field: "password")
  }
}
