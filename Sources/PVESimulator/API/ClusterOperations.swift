/// `/cluster` and the list of nodes.
extension PVENode {
  static let clusterOperations: [Operation] = [
    Operation("GET", "/cluster/resources") { node, arguments in
      APIResult(node.resources(arguments))
    },
    Operation("GET", "/cluster/status") { node, _ in
      APIResult(node.clusterStatus)
    },
    Operation("GET", "/cluster/nextid") { node, arguments throws(APIError) in
      try node.nextID(arguments)
    },
    Operation("GET", "/cluster/tasks") { node, arguments in
      APIResult(node.clusterTasks(arguments))
    },
    Operation("GET", "/cluster/options") { node, arguments in
      APIResult(node.clusterOptions(arguments))
    },
    Operation("PUT", "/cluster/options") { node, arguments throws(APIError) in
      try node.updateClusterOptions(arguments)
    },
    Operation("GET", "/cluster/log") { node, arguments in
      APIResult(node.clusterLog(arguments))
    },
    Operation("GET", "/nodes") { node, arguments in
      var rows = RowWriter()
      for other in node.cluster.nodes {
        rows.add(
          other, mayAudit: node.holds(arguments, "Sys.Audit", on: "/nodes/\(other.name)"),
          isResource: false)
      }
      return APIResult(rows.json)
    },
  ]

  // MARK: resources

  private func resources(_ arguments: Arguments) -> JSON {
    let type = arguments.text("type")
    var rows = RowWriter(capacity: type == nil || type == "vm" ? guests.count * 480 + 4096 : 4096)
    if type == nil {
      for name in cluster.pools.names where holds(arguments, "Pool.Audit", on: "/pool/\(name)") {
        rows.beginRow()
        rows.field("id", "/pool/\(name)")
        rows.field("type", word: "pool")
        rows.field("pool", name)
        rows.endRow()
      }
    }
    if type == nil || type == "vm" {
      for guest in cluster.sortedGuests where maySee(arguments, guest) {
        rows.addResource(guest, pool: cluster.pools.pool(of: guest.vmid))
      }
    }
    if type == nil || type == "node" {
      for node in cluster.nodes {
        rows.add(
          node, mayAudit: holds(arguments, "Sys.Audit", on: "/nodes/\(node.name)"),
          isResource: true)
      }
    }
    if type == nil || type == "storage" {
      for definition in cluster.storages.sorted
      where !definition.isDisabled
        && holds(arguments, "Datastore.Audit", on: "/storage/\(definition.id)")
      {
        for node in cluster.nodes where definition.isAvailable(on: node.name) {
          rows.addResource(definition, on: node)
        }
      }
    }
    if type == nil || type == "sdn" {
      for node in cluster.nodes
      where holds(arguments, "SDN.Audit", on: "/sdn/zones/localnetwork") {
        rows.addZone(of: node)
      }
    }
    return rows.json
  }

  /// Whether lists show a guest to the caller.
  func maySee(_ arguments: Arguments, _ guest: Guest) -> Bool {
    arguments.isRoot
      || access.privileges(of: arguments.authID, onGuest: guest.vmid).contains(.vmAudit)
  }

  // MARK: the cluster

  private var clusterStatus: JSON {
    var rows: [JSON] = []
    let nodes = cluster.nodes
    let isCluster = configuration.clusterName != nil || nodes.count > 1
    if isCluster {
      let online = nodes.count { $0.reachability == .up }
      rows.append([
        "type": "cluster", "id": "cluster",
        "name": .string(configuration.clusterName ?? "sallyport"), "version": .int(nodes.count),
        "nodes": .int(nodes.count), "quorate": .flag(online > nodes.count / 2),
      ])
    }
    for (i, node) in nodes.enumerated() {
      rows.append([
        "type": "node", "id": .string("node/\(node.name)"), "name": .string(node.name),
        "ip": .string(cluster.address(of: node)), "nodeid": .int(isCluster ? i + 1 : 0),
        "local": .flag(node === self), "online": .flag(node.reachability == .up), "level": "",
      ])
    }
    return .array(rows)
  }

