/// `POST /nodes/{node}/qemu` and `/lxc`, and `DELETE` of a guest.
extension PVENode {
  static func createOperations(of kind: SimulatedGuest.Kind) -> [Operation] {
    let base = "/nodes/{node}/\(kind.rawValue)"
    return [
      Operation("POST", base) { node, arguments throws(APIError) in
        try kind == .qemu ? node.createMachine(arguments) : node.createContainer(arguments)
      },
      Operation("DELETE", base + "/{vmid}") { node, arguments throws(APIError) in
        try node.destroy(arguments, kind)
      },
    ]
  }

  private static let machineControls: Set<String> = [
    "node", "vmid", "archive", "bwlimit", "force", "pool", "start", "ha-managed", "storage",
    "unique", "live-restore", "import-working-storage",
  ]
  private static let containerControls: Set<String> = [
    "node", "vmid", "ostemplate", "bwlimit", "force", "pool", "start", "ha-managed", "storage",
    "unique", "restore", "password", "ssh-public-keys", "ignore-unpack-errors",
  ]

  /// Who may make, or restore over, a guest.
  private func requireAllocation(_ arguments: Arguments, restores: Bool) throws(APIError) {
    let vmid = arguments.vmid
    let pool = arguments.text("pool")
    if holds(arguments, "VM.Allocate", on: "/vms/\(vmid)") { return }
    if let pool, holds(arguments, "VM.Allocate", on: "/pool/\(pool)") { return }
    if restores, arguments.flag("force"), guests[vmid] != nil,
      holds(arguments, "VM.Backup", on: "/vms/\(vmid)")
    {
      return
    }
    throw APIError(status: 403, message: "Permission check failed")
  }

  /// Takes a vmid: the guest is there from now on, locked, and empty.
  func reserve(_ arguments: Arguments, _ kind: SimulatedGuest.Kind, restores: Bool)
    throws(APIError) -> Guest
  {
    let vmid = arguments.vmid
    let word = kind == .qemu ? "VM" : "CT"
    let failed = "unable to \(restores ? "restore" : "create") \(word) \(vmid) -"
    if let old = guests[vmid] {
      let oldWord = old.kind == .qemu ? "VM" : "CT"
      guard restores, arguments.flag("force"), old.kind == kind, old.node === self else {
        throw .died("\(failed) \(oldWord) \(vmid) already exists on node '\(old.node.name)'")
      }
      guard old.lock == nil else {
        throw .died("\(failed) \(oldWord) is locked (\(old.lock ?? ""))")
      }
      guard !old.config.isProtected else { throw .died("\(failed) - protection mode enabled") }
      guard !old.isRunning else {
        throw .died("\(failed) \(kind == .qemu ? "vm" : "CT") is running")
      }
      old.config.lock = "create"
      old.save()
      return old
    }
    var config = GuestConfig()
    config.lock = "create"
    let guest = Guest(SimulatedGuest(kind: kind, vmid: vmid, name: ""), config: config, node: self)
    guests[vmid] = guest
    guest.save()
    return guest
  }

  /// Forgets a guest, with its rights and its place in a pool.
  func forget(_ guest: Guest) {
    guest.insidesIfMade?.destroyed()
    guests[guest.vmid] = nil
    cluster.save(.guest, String(guest.vmid), nil)
    cluster.pools.move(guest.vmid, to: nil)
    cluster.pools.flush()
  }

  // MARK: VMs

