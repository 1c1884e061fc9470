/// `/cluster` and the list of nodes.
extension PVENode {
  static let clusterOperations: [Operation] = [
    Operation(
      method: "GET", path: "/cluster/resources",
      parameters: [.string("type", optional: true, choices: ["vm", "storage", "node", "sdn"])]
    ) { node, arguments in
      let type = arguments.text("type")
      var rows: [JSON] = []
      if type == nil || type == "vm" {
        rows += node.visibleGuests(arguments).map { node.resourceRow($0) }
      }
      if type == nil || type == "node" { rows.append(node.nodeRow(isResource: true)) }
      if (type == nil || type == "storage")
        && node.holds(arguments, "Datastore.Audit", on: "/storage/local")
      {
        rows.append([
          "id": .string("storage/\(node.name)/local"), "type": "storage", "storage": "local",
          "node": .string(node.name), "status": "available", "plugintype": "dir", "shared": 0,
          "content": "backup,snippets,rootdir,vztmpl,images,iso", "disk": 23_475_339_264,
          "maxdisk": 270_553_174_016,
        ])
      }
      if (type == nil || type == "sdn") && node.holds(arguments, "SDN.Audit", on: "/sdn") {
        rows.append([
          "id": .string("network/\(node.name)/zone/localnetwork"), "type": "network",
          "network-type": "zone", "network": "localnetwork", "node": .string(node.name),
          "status": "ok",
        ])
      }
      return APIResult(.array(rows))
    },
    Operation(
      method: "GET", path: "/cluster/status", permission: .privileges(["Sys.Audit"], on: "/"),
      isProtected: true
    ) { node, _ in
      var rows: [JSON] = []
      if let cluster = node.configuration.clusterName {
        rows.append([
          "type": "cluster", "id": "cluster", "name": .string(cluster), "version": 1, "nodes": 1,
          "quorate": 1,
        ])
      }
      rows.append([
        "type": "node", "id": .string("node/\(node.name)"), "name": .string(node.name),
        "ip": "192.0.2.10", "nodeid": 0, "local": 1, "online": 1, "level": "",
      ])
      return APIResult(.array(rows))
    },
    Operation(
      method: "GET", path: "/cluster/nextid",
      parameters: [
        ParameterSchema(
          name: "vmid", kind: .integer, isOptional: true, minimum: 100, maximum: 999_999_999,
          format: .vmid)
      ]
    ) { node, arguments throws(APIError) in
      if let wanted = arguments.integer("vmid") {
        guard node.guests[wanted] == nil else {
          throw .invalid([.init(name: "vmid", text: "VM \(wanted) already exists")])
        }
        return APIResult(.string(String(wanted)))
      }
      let free = (100...).first { node.guests[$0] == nil } ?? 100
      return APIResult(.string(String(free)))
    },
    Operation(method: "GET", path: "/nodes") { node, _ in
      APIResult([node.nodeRow(isResource: false)])
    },
  ]

  /// Guests that the caller may see, by vmid.
  func visibleGuests(_ arguments: Arguments) -> [Guest] {
    guests.values.sorted { $0.description.vmid < $1.description.vmid }.filter {
      holds(arguments, "VM.Audit", on: "/vms/\($0.description.vmid)")
    }
  }

  /// A guest in `GET /cluster/resources`.
  fileprivate func resourceRow(_ guest: Guest) -> JSON {
    let about = guest.description
    var members: [JSON.Member] = [
      .init(key: "id", value: .string("\(about.kind.rawValue)/\(about.vmid)")),
      .init(key: "type", value: .string(about.kind.rawValue)),
      .init(key: "vmid", value: .int(about.vmid)), .init(key: "name", value: .string(about.name)),
      .init(key: "node", value: .string(name)),
      .init(key: "status", value: .string(guest.isRunning ? "running" : "stopped")),
      .init(key: "template", value: .flag(about.template)),
      .init(key: "uptime", value: .int(guest.uptime)),
      .init(key: "cpu", value: guest.isRunning ? .double(0.0236471979892318) : 0),
      .init(key: "maxcpu", value: .int(about.cores)),
      .init(key: "mem", value: .int(guest.isRunning ? about.memory / 3 : 0)),
      .init(key: "maxmem", value: .int(about.memory)), .init(key: "memhost", value: 0),
      .init(key: "disk", value: 0), .init(key: "maxdisk", value: 34_359_738_368),
      .init(key: "diskread", value: 0), .init(key: "diskwrite", value: 0),
      .init(key: "netin", value: 0), .init(key: "netout", value: 0),
    ]
    if !about.tags.isEmpty {
      members.append(.init(key: "tags", value: .string(about.tags.joined(separator: ";"))))
    }
    return .object(members)
  }

  /// The node in `GET /nodes` and `GET /cluster/resources`.
  fileprivate func nodeRow(isResource: Bool) -> JSON {
    var members: [JSON.Member] = [
      .init(key: "id", value: .string("node/\(name)")), .init(key: "type", value: "node"),
      .init(key: "node", value: .string(name)), .init(key: "status", value: "online"),
      .init(key: "level", value: ""), .init(key: "uptime", value: .int(clock.now - booted)),
      .init(key: "cpu", value: 0.0277227722772277), .init(key: "maxcpu", value: 2),
      .init(key: "mem", value: 1_334_693_888), .init(key: "maxmem", value: 25_276_514_304),
      .init(key: "disk", value: 23_475_335_168), .init(key: "maxdisk", value: 270_553_174_016),
    ]
    if isResource {
      members.append(.init(key: "cgroup-mode", value: 2))
    } else {
      members.append(
        .init(key: "ssl_fingerprint", value: .string("\(certificates.fingerprint)")))
    }
    return .object(members)
  }
}
