/// `…/migrate` between the cluster's own nodes.
extension PVENode {
  static func migrationOperations(of kind: SimulatedGuest.Kind) -> [Operation] {
    let path = "/nodes/{node}/\(kind.rawValue)/{vmid}/migrate"
    return [
      Operation("GET", path) { node, arguments throws(APIError) in
        try node.migrationPreconditions(arguments, kind)
      },
      Operation("POST", path) { node, arguments throws(APIError) in
        try node.migrate(arguments, kind)
      },
    ]
  }

  private func migrationPreconditions(_ arguments: Arguments, _ kind: SimulatedGuest.Kind)
    throws(APIError) -> APIResult
  {
    let guest = try guest(arguments, kind)
    try requireUnlocked(guest)
    var allowed: [JSON] = []
    var refused: [JSON.Member] = []
    for node in cluster.nodes where node !== self {
      let missing = missingStorages(guest, on: node)
      if missing.isEmpty {
        allowed.append(.string(node.name))
      } else {
        refused.append(
          .init(
            key: node.name,
            value: ["unavailable_storages": .array(missing.map { .string($0) })]))
      }
    }
    guard kind == .qemu else {
      return APIResult([
        "running": .flag(guest.isRunning), "allowed-nodes": .array(allowed),
        "not-allowed-nodes": .object(refused),
      ])
    }
    var answer: [JSON.Member] = [
      .init(key: "running", value: .flag(guest.isRunning)),
      .init(key: "allowed_nodes", value: .array(allowed)),
      .init(key: "not_allowed_nodes", value: .object(refused)),
      .init(
        key: "local_disks",
        value: .array(
          localDisks(guest).map { key, drive in
            [
              "volid": .string(drive.file),
              "size": .int(cluster.storages.volume(drive.file, on: name)?.size ?? 0),
              "cdrom": .flag(drive.isCDROM), "is_unused": .flag(key.hasPrefix("unused")),
              "drivename": .string(key),
            ]
          })),
      .init(key: "local_resources", value: .array(localResources(guest).map { .string($0) })),
      .init(key: "mapped-resources", value: []),
      .init(key: "mapped-resource-info", value: .object([])),
    ]
    if era.major >= 9 { answer.append(.init(key: "has-dbus-vmstate", value: 1)) }
    return APIResult(.object(answer))
  }

  private func missingStorages(_ guest: Guest, on node: PVENode) -> [String] {
    let used = GuestConfig.drives(guest.config.options, guest.kind, withUnused: true)
      .compactMap { $0.drive.volume?.storage }
    return Set(used).filter {
      cluster.storages.definitions[$0]?.isAvailable(on: node.name) != true
    }.sorted()
  }

  private func localDisks(_ guest: Guest) -> [(key: String, drive: GuestDrive)] {
    GuestConfig.drives(guest.config.options, guest.kind, withUnused: true).filter { _, drive in
      guard let id = drive.volume, drive.options["shared"] != "1" else { return false }
      return cluster.storages.definitions[id.storage]?.isShared != true
    }
  }

  private func localResources(_ guest: Guest) -> [String] {
    guest.config.options.options.compactMap { option in
      switch GuestOptions.family(option.key, guest.kind)?.name {
      case "hostpci": return option.value.contains("mapping=") ? nil : option.key
      case "usb": return option.value.lowercased().contains("spice") ? nil : option.key
      case "serial": return option.value == "socket" ? nil : option.key
      case "parallel": return option.key
      default: return nil
      }
    }
  }

  // MARK: the task

