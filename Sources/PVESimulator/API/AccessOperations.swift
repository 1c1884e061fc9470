import ConsoleProtocol

/// `/version`, and `/access` apart from what has a file of its own: the ACL, roles, groups and permissions.
extension PVENode {
  static let accessOperations: [Operation] =
    accessRootOperations + aclOperations + roleOperations + groupOperations + loginOperations
    + userOperations + tokenOperations + factorOperations + realmOperations

  private static let accessRootOperations: [Operation] = [
    Operation("GET", "/version") { node, _ in
      APIResult([
        "version": .string(node.era.version), "release": .string(node.era.release),
        "repoid": .string(node.era.repositoryID),
      ])
    },
    Operation("GET", "/access") { _, _ in
      let names = [
        "users", "groups", "roles", "acl", "domains", "openid", "tfa", "ticket", "password",
      ]
      return APIResult(.array(names.map { ["subdir": .string($0)] }))
    },
    Operation("GET", "/access/permissions") { node, arguments throws(APIError) in
      let asked = arguments.text("userid")
      let who = asked ?? arguments.authID
      let isOwn = who == arguments.authID || AuthID.token(who)?.user == arguments.authID
      // Until 8.2 whoever names somebody, even themselves, must be allowed to look at everybody.
      if asked != nil, !(isOwn && node.era.ownPermissionsAreReadable),
        !node.access.holds(arguments.authID, .sysAudit, on: "/access")
      {
        throw .forbidden("/access, Sys.Audit")
      }
      return APIResult(node.access.permissions(of: who, on: arguments.text("path")))
    },
  ]

  // MARK: ACL

  private static let aclOperations: [Operation] = [
    Operation("GET", "/access/acl") { node, arguments in
      let access = node.access
      let seesAll = access.holds(arguments.authID, .sysAudit, on: "/access")
      let lines = access.aclLines.filter {
        seesAll || access.mayModifyACL(on: $0.path, authID: arguments.authID)
      }
      return APIResult(
        .array(
          lines.map {
            [
              "path": .string($0.path), "type": .string($0.subject.type),
              "ugid": .string($0.subject.id), "roleid": .string($0.role),
              "propagate": .flag($0.propagates),
            ]
          }))
    },
    Operation("PUT", "/access/acl") { node, arguments throws(APIError) in
      let change = AccessControl.ACLChange(
        path: arguments.text("path") ?? "", roles: arguments.list("roles"),
        users: arguments.list("users"), groups: arguments.list("groups"),
        tokens: arguments.list("tokens"),
        propagates: arguments.text("propagate") != "0", deletes: arguments.flag("delete"))
      guard !(change.users.isEmpty && change.groups.isEmpty && change.tokens.isEmpty) else {
        let text = "either 'users', 'groups' or 'tokens' is required."
        throw .invalid(["users", "groups", "tokens"].map { .init(name: $0, text: text) })
      }
      try node.access.changeACL(change, as: arguments.authID)
      return APIResult(.null)
    },
  ]

  // MARK: roles

  private static let roleOperations: [Operation] = [
    Operation("GET", "/access/roles") { node, _ in
      let roles = Privileges.of(node.era).roles.merging(node.access.ownRoles) { built, _ in built }
      return APIResult(
        .array(
          roles.sorted { $0.key < $1.key }.map { id, privileges in
            [
              "roleid": .string(id), "privs": .string(privileges.names.joined(separator: ",")),
              "special": .flag(node.access.isBuiltIn(role: id)),
            ]
          }))
    },
    Operation("POST", "/access/roles") { node, arguments throws(APIError) in
      try node.access.createRole(
        arguments.text("roleid") ?? "", privileges: arguments.list("privs"))
      return APIResult(.null)
    },
    Operation("GET", "/access/roles/{roleid}") { node, arguments throws(APIError) in
      let privileges = try node.access.existingRole(arguments.text("roleid") ?? "")
      return APIResult(.object(privileges.names.map { .init(key: $0, value: 1) }))
    },
    Operation("PUT", "/access/roles/{roleid}") { node, arguments throws(APIError) in
      try node.access.updateRole(
        arguments.text("roleid") ?? "", privileges: arguments.list("privs"),
        appends: arguments.flag("append"))
      return APIResult(.null)
    },
    Operation("DELETE", "/access/roles/{roleid}") { node, arguments throws(APIError) in
      try node.access.deleteRole(arguments.text("roleid") ?? "")
      return APIResult(.null)
    },
  ]

  // MARK: groups

  private static let groupOperations: [Operation] = [
    Operation("GET", "/access/groups") { node, arguments in
      let access = node.access
      let wanted = PrivilegeSet([.userModify, .sysAudit, .groupAllocate])
      let visible = access.groups(where: arguments.authID, holdsAny: wanted)
      return APIResult(
        .array(
          access.groups.sorted { $0.key < $1.key }.filter { visible.contains($0.key) }.map {
            id, group in
            AccessControl.members([
              ("groupid", .string(id)), ("comment", group.comment.map { .string($0) }),
              ("users", .string(group.members.sorted().joined(separator: ","))),
            ])
          }))
    },
    Operation("POST", "/access/groups") { node, arguments throws(APIError) in
      try node.access.createGroup(
        arguments.text("groupid") ?? "", comment: arguments.text("comment"))
      return APIResult(.null)
    },
    Operation("GET", "/access/groups/{groupid}") { node, arguments throws(APIError) in
      let group = try node.access.group(arguments.text("groupid") ?? "")
      return APIResult(
        AccessControl.members([
          ("members", .array(group.members.sorted().map { .string($0) })),
          ("comment", group.comment.map { .string($0) }),
        ]))
    },
    Operation("PUT", "/access/groups/{groupid}") { node, arguments throws(APIError) in
      try node.access.updateGroup(
        arguments.text("groupid") ?? "", comment: arguments.text("comment"))
      return APIResult(.null)
    },
    Operation("DELETE", "/access/groups/{groupid}") { node, arguments throws(APIError) in
      try node.access.deleteGroup(arguments.text("groupid") ?? "")
      return APIResult(.null)
    },
  ]
}
