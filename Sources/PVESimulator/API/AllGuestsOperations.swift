/// `/nodes/{node}/startall`, `stopall`, `suspendall`, `migrateall`: one task that begins others.
extension PVENode {
  static let allGuestsOperations: [Operation] = [
    Operation("POST", "/nodes/{node}/startall") { node, arguments throws(APIError) in
      try node.all("startall", arguments) { guest in
        guard !guest.isRunning, !guest.description.template else { return nil }
        guard
          arguments.flag("force") || arguments.text("vms") != nil
            || guest.config.options["onboot"] == "1"
        else { return nil }
        return (
          "Starting \(guest.word) \(guest.vmid)", { node.startTask(guest, user: arguments.authID) }
        )
      }
    },
    Operation("POST", "/nodes/{node}/stopall") { node, arguments throws(APIError) in
      try node.all("stopall", arguments) { guest in
        guard guest.isRunning else { return nil }
        return (
          "Stopping \(guest.word) \(guest.vmid) (timeout = 180 seconds)",
          {
            node.run(
              guest.kind == .qemu ? "qmshutdown" : "vzshutdown", id: String(guest.vmid),
              user: arguments.authID
            ) { run in
              run.after(node.timings.task) { run in
                guest.stop()
                run.finish()
              }
            }
          }
        )
      }
    },
    Operation("POST", "/nodes/{node}/suspendall") { node, arguments throws(APIError) in
      try node.all("suspendall", arguments) { guest in
        guard guest.isRunning, guest.kind == .qemu else { return nil }
        return (
          "Suspending VM \(guest.vmid)",
          {
            node.run("qmpause", id: String(guest.vmid), user: arguments.authID) { run in
              guest.isPaused = true
              guest.save()
              run.finish()
            }
          }
        )
      }
    },
    Operation("POST", "/nodes/{node}/migrateall") { node, arguments throws(APIError) in
      try node.migrateAll(arguments)
    },
  ]

  /// The guests of the node that a list names, or all.
  private func chosen(_ arguments: Arguments) -> [Guest] {
    let wanted = arguments.text("vms").map { Set(listParts($0).compactMap { Int($0) }) }
    return cluster.sortedGuests.filter { $0.node === self && (wanted?.contains($0.vmid) ?? true) }
  }

  /// - Parameter job: What to say and do about a guest; nil for one that it isn't about.
  private func all(
    _ type: String, _ arguments: Arguments, _ job: @escaping (Guest) -> (String, () -> String)?
  ) throws(APIError) -> APIResult {
    // With `VM.PowerMgmt` on every guest, or on those that are named.
    if !holds(arguments, "VM.PowerMgmt", on: "/") {
      guard arguments.text("vms") != nil else { throw .forbidden("/, VM.PowerMgmt") }
      for vmid in arguments.text("vms").map(listParts) ?? [] {
        try require(arguments, ["VM.PowerMgmt"], on: "/vms/\(vmid)")
      }
    }
    let guests = chosen(arguments)
    let upid = run(type, id: "", user: arguments.authID) { run in
      run.after(timings.task) { run in
        for guest in guests {
          guard let (text, begin) = job(guest) else { continue }
          run.log(text)
          _ = begin()
        }
        run.finish()
      }
    }
    return APIResult(.string(upid))
  }

  private func migrateAll(_ arguments: Arguments) throws(APIError) -> APIResult {
    let wanted = arguments.text("target") ?? ""
    if !holds(arguments, "VM.Migrate", on: "/") {
      guard arguments.text("vms") != nil else { throw .forbidden("/, VM.Migrate") }
      for vmid in arguments.text("vms").map(listParts) ?? [] {
        try require(arguments, ["VM.Migrate"], on: "/vms/\(vmid)")
      }
    }
    guard wanted != name else {
      throw .invalid([.init(name: "target", text: "target is local node.")])
    }
    guard cluster.node(named: wanted) != nil else {
      throw .died("no such cluster node '\(wanted)'")
    }
    let guests = chosen(arguments)
    let upid = run("migrateall", id: "", user: arguments.authID) { run in
      run.after(timings.task) { [weak self] run in
        for guest in guests {
          run.log("Migrating \(guest.word) \(guest.vmid) to \(wanted)")
          self?.beginMigration(of: guest, arguments, run)
        }
        run.finish()
      }
    }
    return APIResult(.string(upid))
  }

  private func beginMigration(of guest: Guest, _ arguments: Arguments, _ run: TaskRun) {
    var values = Parameters()
    values.set("node", .text(name))
    values.set("vmid", .text(String(guest.vmid)))
    values.set("target", arguments.values["target"] ?? .null)
    values.set("online", .text("1"))
    if guest.kind == .lxc { values.set("restart", .text("1")) }
    if arguments.flag("with-local-disks") { values.set("with-local-disks", .text("1")) }
    do throws(APIError) {
      _ = try migrate(Arguments(identity: arguments.identity, values: values), guest.kind)
    } catch {
      run.warn(error.taskText)
    }
  }
}
