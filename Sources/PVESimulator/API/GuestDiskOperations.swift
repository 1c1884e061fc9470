/// `…/resize`, `…/move_disk`, `…/move_volume`.
extension PVENode {
  static func diskOperations(of kind: SimulatedGuest.Kind) -> [Operation] {
    let base = "/nodes/{node}/\(kind.rawValue)/{vmid}"
    return [
      Operation("PUT", base + "/resize") { node, arguments throws(APIError) in
        try node.resize(arguments, kind)
      },
      Operation("POST", base + (kind == .qemu ? "/move_disk" : "/move_volume")) {
        node, arguments throws(APIError) in
        try node.moveDisk(arguments, kind)
      },
    ]
  }

  // MARK: resize

  private func resize(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    try requireRoot(arguments, for: "skiplock")
    let guest = try guest(arguments, kind)
    // Containers are looked at before the task; VMs in it, and before PVE 8 there was no task.
    if kind == .lxc { _ = try resizePlan(arguments, guest) }
    if era.major < 8, kind == .qemu {
      try finishResize(arguments, guest)
      return APIResult(.null)
    }
    let upid = run("resize", id: String(guest.vmid), user: arguments.authID) { run in
      run.after(timings.task / 2) { [weak self] run in
        do throws(APIError) {
          try self?.finishResize(arguments, guest)
          run.finish()
        } catch {
          run.fail(error.taskText)
        }
      }
    }
    return APIResult(.string(upid))
  }

  private func resizePlan(_ arguments: Arguments, _ guest: Guest) throws(APIError)
    -> (key: String, drive: GuestDrive, volume: Volume, size: Int)
  {
    try requireDigest(arguments.text("digest"), guest, plain: guest.kind == .qemu)
    try requireUnlocked(guest, unless: arguments.flag("skiplock"))
    let key = arguments.text("disk") ?? ""
    guard let drive = guest.config.options[key].flatMap(GuestDrive.init) else {
      throw .died("disk '\(key)' does not exist")
    }
    guard drive.volume != nil else { throw .died("disk '\(key)' has no associated volume") }
    guard !drive.isCDROM else { throw .died("you can't resize a cdrom") }
    guard let id = drive.volume, let volume = cluster.storages.volume(drive.file, on: name) else {
      throw .died("Could not determine current size of volume '\(drive.file)'")
    }
    try require(arguments, ["Datastore.AllocateSpace"], on: "/storage/\(id.storage)")
    let text = arguments.text("size") ?? ""
    let isRelative = text.hasPrefix("+")
    guard let bytes = GuestDrive.bytes(of: isRelative ? String(text.dropFirst()) : text) else {
      throw .died("internal error")
    }
    let (size, overflow) = isRelative ? volume.size.addingReportingOverflow(bytes) : (bytes, false)
    guard !overflow, size < 1 << 56 else { throw .died("size '\(text)' is too large") }
    guard size >= volume.size else {
      throw .died(
        guest.kind == .qemu ? "shrinking disks is not supported" : "unable to shrink disk size")
    }
    return (key, drive, volume, size)
  }

  private func finishResize(_ arguments: Arguments, _ guest: Guest) throws(APIError) {
    let plan = try resizePlan(arguments, guest)
    guard plan.size > plan.volume.size else { return }
    var volume = plan.volume
    volume.size = plan.size
    cluster.storages.put(volume, on: name)
    var drive = plan.drive
    drive.size = GuestDrive.printed(size: plan.size)
    guest.config.options[plan.key] = drive.text
    guest.save()
  }

  // MARK: move

  private func moveDisk(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let storage = arguments.text("storage")
    let target = arguments.integer("target-vmid")
    switch (storage, target) {
    case (.some, .some):
      let text = "either set 'storage' or 'target-vmid', but not both"
      throw .invalid([.init(name: "target-vmid", text: text), .init(name: "storage", text: text)])
    case (nil, nil):
      let text = "both 'storage' and 'target-vmid' missing, either needs to be set"
      throw .invalid([.init(name: "target-vmid", text: text), .init(name: "storage", text: text)])
    case (let storage?, nil): return try move(arguments, kind, to: storage)
    case (nil, let target?): return try reassign(arguments, kind, to: target)
    }
  }

  private func diskKey(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) -> String {
    arguments.text(kind == .qemu ? "disk" : "volume") ?? ""
  }

  private func move(_ arguments: Arguments, _ kind: SimulatedGuest.Kind, to storage: String)
    throws(APIError) -> APIResult
  {
    let guest = try guest(arguments, kind)
    try require(arguments, ["Datastore.AllocateSpace"], on: "/storage/\(storage)")
    let (drive, volume, definition) = try movePlan(arguments, guest, storage)
    let type = kind == .qemu ? "qmmove" : "move_volume"
    let key = diskKey(arguments, kind)
    let upid = run(type, id: String(guest.vmid), user: arguments.authID) { run in
      run.stopText = "storage migration failed: interrupted by signal"
      if kind == .lxc {
        guest.config.lock = "disk"
        guest.save()
        run.onEnd { _ in
          guest.config.lock = nil
          guest.save()
        }
      }
      run.log(
        "copying volume '\(drive.file)' from current storage '\(volume.storage)' to target storage "
          + "'\(storage)'")
      run.work(for: timings.task * 2, PVENode.copyLog(volume.size)) { [weak self] run in
        guard let self else { return }
        let made = copy(
          volume, to: definition, vmid: guest.vmid, format: arguments.text("format"), kind, on: self
        )
        run.log(allocationLog(made, definition))
        var config = guest.config
        var drive = drive
        drive.file = made.id
        config.options[key] = drive.text
        if arguments.flag("delete") {
          run.log("removing source volume '\(volume.id)' after successful copy")
          cluster.storages.remove(volume.id, on: name)
        } else if let unused = config.addUnused(volume.id) {
          run.log("adding source volume '\(volume.id)' as '\(unused)' to config")
        }
        guest.config = config
        guest.save()
        run.finish()
      }
    }
    return APIResult(.string(upid))
  }