  func migrate(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let wanted = arguments.text("target") ?? ""
    guard wanted != name, wanted != "localhost" else {
      throw .invalid([.init(name: "target", text: "target is local node.")])
    }
    guard let target = cluster.node(named: wanted) else {
      throw .died("no such cluster node '\(wanted)'")
    }
    try requireRoot(arguments, for: "force", "migration_type", "migration_network")
    let guest = try guest(arguments, kind)
    try requireUnlocked(guest)
    let isOnline = arguments.flag("online")
    let restarts = arguments.flag("restart")
    if guest.isRunning, !isOnline, !restarts {
      throw .died(
        kind == .qemu
          ? "can't migrate running VM without --online"
          : "can't migrate running container without --online or --restart")
    }
    let storages = arguments.text("targetstorage") ?? arguments.text("target-storage")
    if storages != nil, storages != "1" {
      try require(arguments, ["VM.Config.Disk"], onGuest: guest.vmid)
    }
    let map = StorageMap(storages)
    for id in map.targets {
      try require(arguments, ["Datastore.AllocateSpace"], on: "/storage/\(id)")
      try requireContent(try cluster.storages.enabled(id, on: target.name), kind)
    }
    if storages == nil {
      for id in missingStorages(guest, on: target) {
        _ = try cluster.storages.enabled(id, on: target.name)
      }
    }
    let migration = Migration(
      guest: guest, source: self, target: target, storages: map, isOnline: isOnline,
      restarts: restarts, withDisks: arguments.flag("with-local-disks"),
      isForced: arguments.flag("force"))
    let upid = run(
      kind == .qemu ? "qmigrate" : "vzmigrate", id: String(guest.vmid), user: arguments.authID
    ) {
      migration.run($0)
    }
    return APIResult(.string(upid))
  }

  /// Which storage a volume's storage becomes: `a:b,c:d`, or one for all.
  fileprivate struct StorageMap {
    private var entries: [String: String] = [:]
    private var usual: String?

    init(_ text: String?) {
      for part in text.map(listParts) ?? [] where part != "1" {
        let halves = part.split(separator: ":")
        if halves.count == 2 {
          entries[String(halves[0])] = String(halves[1])
        } else {
          usual = part
        }
      }
    }

    var targets: [String] { (Array(entries.values) + [usual].compactMap { $0 }).sorted() }
    subscript(source: String) -> String { entries[source] ?? usual ?? source }
  }

