/// `…/clone` and `…/template`.
extension PVENode {
  static func cloneOperations(of kind: SimulatedGuest.Kind) -> [Operation] {
    let base = "/nodes/{node}/\(kind.rawValue)/{vmid}"
    return [
      Operation("POST", base + "/clone") { node, arguments throws(APIError) in
        try node.clone(arguments, kind)
      },
      Operation("POST", base + "/template") { node, arguments throws(APIError) in
        try node.makeTemplate(arguments, kind)
      },
    ]
  }

  /// What a clone is made of.
  private struct ClonePlan {
    var options: OptionList
    var isFull: Bool
    var copies: [(key: String, drive: GuestDrive, isFull: Bool)] = []
    var target: PVENode
  }

  private func clone(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let guest = try guest(arguments, kind)
    let newID = arguments.integer("newid") ?? 0
    let plan = try planClone(arguments, guest, newID)
    let upid = run(
      "\(kind == .qemu ? "qm" : "vz")clone", id: String(guest.vmid), user: arguments.authID
    ) {
      run in
      run.stopText = "clone failed: interrupted by signal"
      run.log("creating a clone of \(guest.word) \(guest.vmid) with ID \(newID)")
      var config = GuestConfig()
      config.lock = kind == .qemu ? "clone" : "create"
      let copy = Guest(
        SimulatedGuest(kind: kind, vmid: newID, name: ""), config: config, node: plan.target)
      guests[newID] = copy
      copy.save()
      if kind == .lxc {
        guest.config.lock = "disk"
        guest.save()
      }
      run.onStop { [weak self] in self?.forget(copy) }
      run.onEnd { _ in
        guard kind == .lxc, guest.lock == "disk" else { return }
        guest.config.lock = nil
        guest.save()
      }
      let bytes = plan.copies.filter(\.isFull).reduce(0) {
        $0 + (cluster.storages.volume($1.drive.file, on: name)?.size ?? 0)
      }
      var lines = plan.copies.map { copy in
        "create \(copy.isFull ? "full" : "linked") clone of "
          + "\(kind == .qemu ? "drive" : "mountpoint") \(copy.key) (\(copy.drive.file))"
      }
      if bytes > 0 { lines += PVENode.copyLog(bytes) }
      run.work(for: timings.task * (bytes > 0 ? 3 : 1), lines) { [weak self] run in
        self?.finishClone(arguments, plan, guest, copy, run)
      }
    }
    return APIResult(.string(upid))
  }

  private func planClone(_ arguments: Arguments, _ guest: Guest, _ newID: Int) throws(APIError)
    -> ClonePlan
  {
    let kind = guest.kind
    try requirePool(arguments.text("pool"))
    let storage = arguments.text("storage")
    let target = try cloneTarget(arguments.text("target"))
    if let storage {
      let definition = try cluster.storages.enabled(storage, on: name)
      try requireContent(definition, kind)
      if target !== self {
        _ = try cluster.storages.enabled(storage, on: target.name)
        guard definition.isShared else {
          throw .died("can't clone to non-shared storage '\(storage)'")
        }
      }
    }
    try requireUnlocked(guest)
    let snapshot = arguments.text("snapname").flatMap { $0.isEmpty ? nil : $0 }
    if let snapshot, guest.config.snapshots[snapshot] == nil { throw .noSnapshot(snapshot) }
    let isFull =
      arguments.text("full").map { $0 == "1" } ?? !guest.description.template
    if !isFull, storage != nil {
      throw .died("parameter 'storage' not allowed for linked clones")
    }
    if !isFull, arguments.text("format") != nil {
      throw .died("parameter 'format' not allowed for linked clones")
    }
    if kind == .lxc, isFull, guest.isRunning, snapshot == nil {
      throw .died("Cannot do full clones on a running container without snapshots")
    }
    var options = snapshot.flatMap { guest.config.snapshots[$0]?.options } ?? guest.config.options
    for key in options.keys
    where key.hasPrefix("unused") || key.hasPrefix("running")
      || ["parent", "lock", "vmstate", "template"].contains(key)
    {
      options[key] = nil
    }
    var plan = ClonePlan(options: options, isFull: isFull, target: target)
    for (key, drive) in GuestConfig.drives(options, kind) {
      guard let id = drive.volume, !drive.isCDROM else { continue }
      let copies = isFull || drive.isCloudinit || key == "tpmstate0"
      let place = storage ?? id.storage
      try require(arguments, ["Datastore.AllocateSpace"], on: "/storage/\(place)")
      if target !== self, cluster.storages.definitions[id.storage]?.isShared != true {
        throw .died(
          "can't clone \(guest.word) to node '\(target.name)' (\(guest.word) uses local storage)")
      }
      if !copies, !supports("clone", drive.file) {
        throw .died(
          "Linked clone feature is not supported for\(snapshot == nil ? "" : " a snapshot of") "
            + "'\(drive.file)' (\(key))")
      }
      plan.copies.append((key, drive, copies))
    }
    try requireValueRights(
      arguments,
      options.options.filter { GuestOptions.family($0.key, kind)?.name == "net" }
        .map { ($0.key, $0.value) }, of: guest.vmid, kind)
    guard guests[newID] == nil else {
      throw .died(
        kind == .qemu
          ? "unable to create VM \(newID): config file already exists"
          : "CT \(newID) already exists on node '\(guests[newID]?.node.name ?? name)'")
    }
    return plan
  }

  private func cloneTarget(_ text: String?) throws(APIError) -> PVENode {
    guard let text, text != name, text != "localhost" else { return self }
    guard let node = cluster.node(named: text) else {
      throw .died("no such cluster node '\(text)'")
    }
    return node
  }

