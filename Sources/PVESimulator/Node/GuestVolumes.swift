/// Disks of guests: what making them takes, and making them.
extension PVENode {
  /// The rights on storages that these drives need, and that the storages are there and hold such things.
  func requireStorages(
    _ arguments: Arguments, _ options: [(key: String, value: String)], of vmid: Int,
    _ kind: SimulatedGuest.Kind, usual: String?
  ) throws(APIError) {
    for (key, value) in options where GuestOptions.isVolume(key, kind) {
      guard let drive = GuestDrive(value) else { continue }
      if drive.file == "none" { continue }
      if drive.file == "cdrom" {
        try require(arguments, ["Sys.Console"], on: "/")
        continue
      }
      if let (storage, _) = drive.allocation ?? allocation(ofCloudinit: drive) {
        guard let id = storage ?? usual else {
          throw .died("no storage ID specified (and no default storage)")
        }
        try require(arguments, ["Datastore.AllocateSpace"], on: "/storage/\(id)")
        let definition = try cluster.storages.enabled(id, on: name)
        try requireContent(definition, kind)
        if let source = drive.options["import-from"] { try requireImport(arguments, source, vmid) }
        continue
      }
      guard let id = VolumeID(drive.file) else {
        // A path of the host: a bind mount or a device.
        guard arguments.isRoot else {
          throw .died(
            kind == .lxc
              ? "mount point type bind is only allowed for root@pam"
              : "Only root can pass arbitrary filesystem paths.")
        }
        continue
      }
      let definition = try cluster.storages.definition(id.storage)
      try requireVolume(arguments, id, try VolumeName(id.name, on: definition.kind), vmid: vmid)
    }
  }

  private func allocation(ofCloudinit drive: GuestDrive) -> (storage: String?, bytes: Int)? {
    guard let id = VolumeID(drive.file), id.name == "cloudinit" else { return nil }
    return (id.storage, 4 << 20)
  }

  /// A storage that takes a guest's disks.
  func requireContent(_ definition: StorageDefinition, _ kind: SimulatedGuest.Kind) throws(APIError)
  {
    switch kind {
    case .qemu:
      guard definition.holds("images") else {
        throw .invalid([
          .init(name: "storage", text: "storage '\(definition.id)' does not support vm images")
        ])
      }
    case .lxc:
      guard definition.holds("rootdir") else {
        throw .died("storage '\(definition.id)' does not support container directories")
      }
    }
  }

  private func requireImport(_ arguments: Arguments, _ source: String, _ vmid: Int) throws(APIError)
  {
    guard let id = VolumeID(source) else {
      guard arguments.isRoot else { throw .died("Only root can pass arbitrary filesystem paths.") }
      return
    }
    let definition = try cluster.storages.definition(id.storage)
    try requireVolume(arguments, id, try VolumeName(id.name, on: definition.kind), vmid: vmid)
  }

