/// `/pools`: the operations with the pool in the path, which PVE keeps for older clients, and those with it as a
/// parameter, which nested names need.
extension PVENode {
  static let poolOperations: [Operation] = [
    Operation("GET", "/pools") { node, arguments throws(APIError) in
      try node.listPools(arguments)
    },
    Operation("POST", "/pools") { node, arguments throws(APIError) in
      try node.createPool(arguments)
    },
    Operation("PUT", "/pools") { node, arguments throws(APIError) in
      try node.updatePool(arguments)
    },
    Operation("DELETE", "/pools") { node, arguments throws(APIError) in
      try node.deletePool(arguments)
    },
    Operation("GET", "/pools/{poolid}") { node, arguments throws(APIError) in
      APIResult(.object(try node.poolMembers(arguments.text("poolid") ?? "", arguments)))
    },
    Operation("PUT", "/pools/{poolid}") { node, arguments throws(APIError) in
      try node.updatePool(arguments)
    },
    Operation("DELETE", "/pools/{poolid}") { node, arguments throws(APIError) in
      try node.deletePool(arguments)
    },
  ]

  private func listPools(_ arguments: Arguments) throws(APIError) -> APIResult {
    if let name = arguments.text("poolid") {
      try require(arguments, ["Pool.Audit"], on: "/pool/\(name)")
      let members = try poolMembers(name, arguments)
      return APIResult([.object([.init(key: "poolid", value: .string(name))] + members)])
    }
    guard arguments.text("type") == nil else {
      throw .invalid([.init(name: "poolid", text: "property is missing and it is not optional")])
    }
    let names = cluster.pools.names.filter { holds(arguments, "Pool.Audit", on: "/pool/\($0)") }
    return APIResult(
      .array(
        names.map { name in
          var members: [JSON.Member] = [.init(key: "poolid", value: .string(name))]
          if let comment = cluster.pools[name]?.comment {
            members.append(.init(key: "comment", value: .string(comment)))
          }
          return .object(members)
        }))
  }

  private func poolMembers(_ name: String, _ arguments: Arguments) throws(APIError) -> [JSON.Member]
  {
    guard let pool = cluster.pools[name] else { throw .died("pool '\(name)' does not exist") }
    let type = arguments.text("type")
    var rows = RowWriter()
    for vmid in pool.guests.sorted() {
      guard let guest = guests[vmid], type == nil || type == guest.kind.rawValue else { continue }
      rows.addResource(guest, pool: nil)
    }
    if type == nil || type == "storage" {
      for id in pool.storages.sorted() {
        guard let definition = cluster.storages.definitions[id] else { continue }
        let home =
          definition.isAvailable(on: self.name)
          ? self : cluster.node(named: definition.nodes?.first ?? "")
        rows.addResource(definition, on: home ?? self)
      }
    }
    var members: [JSON.Member] = [.init(key: "members", value: rows.json)]
    if let comment = pool.comment { members.append(.init(key: "comment", value: .string(comment))) }
    return members
  }

  private func createPool(_ arguments: Arguments) throws(APIError) -> APIResult {
    let name = arguments.text("poolid") ?? ""
    if cluster.pools[name] != nil {
      throw .inUserConfig("create pool failed", "pool '\(name)' already exists")
    }
    if let slash = name.lastIndex(of: "/") {
      let parent = String(name[..<slash])
      guard cluster.pools[parent] != nil else {
        throw .inUserConfig(
          "create pool failed", "parent '\(parent)' of pool '\(name)' does not exist")
      }
    }
    let comment = arguments.text("comment")
    cluster.pools.create(name, comment: comment?.isEmpty == false ? comment : nil)
    cluster.pools.flush()
    return APIResult(.null)
  }

