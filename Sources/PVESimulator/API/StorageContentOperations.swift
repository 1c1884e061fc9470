/// `/nodes/{node}/storage/{storage}/content`: volumes.
extension PVENode {
  static let storageContentOperations: [Operation] = {
    let base = "/nodes/{node}/storage/{storage}/content"
    return [
      Operation("GET", base) { node, arguments throws(APIError) in
        try node.listVolumes(arguments)
      },
      Operation("POST", base) { node, arguments throws(APIError) in
        try node.allocateVolume(arguments)
      },
      Operation("GET", base + "/{volume}") { node, arguments throws(APIError) in
        try node.volumeInfo(arguments)
      },
      Operation("PUT", base + "/{volume}") { node, arguments throws(APIError) in
        try node.updateVolume(arguments)
      },
      Operation("POST", base + "/{volume}") { node, arguments throws(APIError) in
        try node.copyVolume(arguments)
      },
      Operation("DELETE", base + "/{volume}") { node, arguments throws(APIError) in
        try node.deleteVolume(arguments)
      },
    ]
  }()

  private func listVolumes(_ arguments: Arguments) throws(APIError) -> APIResult {
    let definition = try cluster.storages.enabled(arguments.text("storage") ?? "", on: name)
    let content = arguments.text("content")
    let vmid = arguments.integer("vmid")
    let volumes = cluster.storages.volumes(on: definition.id, of: name).filter { volume in
      definition.holds(volume.content) && (content == nil || content == volume.content)
        && (vmid == nil || vmid == volume.vmid) && mayRead(arguments, volume)
    }
    return APIResult(
      .array(
        volumes.map { volume in
          var members: [JSON.Member] = [
            .init(key: "volid", value: .string(volume.id)),
            .init(key: "content", value: .string(volume.content)),
            .init(key: "format", value: .string(volume.format)),
            .init(key: "size", value: .int(volume.size)),
            .init(key: "ctime", value: .int(volume.created)),
          ]
          if let vmid = volume.vmid { members.append(.init(key: "vmid", value: .int(vmid))) }
          if let parent = volume.parent {
            members.append(.init(key: "parent", value: .string(parent)))
          }
          if volume.content == "images", definition.kind.isFileBased {
            members.append(.init(key: "used", value: .int(volume.size / 4)))
          }
          if let archive = volume.archive {
            members.append(.init(key: "subtype", value: .string(archive.kind.rawValue)))
          }
          if let notes = volume.notes {
            let first = notes.split(separator: "\n", omittingEmptySubsequences: false).first ?? ""
            members.append(.init(key: "notes", value: .string(String(first))))
          }
          if volume.isProtected { members.append(.init(key: "protected", value: 1)) }
          return .object(members)
        }))
  }

  private func allocateVolume(_ arguments: Arguments) throws(APIError) -> APIResult {
    let text = arguments.text("size") ?? ""
    let units = ["M": 1 << 20, "G": 1 << 30]
    let unit = text.last.flatMap { units[String($0)] }
    guard let number = Int(unit == nil ? text[...] : text.dropLast()), number < 1 << 30 else {
      throw .invalid([.init(name: "size", text: "unable to parse size '\(text)'")])
    }
    var format = arguments.text("format")
    let fileName = arguments.text("filename") ?? ""
    if let ending = fileName.split(separator: ".").last, fileName.contains("."),
      ["raw", "qcow2", "vmdk"].contains(ending)
    {
      if let format, format != ending {
        throw .invalid([
          .init(name: "format", text: "different storage formats (\(format) != \(ending))")
        ])
      }
      format = String(ending)
    }
    let definition = try cluster.storages.enabled(arguments.text("storage") ?? "", on: name)
    let volume = try allocate(
      definition, vmid: arguments.vmid, format: format, fileName: fileName,
      size: number * (unit ?? 1024))
    return APIResult(.string(volume.id))
  }

  /// Allocates an image under a name of the caller's.
  private func allocate(
    _ definition: StorageDefinition, vmid: Int, format: String?, fileName: String, size: Int
  ) throws(APIError) -> Volume {
    let format = format ?? definition.usualFormat
    guard definition.kind.formats.contains(format) else {
      throw .died("unsupported format '\(format)'")
    }
    let kind = definition.kind
    guard
      kind.isFileBased || fileName.hasPrefix("vm-\(vmid)-") || fileName.hasPrefix("subvol-\(vmid)-")
    else {
      throw .died("illegal name '\(fileName)' - should be 'vm-\(vmid)-*'")
    }
    guard !fileName.contains("/") else { throw .died("illegal name '\(fileName)'") }
    let volumeName = kind.isFileBased ? "\(vmid)/\(fileName)" : fileName
    let parts = try VolumeName(volumeName, on: kind)
    let id = "\(definition.id):\(volumeName)"
    guard cluster.storages.volume(id, on: name) == nil else {
      throw .died(
        kind.isFileBased
          ? "disk image '\(definition.path)/images/\(volumeName)' already exists"
          : "lvcreate '\(definition.options["vgname"] ?? definition.id)/\(fileName)' error:   Logical "
            + "Volume \"\(fileName)\" already exists in volume group "
            + "\"\(definition.options["vgname"] ?? definition.id)\"")
    }
    let volume = Volume(
      storage: definition.id, name: volumeName, content: parts.content, format: format, size: size,
      vmid: vmid, created: clock.now)
    cluster.storages.put(volume, on: name)
    return volume
  }