  private func createMachine(_ arguments: Arguments) throws(APIError) -> APIResult {
    let vmid = arguments.vmid
    let pool = arguments.text("pool")
    let storage = arguments.text("storage")
    let archive = arguments.text("archive")
    try requirePool(pool)
    if let storage {
      try require(arguments, ["Datastore.AllocateSpace"], on: "/storage/\(storage)")
    }
    if arguments.flag("ha-managed") { try require(arguments, ["Sys.Console"], on: "/") }
    if arguments.flag("start") {
      try require(arguments, ["VM.PowerMgmt"], onGuest: vmid, pool: pool)
    }
    try requireAllocation(arguments, restores: archive != nil)
    var options = arguments.options(without: PVENode.machineControls).map {
      (key: $0.0, value: $0.1)
    }
    if let archive {
      if let drive = options.first(where: { GuestOptions.isDrive($0.key) }) {
        throw .invalid([.init(name: drive.key, text: "option conflicts with option 'archive'")])
      }
      return try restore(arguments, .qemu, from: archive, options)
    }
    for i in options.indices {
      if options[i].key == "cdrom" { options[i] = ("ide2", options[i].value + ",media=cdrom") }
      if GuestOptions.isDrive(options[i].key), GuestDrive(options[i].value) == nil {
        throw .invalid([.init(name: options[i].key, text: "unable to parse drive options")])
      }
      if GuestOptions.family(options[i].key, .qemu)?.name == "net" {
        options[i].value = GuestIdentity.completed(net: options[i].value, .qemu)
      }
      if options[i].key == "tags" { options[i].value = ConfigUpdate.uniqueTags(options[i].value) }
    }
    try requireStorages(arguments, options, of: vmid, .qemu, usual: storage)
    try requireConfigRights(arguments, options.map(\.key), of: vmid, .qemu, pool: pool)
    try requireValueRights(arguments, options, of: vmid, .qemu, pool: pool)
    let guest = try reserve(arguments, .qemu, restores: false)
    return create("qmcreate", guest, arguments) { [weak self] run throws(APIError) in
      guard let self else { return }
      var config = GuestConfig()
      var created: [String] = []
      do throws(APIError) {
        for (key, value) in options {
          guard GuestOptions.isDrive(key) else {
            config.options[key] = value
            continue
          }
          let made = try materialize(
            key, value, vmid: vmid, .qemu, usual: storage, arguments, log: run.log)
          config.options[key] = made.value
          if let volume = made.created { created.append(volume) }
        }
      } catch {
        for volume in created { cluster.storages.remove(volume, on: name) }
        throw .died("unable to create VM \(vmid) - \(error.message)")
      }
      complete(&config)
      guest.config = config
    }
  }

  /// What PVE adds to a new VM by itself.
  private func complete(_ config: inout GuestConfig) {
    config.options["meta"] = "creation-qemu=\(era.qemuVersion),ctime=\(clock.now)"
    if config.options["boot"] == nil { config.options["boot"] = PVENode.bootOrder(config.options) }
    if config.options["smbios1"] == nil { config.options["smbios1"] = "uuid=\(randomUUID())" }
    if config.options["vmgenid"] == nil || config.options["vmgenid"] == "1" {
      config.options["vmgenid"] = randomUUID()
    }
  }

  /// The first disk, the first CD drive, the network cards.
  static func bootOrder(_ options: OptionList) -> String {
    let drives = GuestConfig.drives(options, .qemu)
    func rank(_ key: String) -> Int {
      let names = ["ide", "scsi", "virtio", "sata"]
      let family = GuestOptions.family(key, .qemu)
      return (names.firstIndex { $0 == family?.name } ?? 9) * 100 + (family?.index ?? 0)
    }
    let usable = drives.filter {
      !$0.key.hasPrefix("efi") && !$0.key.hasPrefix("tpm") && !$0.drive.isCloudinit
    }.sorted { rank($0.key) < rank($1.key) }
    var order: [String] = []
    if let disk = usable.first(where: { !$0.drive.isCDROM }) { order.append(disk.key) }
    if let cdrom = usable.first(where: { $0.drive.isCDROM }) { order.append(cdrom.key) }
    order += options.keys.filter { GuestOptions.family($0, .qemu)?.name == "net" }.sorted()
    return order.isEmpty ? " " : "order=" + order.joined(separator: ";")
  }

