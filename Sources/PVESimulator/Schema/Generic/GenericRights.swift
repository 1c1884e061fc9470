/// What operations check that the schema opens to every user and whose handlers refuse more.
struct GenericRights {
  private let call: GenericCall

  init(_ call: GenericCall) { self.call = call }

  /// Whether there is anything to check beyond the schema.
  private var isNeeded: Bool {
    call.schema.handlerChecksMore && call.schema.permission == .anyUser
      && call.arguments.authID != "root@pam"
  }

  /// - Throws: the 403 of a caller who may not do this.
  func check() throws(APIError) {
    guard isNeeded else { return }
    let path = call.schema.path
    let reads = call.schema.method == "GET"
    if path.hasPrefix("/cluster/sdn/vnets/{vnet}") {
      let vnet = call.value("vnet")
      try require(
        reads ? ["SDN.Audit", "SDN.Allocate"] : ["SDN.Allocate"],
        on: "/sdn/zones/\(zone(of: vnet))/\(vnet)")
    } else if path.contains("/replication"),
      let guest = call.value("id").split(separator: "-").first
    {
      let privilege =
        reads
        ? "VM.Audit" : call.node.era.hasPrivilege("VM.Replicate") ? "VM.Replicate" : "VM.Migrate"
      try require([privilege], on: "/vms/\(guest)")
    } else if GenericRights.powers.contains(where: path.hasSuffix) {
      let privilege =
        path.hasSuffix("/migrate") || path.hasSuffix("/migrateall") ? "VM.Migrate" : "VM.PowerMgmt"
      let guests = call.arguments.list("vms")
      if guests.isEmpty { try require([privilege], on: "/") }
      for vmid in guests { try require([privilege], on: "/vms/\(vmid)") }
    } else if path == "/nodes/{node}/vzdump" {
      for vmid in call.arguments.list("vmid") { try require(["VM.Backup"], on: "/vms/\(vmid)") }
    }
  }

  private static let powers = [
    "/startall", "/stopall", "/suspendall", "/migrateall", "/bulk-action/guest/start",
    "/bulk-action/guest/shutdown", "/bulk-action/guest/suspend", "/bulk-action/guest/migrate",
  ]

  /// Whether the caller sees an item of a list: who may read the item does.
  func sees(_ id: String, _ document: JSON, _ parameter: String) -> Bool {
    guard isNeeded else { return true }
    let path = call.schema.path
    if path == "/cluster/sdn/vnets" {
      return holds(["SDN.Audit", "SDN.Allocate"], on: "/sdn/zones/\(zone(of: id))/\(id)")
    }
    if path.contains("/replication") {
      return holds(["VM.Audit"], on: "/vms/\(id.prefix { $0 != "-" })")
    }
    if let area = ["zones", "controllers", "dns", "ipams"].first(where: path.hasSuffix) {
      return holds(["SDN.Audit", "SDN.Allocate"], on: "/sdn/\(area)/\(id)")
    }
    guard
      let item = try? call.node.router.route("GET", template: "\(path)/{\(parameter)}")?.schema
    else { return true }
    var values = call.arguments.values
    values.set(parameter, .text(id))
    return
      (try? item.permission.check(
        call.arguments.identity, arguments: values, access: call.node.access)) != nil
  }

  private func zone(of vnet: String) -> String {
    if case .string(let zone)? = call.objects["/cluster/sdn/vnets", vnet]?["zone"] {
      zone
    } else {
      "-"
    }
  }

  private func holds(_ names: [String], on path: String) -> Bool {
    let held = call.node.access.privileges(of: call.arguments.authID, on: path)
    return names.contains { held.contains($0) }
  }

  private func require(_ names: [String], on path: String) throws(APIError) {
    guard holds(names, on: path) else {
      throw .forbidden("\(path), \(names.joined(separator: "|"))")
    }
  }
}
