/// What is kept over a restart of guests, pools, storages, volumes, tasks and the datacenter's options.
extension Cluster {
  /// Kept documents by kind, each with its id.
  typealias Documents = [StateKind: [(id: String, document: JSON)]]

  /// Takes over what an earlier life kept, in the place of what the configuration says. To be called once, after the
  /// nodes and the configuration's guests are there.
  func restoreInventory(_ documents: Documents) {
    restoreGuests(documents[.guest]?.map(\.document) ?? [])
    storages.restore(
      storages: documents[.storage]?.map(\.document) ?? [], volumes: documents[.volume] ?? [])
    pools.restore(documents[.pool]?.map(\.document) ?? [])
    for node in nodes {
      node.tasks.restore(
        (documents[.task] ?? []).filter { UPIDParts($0.id)?.node == node.name }.map(\.document))
    }
    if let options = documents[.meta]?.first(where: { $0.id == "datacenter" }) {
      datacenter = OptionList(document: options.document)
    }
  }

  /// Has all of it kept, for a state file's first write.
  func saveInventory() {
    guard store != nil else { return }
    for guest in guests.values { guest.save() }
    storages.saveAll()
    pools.saveAll()
    for node in nodes { for task in node.tasks.all { save(.task, task.upid, task.document) } }
    save(.meta, "datacenter", datacenter.document)
  }
}

extension PVENode {
  /// A list of tasks that are kept.
  func makeTaskList() -> TaskList {
    var list = TaskList(clock: clock, booted: booted)
    list.keep = { [weak cluster] task, isForgotten in
      guard let cluster, cluster.store != nil else { return }
      cluster.save(.task, task.upid, isForgotten ? nil : task.document)
    }
    return list
  }
}
