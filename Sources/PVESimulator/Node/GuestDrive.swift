/// A drive or mount point as a configuration line holds it: `local-lvm:vm-100-disk-0,iothread=1,size=32G`.
struct GuestDrive: Sendable, Equatable {
  /// The volume, `none`, `cdrom`, or what is to be allocated: `local-lvm:8`.
  var file: String
  /// Without `file`, `volume` and `size`.
  var options: [String: String] = [:]
  /// As it is written: `32G`.
  var size: String?

  init?(_ text: String) {
    var file: String?
    for part in text.split(separator: ",") {
      let halves = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard halves.count == 2, let key = halves.first, !key.contains(":") else {
        guard file == nil else { return nil }
        file = String(part)
        continue
      }
      switch key {
      case "file", "volume": file = String(halves[1])
      case "size": size = String(halves[1])
      default: options[String(key)] = String(halves[1])
      }
    }
    guard let file, !file.isEmpty else { return nil }
    self.file = file
  }

  init(file: String, size: Int? = nil) {
    self.file = file
    self.size = size.map(GuestDrive.printed(size:))
  }

  /// The line.
  var text: String {
    var parts = options.map { "\($0.key)=\($0.value)" }
    if let size { parts.append("size=\(size)") }
    return ([file] + parts.sorted()).joined(separator: ",")
  }

  var isCDROM: Bool { options["media"] == "cdrom" && !isCloudinit }
  var isCloudinit: Bool {
    guard let name = VolumeID(file)?.name else { return false }
    return name == "cloudinit" || name.hasSuffix("-cloudinit") || name.contains("-cloudinit.")
  }

  /// The storage and the gigabytes of a disk that is to be allocated: `local-lvm:8`, or `8` on the usual storage.
  var allocation: (storage: String?, bytes: Int)? {
    let parts = file.split(separator: ":", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), let number = parts.last, let gigabytes = Double(number),
      gigabytes >= 0, gigabytes < 1_048_576,
      number.utf8.allSatisfy({ (48...57).contains($0) || $0 == 46 })
    else { return nil }
    return (parts.count == 2 ? String(parts[0]) : nil, Int(gigabytes * 1_073_741_824))
  }

  /// The volume, where it is one that a storage has.
  var volume: VolumeID? { allocation == nil ? VolumeID(file) : nil }

  var bytes: Int? { size.flatMap(GuestDrive.bytes(of:)) }

  // MARK: sizes

  /// `32G` as bytes; nil for what is no size.
  static func bytes(of text: String) -> Int? {
    guard let last = text.last else { return nil }
    let units: [Character: Double] = [
      "K": 1024, "M": 1_048_576, "G": 1_073_741_824, "T": 1_099_511_627_776,
    ]
    let unit = units[last]
    let number = unit == nil ? text[...] : text.dropLast()
    guard let value = Double(number), value >= 0, value * (unit ?? 1) < 9e18 else { return nil }
    return Int(value * (unit ?? 1))
  }

  /// Bytes as PVE writes them: in the largest unit that leaves no rest.
  static func printed(size: Int) -> String {
    guard size >= 1024 else { return String(size) }
    var rest = size
    var unit = 0
    while rest % 1024 == 0, unit < 4 {
      rest /= 1024
      unit += 1
    }
    return unit == 0 ? String(rest) : "\(rest)\(["K", "M", "G", "T"][unit - 1])"
  }
}

extension GuestConfig {
  /// Every drive or mount point, in the file's order, with what holds it.
  static func drives(_ options: OptionList, _ kind: SimulatedGuest.Kind, withUnused: Bool = false)
    -> [(key: String, drive: GuestDrive)]
  {
    options.options.compactMap { option in
      guard
        GuestOptions.isVolume(option.key, kind) || (withUnused && option.key.hasPrefix("unused")),
        let drive = GuestDrive(option.value)
      else { return nil }
      return (option.key, drive)
    }
  }

  /// Every volume that the file names, snapshots included.
  func volumes(_ kind: SimulatedGuest.Kind) -> [String] {
    var found: [String] = []
    func add(_ id: String) { if !found.contains(id) { found.append(id) } }
    for list in [options, pending] + snapshots.values.map(\.options) {
      for (_, drive) in GuestConfig.drives(list, kind, withUnused: true)
      where drive.volume != nil && !drive.isCDROM { add(drive.file) }
    }
    for snapshot in snapshots.values { if let state = snapshot.vmstate { add(state) } }
    if let state = options["vmstate"] { add(state) }
    return found
  }

  /// Whether a snapshot needs a volume.
  func isSnapshotted(_ volume: String, _ kind: SimulatedGuest.Kind) -> Bool {
    snapshots.values.contains { snapshot in
      GuestConfig.drives(snapshot.options, kind).contains { $0.drive.file == volume }
    }
  }

  /// The disk whose size lists show: the first of the boot order, or a container's root.
  static func mainDrive(_ options: OptionList, _ kind: SimulatedGuest.Kind) -> GuestDrive? {
    if kind == .lxc { return options["rootfs"].flatMap(GuestDrive.init) }
    let drives = drives(options, .qemu).filter {
      !$0.drive.isCDROM && !$0.drive.isCloudinit && $0.drive.file != "none"
    }
    if let order = options["boot"]?.split(separator: "=").last {
      for device in order.split(separator: ";") {
        if let found = drives.first(where: { $0.key == device }) { return found.drive }
      }
    }
    return drives.first { !$0.key.hasPrefix("efi") && !$0.key.hasPrefix("tpm") }?.drive
  }
}

extension GuestConfig {
  /// Lets go of a drive's volume: it stays as `unused0`, or is destroyed where `force` says so.
  mutating func drop(
    _ key: String, _ value: String, _ kind: SimulatedGuest.Kind, force: Bool, of guest: Guest
  ) {
    guard GuestOptions.isVolume(key, kind) || key.hasPrefix("unused"),
      let drive = GuestDrive(value), drive.volume != nil, !drive.isCDROM
    else { return }
    let isOwned = guest.owns(drive.file)
    if force || drive.isCloudinit || key.hasPrefix("unused") {
      if isOwned, !isSnapshotted(drive.file, kind) {
        guest.node.cluster.storages.remove(drive.file, on: guest.node.name)
      }
    } else if isOwned {
      addUnused(drive.file)
    }
  }

  /// The same where another value takes the drive's place.
  mutating func replaceVolume(
    _ key: String, _ old: String, by new: String, _ kind: SimulatedGuest.Kind, of guest: Guest
  ) {
    guard GuestOptions.isVolume(key, kind), let before = GuestDrive(old),
      let after = GuestDrive(new),
      before.file != after.file
    else { return }
    drop(key, old, kind, force: false, of: guest)
  }
}

extension Guest {
  /// Whether a volume is the guest's own.
  func owns(_ volume: String) -> Bool {
    node.cluster.storages.volume(volume, on: node.name)?.vmid == vmid
  }
}