  /// A migration under way.
  fileprivate struct Migration {
    let guest: Guest
    let source: PVENode
    let target: PVENode
    let storages: StorageMap
    let isOnline: Bool
    let restarts: Bool
    let withDisks: Bool
    let isForced: Bool

    private func stamp(_ text: String) -> String { "\(logDate(source.clock.now)) \(text)" }

    func run(_ run: TaskRun) {
      let word = guest.kind == .qemu ? "VM" : "CT"
      run.stopText = "migration aborted"
      if guest.kind == .lxc, guest.isRunning, isOnline, !restarts {
        run.log(
          stamp(
            "ERROR: migration aborted (duration 00:00:00): lxc live migration is currently not implemented"
          ))
        run.fail("migration aborted")
        return
      }
      if guest.kind == .qemu, isOnline, !guest.isRunning {
        run.log("VM isn't running. Doing offline migration instead.")
      }
      let wasRunning = guest.isRunning
      if wasRunning, restarts, guest.kind == .lxc {
        run.log(stamp("shutdown CT \(guest.vmid)"))
        guest.stop()
      }
      run.log(
        stamp(
          "starting migration of \(word) \(guest.vmid) to node '\(target.name)' "
            + "(\(source.cluster.address(of: target)))"))
      if let text = obstacle() {
        run.log(stamp("ERROR: migration aborted (duration 00:00:00): \(text)"))
        if wasRunning, !guest.isRunning { guest.start() }
        run.fail("migration aborted")
        return
      }
      guest.config.lock = "migrate"
      guest.save()
      let disks = source.localDisks(guest).filter { !$0.drive.isCDROM }
      run.onStop {
        guest.config.lock = nil
        guest.save()
      }
      var lines = disks.map { _, drive in stamp("found local disk '\(drive.file)' (attached)") }
      for (_, drive) in disks {
        lines.append(
          stamp("copying local disk images"))
        lines.append(
          stamp(
            "volume '\(drive.file)' is '\(storages[drive.volume?.storage ?? "local"]):\(drive.volume?.name ?? "")' on the target"
          ))
      }
      if guest.isRunning {
        lines += [
          stamp("starting VM \(guest.vmid) on remote node '\(target.name)'"),
          stamp("start remote tunnel"), stamp("ssh tunnel ver 1"),
          stamp("starting online/live migration on unix:/run/qemu-server/\(guest.vmid).migrate"),
          stamp("set migration capabilities"),
          stamp("start migrate command to unix:/run/qemu-server/\(guest.vmid).migrate"),
          stamp(
            "migration active, transferred \(readable(guest.description.memory / 3)) of "
              + "\(readable(guest.description.memory)) VM-state, 1.1 GiB/s"),
          stamp("average migration speed: 1.0 GiB/s - downtime 53 ms"),
          stamp("migration status: completed"),
        ]
      }
      run.work(for: source.timings.task * 3, lines) { run in finish(run, wasRunning) }
    }

    /// Why the migration can't be, or nil.
    private func obstacle() -> String? {
      guard target.reachability == .up else {
        return "Can't connect to destination address using public key"
      }
      let resources = source.localResources(guest)
      if !resources.isEmpty, !isForced || guest.isRunning {
        return "can't migrate VM which uses local devices: \(resources.joined(separator: ", "))"
      }
      let locals = source.localDisks(guest)
      if let cdrom = locals.first(where: { $0.drive.isCDROM }) {
        return "Problem found while scanning volumes - can't migrate local disk "
          + "'\(cdrom.drive.file)': local cdrom image"
      }
      if guest.isRunning, guest.kind == .qemu, !withDisks,
        locals.contains(where: { !$0.drive.isCloudinit })
      {
        return "Problem found while scanning volumes - can't live migrate attached local disks "
          + "without with-local-disks option"
      }
      if guest.kind == .qemu, !guest.config.snapshots.isEmpty,
        let disk = locals.first(where: { guest.config.isSnapshotted($0.drive.file, guest.kind) }),
        let id = disk.drive.volume,
        source.cluster.storages.definitions[id.storage]?.kind.name == "lvmthin"
      {
        return
          "Problem found while scanning volumes - can't migrate local disk '\(disk.drive.file)': "
          + "non-migratable snapshot exists"
      }
      return nil
    }

    private func finish(_ run: TaskRun, _ wasRunning: Bool) {
      let table = source.cluster.storages
      var config = guest.config
      for (key, drive) in source.localDisks(guest) where !drive.isCDROM {
        guard let id = drive.volume, let volume = table.volume(drive.file, on: source.name),
          let definition = table.definitions[storages[id.storage]]
        else { continue }
        table.remove(drive.file, on: source.name)
        // The name stays where it is free on the other side.
        let isFree =
          definition.id == volume.storage
          && table.volume("\(definition.id):\(volume.name)", on: target.name) == nil
        let newName =
          isFree
          ? volume.name
          : table.nextName(definition, vmid: guest.vmid, format: volume.format, on: target.name)
        var moved = Volume(
          storage: definition.id, name: newName, content: volume.content,
          format: isFree
            ? volume.format : source.imageFormat(volume.format, definition, guest.kind),
          size: volume.size, vmid: guest.vmid, created: volume.created)
        moved.parent = volume.parent
        table.put(moved, on: target.name)
        var drive = drive
        drive.file = moved.id
        config.options[key] = key.hasPrefix("unused") ? moved.id : drive.text
      }
      config.lock = nil
      guest.config = config
      guest.move(to: target)
      if guest.kind == .lxc, wasRunning, restarts {
        run.log(stamp("start container on target node"))
        guest.start()
      }
      run.log(
        stamp(
          guest.kind == .qemu
            ? "migration finished successfully (duration 00:00:01)"
            : "migration finished successfully (duration 00:00:01)"))
      run.finish()
    }
  }
}
