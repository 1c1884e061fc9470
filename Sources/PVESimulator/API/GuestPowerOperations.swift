/// `…/status/start`, `stop`, `shutdown`, `reboot`, `reset`, `suspend`, `resume`.
///
/// PVE checks some things when it is called and others in the task; which is which differs between VMs and
/// containers, and is kept here.
extension PVENode {
  static func powerOperations(of kind: SimulatedGuest.Kind) -> [Operation] {
    let base = "/nodes/{node}/\(kind.rawValue)/{vmid}/status"
    var all: [Operation] = [
      Operation("POST", base + "/start") { node, arguments throws(APIError) in
        try node.start(arguments, kind)
      },
      Operation("POST", base + "/stop") { node, arguments throws(APIError) in
        try node.stop(arguments, kind)
      },
      Operation("POST", base + "/shutdown") { node, arguments throws(APIError) in
        try node.shutdown(arguments, kind)
      },
      Operation("POST", base + "/reboot") { node, arguments throws(APIError) in
        try node.reboot(arguments, kind)
      },
      Operation("POST", base + "/suspend") { node, arguments throws(APIError) in
        try kind == .qemu ? node.suspend(arguments) : node.checkpoint(arguments)
      },
      Operation("POST", base + "/resume") { node, arguments throws(APIError) in
        try kind == .qemu ? node.resume(arguments) : node.resumeContainer(arguments)
      },
    ]
    if kind == .qemu {
      all.append(
        Operation("POST", base + "/reset") { node, arguments throws(APIError) in
          try node.reset(arguments)
        })
    }
    return all
  }

  private func prefix(_ kind: SimulatedGuest.Kind) -> String { kind == .qemu ? "qm" : "vz" }

  /// A task about a guest, whose body runs after an ordinary task's time.
  private func guestTask(
    _ type: String, _ arguments: Arguments, _ body: @escaping (TaskRun) -> Void
  ) -> APIResult {
    APIResult(
      .string(
        run(type, id: String(arguments.vmid), user: arguments.authID) { run in
          run.after(timings.task, body)
        }))
  }

  // MARK: start

  private func start(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let guest = try guest(arguments, kind)
    if kind == .qemu {
      try requireRoot(
        arguments, for: "skiplock", "stateuri", "migratedfrom", "migration_type",
        "migration_network", "targetstorage", "force-cpu")
    } else {
      try requireRoot(arguments, for: "skiplock")
      guard !guest.isRunning else { throw .died("CT \(guest.vmid) already running") }
    }
    return APIResult(
      .string(startTask(guest, user: arguments.authID, skipsLock: arguments.flag("skiplock"))))
  }

  /// The task that starts a guest, also after creating or rolling back.
  @discardableResult
  func startTask(_ guest: Guest, user: String, skipsLock: Bool = false) -> String {
    run("\(prefix(guest.kind))start", id: String(guest.vmid), user: user) { run in
      run.after(timings.task) { [weak self] run in
        guard let self else { return }
        if let text = startFailure(guest, skipsLock: skipsLock) {
          run.fail(text)
          return
        }
        if guest.config.lock == "suspended" {
          run.log("Resuming suspended VM")
          guest.forgetSuspendedState()
        }
        guest.start()
        run.finish()
      }
    }
  }

  /// Why a guest can't be started now, in PVE's words.
  func startFailure(_ guest: Guest, skipsLock: Bool = false) -> String? {
    let isMachine = guest.kind == .qemu
    if guest.description.template {
      return isMachine
        ? "you can't start a vm if it's a template" : "you can't start a CT if it's a template"
    }
    let passing: Set<String> = isMachine ? ["suspended"] : ["mounted"]
    if let lock = guest.lock, !skipsLock, !passing.contains(lock) {
      return "\(guest.word) is locked (\(lock))"
    }
    if guest.isRunning { return "\(guest.word) \(guest.vmid) already running" }
    guard !guest.isUntouched else { return nil }
    for (_, drive) in GuestConfig.drives(guest.config.future, guest.kind) {
      guard let id = drive.volume else { continue }
      guard let definition = cluster.storages.definitions[id.storage] else {
        return "storage '\(id.storage)' does not exist"
      }
      guard definition.isAvailable(on: name) else {
        return "storage '\(id.storage)' is not available on node '\(name)'"
      }
      guard cluster.storages.volume(drive.file, on: name) != nil else {
        return definition.kind.name.hasPrefix("lvm")
          ? "no such logical volume \(definition.options["vgname"] ?? id.storage)/\(id.name)"
          : "volume '\(drive.file)' does not exist"
      }
    }
    return nil
  }