  private func updatePool(_ arguments: Arguments) throws(APIError) -> APIResult {
    let failed = "update pools failed"
    let name = arguments.text("poolid") ?? ""
    guard cluster.pools[name] != nil else {
      throw .inUserConfig(failed, "pool '\(name)' does not exist")
    }
    let isDelete = arguments.flag("delete")
    // Everything is checked before anything is changed, as PVE writes the file once at the end.
    var after = cluster.pools
    if let comment = arguments.text("comment") { after.comment(name, comment) }
    for text in arguments.text("vms").map(listParts) ?? [] {
      try requireModify(arguments, on: "/vms/\(text)", failed)
      guard let vmid = Int(text) else { continue }
      let isMember = after[name]?.guests.contains(vmid) ?? false
      if isDelete {
        guard isMember else { throw .inUserConfig(failed, "VM \(vmid) is not a pool member") }
        after.move(vmid, to: nil)
        continue
      }
      guard !isMember else { throw .inUserConfig(failed, "VM \(vmid) is already a pool member") }
      if let other = after.pool(of: vmid) {
        guard arguments.flag("allow-move") else {
          throw .inUserConfig(
            failed, "VM \(vmid) belongs already to pool '\(other)' and 'allow-move' is not set")
        }
        try requireWithin(failed, arguments, "Pool.Allocate", on: "/pool/\(other)")
      }
      after.move(vmid, to: name)
    }
    for id in arguments.text("storage").map(listParts) ?? [] {
      try requireModify(arguments, on: "/storage/\(id)", failed)
      let isMember = after[name]?.storages.contains(id) ?? false
      if isDelete {
        guard isMember else { throw .inUserConfig(failed, "Storage '\(id)' is not a pool member") }
        after.remove(storage: id, from: name)
      } else {
        guard !isMember else {
          throw .inUserConfig(failed, "Storage '\(id)' is already a pool member")
        }
        after.add(storage: id, to: name)
      }
    }
    cluster.pools = after
    cluster.pools.flush()
    return APIResult(.null)
  }

  private func deletePool(_ arguments: Arguments) throws(APIError) -> APIResult {
    let failed = "delete pool failed"
    let name = arguments.text("poolid") ?? ""
    guard let pool = cluster.pools[name] else {
      throw .inUserConfig(failed, "pool '\(name)' does not exist")
    }
    if let child = cluster.pools.children(of: name).first {
      throw .inUserConfig(failed, "pool '\(name)' is not empty (contains pool '\(child)')")
    }
    if let vmid = pool.guests.sorted().first(where: { guests[$0] != nil }) {
      throw .inUserConfig(failed, "pool '\(name)' is not empty (contains VM \(vmid))")
    }
    if let id = pool.storages.sorted().first(where: { cluster.storages.definitions[$0] != nil }) {
      throw .inUserConfig(failed, "pool '\(name)' is not empty (contains storage '\(id)')")
    }
    cluster.pools.delete(name)
    cluster.pools.flush()
    return APIResult(.null)
  }

  /// The right to put an object into a pool: `Permissions.Modify`, or to allocate it.
  private func requireModify(_ arguments: Arguments, on path: String, _ failed: String)
    throws(APIError)
  {
    let allocate = path.hasPrefix("/storage") ? "Datastore.Allocate" : "VM.Allocate"
    if holds(arguments, "Permissions.Modify", on: path) || holds(arguments, allocate, on: path) {
      return
    }
    throw .inUserConfig(
      failed, "403 Permission check failed (\(path), Permissions.Modify)", isException: true)
  }

  private func requireWithin(
    _ failed: String, _ arguments: Arguments, _ privilege: String, on path: String
  ) throws(APIError) {
    guard !holds(arguments, privilege, on: path) else { return }
    throw .inUserConfig(
      failed, "403 Permission check failed (\(path), \(privilege))", isException: true)
  }
}

extension APIError {
  /// What fails while PVE holds the lock of a file that the cluster shares.
  static func whileLocked(_ failed: String, _ file: String, _ text: String, isException: Bool)
    -> APIError
  {
    let why = isException ? text : "error during cfs-locked 'file-\(file)' operation: \(text)"
    return .died("\(failed): \(why)")
  }

  static func inUserConfig(_ failed: String, _ text: String, isException: Bool = false) -> APIError
  {
    whileLocked(failed, "user_cfg", text, isException: isException)
  }

  static func inStorageConfig(_ failed: String, _ text: String) -> APIError {
    whileLocked(failed, "storage_cfg", text, isException: false)
  }
}