  /// The task that makes a guest: when its body fails there is no such guest any more.
  func create(
    _ type: String, _ guest: Guest, _ arguments: Arguments, keeps: Bool = false,
    lines: [String] = [], _ body: @escaping (TaskRun) throws(APIError) -> Void
  ) -> APIResult {
    let pool = arguments.text("pool")
    let starts = arguments.flag("start")
    let upid = run(type, id: String(guest.vmid), user: arguments.authID) { run in
      func give() {
        if keeps {
          guest.config.lock = nil
          guest.save()
        } else {
          forget(guest)
        }
      }
      run.onStop { give() }
      run.work(for: timings.task * max(1, lines.count / 3), lines) { [weak self] run in
        do throws(APIError) {
          try body(run)
        } catch {
          give()
          run.fail(error.taskText)
          return
        }
        guard let self else { return }
        guest.save()
        if let pool {
          cluster.pools.move(guest.vmid, to: pool)
          cluster.pools.flush()
        }
        if arguments.flag("ha-managed") { run.log("Add as HA resource") }
        if starts {
          run.log("Execute autostart")
          startTask(guest, user: arguments.authID)
        }
        run.finish()
      }
    }
    return APIResult(.string(upid))
  }

  // MARK: containers

  private func createContainer(_ arguments: Arguments) throws(APIError) -> APIResult {
    let vmid = arguments.vmid
    let pool = arguments.text("pool")
    let storage = arguments.text("storage") ?? "local"
    let template = arguments.text("ostemplate") ?? ""
    try requirePool(pool)
    if arguments.flag("ha-managed") { try require(arguments, ["Sys.Console"], on: "/") }
    if arguments.flag("start") {
      try require(arguments, ["VM.PowerMgmt"], onGuest: vmid, pool: pool)
    }
    try requireAllocation(arguments, restores: arguments.flag("restore"))
    var options = arguments.options(without: PVENode.containerControls).map {
      (key: $0.0, value: $0.1)
    }
    if arguments.flag("restore") { return try restore(arguments, .lxc, from: template, options) }
    for i in options.indices {
      if GuestOptions.family(options[i].key, .lxc)?.name == "net" {
        options[i].value = GuestIdentity.completed(net: options[i].value, .lxc)
      }
      if options[i].key == "tags" { options[i].value = ConfigUpdate.uniqueTags(options[i].value) }
      if options[i].key == "features" { try requireFeatures(arguments, options[i].value) }
    }
    try requireArchive(arguments, template, content: "vztmpl")
    if !options.contains(where: { $0.key == "rootfs" }) {
      options.append(("rootfs", "\(storage):4"))
    }
    try requireStorages(arguments, options, of: vmid, .lxc, usual: storage)
    try requireConfigRights(
      arguments, options.map(\.key).filter { $0 != "unprivileged" }, of: vmid, .lxc, pool: pool)
    try requireValueRights(arguments, options, of: vmid, .lxc, pool: pool)
    let guest = try reserve(arguments, .lxc, restores: false)
    let lines = [
      "extracting archive '\(path(ofTemplate: template))'",
      "Total bytes read: 552591360 (527MiB, 210MiB/s)",
      "Detected container architecture: amd64",
      "Creating SSH host key 'ssh_host_ed25519_key' - this may take some time ...",
      "done: SHA256:\(base64(randomBytes(32)).prefix(43)) root@\(arguments.text("hostname") ?? "CT\(vmid)")",
    ]
    return create("vzcreate", guest, arguments, lines: lines) {
      [weak self] run throws(APIError) in
      guard let self else { return }
      var config = GuestConfig()
      for (key, value) in [
        ("arch", "amd64"), ("hostname", "CT\(vmid)"), ("memory", "512"), ("swap", "512"),
      ] {
        config.options[key] = value
      }
      config.options["ostype"] = PVENode.systemType(template)
      var created: [String] = []
      do throws(APIError) {
        for (key, value) in options {
          guard GuestOptions.isMountPoint(key) else {
            config.options[key] = value
            continue
          }
          let made = try materialize(
            key, value, vmid: vmid, .lxc, usual: storage, arguments, log: run.log)
          config.options[key] = made.value
          if let volume = made.created { created.append(volume) }
        }
      } catch {
        for volume in created { cluster.storages.remove(volume, on: name) }
        throw .died("unable to create CT \(vmid) - \(error.message)")
      }
      guest.config = config
    }
  }

