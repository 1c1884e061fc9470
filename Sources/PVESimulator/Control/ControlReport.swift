/// What the simulator says about itself.
extension ControlDesk {
  /// `GET /simulator`
  var report: JSON {
    let configuration = cluster.configuration
    let nodes = cluster.nodes
    return [
      "what": "a simulated Proxmox VE cluster (Sallyport's PVESimulator)",
      "pve": .string(cluster.era.rawValue), "version": .string(cluster.era.version),
      "cluster": configuration.clusterName.map { .string($0) } ?? .null,
      "seed": configuration.seed.map { .string(String($0.seed)) } ?? .null,
      "time": .int(cluster.clock.now),
      "nodes": .array(nodes.map(ControlDesk.about)),
      "users": .array(users),
      "real": .object(realParts),
      "state": state,
      "counts": [
        "guests": .int(cluster.guests.count),
        "running": .int(cluster.guests.values.count { $0.isRunning }),
        "tasks": .int(nodes.reduce(0) { $0 + $1.tasks.all.count }),
        "connections": .int(nodes.reduce(0) { $0 + $1.connectionCount }),
        "processes": .int(nodes.reduce(0) { $0 + $1.children.count }),
        "requests": .int(cluster.journal.last),
        "faults": .int(cluster.faults.records.count),
      ],
    ]
  }

  private static func about(_ node: PVENode) -> JSON {
    [
      "name": .string(node.name), "url": .string("https://127.0.0.1:\(node.port)"),
      "port": .int(node.port), "fingerprint": .string("\(node.certificates.fingerprint)"),
      "reachability": .string(node.reachability.rawValue),
    ]
  }

  /// Names, never secrets.
  private var users: [JSON] {
    cluster.access.users.values.sorted { $0.id < $1.id }.map { account in
      [
        "userid": .string(account.id), "enabled": .bool(account.isEnabled),
        "secondFactor": .bool(cluster.access.factors[account.id] != nil),
        "tokens": .array(account.tokens.keys.sorted().map { .string("\(account.id)!\($0)") }),
      ]
    }
  }

  private var state: JSON {
    guard let store = cluster.store else { return ["in": "memory"] }
    return [
      "in": "file", "path": .string(store.path), "commits": .int(store.commits),
      "failure": store.failure.map { .string($0.description) } ?? .null,
    ]
  }

  /// Which parts of the cluster are real programs.
  private var realParts: [JSON.Member] {
    let guests = cluster.realness.sorted { $0.key < $1.key }
    return [
      .init(key: "shells", value: "programs of this machine, as the user who started it"),
      .init(key: "containers", value: .string(RoomAbility.here.sentence)),
      .init(key: "agents", value: .string(Realness.agents)),
      .init(
        key: "guests",
        value: .object(guests.map { .init(key: String($0.key), value: .string($0.value)) })),
    ]
  }
}
