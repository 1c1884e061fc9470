/// `/storage`: the definitions.
extension PVENode {
  static let storageOperations: [Operation] =
    storageDefinitionOperations + storageStatusOperations + storageContentOperations
    + storageFileOperations

  private static let storageDefinitionOperations: [Operation] = [
    Operation("GET", "/storage") { node, arguments in
      let table = node.cluster.storages
      let digest = table.digest
      let type = arguments.text("type")
      let rows = table.sorted.filter { definition in
        (type == nil || type == definition.kind.name) && node.seesStorage(arguments, definition.id)
      }
      return APIResult(.array(rows.map { $0.answer(digest: digest) }))
    },
    Operation("GET", "/storage/{storage}") { node, arguments throws(APIError) in
      let table = node.cluster.storages
      let found = try table.definition(arguments.text("storage") ?? "")
      return APIResult(found.answer(digest: table.digest))
    },
    Operation("POST", "/storage") { node, arguments throws(APIError) in
      try node.createStorage(arguments)
    },
    Operation("PUT", "/storage/{storage}") { node, arguments throws(APIError) in
      try node.updateStorage(arguments)
    },
    Operation("DELETE", "/storage/{storage}") { node, arguments throws(APIError) in
      let id = arguments.text("storage") ?? ""
      guard node.cluster.storages.definitions[id] != nil else {
        throw .inStorageConfig("delete storage failed", "storage '\(id)' does not exist")
      }
      if node.cluster.storages.definitions.values.contains(where: {
        $0.options["base"]?.hasPrefix("\(id):") == true
      }) {
        throw .inStorageConfig(
          "delete storage failed",
          "can't remove storage - storage is used as base of another storage")
      }
      node.cluster.storages.undefine(id)
      return APIResult(.null)
    },
  ]

  /// Whether lists show a storage to the caller.
  func seesStorage(_ arguments: Arguments, _ id: String) -> Bool {
    holds(arguments, "Datastore.Audit", on: "/storage/\(id)")
      || holds(arguments, "Datastore.AllocateSpace", on: "/storage/\(id)")
  }

  private func createStorage(_ arguments: Arguments) throws(APIError) -> APIResult {
    let id = arguments.text("storage") ?? ""
    guard let kind = StorageKind.all[arguments.text("type") ?? ""] else {
      throw .died("unknown section type '\(arguments.text("type") ?? "")'")
    }
    var options = OptionList(arguments.options(without: ["storage", "type"]))
    if options["nodes"]?.isEmpty == true { options["nodes"] = nil }
    for key in options.keys where !kind.knows(key) { throw .died("unexpected property '\(key)'") }
    for key in kind.required where options[key] == nil {
      throw .died("missing value for required option '\(key)'")
    }
    guard cluster.storages.definitions[id] == nil else {
      throw .inStorageConfig("create storage failed", "storage ID '\(id)' already defined")
    }
    cluster.storages.define(StorageDefinition(id: id, kind: kind, options: options))
    return APIResult(["storage": .string(id), "type": .string(kind.name)])
  }

  private func updateStorage(_ arguments: Arguments) throws(APIError) -> APIResult {
    let failed = "update storage failed"
    let id = arguments.text("storage") ?? ""
    if let digest = arguments.text("digest"), !digest.isEmpty, digest != cluster.storages.digest {
      throw .inStorageConfig(
        failed, "detected modified configuration - file changed by other user? Try again.")
    }
    guard var definition = cluster.storages.definitions[id] else {
      throw .inStorageConfig(failed, "storage '\(id)' does not exist")
    }
    let changes = arguments.options(without: ["storage", "digest", "delete"])
    for (key, _) in changes {
      guard definition.kind.knows(key) else {
        throw .inStorageConfig(failed, "unexpected property '\(key)'")
      }
      guard !definition.kind.fixed.contains(key) else {
        throw .inStorageConfig(failed, "can't change value of fixed parameter '\(key)'")
      }
    }
    let deletes = arguments.text("delete").map(listParts) ?? []
    for key in deletes {
      guard definition.kind.knows(key) else {
        throw .inStorageConfig(failed, "no such option '\(key)'")
      }
      guard !definition.kind.required.contains(key) else {
        throw .inStorageConfig(failed, "unable to delete required option '\(key)'")
      }
      guard !definition.kind.fixed.contains(key) else {
        throw .inStorageConfig(failed, "unable to delete fixed option '\(key)'")
      }
      guard !changes.contains(where: { $0.0 == key }) else {
        throw .inStorageConfig(failed, "cannot set and delete property '\(key)' at the same time!")
      }
    }
    for key in deletes { definition.options[key] = nil }
    for (key, value) in changes { definition.options[key] = value }
    cluster.storages.define(definition)
    return APIResult(["storage": .string(id), "type": .string(definition.kind.name)])
  }
}
