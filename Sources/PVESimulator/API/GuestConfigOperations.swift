/// `…/config` and `…/pending`.
extension PVENode {
  static func configOperations(of kind: SimulatedGuest.Kind) -> [Operation] {
    let base = "/nodes/{node}/\(kind.rawValue)/{vmid}"
    var all: [Operation] = [
      Operation("GET", base + "/config") { node, arguments throws(APIError) in
        try node.readConfig(arguments, kind)
      },
      Operation("GET", base + "/pending") { node, arguments throws(APIError) in
        APIResult(try node.guest(arguments, kind).config.pendingAnswer(kind))
      },
      Operation("PUT", base + "/config") { node, arguments throws(APIError) in
        let update = try ConfigUpdate(arguments, kind, on: node)
        try update.apply(log: { _ in })
        return APIResult(.null)
      },
    ]
    if kind == .qemu {
      all.append(
        Operation("POST", base + "/config") { node, arguments throws(APIError) in
          try node.updateConfigInBackground(arguments)
        })
    }
    return all
  }

  private func readConfig(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let wanted = arguments.text("snapshot") ?? ""
    if !wanted.isEmpty, arguments.flag("current") {
      let text = "cannot use 'snapshot' parameter with 'current'"
      throw .invalid([.init(name: "snapshot", text: text), .init(name: "current", text: text)])
    }
    let config = try guest(arguments, kind).config
    guard wanted.isEmpty else {
      guard let snapshot = config.snapshots[wanted] else {
        throw .died("snapshot '\(wanted)' does not exist")
      }
      return APIResult(config.answer(snapshot.allOptions, kind))
    }
    return APIResult(
      config.answer(arguments.flag("current") ? config.options : config.future, kind))
  }

  private func updateConfigInBackground(_ arguments: Arguments) throws(APIError) -> APIResult {
    let update = try ConfigUpdate(arguments, .qemu, on: self)
    let upid = run("qmconfig", id: String(arguments.vmid), user: arguments.authID) { run in
      run.after(timings.task / 4) { run in
        do throws(APIError) {
          try update.apply(log: run.log)
          run.finish()
        } catch {
          run.fail(error.taskText)
        }
      }
    }
    guard let delay = arguments.integer("background_delay") else { return APIResult(.string(upid)) }
    return waiting(for: upid, seconds: delay, error: "failed to update VM \(arguments.vmid): ")
  }
}

extension APIError {
  /// The last line of a task that ends with it.
  var taskText: String {
    fields.isEmpty
      ? message : message + "\n" + fields.map { "\($0.name): \($0.text)" }.joined(separator: "\n")
  }
}

/// One change of a guest's configuration: read and checked at once, applied then or in a task.
struct ConfigUpdate {
  private let node: PVENode
  private let arguments: Arguments
  private let kind: SimulatedGuest.Kind
  private let guest: Guest
  private let skipsLock: Bool
  private let isForced: Bool
  private let digest: String?
  private var deletes: [String] = []
  private var reverts: [String] = []
  private var changes: [(key: String, value: String)] = []

  private static let controls: Set<String> = [
    "node", "vmid", "digest", "delete", "revert", "force", "skiplock", "background_delay",
    "import-working-storage",
  ]

  init(_ arguments: Arguments, _ kind: SimulatedGuest.Kind, on node: PVENode) throws(APIError) {
    self.node = node
    self.arguments = arguments
    self.kind = kind
    digest = arguments.text("digest")
    skipsLock = arguments.flag("skiplock")
    isForced = arguments.flag("force")
    try node.requireRoot(arguments, for: "skiplock")
    guest = try node.guest(arguments, kind)
    try readLists()
    changes = arguments.options(without: ConfigUpdate.controls).map { ($0.0, $0.1) }
    guard !changes.isEmpty || !deletes.isEmpty || !reverts.isEmpty else {
      throw .died("no options specified")
    }
    try crossCheck()
    try complete()
    try node.requireConfigRights(arguments, deletes, of: guest.vmid, kind)
    try node.requireConfigRights(arguments, changes.map(\.key), of: guest.vmid, kind)
    try node.requireStorages(arguments, changes, of: guest.vmid, kind, usual: nil)
    try node.requireValueRights(arguments, changes, of: guest.vmid, kind)
    try requireDriveRights()
    try checkFile()
  }

  private mutating func readLists() throws(APIError) {
    for (name, text) in [
      ("revert", arguments.text("revert")), ("delete", arguments.text("delete")),
    ] {
      for key in text.map(listParts) ?? [] {
        let real = key == "cdrom" ? "ide2" : key
        guard GuestOptions.exists(real, kind) else {
          throw .invalid([.init(name: name, text: "unknown option '\(key)'")])
        }
        if name == "revert" { reverts.append(real) } else { deletes.append(real) }
      }
    }
  }

