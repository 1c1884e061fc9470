/// `/nodes/{node}/vzdump`: backups, from which guests can be made again.
extension PVENode {
  static let backupOperations: [Operation] = [
    Operation("POST", "/nodes/{node}/vzdump") { node, arguments throws(APIError) in
      try node.backUp(arguments)
    },
    Operation("GET", "/nodes/{node}/vzdump/extractconfig") { node, arguments throws(APIError) in
      try node.extractConfig(arguments)
    },
  ]

  private func backUp(_ arguments: Arguments) throws(APIError) -> APIResult {
    guard !arguments.flag("stdout") else {
      throw .invalid([
        .init(name: "stdout", text: "option is only allowed on the command line interface.")
      ])
    }
    for key in ["maxfiles", "prune-backups", "tmpdir", "dumpdir", "script", "bwlimit", "ionice"]
    where arguments.text(key) != nil && !arguments.isRoot {
      if key == "prune-backups" || key == "bwlimit" || key == "ionice" { continue }
      throw .invalid([.init(name: key, text: "Only root may set this option.")])
    }
    let guests = try backupGuests(arguments)
    let mine = guests.filter { $0.node === self }
    if arguments.flag("stop") {
      for task in tasks.running where task.type == "vzdump" { _ = stopTask(task.upid) }
      if mine.isEmpty { return APIResult("OK") }
    }
    guard !mine.isEmpty || arguments.flag("all") else { return APIResult("OK") }
    let storage = arguments.text("storage") ?? "local"
    if arguments.text("storage") != nil {
      try require(arguments, ["Datastore.AllocateSpace"], on: "/storage/\(storage)")
    }
    let definition = try cluster.storages.enabled(storage, on: name)
    guard definition.holds("backup") else {
      throw .invalid([
        .init(name: "storage", text: "storage '\(storage)' does not support backups")
      ])
    }
    for guest in mine { try require(arguments, ["VM.Backup"], on: "/vms/\(guest.vmid)") }
    let job = BackupJob(node: self, definition: definition, guests: mine, arguments: arguments)
    let only = mine.count == 1 ? mine.first.map { String($0.vmid) } ?? "" : ""
    return APIResult(.string(run("vzdump", id: only, user: arguments.authID) { job.begin($0) }))
  }

  private func backupGuests(_ arguments: Arguments) throws(APIError) -> [Guest] {
    let excluded = Set(arguments.text("exclude").map(listParts) ?? [])
    if arguments.flag("all") {
      return cluster.sortedGuests.filter { !excluded.contains(String($0.vmid)) }
    }
    if let pool = arguments.text("pool") {
      guard let found = cluster.pools[pool] else { throw .died("pool '\(pool)' does not exist") }
      return found.guests.sorted().compactMap { guests[$0] }
    }
    guard let list = arguments.text("vmid") else {
      if arguments.flag("stop") { return [] }
      throw .invalid([.init(name: "vmid", text: "property is missing and it is not optional")])
    }
    var found: [Guest] = []
    for text in listParts(list) {
      guard let vmid = Int(text), let guest = guests[vmid] else {
        throw .died("unable to find VM '\(text)'")
      }
      found.append(guest)
    }
    return found
  }

  private func extractConfig(_ arguments: Arguments) throws(APIError) -> APIResult {
    let text = arguments.text("volume") ?? ""
    guard let id = VolumeID(text) else { throw .died("unable to parse volume ID '\(text)'") }
    let definition = try cluster.storages.definition(id.storage)
    let parts = try VolumeName(id.name, on: definition.kind)
    try requireVolume(arguments, id, parts)
    if let owner = parts.vmid { try require(arguments, ["VM.Backup"], on: "/vms/\(owner)") }
    guard let volume = cluster.storages.volume(text, on: name), let archive = volume.archive else {
      throw .died("volume '\(text)' does not exist")
    }
    return APIResult(.string(archive.config.text))
  }
}

/// One run of vzdump: guest after guest.
private final class BackupJob {
  private unowned let node: PVENode
  private let definition: StorageDefinition
  private let guests: [Guest]
  private let arguments: Arguments
  private var current: (guest: Guest, wasRunning: Bool)?

  init(node: PVENode, definition: StorageDefinition, guests: [Guest], arguments: Arguments) {
    self.node = node
    self.definition = definition
    self.guests = guests
    self.arguments = arguments
  }

  private var mode: String { arguments.text("mode") ?? "snapshot" }

  func begin(_ run: TaskRun) {
    run.stopText = "interrupted by signal"
    let ids = guests.map { String($0.vmid) }.joined(separator: " ")
    run.log(
      "INFO: starting new backup job: vzdump \(ids) --storage \(definition.id) --mode \(mode) --compress "
        + (arguments.text("compress") ?? "0"))
    run.onStop { [self] in
      run.log("ERROR: Backup of VM \(current?.guest.vmid ?? 0) failed - interrupted by signal")
      release()
    }
    next(0, failed: false, run)
  }

  /// Gives back the guest that is at its turn.
  private func release() {
    guard let (guest, wasRunning) = current else { return }
    current = nil
    if guest.lock == "backup" { guest.config.lock = nil }
    if wasRunning, mode != "snapshot" {
      if !guest.isRunning { guest.start() }
      guest.isPaused = false
    }
    guest.save()
  }