  private func finishClone(
    _ arguments: Arguments, _ plan: ClonePlan, _ source: Guest, _ copy: Guest, _ run: TaskRun
  ) {
    let kind = source.kind
    var config = GuestConfig()
    config.options = plan.options
    var created: [String] = []
    for (key, drive, isFull) in plan.copies {
      guard let volume = cluster.storages.volume(drive.file, on: name),
        let definition = cluster.storages.definitions[
          isFull ? arguments.text("storage") ?? volume.storage : volume.storage]
      else {
        for id in created { cluster.storages.remove(id, on: plan.target.name) }
        forget(copy)
        run.fail("clone failed: volume '\(drive.file)' does not exist")
        return
      }
      var drive = drive
      if isFull {
        let made = self.copy(
          volume, to: definition, vmid: copy.vmid, format: arguments.text("format"), kind,
          on: plan.target)
        run.log(allocationLog(made, definition))
        drive.file = made.id
      } else {
        drive.file = linked(volume, definition, copy.vmid, on: plan.target)
      }
      created.append(drive.file)
      config.options[key] = drive.text
    }
    for option in config.options.options where GuestOptions.family(option.key, kind)?.name == "net"
    {
      config.options[option.key] = GuestIdentity.readdressed(net: option.value, kind)
    }
    if kind == .qemu {
      config.options["smbios1"] = "uuid=\(randomUUID())"
      if config.options["vmgenid"] != nil { config.options["vmgenid"] = randomUUID() }
      config.options["name"] =
        arguments.text("name")
        ?? "Copy-of-VM-\(source.config.options["name"] ?? String(source.vmid))"
    } else if let hostname = arguments.text("hostname") {
      config.options["hostname"] = hostname
    }
    if let text = arguments.text("description"), !text.isEmpty {
      config.options["description"] = text
    }
    copy.config = config
    copy.save()
    if let pool = arguments.text("pool") {
      cluster.pools.move(copy.vmid, to: pool)
      cluster.pools.flush()
    }
    run.finish()
  }

  /// A volume that holds only what differs from its base.
  private func linked(
    _ base: Volume, _ definition: StorageDefinition, _ vmid: Int, on node: PVENode
  ) -> String {
    let plain = cluster.storages.nextName(
      definition, vmid: vmid, format: base.format, on: node.name)
    let keepsBase =
      definition.kind.isFileBased || ["zfspool", "rbd"].contains(definition.kind.name)
    var volume = Volume(
      storage: definition.id, name: keepsBase ? "\(base.name)/\(plain)" : plain,
      content: base.content, format: base.format, size: base.size, vmid: vmid, created: clock.now)
    volume.parent = base.id
    cluster.storages.put(volume, on: node.name)
    return volume.id
  }

  // MARK: templates

  private func makeTemplate(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let guest = try guest(arguments, kind)
    let disk = arguments.text("disk")
    if let text = templateFailure(guest, disk) { throw .died(text) }
    guard kind == .qemu else {
      convert(guest, only: nil)
      return APIResult(.null)
    }
    let upid = run("qmtemplate", id: String(guest.vmid), user: arguments.authID) { run in
      run.after(timings.task) { [weak self] run in
        if let text = self?.templateFailure(guest, disk) {
          run.fail(text)
          return
        }
        self?.convert(guest, only: disk)
        run.finish()
      }
    }
    return APIResult(.string(upid))
  }

  private func templateFailure(_ guest: Guest, _ disk: String?) -> String? {
    if let lock = guest.lock { return "\(guest.word) is locked (\(lock))" }
    if !guest.config.snapshots.isEmpty {
      return "unable to create template, because \(guest.word) contains snapshots"
    }
    if guest.description.template, disk == nil {
      return "you can't convert a template to a template"
    }
    if guest.isRunning {
      return guest.kind == .qemu
        ? "you can't convert a VM to template if VM is running"
        : "you can't convert a CT to template if the CT is running"
    }
    return nil
  }

  private func convert(_ guest: Guest, only disk: String?) {
    var config = guest.config
    config.options["template"] = "1"
    for (key, drive) in GuestConfig.drives(config.options, guest.kind)
    where disk == nil || disk == key {
      guard drive.volume != nil, !drive.isCDROM, !drive.isCloudinit,
        let volume = cluster.storages.volume(drive.file, on: name)
      else { continue }
      var drive = drive
      drive.file = rename(volume, to: PVENode.baseName(volume.name))
      config.options[key] = drive.text
    }
    guest.config = config
    guest.save()
  }

  private static func baseName(_ text: String) -> String {
    var parts = text.split(separator: "/").map(String.init)
    guard let last = parts.last else { return text }
    if last.hasPrefix("vm-") {
      parts[parts.count - 1] = "base-" + last.dropFirst(3)
    } else if last.hasPrefix("subvol-") {
      parts[parts.count - 1] = "basevol-" + last.dropFirst(7)
    }
    return parts.joined(separator: "/")
  }

  /// Gives a volume another name, or another owner, and tells its new id.
  func rename(_ volume: Volume, to newName: String, owner: Int? = nil) -> String {
    guard newName != volume.name else { return volume.id }
    var renamed = Volume(
      storage: volume.storage, name: newName, content: volume.content, format: volume.format,
      size: volume.size, vmid: owner ?? volume.vmid, created: volume.created)
    renamed.parent = volume.parent
    cluster.storages.remove(volume.id, on: name)
    cluster.storages.put(renamed, on: name)
    return renamed.id
  }
}