  // MARK: stop

  private func stop(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let guest = try guest(arguments, kind)
    try requireRoot(arguments, for: "skiplock", "keepActive", "migratedfrom")
    if kind == .lxc, !guest.isRunning { throw .died("CT \(guest.vmid) not running") }
    let skips = arguments.flag("skiplock")
    let overrules = arguments.flag("overrule-shutdown")
    return guestTask("\(prefix(kind))stop", arguments) { [weak self] run in
      guard let self else { return }
      if overrules {
        let type = "\(prefix(kind))shutdown"
        let shutdowns = tasks.running.filter { $0.type == type && $0.id == String(guest.vmid) }
        for task in shutdowns { _ = stopTask(task.upid) }
        if !shutdowns.isEmpty {
          run.log("overruled \(type) tasks: \(shutdowns.map(\.upid).joined(separator: ", "))")
        }
      }
      guard guest.isRunning else {
        run.finish()
        return
      }
      if let text = lockFailure(guest, skips, kind == .lxc ? ["mounted"] : []) {
        run.fail(text)
        return
      }
      guest.stop()
      run.finish()
    }
  }

  private func lockFailure(_ guest: Guest, _ skips: Bool = false, _ passing: Set<String> = [])
    -> String?
  {
    guard !skips, let lock = guest.lock, !passing.contains(lock) else { return nil }
    return "\(guest.word) is locked (\(lock))"
  }

  private func shutdown(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let guest = try guest(arguments, kind)
    try requireRoot(arguments, for: "skiplock", "keepActive")
    if kind == .lxc, !guest.isRunning { throw .died("CT \(guest.vmid) not running") }
    let isForced = arguments.flag("forceStop")
    if guest.isRunning, guest.isPaused, !isForced { throw .died("VM is paused - cannot shutdown") }
    let skips = arguments.flag("skiplock")
    let timeout = arguments.integer("timeout")
    return guestTask("\(prefix(kind))shutdown", arguments) { [weak self] run in
      guard let self else { return }
      guard guest.isRunning else {
        run.finish()
        return
      }
      if let text = lockFailure(guest, skips) {
        run.fail(text)
        return
      }
      shutDown(guest, run, timeout: timeout, forced: isForced) { $0.finish() }
    }
  }

  private func reboot(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    let guest = try guest(arguments, kind)
    if guest.isRunning, guest.isPaused { throw .died("VM is paused - cannot shutdown") }
    guard guest.isRunning else { throw .died("VM \(guest.vmid) not running") }
    return guestTask("\(prefix(kind))reboot", arguments) { [weak self] run in
      guard let self else { return }
      if let text = lockFailure(guest) {
        run.fail(text)
        return
      }
      shutDown(guest, run, timeout: arguments.integer("timeout")) { [weak self] run in
        run.after(self?.timings.task ?? .zero) { run in
          guest.start()
          run.finish()
        }
      }
    }
  }

  private func reset(_ arguments: Arguments) throws(APIError) -> APIResult {
    let guest = try guest(arguments, .qemu)
    try requireRoot(arguments, for: "skiplock")
    guard guest.isRunning else { throw .died("VM \(guest.vmid) not running") }
    let skips = arguments.flag("skiplock")
    return guestTask("qmreset", arguments) { [weak self] run in
      if let text = self?.lockFailure(guest, skips) {
        run.fail(text)
      } else {
        guest.insidesIfMade?.reset()
        run.finish()
      }
    }
  }

  // MARK: suspend and resume