  private func requireFeatures(_ arguments: Arguments, _ features: String) throws(APIError) {
    guard !arguments.isRoot else { return }
    guard arguments.flag("unprivileged") else {
      throw .forbidden(
        "changing feature flags for privileged container is only allowed for root@pam")
    }
    let others = features.split(separator: ",").filter { !$0.hasPrefix("nesting=") }
    guard others.isEmpty else {
      throw .forbidden("changing feature flags (except nesting) is only allowed for root@pam")
    }
  }

  private func path(ofTemplate id: String) -> String {
    guard let volume = cluster.storages.volume(id, on: name),
      let definition = cluster.storages.definitions[volume.storage]
    else { return id }
    return path(of: volume, definition)
  }

  private static func systemType(_ template: String) -> String {
    let known = [
      "debian", "devuan", "ubuntu", "centos", "fedora", "opensuse", "archlinux", "alpine", "gentoo",
      "nixos",
    ]
    let lower = template.lowercased()
    return known.first { lower.contains($0) }
      ?? (lower.contains("rocky") || lower.contains("alma") ? "centos" : "unmanaged")
  }

  // MARK: destroying

  private func destroy(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    try requireRoot(arguments, for: "skiplock")
    let guest = try guest(arguments, kind)
    let skips = arguments.flag("skiplock")
    let isForced = kind == .lxc && arguments.flag("force")
    if let text = destroyFailure(guest, isForced) { throw .died(text) }
    let upid = run(
      "\(kind == .qemu ? "qm" : "vz")destroy", id: String(guest.vmid), user: arguments.authID
    ) {
      run in
      run.after(timings.task) { [weak self] run in
        guard let self else { return }
        if let text = destroyFailure(guest, isForced) {
          run.fail(text)
          return
        }
        if let lock = guest.lock, !skips {
          run.fail("\(guest.word) is locked (\(lock))")
          return
        }
        if isForced { guest.stop() }
        finishDestroying(guest, arguments, run)
      }
    }
    return APIResult(.string(upid))
  }

  private func destroyFailure(_ guest: Guest, _ isForced: Bool) -> String? {
    if guest.config.isProtected {
      return "can't remove \(guest.word) \(guest.vmid) - protection mode enabled"
    }
    guard guest.isRunning, !isForced else { return nil }
    return guest.kind == .qemu
      ? "VM \(guest.vmid) is running - destroy failed"
      : "unable to destroy CT \(guest.vmid) - container is running"
  }

  private func finishDestroying(_ guest: Guest, _ arguments: Arguments, _ run: TaskRun) {
    let table = cluster.storages
    let all = guest.config.volumes(guest.kind).filter { guest.owns($0) }
    for id in all {
      guard let volume = table.volume(id, on: name) else { continue }
      if let child = table.volumes(on: volume.storage, of: name).first(where: { $0.parent == id }) {
        run.fail("base volume '\(id)' is still in use by linked cloned \(child.id)")
        return
      }
    }
    for id in all {
      guard let parts = VolumeID(id) else { continue }
      if table.definitions[parts.storage]?.kind.name.hasPrefix("lvm") == true {
        run.log("  Logical volume \"\(parts.name)\" successfully removed.")
      }
      table.remove(id, on: name)
    }
    if arguments.flag("destroy-unreferenced-disks") {
      for definition in table.sorted where definition.isAvailable(on: name) {
        for volume in table.volumes(on: definition.id, of: name)
        where volume.vmid == guest.vmid && volume.content != "backup" {
          run.log("destroying unreferenced volume '\(volume.id)'")
          table.remove(volume.id, on: name)
        }
      }
    }
    if arguments.flag("purge") {
      run.log(
        "purging \(guest.word) \(guest.vmid) from related configurations..")
    }
    forget(guest)
    run.finish()
  }
}
