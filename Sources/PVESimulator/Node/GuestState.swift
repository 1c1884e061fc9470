/// What is kept of a guest over a restart of the simulator.
extension Guest {
  /// A configuration that nobody has changed or asked for follows from the simulator's, and isn't in it.
  var document: JSON {
    var members: [JSON.Member] = [
      .init(key: "vmid", value: .int(vmid)), .init(key: "kind", value: .string(kind.rawValue)),
      .init(key: "node", value: .string(node.name)),
      .init(key: "running", value: .flag(isRunning)), .init(key: "paused", value: .flag(isPaused)),
      .init(key: "started", value: .int(startedAt)),
    ]
    if !isUntouched { members.append(.init(key: "config", value: config.document)) }
    return .object(members)
  }
}

extension Volume {
  /// A file that a fresh node has on `local`.
  fileprivate static func seed(_ name: String, _ format: String, _ size: Int, _ created: Int)
    -> Volume
  {
    Volume(
      storage: "local", name: name, content: String(name.prefix { $0 != "/" }), format: format,
      size: size, created: created)
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
      let guest =
        if let config = document["config"] {
          Guest(seed, config: GuestConfig(document: config), node: node)
        } else {
          Guest(seed, node: node)
        }
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
    var files: [(Volume, node: String)] = []
    for node in nodes {
      files.append(
        (Volume.seed("iso/debian-12.7.0-amd64-netinst.iso", "iso", 661_651_456, created), node.name)
      )
      files.append(
        (
          Volume.seed(
            "vztmpl/debian-12-standard_12.7-1_amd64.tar.zst", "tzst", 126_515_062, created),
          node.name
        ))
    }
    return files
      + guests.values.compactMap { guest in
        guard guest.isSeeded else { return nil }
        let about = guest.description
        return (
          Volume(
            storage: GuestConfig.seedStorage, name: GuestConfig.seedDiskName(about),
            content: about.kind == .qemu ? "images" : "rootdir", format: "raw",
            size: about.disk, vmid: about.vmid, created: created),
          guest.node.name
        )
      }
  }
}
