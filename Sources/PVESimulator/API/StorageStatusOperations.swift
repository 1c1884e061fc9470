/// `/nodes/{node}/storage`: what a node's storages hold and how full they are.
extension PVENode {
  static let storageStatusOperations: [Operation] = [
    Operation("GET", "/nodes/{node}/storage") { node, arguments throws(APIError) in
      try node.listStorages(arguments)
    },
    Operation("GET", "/nodes/{node}/storage/{storage}") { _, _ in
      let names = [
        "content", "download-url", "file-restore", "import-metadata", "prunebackups", "rrd",
        "rrddata", "status", "upload",
      ]
      return APIResult(.array(names.map { ["subdir": .string($0)] }))
    },
    Operation("GET", "/nodes/{node}/storage/{storage}/status") { node, arguments throws(APIError) in
      let id = arguments.text("storage") ?? ""
      guard let definition = node.cluster.storages.definitions[id],
        definition.isAvailable(on: node.name)
      else { throw .invalid([.init(name: "storage", text: "No such storage.")]) }
      return APIResult(.object(node.status(of: definition)))
    },
    Operation("GET", "/nodes/{node}/storage/{storage}/rrd") { node, arguments in
      APIResult(["filename": .string("/var/cache/pve-rrd/\(arguments.text("storage") ?? "").png")])
    },
    Operation("GET", "/nodes/{node}/storage/{storage}/rrddata") { node, arguments in
      node.storageSeries(arguments)
    },
  ]

  private func listStorages(_ arguments: Arguments) throws(APIError) -> APIResult {
    let contents = arguments.text("content").map(listParts)
    let wanted = arguments.text("storage")
    let target = arguments.text("target").flatMap { $0 == name || $0 == "localhost" ? nil : $0 }
    let here = cluster.storages.sorted.filter { definition in
      definition.isAvailable(on: name)
        && (contents.map { $0.contains(where: definition.holds) } ?? true)
    }
    if let wanted, !here.contains(where: { $0.id == wanted }) {
      throw .invalid([.init(name: "storage", text: "No such storage.")])
    }
    let rows = here.filter { definition in
      guard seesStorage(arguments, definition.id), wanted == nil || wanted == definition.id,
        !(arguments.flag("enabled") && definition.isDisabled)
      else { return false }
      guard let target else { return true }
      return definition.isShared && definition.isAvailable(on: target)
    }
    return APIResult(
      .array(
        rows.map { definition in
          var members: [JSON.Member] = [.init(key: "storage", value: .string(definition.id))]
          members += status(of: definition)
          if !definition.isDisabled {
            let usage = cluster.storages.usage(of: definition, on: name)
            members.append(
              .init(
                key: "used_fraction", value: .double(Double(usage.used) / Double(usage.total))))
          }
          if arguments.flag("format") { members += formats(of: definition) }
          return .object(members)
        }))
  }

  /// `GET …/status`.
  private func status(of definition: StorageDefinition) -> [JSON.Member] {
    var members: [JSON.Member] = [
      .init(key: "type", value: .string(definition.kind.name)),
      .init(key: "content", value: .string(definition.contents.joined(separator: ","))),
      .init(key: "shared", value: .flag(definition.isShared)),
      .init(key: "enabled", value: .flag(!definition.isDisabled)),
      .init(key: "active", value: .flag(!definition.isDisabled)),
    ]
    let usage =
      definition.isDisabled ? (0, 0, 0) : cluster.storages.usage(of: definition, on: name)
    members += [
      .init(key: "total", value: .int(usage.0)), .init(key: "used", value: .int(usage.1)),
      .init(key: "avail", value: .int(usage.2)),
    ]
    return members
  }

  private func formats(of definition: StorageDefinition) -> [JSON.Member] {
    let all = definition.kind.formats
    let usual = definition.usualFormat
    return [
      .init(
        key: "format",
        value: [
          .object(all.map { .init(key: $0, value: 1) }), .string(usual),
        ]),
      .init(
        key: "formats",
        value: ["supported": .array(all.map { .string($0) }), "default": .string(usual)]),
      .init(key: "select_existing", value: .flag(definition.kind.name.hasPrefix("iscsi"))),
    ]
  }
}
