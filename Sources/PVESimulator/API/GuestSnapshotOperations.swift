/// `…/snapshot`: a tree of configurations, each with its volumes' state at that time.
extension PVENode {
  static func snapshotOperations(of kind: SimulatedGuest.Kind) -> [Operation] {
    let base = "/nodes/{node}/\(kind.rawValue)/{vmid}/snapshot"
    return [
      Operation("GET", base) { node, arguments throws(APIError) in
        node.listSnapshots(try node.guest(arguments, kind))
      },
      Operation("POST", base) { node, arguments throws(APIError) in
        try node.takeSnapshot(arguments, kind)
      },
      Operation("GET", base + "/{snapname}") { _, _ in
        APIResult([["cmd": "rollback"], ["cmd": "config"]])
      },
      Operation("DELETE", base + "/{snapname}") { node, arguments throws(APIError) in
        try node.deleteSnapshot(arguments, kind)
      },
      Operation("GET", base + "/{snapname}/config") { node, arguments throws(APIError) in
        let config = try node.guest(arguments, kind).config
        guard let snapshot = config.snapshots[arguments.snapshot] else {
          throw .noSnapshot(arguments.snapshot)
        }
        return APIResult(config.answer(snapshot.allOptions, kind, withDigest: false))
      },
      Operation("PUT", base + "/{snapname}/config") { node, arguments throws(APIError) in
        let guest = try node.guest(arguments, kind)
        guard let text = arguments.text("description") else { return APIResult(.null) }
        try node.requireUnlocked(guest)
        guard guest.config.snapshots[arguments.snapshot] != nil else {
          throw .noSnapshot(arguments.snapshot)
        }
        guest.config.snapshots[arguments.snapshot]?.description = text
        guest.save()
        return APIResult(.null)
      },
      Operation("POST", base + "/{snapname}/rollback") { node, arguments throws(APIError) in
        try node.rollback(arguments, kind)
      },
    ]
  }

  private func listSnapshots(_ guest: Guest) -> APIResult {
    let config = guest.config
    var rows: [JSON] = config.snapshots.sorted { ($0.value.time, $0.key) < ($1.value.time, $1.key) }
      .map { name, snapshot in
        var members: [JSON.Member] = [
          .init(key: "name", value: .string(name)),
          .init(key: "snaptime", value: .int(snapshot.time)),
          .init(key: "description", value: .string(snapshot.description ?? "")),
        ]
        if guest.kind == .qemu {
          members.append(.init(key: "vmstate", value: .flag(snapshot.vmstate != nil)))
        }
        if let parent = snapshot.parent {
          members.append(.init(key: "parent", value: .string(parent)))
        }
        if let state = snapshot.state {
          members.append(.init(key: "snapstate", value: .string(state)))
        }
        return .object(members)
      }
    var current: [JSON.Member] = [
      .init(key: "name", value: "current"), .init(key: "digest", value: .string(config.digest)),
      .init(key: "running", value: .flag(guest.isRunning)),
      .init(key: "description", value: "You are here!"),
    ]
    if let parent = config.options["parent"] {
      current.append(.init(key: "parent", value: .string(parent)))
    }
    rows.append(.object(current))
    return APIResult(.array(rows))
  }

  private func prefix(_ kind: SimulatedGuest.Kind) -> String { kind == .qemu ? "qm" : "vz" }

  // MARK: taking

  private func takeSnapshot(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let name = arguments.snapshot
    guard name != "current" else {
      throw .died("unable to use snapshot name 'current' (reserved name)")
    }
    if kind == .lxc, name == "vzdump" {
      throw .died("unable to use snapshot name 'vzdump' (reserved name)")
    }
    guard name.lowercased() != "pending" else {
      throw .died("unable to use snapshot name 'pending' (reserved name)")
    }
    let guest = try guest(arguments, kind)
    let withMemory = arguments.flag("vmstate")
    let description = arguments.text("description")
    let upid = run("\(prefix(kind))snapshot", id: String(guest.vmid), user: arguments.authID) {
      run in
      if let text = snapshotFailure(guest, name) {
        run.fail(text)
        return
      }
      var config = guest.config
      var snapshot = GuestConfig.Snapshot(options: GuestConfig.copied(config.options))
      snapshot.parent = snapshot.options["parent"]
      snapshot.options["parent"] = nil
      snapshot.time = clock.now
      snapshot.description = description
      snapshot.state = "prepare"
      if withMemory, guest.isRunning, kind == .qemu {
        snapshot.vmstate = saveMemory(of: guest, name, run)
      }
      config.lock = "snapshot"
      config.snapshots[name] = snapshot
      guest.config = config
      guest.save()
      run.onStop { [weak guest] in guest?.dropSnapshot(name) }
      let lines = GuestConfig.drives(config.options, kind)
        .filter { $0.drive.volume != nil && !$0.drive.isCDROM }
        .map { key, drive in
          kind == .qemu
            ? "snapshotting 'drive-\(key)' (\(drive.file))"
            : "  Logical volume \"snap_\(VolumeID(drive.file)?.name ?? "")_\(name)\" created."
        }
      run.work(for: timings.task, lines) { run in
        guest.config.snapshots[name]?.state = nil
        guest.config.options["parent"] = name
        guest.config.lock = nil
        guest.save()
        run.finish()
      }
    }
    return APIResult(.string(upid))
  }