  private func next(_ index: Int, failed: Bool, _ run: TaskRun) {
    guard index < guests.count else {
      run.log("INFO: Backup job finished" + (failed ? " with errors" : " successfully"))
      if failed { run.fail("job errors") } else { run.finish() }
      return
    }
    let guest = guests[index]
    let word = guest.word
    let date = logDate(node.clock.now)
    run.log([
      "INFO: Starting Backup of \(word) \(guest.vmid) (\(guest.kind.rawValue))",
      "INFO: Backup started at \(date)",
      "INFO: status = \(guest.isRunning ? "running" : "stopped")",
    ])
    if let lock = guest.lock {
      run.log([
        "ERROR: Backup of \(word) \(guest.vmid) failed - \(word) is locked (\(lock))",
        "INFO: Failed at \(date)",
      ])
      next(index + 1, failed: true, run)
      return
    }
    current = (guest, guest.isRunning)
    let archived = guest.config.options
    guest.config.lock = "backup"
    if mode == "suspend", guest.isRunning { guest.isPaused = true }
    if mode == "stop" { guest.stop() }
    guest.save()
    let name = fileName(guest)
    let drives = GuestConfig.drives(archived, guest.kind).filter {
      $0.drive.volume != nil && !$0.drive.isCDROM && $0.drive.options["backup"] != "0"
    }
    let bytes = drives.reduce(0) { $0 + ($1.drive.bytes ?? 0) }
    var lines = ["INFO: \(word) Name: \(guest.description.name)"]
    lines += drives.map { key, drive in
      "INFO: include \(guest.kind == .qemu ? "disk" : "mount point") '\(key)' '\(drive.file)' "
        + (drive.size ?? "")
    }
    lines += [
      "INFO: backup mode: \(mode)", "INFO: ionice priority: 7",
      "INFO: creating vzdump archive '\(definition.path)/dump/\(name)'",
    ]
    if guest.kind == .qemu {
      lines += [
        "INFO: started backup task '\(randomUUID())'", "INFO: resuming VM again",
        "INFO:   1% (\(readable(bytes / 100)) of \(readable(bytes))) in 1s, read: 1.1 GiB/s, write: 210.0 MiB/s",
        "INFO:  50% (\(readable(bytes / 2)) of \(readable(bytes))) in 2s, read: 1.1 GiB/s, write: 0 B/s",
        "INFO: 100% (\(readable(bytes)) of \(readable(bytes))) in 3s, read: 1.1 GiB/s, write: 0 B/s",
        "INFO: backup is sparse: \(readable(bytes / 2)) (50%) total zero data",
        "INFO: transferred \(readable(bytes)) in 3 seconds",
      ]
    } else {
      lines += [
        "INFO: create storage snapshot 'vzdump'",
        "INFO: Total bytes written: \(bytes / 8) (\(readable(bytes / 8)), 110MiB/s)",
      ]
    }
    run.work(for: node.timings.task * 2, lines) { [self] run in
      var options = archived
      options["lock"] = nil
      options["parent"] = nil
      var backup = Volume(
        storage: definition.id, name: "backup/\(name)", content: "backup",
        format: ending(guest), size: max(bytes / 16, 1 << 20), vmid: guest.vmid,
        created: node.clock.now)
      backup.notes = notes(guest)
      backup.isProtected = arguments.flag("protected")
      backup.archive = Volume.Archive(kind: guest.kind, config: options)
      node.cluster.storages.put(backup, on: node.name)
      release()
      run.log([
        "INFO: archive file size: \(readable(backup.size))",
        "INFO: Finished Backup of \(word) \(guest.vmid) (00:00:03)",
        "INFO: Backup finished at \(logDate(node.clock.now))",
      ])
      next(index + 1, failed: failed, run)
    }
  }

  private func notes(_ guest: Guest) -> String? {
    arguments.text("notes-template").map {
      $0.replacing("{{guestname}}", with: guest.description.name)
        .replacing("{{vmid}}", with: String(guest.vmid)).replacing("{{node}}", with: node.name)
        .replacing("{{cluster}}", with: node.configuration.clusterName ?? "standalone node")
        .replacing("\\n", with: "\n")
    }
  }

  private func ending(_ guest: Guest) -> String {
    let plain = guest.kind == .qemu ? "vma" : "tar"
    switch arguments.text("compress") ?? "0" {
    case "zstd": return plain + ".zst"
    case "gzip", "1": return plain + ".gz"
    case "lzo": return plain + ".lzo"
    default: return plain
    }
  }

  private func fileName(_ guest: Guest) -> String {
    var time = node.clock.now
    while true {
      let t = civil(time)
      let stamp =
        "\(t.year)_\(two(t.month))_\(two(t.day))-\(two(t.hour))_\(two(t.minute))_\(two(t.second))"
      let name = "vzdump-\(guest.kind.rawValue)-\(guest.vmid)-\(stamp).\(ending(guest))"
      let id = "\(definition.id):backup/\(name)"
      if node.cluster.storages.volume(id, on: node.name) == nil { return name }
      time += 1
    }
  }
}