  private mutating func crossCheck() throws(APIError) {
    for i in changes.indices where changes[i].key == "cdrom" {
      changes[i] = (
        "ide2",
        changes[i].value.contains("media=") ? changes[i].value : changes[i].value + ",media=cdrom"
      )
    }
    let keys = Set(changes.map(\.key))
    for key in reverts where keys.contains(key) {
      throw .invalid([
        .init(name: "delete", text: "you can't use '-\(key)' and -revert \(key)' at the same time")
      ])
    }
    for key in deletes {
      if keys.contains(key) {
        throw .invalid([
          .init(
            name: "delete", text: "you can't use '-\(key)' and -delete \(key)' at the same time")
        ])
      }
      if reverts.contains(key) {
        throw .invalid([
          .init(
            name: "revert",
            text: "you can't use '-delete \(key)' and -revert \(key)' at the same time")
        ])
      }
      if kind == .lxc, ["hostname", "memory", "rootfs"].contains(key) {
        throw .died("unable to delete required option '\(key)'")
      }
    }
  }

  /// Fills in what PVE makes up: addresses of network cards, identifiers, hashes of passwords.
  private mutating func complete() throws(APIError) {
    for i in changes.indices {
      let (key, value) = changes[i]
      switch GuestOptions.family(key, kind)?.name {
      case "net": changes[i].value = GuestIdentity.completed(net: value, kind)
      case _ where GuestOptions.isVolume(key, kind):
        guard GuestDrive(value) != nil else {
          throw .invalid([.init(name: key, text: "unable to parse drive options")])
        }
      default: break
      }
      if key == "vmgenid", value == "1" { changes[i].value = randomUUID() }
      if key == "cipassword", !value.hasPrefix("$") {
        changes[i].value = "$5$\(lowerHex(randomBytes(4)))$\(lowerHex(sha256(Array(value.utf8))))"
      }
      if key == "tags" { changes[i].value = ConfigUpdate.uniqueTags(value) }
    }
  }

  /// Tags in order, each once.
  static func uniqueTags(_ text: String) -> String {
    var seen: Set<String> = []
    return listParts(text).filter { seen.insert($0.lowercased()).inserted }.joined(separator: ";")
  }

  /// Disks, CD drives and cloud-init drives are different rights.
  private func requireDriveRights() throws(APIError) {
    guard kind == .qemu else { return }
    let config = guest.config
    for (key, value) in changes where GuestOptions.isDrive(key) {
      if let old = config.options[key] { try requireDriveRight(old) }
      try requireDriveRight(value)
    }
    for key in deletes {
      if GuestOptions.isDrive(key), let old = config.options[key] ?? config.pending[key] {
        try requireDriveRight(old)
      }
      if key.hasPrefix("unused") {
        try node.require(arguments, ["VM.Config.Disk"], onGuest: guest.vmid)
      }
    }
  }

  private func requireDriveRight(_ value: String) throws(APIError) {
    guard let drive = GuestDrive(value) else { return }
    let needed =
      drive.isCloudinit
      ? ["VM.Config.Cloudinit", "VM.Config.CDROM"]
      : [drive.isCDROM ? "VM.Config.CDROM" : "VM.Config.Disk"]
    try node.require(arguments, needed, onGuest: guest.vmid)
  }

  /// What must be so now and when the change is made.
  private func checkFile() throws(APIError) {
    try node.requireDigest(digest, guest, plain: kind == .qemu)
    let wakes = deletes.contains("vmstate") && guest.lock == "suspended"
    try node.requireUnlocked(guest, unless: skipsLock || wakes)
    guard kind == .qemu else { return }
    func number(_ key: String) -> Int? {
      let text =
        changes.first { $0.key == key }?.value ?? guest.config.pending[key]
        ?? guest.config.options[key]
      return text.flatMap { Int($0.split(separator: ",").first?.split(separator: "=").last ?? "") }
    }
    if let balloon = number("balloon"), let memory = number("memory"), balloon > memory {
      throw .died("balloon value too large (must be smaller than assigned memory)")
    }
  }

  // MARK: applying

  /// Makes the change.
  /// - Parameter log: takes the task's lines.
  func apply(log: (String) -> Void) throws(APIError) {
    try checkFile()
    if kind == .qemu {
      let words = arguments.options(without: ["node", "vmid", "digest", "background_delay"])
        .sorted { $0.0 < $1.0 }
        .map { "-\($0.0) \($0.0 == "cipassword" ? "<hidden>" : $0.1)" }
      log("update VM \(guest.vmid): \(words.joined(separator: " "))")
    }
    var config = guest.config
    var allDeletes = deletes
    var allChanges = changes
    for key in reverts {
      if let value = config.options[key] {
        allChanges.append((key, value))
      } else if config.pending[key] != nil {
        allDeletes.append(key)
      }
      config.pendingDeletes[key] = nil
    }
    if deletes.contains("vmstate") {
      allDeletes += ["lock", "runningmachine", "runningcpu"].filter { config.options[$0] != nil }
    }
    for key in allDeletes { try delete(key, &config, log) }
    var created: [String] = []
    do throws(APIError) {
      for (key, value) in allChanges { try change(key, value, &config, &created, log) }
    } catch {
      for volume in created { node.cluster.storages.remove(volume, on: node.name) }
      throw error
    }
    config.tidyPending()
    if guest.isRunning {
      plug(&config)
      guest.config = config
    } else {
      guest.config = config
      guest.applyPending()
    }
    guest.save()
  }

