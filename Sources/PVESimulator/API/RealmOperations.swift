import ConsoleProtocol

/// Realms: `/access/domains`.
extension PVENode {
  static let realmOperations: [Operation] = [
    Operation("GET", "/access/domains") { node, _ in
      APIResult(
        .array(
          node.access.realms.sorted { $0.key < $1.key }.map { id, realm in
            AccessControl.members([
              ("realm", .string(id)), ("type", .string(realm.type)),
              ("comment", realm.comment.map { .string($0) }),
              ("default", realm.isDefault ? 1 : nil),
              ("tfa", realm.requiredFactor.map { .string($0) }),
            ])
          }))
    },
    Operation("POST", "/access/domains") { node, arguments throws(APIError) in
      try node.access.createRealm(
        arguments.text("realm") ?? "", type: arguments.text("type") ?? "",
        options: arguments.realmOptions)
      return APIResult(.null)
    },
    Operation("GET", "/access/domains/{realm}") { node, arguments throws(APIError) in
      let realm = try node.access.realm(arguments.text("realm") ?? "")
      let options = realm.options.sorted { $0.key < $1.key }.map { name, value in
        (name, Arguments.realmValue(name, value))
      }
      return APIResult(
        AccessControl.members(
          [("type", .string(realm.type)), ("digest", .string(node.access.realmsDigest))] + options))
    },
    Operation("PUT", "/access/domains/{realm}") { node, arguments throws(APIError) in
      try node.access.updateRealm(
        arguments.text("realm") ?? "", options: arguments.realmOptions,
        delete: arguments.list("delete"), digest: arguments.text("digest"))
      return APIResult(.null)
    },
    Operation("DELETE", "/access/domains/{realm}") { node, arguments throws(APIError) in
      try node.access.deleteRealm(arguments.text("realm") ?? "")
      return APIResult(.null)
    },
    Operation("POST", "/access/domains/{realm}/sync") { node, arguments throws(APIError) in
      .init(.string(try node.syncRealm(arguments)))
    },
  ]

  /// Begins the task that brings a directory's users over. There is no directory, so it finds those who are here.
  private func syncRealm(_ arguments: Arguments) throws(APIError) -> String {
    let id = arguments.text("realm") ?? ""
    guard let realm = access.realms[id] else {
      throw .invalid([.init(name: "realm", text: "Realm does not exist.")])
    }
    guard realm.type == "ldap" || realm.type == "ad" else {
      throw .died("Cannot sync realm type '\(realm.type)'! Only LDAP/AD realms can be synced.")
    }
    let defaults = (realm.options["sync-defaults-options"] ?? "").split(separator: ",")
    let usual = defaults.first { $0.hasPrefix("scope=") }.map { String($0.dropFirst(6)) }
    guard let scope = arguments.text("scope") ?? usual else {
      throw .invalid([
        .init(
          name: "scope",
          text: "Not passed as parameter and not defined in realm default sync options.")
      ])
    }
    let isDry = arguments.flag("dry-run")
    let what = scope == "both" ? "users and groups" : scope
    var lines = [
      (isDry ? "(dry test run) " : "") + "starting sync for realm \(id)",
      "got data from server, updating \(what)",
    ]
    if scope != "groups" {
      lines.append("syncing users")
      let members = access.users.values.filter { $0.realm == id }.map(\.id).sorted()
      lines += members.map { "updated user '\($0)'" }
    }
    if scope != "users" { lines.append("syncing groups") }
    lines +=
      isDry
      ? ["", "NOTE: Dry test run, changes were NOT written to the configuration."]
      : ["successfully updated \(what) configuration"]
    let upid = tasks.begin(
      node: name, type: isDry ? "auth-realm-sync-test" : "auth-realm-sync", id: id,
      user: arguments.authID)
    tasks.log(upid, lines)
    tasks.end(upid, exit: "OK")
    return upid
  }
}

extension Arguments {
  /// What a call says about a realm, by name.
  fileprivate var realmOptions: [String: String] {
    var options: [String: String] = [:]
    for name in values.names where !["realm", "type", "delete", "digest"].contains(name) {
      options[name] = text(name)
    }
    return options
  }

  private static let numbers: Set<String> = [
    "autocreate", "case-sensitive", "default", "groups-autocreate", "groups-overwrite", "port",
    "query-userinfo", "secure", "verify",
  ]

  /// An option as its file's reader has it: numbers and truth values are numbers.
  fileprivate static func realmValue(_ name: String, _ value: String) -> JSON {
    numbers.contains(name) ? Int(value).map { .int($0) } ?? .string(value) : .string(value)
  }
}
