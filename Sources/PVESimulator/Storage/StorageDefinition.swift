/// One storage of `storage.cfg`.
struct StorageDefinition: Sendable {
  let id: String
  let kind: StorageKind
  var options: OptionList

  var isDisabled: Bool { options["disable"] == "1" }
  var isShared: Bool { kind.isAlwaysShared || options["shared"] == "1" }

  /// What it may hold, as `content` lists it.
  var contents: [String] {
    options["content"].map { listParts($0).filter(kind.contents.contains) } ?? kind.usual
  }

  func holds(_ content: String) -> Bool { contents.contains(content) }

  /// The nodes that it is limited to.
  var nodes: [String]? {
    options["nodes"].flatMap { $0.isEmpty ? nil : listParts($0) }
  }

  func isAvailable(on node: String) -> Bool { nodes.map { $0.contains(node) } ?? true }

  /// Where its files are.
  var path: String {
    if let path = options["path"] { return path }
    return kind.isFileBased ? "/mnt/pve/\(id)" : ""
  }

  /// The format of images that name none.
  var usualFormat: String {
    if let format = options["format"], kind.formats.contains(format) { return format }
    return kind.formats.first ?? "raw"
  }

  /// Total bytes, of which so many are in use before any volume is there.
  var capacity: (total: Int, base: Int, reserved: Int) {
    switch id {
    // As recorded: a root file system of which some is kept for root.
    case "local": (270_553_174_016, 23_475_339_264, 169_109_987_328)
    case "local-lvm": (1 << 40, 0, 0)
    default: (4 << 40, kind.isFileBased ? 1 << 30 : 0, 0)
    }
  }

  /// `GET /storage/{storage}`.
  func answer(digest: String) -> JSON {
    var members: [JSON.Member] = [
      .init(key: "storage", value: .string(id)), .init(key: "type", value: .string(kind.name)),
      .init(key: "content", value: .string(contents.joined(separator: ","))),
      .init(key: "digest", value: .string(digest)),
    ]
    for option in options.options where option.key != "content" && option.key != "password" {
      members.append(.init(key: option.key, value: Self.value(option)))
    }
    if kind.isFileBased, options["path"] == nil {
      members.append(.init(key: "path", value: .string(path)))
    }
    if kind.isAlwaysShared { members.append(.init(key: "shared", value: 1)) }
    return .object(members)
  }

  private static let numbers: Set<String> = [
    "shared", "disable", "krbd", "sparse", "port", "mkdir", "create-base-path", "create-subdirs",
    "saferemove", "tagged_only", "nocow", "fuse", "nowritecache", "max-protected-backups",
    "snapshot-as-volume-chain", "skip-cert-verification", "saferemove-stepsize",
  ]

  private static func value(_ option: OptionList.Option) -> JSON {
    if numbers.contains(option.key), let number = Int(option.value) { return .int(number) }
    return .string(option.value)
  }

  // MARK: kept state

  var document: JSON {
    [
      "id": .string(id), "type": .string(kind.name), "options": options.document,
    ]
  }

  init(id: String, kind: StorageKind, options: OptionList) {
    self.id = id
    self.kind = kind
    self.options = options
  }

  /// Nil for a document that is none.
  init?(document: JSON) {
    guard case .string(let id)? = document["id"], case .string(let type)? = document["type"],
      let kind = StorageKind.all[type]
    else { return nil }
    self.init(id: id, kind: kind, options: OptionList(document: document["options"]))
  }

  /// What a fresh PVE node has.
  static func usual(_ era: Era) -> [StorageDefinition] {
    // `import` is a content type since PVE 8.3.
    let files = "rootdir,backup,vztmpl,iso,snippets,images"
    let contents = era.major < 8 ? files : files + ",import"
    return [
      ("local", "dir", [("path", "/var/lib/vz"), ("content", contents)]),
      (
        "local-lvm", "lvmthin",
        [("thinpool", "data"), ("vgname", "pve"), ("content", "rootdir,images")]
      ),
    ].compactMap { id, type, options in
      StorageKind.all[type].map {
        StorageDefinition(id: id, kind: $0, options: OptionList(options))
      }
    }
  }
}
