/// Files on storages: `download-url`, `prunebackups`. Uploads are at the HTTP side.
extension PVENode {
  static let storageFileOperations: [Operation] = {
    let base = "/nodes/{node}/storage/{storage}"
    return [
      Operation("POST", base + "/download-url") { node, arguments throws(APIError) in
        try node.download(arguments)
      },
      Operation("GET", base + "/prunebackups") { node, arguments throws(APIError) in
        let rows = try node.pruning(arguments)
        return APIResult(
          .array(
            rows.map { volume, mark in
              [
                "volid": .string(volume.id), "ctime": .int(volume.created), "mark": .string(mark),
                "type": .string(volume.archive?.kind.rawValue ?? "unknown"),
                "vmid": .int(volume.vmid ?? 0),
              ]
            }))
      },
      Operation("DELETE", base + "/prunebackups") { node, arguments throws(APIError) in
        try node.prune(arguments)
      },
    ]
  }()

  private func download(_ arguments: Arguments) throws(APIError) -> APIResult {
    let storage = arguments.text("storage") ?? ""
    let definition = try cluster.storages.enabled(storage, on: name)
    guard definition.kind.isFileBased else {
      throw .died(
        "can't upload to storage type '\(definition.kind.name)', not a file based storage!")
    }
    let content = arguments.text("content") ?? ""
    guard definition.holds(content) else {
      throw .died("storage '\(storage)' is not configured for content-type '\(content)'")
    }
    let file = PVENode.normalized(filename: arguments.text("filename") ?? "")
    try PVENode.check(filename: file, content: content)
    let url = arguments.text("url") ?? ""
    let path = "\(definition.path)/\(PVENode.folder(of: content))/\(file)"
    let upid = run("download", id: PVENode.taskID(file), user: arguments.authID) { run in
      run.log("downloading \(url) to \(path)")
      guard cluster.storages.volume("\(storage):\(content)/\(file)", on: name) == nil else {
        run.fail("refusing to override existing file '\(file)'")
        return
      }
      // Nothing is fetched: the simulator asks nobody. The file that comes is this large.
      let size = 64 << 20
      run.work(
        for: timings.task * 2,
        [
          "--\(logDate(clock.now))--  \(url)", "HTTP request sent, awaiting response... 200 OK",
          "Length: \(size) (64M)",
        ]
      ) {
        [weak self] run in
        guard let self else { return }
        guard let parts = try? VolumeName("\(content)/\(file)", on: definition.kind) else {
          run.fail("download failed")
          return
        }
        cluster.storages.put(
          Volume(
            storage: storage, name: "\(content)/\(file)", content: content, format: parts.format,
            size: size, created: clock.now), on: name)
        run.log("download of '\(url)' to '\(path)' finished")
        run.finish()
      }
    }
    return APIResult(.string(upid))
  }

  /// What may stand between a UPID's colons: everything else is written in hexadecimal.
  static func taskID(_ text: String) -> String {
    var out = ""
    for c in text.utf8 {
      switch c {
      case UInt8(ascii: ":"), UInt8(ascii: "%"), 0...32, 127...255:
        out += "%" + hex(Int(c), digits: 2)
      default: out.append(Character(UnicodeScalar(c)))
      }
    }
    return out
  }

  // MARK: pruning

  /// Every backup of a storage with what becomes of it: `keep`, `remove`, `protected`.
  private func pruning(_ arguments: Arguments) throws(APIError) -> [(Volume, String)] {
    let definition = try cluster.storages.enabled(arguments.text("storage") ?? "", on: name)
    let rules = Retention(arguments.text("prune-backups") ?? definition.options["prune-backups"])
    let backups = cluster.storages.volumes(on: definition.id, of: name).filter { volume in
      volume.content == "backup"
        && (arguments.integer("vmid").map { $0 == volume.vmid } ?? true)
        && (arguments.text("type").map { $0 == volume.archive?.kind.rawValue } ?? true)
    }
    var rows: [(Volume, String)] = []
    for group in Dictionary(grouping: backups, by: \.vmid).values {
      let sorted = group.sorted { $0.created > $1.created }
      let kept = rules.kept(sorted.filter { !$0.isProtected }.map(\.created))
      for volume in sorted {
        rows.append(
          (
            volume,
            volume.isProtected ? "protected" : kept.contains(volume.created) ? "keep" : "remove"
          ))
      }
    }
    return rows.sorted { $0.0.created < $1.0.created }
  }

  private func prune(_ arguments: Arguments) throws(APIError) -> APIResult {
    let storage = arguments.text("storage") ?? ""
    if let vmid = arguments.integer("vmid") {
      try require(arguments, ["Datastore.AllocateSpace"], on: "/storage/\(storage)")
      try require(arguments, ["VM.Backup"], on: "/vms/\(vmid)")
    } else {
      try require(arguments, ["Datastore.Allocate"], on: "/storage/\(storage)")
    }
    let rows = try pruning(arguments)
    let upid = run(
      "prunebackups", id: arguments.text("vmid").map { "\($0)@\(storage)" } ?? storage,
      user: arguments.authID
    ) {
      run in
      run.after(timings.task) { [weak self] run in
        guard let self else { return }
        for (volume, mark) in rows {
          run.log("\(mark) \(volume.id)")
          if mark == "remove" { cluster.storages.remove(volume.id, on: name) }
        }
        run.finish()
      }
    }
    return APIResult(.string(upid))
  }
}

/// `keep-last=3,keep-daily=7`.
private struct Retention {
  private var rules: [(name: String, count: Int)] = []

  init(_ text: String?) {
    for part in text.map(listParts) ?? [] {
      let halves = part.split(separator: "=")
      if halves.count == 2, let count = Int(halves[1]) { rules.append((String(halves[0]), count)) }
    }
  }

  /// Which of some times, newest first, are kept.
  func kept(_ times: [Int]) -> Set<Int> {
    guard !rules.isEmpty, !rules.contains(where: { $0.name == "keep-all" && $0.count == 1 }) else {
      return Set(times)
    }
    var kept: Set<Int> = []
    for (name, count) in rules {
      if name == "keep-last" {
        kept.formUnion(times.prefix(count))
        continue
      }
      var periods: Set<String> = []
      for time in times {
        let period = Retention.period(name, time)
        guard periods.count < count || periods.contains(period) else { break }
        if periods.insert(period).inserted { kept.insert(time) }
      }
    }
    return kept
  }

  private static func period(_ name: String, _ time: Int) -> String {
    let t = civil(time)
    switch name {
    case "keep-hourly": return "\(t.year)-\(t.month)-\(t.day)-\(t.hour)"
    case "keep-weekly": return String((time / 86_400 + 3) / 7)
    case "keep-monthly": return "\(t.year)-\(t.month)"
    case "keep-yearly": return String(t.year)
    default: return "\(t.year)-\(t.month)-\(t.day)"
    }
  }
}
