/// `/cluster/options`: `datacenter.cfg`.
extension PVENode {
  func clusterOptions(_ arguments: Arguments) -> JSON {
    let options = cluster.datacenter
    let seesAll = holds(arguments, "Sys.Audit", on: "/")
    let open: Set<String> = ["console", "tag-style", "consent-text"]
    let numbers: Set<String> = ["max_workers", "migration_unsecure"]
    var members: [JSON.Member] = []
    for option in options.options where seesAll || open.contains(option.key) {
      let number = numbers.contains(option.key) ? Int(option.value) : nil
      members.append(
        .init(key: option.key, value: number.map { .int($0) } ?? .string(option.value)))
    }
    var tags: Set<String> = []
    for guest in guests.values where maySee(arguments, guest) {
      tags.formUnion(guest.description.tags)
    }
    tags.formUnion(options["registered-tags"].map(listParts) ?? [])
    members.append(
      .init(key: "allowed-tags", value: .array(tags.sorted().map { .string($0) })))
    return .object(members)
  }

  func updateClusterOptions(_ arguments: Arguments) throws(APIError) -> APIResult {
    for key in arguments.text("delete").map(listParts) ?? [] { cluster.datacenter[key] = nil }
    for (key, value) in arguments.options(without: ["delete"]) { cluster.datacenter[key] = value }
    cluster.save(.meta, "datacenter", cluster.datacenter.document)
    return APIResult(.null)
  }
}