  private func delete(_ key: String, _ config: inout GuestConfig, _ log: (String) -> Void)
    throws(APIError)
  {
    guard let value = config.options[key] ?? config.pending[key] else {
      log("cannot delete '\(key)' - not set in current configuration!")
      return
    }
    if let boot = config.future["boot"], boot.hasPrefix("order=") {
      let order = boot.dropFirst(6).split(separator: ";")
      if order.contains(where: { $0 == key }) {
        let rest = order.filter { $0 != key }.joined(separator: ";")
        config.propose("boot", rest.isEmpty ? " " : "order=" + rest)
      }
    }
    if key.hasPrefix("unused") || key == "vmstate" {
      let what = key == "vmstate" ? "vmstate '\(value)'" : "unused disk '\(value)'"
      guard !config.isProtected else {
        throw .died("can't remove \(what) - protection mode enabled")
      }
      let file = GuestDrive(value)?.file ?? value
      guard !config.isSnapshotted(file, kind) else {
        throw .died("unable to delete '\(file)' - volume is still in use (snapshot?)")
      }
      node.cluster.storages.remove(file, on: node.name)
      config.options[key] = nil
      return
    }
    if GuestOptions.isVolume(key, kind) {
      guard !config.isProtected else {
        throw .died("can't remove drive '\(key)' - protection mode enabled")
      }
      if let pending = config.pending[key] {
        config.drop(key, pending, kind, force: false, of: guest)
      }
    }
    if config.options[key] == nil {
      config.pending[key] = nil
    } else if key == "tags" || key == "lock" || key.hasPrefix("running") {
      config.options[key] = nil
    } else {
      config.proposeDelete(key, force: isForced)
    }
  }

  private func change(
    _ key: String, _ value: String, _ config: inout GuestConfig, _ created: inout [String],
    _ log: (String) -> Void
  ) throws(APIError) {
    if config.pending[key] == value { return }
    var value = value
    if GuestOptions.isVolume(key, kind) {
      if let pending = config.pending[key] {
        config.drop(key, pending, kind, force: false, of: guest)
      }
      let made = try node.materialize(
        key, value, vmid: guest.vmid, kind, usual: nil, arguments, log: log)
      value = made.value
      if let volume = made.created { created.append(volume) }
      if kind == .qemu, let drive = GuestDrive(value), drive.isCDROM,
        let boot = config.future["boot"], boot.hasPrefix("order="),
        !boot.dropFirst(6).split(separator: ";").contains(where: { $0 == key })
      {
        config.propose("boot", "\(boot);\(key)")
      }
    }
    if key == "boot", value.hasPrefix("order=") {
      for device in value.dropFirst(6).split(separator: ";") {
        let name = String(device)
        let exists =
          config.options[name] != nil || config.pending[name] != nil
          || changes.contains { $0.key == name }
        guard exists, !deletes.contains(name) else {
          throw .died("invalid bootorder: device '\(name)' does not exist'")
        }
      }
    }
    config.propose(key, value)
  }

  /// Takes over at once what a running guest takes.
  private func plug(_ config: inout GuestConfig) {
    let features = ConfigUpdate.hotplug(config.options["hotplug"])
    func isHot(_ key: String) -> Bool {
      if GuestOptions.isHotpluggable(key, kind, features: features) { return true }
      // The medium of a CD drive can be changed while it runs, not the drive.
      guard let old = config.options[key].flatMap(GuestDrive.init), old.isCDROM || old.isCloudinit,
        let new = config.pending[key].flatMap(GuestDrive.init)
      else { return false }
      return new.isCDROM || new.isCloudinit
    }
    for (key, force) in config.pendingDeletes where isHot(key) {
      if let value = config.options[key] { config.drop(key, value, kind, force: force, of: guest) }
      config.options[key] = nil
      config.pendingDeletes[key] = nil
    }
    for option in config.pending.options where isHot(option.key) {
      if let old = config.options[option.key] {
        config.replaceVolume(option.key, old, by: option.value, kind, of: guest)
      }
      config.options[option.key] = option.value
      config.pending[option.key] = nil
    }
  }

  private static func hotplug(_ text: String?) -> Set<String> {
    guard let text else { return ["network", "disk", "usb"] }
    if text == "1" { return ["network", "disk", "usb"] }
    return Set(listParts(text))
  }
}