  private func snapshotFailure(_ guest: Guest, _ name: String) -> String? {
    if guest.description.template { return "you can't take a snapshot if it's a template" }
    if let lock = guest.lock { return "\(guest.word) is locked (\(lock))" }
    if guest.config.snapshots[name] != nil { return "snapshot name '\(name)' already used" }
    let volumes = GuestConfig.drives(guest.config.options, guest.kind).map(\.drive)
      .filter { $0.volume != nil && !$0.isCDROM }
    guard volumes.allSatisfy({ supports("snapshot", $0.file) }) else {
      return "snapshot feature is not available"
    }
    return nil
  }

  private func saveMemory(of guest: Guest, _ name: String, _ run: TaskRun) -> String? {
    let storage = stateStorage(of: guest)
    guard let definition = cluster.storages.definitions[storage] else { return nil }
    let volumeName = StorageTable.imageName(
      definition, "vm-\(guest.vmid)-state-\(name)", vmid: guest.vmid, format: "raw")
    let volume = Volume(
      storage: storage, name: volumeName, content: "images", format: "raw",
      size: 2 * guest.description.memory + (500 << 20), vmid: guest.vmid, created: clock.now)
    cluster.storages.put(volume, on: self.name)
    run.log([
      "saving VM state and RAM using storage '\(storage)'", "1.51 MiB in 0s",
      "completed saving the VM state in 1s, saved \(readable(guest.description.memory / 8))",
    ])
    return volume.id
  }

  // MARK: deleting

  private func deleteSnapshot(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let guest = try guest(arguments, kind)
    let name = arguments.snapshot
    let upid = run("\(prefix(kind))delsnapshot", id: String(guest.vmid), user: arguments.authID) {
      run in
      guard guest.config.snapshots[name] != nil else {
        run.fail("snapshot '\(name)' does not exist")
        return
      }
      if let lock = guest.lock {
        run.fail("\(guest.word) is locked (\(lock))")
        return
      }
      if guest.description.template {
        run.fail("you can't delete a snapshot if vm is a template")
        return
      }
      guest.config.lock = "snapshot-delete"
      guest.config.snapshots[name]?.state = "delete"
      guest.save()
      run.after(timings.task) { run in
        guest.dropSnapshot(name)
        run.finish()
      }
    }
    return APIResult(.string(upid))
  }

  // MARK: going back

  private func rollback(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let guest = try guest(arguments, kind)
    let name = arguments.snapshot
    let starts = arguments.flag("start")
    if starts { try require(arguments, ["VM.PowerMgmt"], on: "/vms/\(guest.vmid)") }
    let upid = run("\(prefix(kind))rollback", id: String(guest.vmid), user: arguments.authID) {
      run in
      if guest.description.template {
        run.fail("you can't rollback if vm is a template")
        return
      }
      guard let snapshot = guest.config.snapshots[name] else {
        run.fail("snapshot '\(name)' does not exist")
        return
      }
      if let state = snapshot.state {
        run.fail("unable to rollback to incomplete snapshot (snapstate = \(state))")
        return
      }
      if let lock = guest.lock {
        run.fail("\(guest.word) is locked (\(lock))")
        return
      }
      guest.stop()
      guest.config.lock = "rollback"
      guest.save()
      run.after(timings.task) { [weak self] run in
        guard let self else { return }
        guest.rollBack(to: name, snapshot)
        if snapshot.vmstate != nil {
          guest.start()
        } else if starts {
          startTask(guest, user: arguments.authID)
        }
        run.finish()
      }
    }
    return APIResult(.string(upid))
  }
}

extension Guest {
  /// Takes a snapshot out of the tree: its children become its parent's.
  fileprivate func dropSnapshot(_ name: String) {
    var config = config
    guard let snapshot = config.snapshots.removeValue(forKey: name) else { return }
    if let state = snapshot.vmstate { node.cluster.storages.remove(state, on: node.name) }
    if config.options["parent"] == name { config.options["parent"] = snapshot.parent }
    for (other, child) in config.snapshots where child.parent == name {
      config.snapshots[other]?.parent = snapshot.parent
    }
    // A volume that only the snapshot knew is nobody's now.
    let used = Set(config.volumes(kind))
    for (_, drive) in GuestConfig.drives(snapshot.options, kind)
    where drive.volume != nil && !drive.isCDROM && !used.contains(drive.file) && owns(drive.file) {
      config.addUnused(drive.file)
    }
    config.lock = nil
    self.config = config
    save()
  }

  /// Makes a snapshot's configuration the current one. Disks that it doesn't know stay as unused ones.
  fileprivate func rollBack(to name: String, _ snapshot: GuestConfig.Snapshot) {
    var config = config
    let before = GuestConfig.drives(config.options, kind).map(\.drive)
    var options = GuestConfig.copied(snapshot.options)
    for option in config.options.options
    where option.key.hasPrefix("unused") || option.key == "description" {
      options[option.key] = option.value
    }
    options["parent"] = name
    options["lock"] = nil
    config.options = options
    config.pending = OptionList()
    config.pendingDeletes = [:]
    let after = Set(GuestConfig.drives(options, kind).map(\.drive.file))
    for drive in before
    where drive.volume != nil && !drive.isCDROM && !after.contains(drive.file) && owns(drive.file) {
      config.addUnused(drive.file)
    }
    // The applications inside have to see that time went back.
    if kind == .qemu, config.options["vmgenid"] != nil { config.options["vmgenid"] = randomUUID() }
    self.config = config
    save()
  }
}

extension Arguments {
  /// The path's or the body's snapshot.
  var snapshot: String { text("snapname") ?? "" }
}

extension APIError {
  static func noSnapshot(_ name: String) -> APIError {
    .died("snapshot '\(name)' does not exist")
  }
}
