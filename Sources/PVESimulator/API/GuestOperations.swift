/// `/nodes/{node}/qemu` and `/nodes/{node}/lxc` without consoles and the agent.
extension PVENode {
  static let guestOperations: [Operation] = {
    var all: [Operation] = machineOperations
    all += allGuestsOperations
    all += backupOperations
    for kind in [SimulatedGuest.Kind.qemu, .lxc] {
      all += listOperations(of: kind)
      all += powerOperations(of: kind)
      all += configOperations(of: kind)
      all += createOperations(of: kind)
      all += snapshotOperations(of: kind)
      all += cloneOperations(of: kind)
      all += diskOperations(of: kind)
      all += migrationOperations(of: kind)
    }
    return all
  }()

  private static func listOperations(of kind: SimulatedGuest.Kind) -> [Operation] {
    let base = "/nodes/{node}/\(kind.rawValue)"
    return [
      Operation("GET", base) { node, arguments in
        let isFull = arguments.flag("full")
        var rows = RowWriter(capacity: node.guests.count * 480)
        for guest in node.cluster.sortedGuests
        where guest.node === node && guest.kind == kind && node.maySee(arguments, guest) {
          rows.beginRow()
          rows.members(of: guest, era: node.era, isFull: isFull)
          rows.endRow()
        }
        return APIResult(rows.json)
      },
      Operation("GET", base + "/{vmid}") { _, _ in
        let names = kind == .qemu ? machineDirectory : containerDirectory
        return APIResult(.array(names.map { ["subdir": .string($0)] }))
      },
      Operation("GET", base + "/{vmid}/status") { node, arguments throws(APIError) in
        _ = try node.guest(arguments, kind)
        let names =
          kind == .qemu
          ? ["current", "start", "stop", "reset", "shutdown", "suspend", "reboot"]
          : ["current", "start", "stop", "shutdown", "reboot", "migrate"]
        return APIResult(.array(names.map { ["subdir": .string($0)] }))
      },
      Operation("GET", base + "/{vmid}/status/current") { node, arguments throws(APIError) in
        APIResult(node.status(of: try node.guest(arguments, kind)))
      },
      Operation("GET", base + "/{vmid}/rrd") { _, arguments in
        APIResult(["filename": .string("/var/cache/pve-rrd/\(arguments.vmid).png")])
      },
      Operation("GET", base + "/{vmid}/rrddata") { node, arguments in
        guard let guest = node.guests[arguments.vmid] else { return APIResult([]) }
        return node.guestSeries(arguments, guest)
      },
      Operation("GET", base + "/{vmid}/feature") { node, arguments throws(APIError) in
        try node.feature(arguments, kind)
      },
    ]
  }

  private static let machineDirectory = [
    "config", "cloudinit", "pending", "status", "unlink", "vncproxy", "termproxy", "migrate",
    "resize", "move", "rrd", "rrddata", "monitor", "agent", "snapshot", "spiceproxy", "sendkey",
    "firewall", "mtunnel", "remote_migrate",
  ]
  private static let containerDirectory = [
    "config", "pending", "status", "vncproxy", "termproxy", "vncwebsocket", "spiceproxy", "migrate",
    "clone", "initlog", "rrd", "rrddata", "firewall", "snapshot", "resize", "interfaces", "mtunnel",
    "remote_migrate",
  ]

  /// `GET …/status/current`.
  private func status(of guest: Guest) -> JSON {
    var row = RowWriter()
    row.beginRow()
    row.members(of: guest, era: era, isFull: guest.kind == .qemu)
    row.field("ha", json: ["managed": 0])
    if guest.kind == .qemu, guest.isRunning {
      if era.major >= 8 { row.null("clipboard") }
      if guest.description.agent { row.field("agent", 1) }
      if !guest.isUntouched, guest.config.options["vga"]?.hasPrefix("qxl") == true {
        row.field("spice", 1)
      }
    }
    row.endRow()
    return row.firstRow
  }

  private func feature(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let guest = try guest(arguments, kind)
    let name = arguments.text("feature") ?? ""
    var options = guest.config.options
    if let snapshot = arguments.text("snapname") {
      guard let found = guest.config.snapshots[snapshot] else {
        throw .died("snapshot '\(snapshot)' does not exist")
      }
      options = found.options
    }
    let volumes = GuestConfig.drives(options, kind).map(\.drive)
      .filter { $0.volume != nil && !$0.isCDROM }
    let has = volumes.allSatisfy { supports(name, $0.file) }
    var members: [JSON.Member] = [.init(key: "hasFeature", value: .flag(has))]
    if kind == .qemu {
      let isShared = volumes.allSatisfy { drive in
        drive.volume.flatMap { cluster.storages.definitions[$0.storage]?.isShared } ?? false
      }
      let names = isShared ? cluster.nodes.map(\.name) : [self.name]
      members.append(.init(key: "nodes", value: .array(names.map { .string($0) })))
    }
    return APIResult(.object(members))
  }

  /// Whether a volume can be snapshotted, cloned (linked) or copied.
  func supports(_ feature: String, _ volume: String) -> Bool {
    guard let id = VolumeID(volume), let definition = cluster.storages.definitions[id.storage]
    else {
      return false
    }
    let found = cluster.storages.volume(volume, on: name)
    let isBase = id.name.split(separator: "/").last?.hasPrefix("base") ?? false
    switch feature {
    case "copy": return true
    case "clone":
      guard isBase else { return false }
      return ["lvmthin", "zfspool", "zfs", "rbd", "btrfs"].contains(definition.kind.name)
        || definition.kind.isFileBased
    default:
      switch definition.kind.name {
      case "lvmthin", "zfspool", "zfs", "rbd", "btrfs": return true
      case "lvm", "iscsi", "iscsidirect": return false
      default: return found?.format == "qcow2" || id.name.hasSuffix(".qcow2")
      }
    }
  }
}