  /// Allocates what a drive asks for, or checks that what it names is there.
  /// - Returns: The line for the configuration, and the volume if a new one was made.
  func materialize(
    _ key: String, _ value: String, vmid: Int, _ kind: SimulatedGuest.Kind, usual: String?,
    _ arguments: Arguments, log: (String) -> Void
  ) throws(APIError) -> (value: String, created: String?) {
    guard var drive = GuestDrive(value) else {
      throw .invalid([.init(name: key, text: "unable to parse drive options")])
    }
    if drive.file == "none" || drive.file == "cdrom" { return (drive.text, nil) }
    let isCloudinit = VolumeID(drive.file)?.name == "cloudinit"
    guard let (storage, bytes) = drive.allocation ?? allocation(ofCloudinit: drive) else {
      return (try existing(key, drive, vmid), nil)
    }
    let definition = try cluster.storages.enabled(storage ?? usual ?? "local", on: name)
    var size = bytes
    if let source = drive.options.removeValue(forKey: "import-from") {
      size = cluster.storages.volume(source, on: name)?.size ?? max(bytes, 2 << 30)
      log("\(key): importing disk '\(source)'")
    }
    if key.hasPrefix("efidisk") || key.hasPrefix("tpmstate") { size = 4 << 20 }
    let format =
      isCloudinit && !definition.kind.isFileBased
      ? "raw"
      : imageFormat(drive.options.removeValue(forKey: "format"), definition, kind, isCloudinit)
    let volumeName =
      isCloudinit
      ? StorageTable.imageName(definition, "vm-\(vmid)-cloudinit", vmid: vmid, format: format)
      : cluster.storages.nextName(definition, vmid: vmid, format: format, on: name)
    if isCloudinit, cluster.storages.volume("\(definition.id):\(volumeName)", on: name) != nil {
      throw .died("disk image '\(definition.id):\(volumeName)' already exists")
    }
    let volume = Volume(
      storage: definition.id, name: volumeName, content: kind == .lxc ? "rootdir" : "images",
      format: format, size: size, vmid: vmid, created: clock.now)
    cluster.storages.put(volume, on: name)
    for line in allocationLog(volume, definition) { log(line) }
    drive.file = volume.id
    drive.size = GuestDrive.printed(size: size)
    if isCloudinit { drive.options["media"] = "cdrom" }
    if kind == .qemu { log("\(key): successfully created disk '\(drive.text)'") }
    return (drive.text, volume.id)
  }

  private func existing(_ key: String, _ drive: GuestDrive, _ vmid: Int) throws(APIError) -> String
  {
    guard drive.volume != nil else { return drive.text }
    guard let volume = cluster.storages.volume(drive.file, on: name) else {
      throw .died("volume '\(drive.file)' does not exist")
    }
    var drive = drive
    if drive.size == nil { drive.size = GuestDrive.printed(size: volume.size) }
    return drive.text
  }

  /// The format that a storage gives an image where this one is asked for.
  func imageFormat(
    _ wanted: String?, _ definition: StorageDefinition, _ kind: SimulatedGuest.Kind,
    _ isCloudinit: Bool = false
  ) -> String {
    if let wanted, definition.kind.formats.contains(wanted) { return wanted }
    if kind == .lxc, definition.kind.name == "zfspool" || definition.kind.name == "btrfs" {
      return "subvol"
    }
    return isCloudinit && definition.kind.formats.contains("qcow2")
      ? "qcow2" : definition.usualFormat
  }

  /// What the tools of a storage say when they make an image.
  func allocationLog(_ volume: Volume, _ definition: StorageDefinition) -> [String] {
    switch definition.kind.name {
    case "lvm", "lvmthin": return ["  Logical volume \"\(volume.name)\" created."]
    case _ where definition.kind.isFileBased && volume.format != "subvol":
      return [
        "Formatting '\(path(of: volume, definition))', fmt=\(volume.format) size=\(volume.size) "
          + "preallocation=off"
      ]
    default: return []
    }
  }

  /// Copies a volume for another owner or another storage.
  func copy(
    _ source: Volume, to definition: StorageDefinition, vmid: Int, format wanted: String?,
    _ kind: SimulatedGuest.Kind, on node: PVENode
  ) -> Volume {
    let isCloudinit = source.name.contains("cloudinit")
    let format = imageFormat(wanted ?? source.format, definition, kind)
    let volumeName =
      isCloudinit
      ? StorageTable.imageName(definition, "vm-\(vmid)-cloudinit", vmid: vmid, format: format)
      : cluster.storages.nextName(definition, vmid: vmid, format: format, on: node.name)
    let volume = Volume(
      storage: definition.id, name: volumeName, content: source.content, format: format,
      size: source.size, vmid: vmid, created: clock.now)
    cluster.storages.put(volume, on: node.name)
    return volume
  }

  /// The lines of a copy's progress.
  static func copyLog(_ size: Int) -> [String] {
    [0, 25, 50, 75, 100].map { percent in
      "transferred \(readable(size / 100 * percent)) of \(readable(size)) (\(percent).00%)"
    }
  }
}