  private func movePlan(_ arguments: Arguments, _ guest: Guest, _ storage: String)
    throws(APIError) -> (GuestDrive, Volume, StorageDefinition)
  {
    let kind = guest.kind
    let key = diskKey(arguments, kind)
    try requireUnlocked(guest)
    try requireDigest(arguments.text("digest"), guest)
    guard let drive = guest.config.options[key].flatMap(GuestDrive.init) else {
      throw .died(kind == .qemu ? "disk '\(key)' does not exist" : "volume '\(key)' does not exist")
    }
    guard let id = drive.volume else { throw .died("disk '\(key)' has no associated volume") }
    guard !drive.isCDROM else { throw .died("you can't move a cdrom") }
    guard let volume = cluster.storages.volume(drive.file, on: name) else {
      throw .died("volume '\(drive.file)' does not exist")
    }
    let format = arguments.text("format")
    if id.storage == storage, format == nil || format == volume.format {
      throw .died(
        kind == .qemu
          ? "you can't move to the same storage with same format"
          : "you can't move a volume to the same storage")
    }
    let definition = try cluster.storages.enabled(storage, on: name)
    try requireContent(definition, kind)
    if kind == .lxc, guest.isRunning {
      throw .died("cannot move volumes of a running container")
    }
    if guest.config.isSnapshotted(drive.file, kind), arguments.flag("delete") {
      throw .died("you can't move a disk with snapshots and delete the source")
    }
    return (drive, volume, definition)
  }

  private func reassign(_ arguments: Arguments, _ kind: SimulatedGuest.Kind, to target: Int)
    throws(APIError) -> APIResult
  {
    let key = diskKey(arguments, kind)
    let targetKey = arguments.text(kind == .qemu ? "target-disk" : "target-volume") ?? key
    let vmid = arguments.vmid
    try require(arguments, ["VM.Config.Disk"], onGuest: target)
    guard vmid != target else {
      throw .invalid([
        .init(name: "target-vmid", text: "must be different than source VMID to reassign disk")
      ])
    }
    let plan = try reassignPlan(arguments, kind, key, target, targetKey)
    try require(arguments, ["Datastore.AllocateSpace"], on: "/storage/\(plan.volume.storage)")
    let type = kind == .qemu ? "qmmove" : "move_volume"
    let upid = run(type, id: "\(vmid)-\(key)>\(target)-\(targetKey)", user: arguments.authID) {
      run in
      run.after(timings.task) { [weak self] run in
        guard let self else { return }
        do throws(APIError) {
          let plan = try reassignPlan(arguments, kind, key, target, targetKey)
          run.log("reassign disk '\(key)' from VM '\(vmid)' as '\(targetKey)' to VM '\(target)'")
          let definition = try cluster.storages.definition(plan.volume.storage)
          let newName = cluster.storages.nextName(
            definition, vmid: target, format: plan.volume.format, on: name)
          var drive = plan.drive
          drive.file = rename(plan.volume, to: newName, owner: target)
          plan.source.config.options[key] = nil
          run.log("removing disk '\(key)' from VM '\(vmid)' config")
          plan.target.config.options[targetKey] =
            targetKey.hasPrefix("unused") ? drive.file : drive.text
          plan.source.save()
          plan.target.save()
          run.finish()
        } catch {
          run.fail(error.taskText)
        }
      }
    }
    return APIResult(.string(upid))
  }

  private func reassignPlan(
    _ arguments: Arguments, _ kind: SimulatedGuest.Kind, _ key: String, _ target: Int,
    _ targetKey: String
  ) throws(APIError) -> (source: Guest, target: Guest, drive: GuestDrive, volume: Volume) {
    let vmid = arguments.vmid
    guard let source = guests[vmid] else { throw .died("could not find VM \(vmid)") }
    guard let other = guests[target] else { throw .died("could not find target VM \(target)") }
    guard source.node === other.node else {
      throw .died(
        "Both VMs need to be on the same node (\(source.node.name) != \(other.node.name))")
    }
    try requireUnlocked(source)
    try requireUnlocked(other)
    guard !source.description.template, !other.description.template else {
      throw .died("Can't move disks from or to template VMs")
    }
    try requireDigest(arguments.text("digest"), source)
    try requireDigest(arguments.text("target-digest"), other)
    guard let drive = source.config.options[key].flatMap(GuestDrive.init) else {
      throw .died("Disk '\(key)' for VM '\(vmid)' does not exist")
    }
    guard other.config.options[targetKey] == nil else {
      throw .died("Target disk key '\(targetKey)' is already in use for VM '\(target)'")
    }
    guard !drive.isCDROM else { throw .died("CD drive contents can't be moved to another VM") }
    guard drive.volume != nil, let volume = cluster.storages.volume(drive.file, on: name) else {
      throw .died("disk '\(key)' has no associated volume")
    }
    guard !source.config.isSnapshotted(drive.file, kind) else {
      throw .died("Can't move disk used by a snapshot to another VM")
    }
    guard !source.isRunning || key.hasPrefix("unused") else {
      throw .died("Cannot move disk to another VM while the source VM is running - detach first")
    }
    return (source, other, drive, volume)
  }
}