  private func suspend(_ arguments: Arguments) throws(APIError) -> APIResult {
    let guest = try guest(arguments, .qemu)
    try requireRoot(arguments, for: "skiplock")
    guard guest.isRunning else { throw .died("VM \(guest.vmid) not running") }
    let skips = arguments.flag("skiplock")
    guard arguments.flag("todisk") else {
      return guestTask("qmpause", arguments) { [weak self] run in
        if let text = self?.lockFailure(guest, skips, ["backup"]) {
          run.fail(text)
          return
        }
        guest.isPaused = true
        guest.save()
        run.finish()
      }
    }
    try require(arguments, ["VM.Config.Disk"], onGuest: guest.vmid)
    guard !guest.config.options.keys.contains(where: { $0.hasPrefix("hostpci") }) else {
      throw .died(
        "cannot suspend VM to disk due to passed-through PCI device(s), which lack the possibility "
          + "to save/restore their internal state")
    }
    let storage = arguments.text("statestorage") ?? stateStorage(of: guest)
    let definition = try cluster.storages.enabled(storage, on: name)
    try require(arguments, ["Datastore.AllocateSpace"], on: "/storage/\(storage)")
    return guestTask("qmsuspend", arguments) { [weak self] run in
      guard let self else { return }
      if let text = lockFailure(guest, skips) {
        run.fail(text)
        return
      }
      let date = suspendDate
      let volume = StorageTable.imageName(
        definition, "vm-\(guest.vmid)-state-suspend-\(date)", vmid: guest.vmid, format: "raw")
      guest.config.lock = "suspending"
      guest.save()
      run.onStop { [weak guest] in
        guest?.config.lock = nil
        guest?.save()
      }
      run.after(timings.task) { [weak self] run in
        guard let self else { return }
        let state = Volume(
          storage: storage, name: volume, content: "images", format: "raw",
          size: 2 * guest.description.memory + (500 << 20), vmid: guest.vmid, created: clock.now)
        cluster.storages.put(state, on: name)
        run.log("State saved, quitting")
        var config = guest.config
        config.options["vmstate"] = state.id
        config.options["runningmachine"] = "pc-i440fx-\(era.machineVersion)+pve0"
        config.lock = "suspended"
        guest.config = config
        guest.stop()
        guest.save()
        run.finish()
      }
    }
  }

  private var suspendDate: String {
    let parts = civil(clock.now)
    return "\(parts.year)-\(two(parts.month))-\(two(parts.day))"
  }

  /// Where the memory of a VM goes: where its configuration says, or with its disks.
  func stateStorage(of guest: Guest) -> String {
    if let storage = guest.config.options["vmstatestorage"] { return storage }
    let drives = GuestConfig.drives(guest.config.options, guest.kind).map(\.drive)
    let own = drives.compactMap { $0.isCDROM ? nil : $0.volume?.storage }
    return own.first ?? "local"
  }

  private func resume(_ arguments: Arguments) throws(APIError) -> APIResult {
    let guest = try guest(arguments, .qemu)
    try requireRoot(arguments, for: "skiplock", "nocheck")
    let isOnDisk = guest.lock == "suspended"
    guard isOnDisk || guest.isRunning else { throw .died("VM \(guest.vmid) not running") }
    let skips = arguments.flag("skiplock")
    return guestTask("qmresume", arguments) { [weak self] run in
      if isOnDisk {
        if let text = self?.startFailure(guest, skipsLock: skips) {
          run.fail(text)
          return
        }
        run.log("Resuming suspended VM")
        guest.forgetSuspendedState()
        guest.start()
      } else {
        if let text = self?.lockFailure(guest, skips, ["backup"]) {
          run.fail(text)
          return
        }
        guest.isPaused = false
        guest.save()
      }
      run.finish()
    }
  }

  private func checkpoint(_ arguments: Arguments) throws(APIError) -> APIResult {
    let guest = try guest(arguments, .lxc)
    guard guest.isRunning else { throw .died("CT \(guest.vmid) not running") }
    return guestTask("vzsuspend", arguments) { [weak self] run in
      if let text = self?.lockFailure(guest) {
        run.fail(text)
        return
      }
      guest.stop()
      run.finish()
    }
  }

  private func resumeContainer(_ arguments: Arguments) throws(APIError) -> APIResult {
    let guest = try guest(arguments, .lxc)
    guard !guest.isRunning else { throw .died("CT \(guest.vmid) already running") }
    return guestTask("vzresume", arguments) { run in
      guest.start()
      run.finish()
    }
  }
}

extension Guest {
  /// Lets go of the memory that was kept on disk.
  func forgetSuspendedState() {
    var config = config
    if let state = config.options["vmstate"] {
      node.cluster.storages.remove(state, on: node.name)
    }
    for key in ["vmstate", "runningmachine", "runningcpu"] { config.options[key] = nil }
    config.lock = nil
    self.config = config
  }
}