  // MARK: one volume

  /// The volume of a path, which may leave the storage out.
  private func pathVolume(_ arguments: Arguments, _ key: String = "volume") throws(APIError)
    -> (id: VolumeID, definition: StorageDefinition, parts: VolumeName)
  {
    let storage = arguments.text("storage") ?? ""
    let text = arguments.text(key) ?? ""
    let full = text.contains(":") ? text : "\(storage):\(text)"
    guard let id = VolumeID(full) else {
      throw .invalid([.init(name: key, text: "unable to parse volume ID '\(text)'\n")])
    }
    guard id.storage == storage else {
      throw .invalid([
        .init(name: key, text: "storage ID mismatch (\(id.storage) != \(storage))\n")
      ])
    }
    let definition = try cluster.storages.definition(storage)
    return (id, definition, try VolumeName(id.name, on: definition.kind))
  }

  /// Read access to a volume.
  func requireVolume(_ arguments: Arguments, _ id: VolumeID, _ parts: VolumeName, vmid: Int? = nil)
    throws(APIError)
  {
    let path = "/storage/\(id.storage)"
    if holds(arguments, "Datastore.Allocate", on: path) { return }
    if parts.content == "iso" || parts.content == "vztmpl" || parts.content == "import" {
      try requireAny(arguments, ["Datastore.AllocateSpace", "Datastore.Audit"], on: path)
    } else if let vmid, vmid == parts.vmid {
      return
    } else if parts.content == "backup", let owner = parts.vmid {
      try require(arguments, ["Datastore.AllocateSpace"], on: path)
      try require(arguments, ["VM.Backup"], on: "/vms/\(owner)")
    } else if parts.content == "images" || parts.content == "rootdir", let owner = parts.vmid,
      holds(arguments, "VM.Config.Disk", on: "/vms/\(owner)")
    {
      try requireAny(arguments, ["Datastore.AllocateSpace", "Datastore.Audit"], on: path)
    } else {
      try require(arguments, ["Datastore.Allocate"], on: path)
    }
  }

  private func mayRead(_ arguments: Arguments, _ volume: Volume) -> Bool {
    guard !arguments.isRoot else { return true }
    guard let definition = cluster.storages.definitions[volume.storage],
      let parts = try? VolumeName(volume.name, on: definition.kind),
      let id = VolumeID(volume.id)
    else { return false }
    do throws(APIError) {
      try requireVolume(arguments, id, parts)
      return true
    } catch {
      return false
    }
  }

  private func volumeInfo(_ arguments: Arguments) throws(APIError) -> APIResult {
    let (id, definition, parts) = try pathVolume(arguments)
    try requireVolume(arguments, id, parts)
    guard let volume = cluster.storages.volume("\(id.storage):\(id.name)", on: name) else {
      throw .died("volume_size_info on '\(id.storage):\(id.name)' failed - no format")
    }
    var members: [JSON.Member] = [
      .init(key: "path", value: .string(path(of: volume, definition))),
      .init(key: "size", value: .int(volume.size)), .init(key: "used", value: .int(volume.size)),
      .init(key: "format", value: .string(volume.format)),
    ]
    if volume.content == "backup" {
      if let notes = volume.notes { members.append(.init(key: "notes", value: .string(notes))) }
      members.append(.init(key: "protected", value: .flag(volume.isProtected)))
    }
    return APIResult(.object(members))
  }

  /// Where the file or device of a volume would be.
  func path(of volume: Volume, _ definition: StorageDefinition) -> String {
    switch definition.kind.name {
    case "lvm", "lvmthin":
      return "/dev/\(definition.options["vgname"] ?? definition.id)/\(volume.name)"
    case "zfspool":
      let pool = definition.options["pool"] ?? definition.id
      return volume.format == "subvol"
        ? "/\(pool)/\(volume.name)" : "/dev/zvol/\(pool)/\(volume.name)"
    case "rbd": return "rbd:\(definition.options["pool"] ?? "rbd")/\(volume.name)"
    default: break
    }
    guard definition.kind.isFileBased else { return "\(definition.id)/\(volume.name)" }
    if volume.content == "images" || volume.content == "rootdir" {
      return "\(definition.path)/images/\(volume.name)"
    }
    return "\(definition.path)/\(PVENode.folder(of: volume.content))/\(volume.fileName)"
  }

