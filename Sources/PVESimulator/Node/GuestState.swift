/// What is kept of a guest over a restart of the simulator.
extension Guest {
  var document: JSON {
    [
      "vmid": .int(vmid), "kind": .string(kind.rawValue), "node": .string(node.name),
      "running": .flag(isRunning), "paused": .flag(isPaused), "started": .int(startedAt),
      "config": config.document,
    ]
  }
}

extension Cluster {
  /// Takes over the guests that an earlier life kept, in the place of those of the configuration. A guest that is in
  /// the configuration as well keeps the back ends of its consoles.
  ///
  /// A task that held a lock died with the process; its lock stays, as it does on a real node.
  func restoreGuests(_ documents: [JSON]) {
    let seeds = Dictionary(configuration.guests.map { ($0.vmid, $0) }) { first, _ in first }
    var all: [Int: Guest] = [:]
    for document in documents {
      guard case .int(let vmid)? = document["vmid"], case .string(let word)? = document["kind"],
        let kind = SimulatedGuest.Kind(rawValue: word), let first = nodes.first
      else { continue }
      var node = first
      if case .string(let name)? = document["node"], let found = self.node(named: name) {
        node = found
      }
      var seed = SimulatedGuest(kind: kind, vmid: vmid, name: "")
      if let known = seeds[vmid], known.kind == kind { seed = known }
      let guest = Guest(seed, config: GuestConfig(document: document["config"]), node: node)
      var started = clock.now
      if case .int(let time)? = document["started"] { started = time }
      guest.resume(
        running: document["running"] == 1, paused: document["paused"] == 1, startedAt: started)
      all[vmid] = guest
    }
    guests = all
  }

  /// The disks of guests that came from the configuration.
  func seedVolumes() -> [(Volume, node: String)] {
    let created = clock.now - 86_400
    return guests.values.compactMap { guest in
      guard guest.isSeeded else { return nil }
      let about = guest.description
      return (
        Volume(
          storage: GuestConfig.seedStorage, name: GuestConfig.seedDiskName(about),
          content: about.kind == .qemu ? "images" : "rootdir", format: "raw",
          size: GuestConfig.seedDiskSize(about.kind), vmid: about.vmid, created: created),
        guest.node.name
      )
    }
  }
}
