/// Guests made from backups.
extension PVENode {
  /// An archive that is there and that the caller may read.
  func requireArchive(_ arguments: Arguments, _ archive: String, content: String) throws(APIError) {
    if archive == "-" { throw .died("pipe requires cli environment") }
    guard let id = VolumeID(archive) else {
      guard arguments.isRoot else { throw .died("Only root can pass arbitrary filesystem paths.") }
      throw .died("can't find file '\(archive)'")
    }
    let definition = try cluster.storages.enabled(id.storage, on: name)
    let parts = try VolumeName(id.name, on: definition.kind)
    guard parts.content == content else {
      throw .died("unable to use volume \(archive) - content type needs to be '\(content)'")
    }
    try requireVolume(arguments, id, parts, vmid: arguments.vmid)
    guard cluster.storages.volume(archive, on: name) != nil else {
      throw .died("volume '\(archive)' does not exist")
    }
  }

  /// `archive` of a VM, `restore` of a container.
  func restore(
    _ arguments: Arguments, _ kind: SimulatedGuest.Kind, from archive: String,
    _ overrides: [(key: String, value: String)]
  ) throws(APIError) -> APIResult {
    try requireArchive(arguments, archive, content: "backup")
    try requireConfigRights(
      arguments, overrides.map(\.key), of: arguments.vmid, kind, pool: arguments.text("pool"))
    let isReplacing = guests[arguments.vmid] != nil
    let guest = try reserve(arguments, kind, restores: true)
    let storage = arguments.text("storage")
    guard let backup = cluster.storages.volume(archive, on: name) else {
      throw .died("volume '\(archive)' does not exist")
    }
    return create(
      kind == .qemu ? "qmrestore" : "vzrestore", guest, arguments, keeps: isReplacing,
      lines: restoreLog(backup, kind)
    ) { [weak self] run throws(APIError) in
      guard let self else { return }
      guard let held = backup.archive, held.kind == kind else {
        throw .died("unable to detect backup archive format")
      }
      var config = GuestConfig()
      config.options = held.config
      var old: [String] = []
      if isReplacing { old = guest.config.volumes(kind).filter { guest.owns($0) } }
      for volume in old { cluster.storages.remove(volume, on: name) }
      for (key, drive) in GuestConfig.drives(held.config, kind)
      where !drive.isCDROM && drive.volume != nil {
        var drive = drive
        let wanted = storage ?? drive.volume?.storage ?? "local"
        let definition = try cluster.storages.enabled(wanted, on: name)
        let bytes = drive.bytes ?? guest.description.disk
        let format = imageFormat(nil, definition, kind)
        let volume = Volume(
          storage: definition.id,
          name: cluster.storages.nextName(definition, vmid: guest.vmid, format: format, on: name),
          content: kind == .lxc ? "rootdir" : "images", format: format, size: bytes,
          vmid: guest.vmid, created: clock.now)
        cluster.storages.put(volume, on: name)
        for line in allocationLog(volume, definition) { run.log(line) }
        run.log("new volume ID is '\(volume.id)'")
        drive.file = volume.id
        config.options[key] = drive.text
      }
      for (key, value) in overrides { config.options[key] = value }
      if arguments.flag("unique") { makeUnique(&config, kind) }
      config.lock = nil
      guest.config = config
      if kind == .qemu { run.log("rescan volumes...") }
    }
  }

  private func makeUnique(_ config: inout GuestConfig, _ kind: SimulatedGuest.Kind) {
    for option in config.options.options
    where GuestOptions.family(option.key, kind)?.name == "net" {
      config.options[option.key] = GuestIdentity.readdressed(net: option.value, kind)
    }
    guard kind == .qemu else { return }
    config.options["smbios1"] = "uuid=\(randomUUID())"
    if config.options["vmgenid"] != nil { config.options["vmgenid"] = randomUUID() }
  }

  private func restoreLog(_ backup: Volume, _ kind: SimulatedGuest.Kind) -> [String] {
    guard let definition = cluster.storages.definitions[backup.storage] else { return [] }
    let path = path(of: backup, definition)
    guard kind == .qemu else {
      return [
        "recovering backed-up configuration from '\(backup.id)'", "restoring '\(path)' now..",
        "extracting archive '\(path)'", "merging backed-up and given configuration..",
      ]
    }
    let size = backup.archive.flatMap { GuestConfig.mainDrive($0.config, kind)?.bytes } ?? 0
    return [
      "restore vma archive: zstd -q -d -c \(path) | vma extract -v -r /var/tmp/vzdumptmp4001.fifo - "
        + "/var/tmp/vzdumptmp4001",
      "CFG: size: 505 name: qemu-server.conf",
      "DEV: dev_id=1 size: \(size) devname: drive-scsi0",
      "CTIME: \(httpDate(backup.created))",
      "progress 1% (read \(size / 100) bytes, duration 0 sec)",
      "progress 50% (read \(size / 2) bytes, duration 1 sec)",
      "progress 100% (read \(size) bytes, duration 2 sec)",
      "total bytes read \(size), sparse bytes \(size / 2) (50%)",
      "space reduction due to 4K zero blocks 1%",
    ]
  }
}
