/// The guest that comes through a tunnel, while it comes, and its volumes.
extension PVENode {
  /// Makes an empty guest, locked. Fails as PVE's reservation of the vmid does.
  func createTunnelGuest(_ vmid: Int, _ kind: SimulatedGuest.Kind) throws(APIError) {
    let word = kind == .qemu ? "VM" : "CT"
    if let other = guests[vmid] {
      throw .invalid([
        .init(
          name: "vmid",
          text: "unable to create empty \(word) config - \(other.word) \(vmid) already exists on "
            + "node '\(other.node.name)'\n")
      ])
    }
    var config = GuestConfig()
    config.lock = "create"
    let guest = Guest(
      SimulatedGuest(kind: kind, vmid: vmid, name: "", running: false), config: config, node: self)
    guests[vmid] = guest
    guest.save()
  }

  /// Changes the guest's lock; nil unlocks it.
  func lockTunnelGuest(_ vmid: Int, _ lock: String?) {
    guard let guest = guests[vmid] else { return }
    guest.config.lock = lock
    guest.save()
  }

  /// Gives the guest the configuration that came, a text of `key: value` lines up to the first section.
  func configureTunnelGuest(_ vmid: Int, _ text: String, lock: String) {
    guard let guest = guests[vmid] else { return }
    var config = GuestConfig()
    for line in text.split(separator: "\n") {
      if line.hasPrefix("[") { break }
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2, !line.hasPrefix("#") else { continue }
      // What belongs to the source's side doesn't come along.
      guard !["lock", "digest", "parent"].contains(parts[0]) else { continue }
      config.options[String(parts[0])] = String(parts[1].drop { $0 == " " })
    }
    config.lock = lock
    guest.config = config
    guest.save()
  }

  /// Takes the guest away again.
  func removeTunnelGuest(_ vmid: Int) {
    guests[vmid]?.stop()
    guests[vmid]?.insidesIfMade?.destroyed()
    guests[vmid] = nil
    cluster.save(.guest, String(vmid), nil)
  }
}

extension TunnelWorker {
  /// The lock that the guest has; nil also where it is gone.
  var guestLock: String? { node.guests[vmid]?.lock }

  /// Fails where a storage isn't there, or isn't the caller's to fill.
  func storage(_ id: String) throws(TunnelCommand.Failure) -> StorageDefinition {
    do throws(APIError) {
      return try node.tunnelStorage(id, for: authID)
    } catch {
      throw .init((error.status == 500 ? "" : "\(error.status) ") + error.message + "\n")
    }
  }

  /// A new volume; the wanted name if it is free.
  func allocate(_ definition: StorageDefinition, format: String, wanted: String?, bytes: Int)
    -> String
  {
    let shelf = node.cluster.storages
    let hasFolders = kind == .lxc && format == "subvol"
    var name = shelf.nextName(definition, vmid: vmid, format: format, on: node.name)
    if let last = wanted?.split(separator: "/").last {
      let stem = String(last.split(separator: ".").first ?? last)
      let same = StorageTable.imageName(definition, stem, vmid: vmid, format: format)
      if shelf.volume("\(definition.id):\(same)", on: node.name) == nil { name = same }
    }
    let volume = Volume(
      storage: definition.id, name: name, content: hasFolders ? "rootdir" : "images",
      format: format, size: bytes, vmid: vmid, created: node.clock.now)
    shelf.put(volume, on: node.name)
    return volume.id
  }

  /// Says how big a volume is.
  func resize(_ id: String, to bytes: Int) {
    guard var volume = node.cluster.storages.volume(id, on: node.name) else { return }
    volume.size = bytes
    node.cluster.storages.put(volume, on: node.name)
  }

  func free(_ id: String) { node.cluster.storages.remove(id, on: node.name) }
}

extension PVENode {
  /// A storage that a migration may fill.
  func tunnelStorage(_ id: String, for authID: String) throws(APIError) -> StorageDefinition {
    let definition = try cluster.storages.enabled(id, on: name)
    guard access.holds(authID, .datastoreAllocateSpace, on: "/storage/\(id)") else {
      throw .forbidden("/storage/\(id), Datastore.AllocateSpace")
    }
    return definition
  }
}