  private func nextID(_ arguments: Arguments) throws(APIError) -> APIResult {
    if let wanted = arguments.integer("vmid") {
      guard guests[wanted] == nil else {
        throw .invalid([.init(name: "vmid", text: "VM \(wanted) already exists")])
      }
      return APIResult(.string(String(wanted)))
    }
    let options = cluster.datacenter
    var range = 100...999_999
    for part in options["next-id"]?.split(separator: ",") ?? [] {
      let halves = part.split(separator: "=")
      guard halves.count == 2, let number = Int(halves[1]) else { continue }
      if halves[0] == "lower", number <= range.upperBound { range = number...range.upperBound }
      if halves[0] == "upper", number > range.lowerBound { range = range.lowerBound...number - 1 }
    }
    guard let free = range.first(where: { guests[$0] == nil }) else {
      throw .died(
        "unable to get any free VMID in range [\(range.lowerBound), \(range.upperBound + 1)]")
    }
    return APIResult(.string(String(free)))
  }

  private func clusterTasks(_ arguments: Arguments) -> JSON {
    let seesAll = holds(arguments, "Sys.Audit", on: "/")
    var rows: [TaskRecord] = []
    for node in cluster.nodes where node.reachability == .up {
      // Nodes tell each other of what runs, and of so many tasks in all.
      let running = node.tasks.running
      rows += running
      rows += node.tasks.ended.prefix(max(0, 25 - running.count))
    }
    rows.sort { ($0.started, $0.pid) > ($1.started, $1.pid) }
    return .array(
      rows.filter { seesAll || $0.userID == arguments.authID }.map(\.broadcastRow))
  }

  private func clusterLog(_ arguments: Arguments) -> JSON {
    let seesAll = holds(arguments, "Sys.Syslog", on: "/")
    let limit = arguments.integer("max") ?? 50
    var rows: [JSON] = []
    let records = cluster.nodes.flatMap { node in node.tasks.ended.prefix(limit) }
      .sorted { ($0.ended ?? 0, $0.pid) > ($1.ended ?? 0, $1.pid) }
    for task in records where seesAll || task.belongs(to: arguments.authID) {
      guard rows.count < limit else { break }
      rows.append([
        "uid": .int(rows.count + 1), "time": .int(task.ended ?? task.started), "pri": 6,
        "tag": "pvedaemon", "pid": .int(task.pid), "node": .string(task.node),
        "user": .string(task.user),
        "msg": .string("end task \(task.upid) \(task.exitStatus ?? "")"),
      ])
    }
    return .array(rows)
  }
}

extension RowWriter {
  /// The zone that every node has. It became a kind of network resource in PVE 9.1, and PVE 7 has none.
  fileprivate mutating func addZone(of node: PVENode) {
    guard node.era.major >= 8 else { return }
    beginRow()
    if node.era.zonesAreNetworks {
      field("id", "network/\(node.name)/zone/localnetwork")
      field("type", word: "network")
      field("network-type", word: "zone")
      field("network", word: "localnetwork")
    } else {
      field("id", "sdn/\(node.name)/localnetwork")
      field("type", word: "sdn")
      field("sdn", word: "localnetwork")
    }
    field("node", node.name)
    field("status", word: node.reachability == .up ? "ok" : "unknown")
    endRow()
  }
}

extension Era {
  /// Whether `GET /cluster/resources` calls zones `network` and no more `sdn`.
  var zonesAreNetworks: Bool { self == .v9_1 || self == .v9_2 }
}

extension Cluster {
  /// The address that a node would have.
  func address(of node: PVENode) -> String {
    "192.0.2.\(10 + (nodes.firstIndex { $0 === node } ?? 0))"
  }
}