  private func updateVolume(_ arguments: Arguments) throws(APIError) -> APIResult {
    let (id, _, parts) = try pathVolume(arguments)
    try requireVolume(arguments, id, parts)
    let text = "\(id.storage):\(id.name)"
    guard var volume = cluster.storages.volume(text, on: name) else {
      throw .died("volume '\(text)' does not exist")
    }
    if let notes = arguments.text("notes") {
      guard volume.content == "backup" else {
        throw .died("notes are not supported for volume '\(text)'")
      }
      volume.notes = notes.isEmpty ? nil : notes
    }
    if arguments.text("protected") != nil {
      guard volume.content == "backup" else {
        throw .died("protected attribute is not supported for volume '\(text)'")
      }
      volume.isProtected = arguments.flag("protected")
    }
    cluster.storages.put(volume, on: name)
    return APIResult(.null)
  }

  private func copyVolume(_ arguments: Arguments) throws(APIError) -> APIResult {
    let (id, definition, _) = try pathVolume(arguments)
    guard let source = cluster.storages.volume("\(id.storage):\(id.name)", on: name) else {
      throw .died("volume '\(id.storage):\(id.name)' does not exist")
    }
    let (target, _, parts) = try pathVolume(arguments, "target")
    let node = cluster.node(named: arguments.text("target_node") ?? name) ?? self
    let upid = run("imgcopy", id: "", user: arguments.authID) { run in
      run.after(timings.task) { [weak self] run in
        var copy = Volume(
          storage: target.storage, name: target.name, content: parts.content,
          format: parts.format, size: source.size, created: self?.clock.now ?? 0)
        copy.vmid = parts.vmid
        self?.cluster.storages.put(copy, on: node.name)
        run.finish()
      }
    }
    _ = definition
    return APIResult(.string(upid))
  }

  private func deleteVolume(_ arguments: Arguments) throws(APIError) -> APIResult {
    let (id, definition, parts) = try pathVolume(arguments)
    if parts.content == "backup", let owner = parts.vmid {
      try require(arguments, ["Datastore.AllocateSpace"], on: "/storage/\(id.storage)")
      try require(arguments, ["VM.Backup"], on: "/vms/\(owner)")
    } else {
      try require(arguments, ["Datastore.Allocate"], on: "/storage/\(id.storage)")
    }
    let text = "\(id.storage):\(id.name)"
    let owner = parts.vmid.map { "\($0)@" } ?? ""
    let upid = run("imgdel", id: owner + id.storage, user: arguments.authID) { run in
      run.after(timings.task / 4) { [weak self] run in
        guard let self else { return }
        guard let volume = cluster.storages.volume(text, on: name) else {
          run.fail(self.missing(id, definition))
          return
        }
        if volume.isProtected {
          run.fail("cannot remove protected volume '\(text)' on '\(definition.path)'")
          return
        }
        if let child = cluster.storages.volumes(on: id.storage, of: name).first(where: {
          $0.parent == text
        }) {
          run.fail("base volume '\(id.name)' is still in use by linked cloned \(child.id)")
          return
        }
        cluster.storages.remove(text, on: name)
        run.log("Removed volume '\(text)'")
        run.finish()
      }
    }
    guard let delay = arguments.integer("delay") else { return APIResult(.string(upid)) }
    return waiting(for: upid, seconds: delay)
  }

  private func missing(_ id: VolumeID, _ definition: StorageDefinition) -> String {
    guard definition.kind.isFileBased else {
      let group = definition.options["vgname"] ?? definition.id
      return
        "lvremove '\(group)/\(id.name)' error:   Failed to find logical volume \"\(group)/\(id.name)\""
    }
    return "disk image '\(definition.path)/images/\(id.name)' does not exist"
  }

  /// Answers when a task ends: null for a good end, its error as a 500, or the UPID when it takes too long.
  func waiting(for upid: String, seconds: Int, error prefix: String = "") -> APIResult {
    .later { [weak self] done in
      guard let self, let run = runs[upid] else {
        done(.success(APIResult(.null)))
        return
      }
      var isDone = false
      let timer = loop.schedule(after: .seconds(seconds)) {
        guard !isDone else { return }
        isDone = true
        done(.success(APIResult(.string(upid))))
      }
      run.onEnd { [weak self] exit in
        guard !isDone else { return }
        isDone = true
        timer.cancel()
        _ = self
        done(
          exit == "OK" || exit.hasPrefix("WARNINGS")
            ? .success(APIResult(.null)) : .failure(.died(prefix + exit)))
      }
    }
  }
}
