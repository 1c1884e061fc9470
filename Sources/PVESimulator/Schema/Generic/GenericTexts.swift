/// Names and error texts of what the generic operations keep.
enum GenericTexts {
  /// Operations that write and answer a text which is no task's.
  static let answersText: Set = [
    "/cluster/sdn/lock", "/nodes/{node}/wakeonlan", "/nodes/{node}/qemu/{vmid}/monitor",
    "/access/openid/auth-url",
  ]

  /// What an item of a path is.
  static func kind(_ parent: String) -> String {
    switch parent {
    case "/cluster/acme/account": "ACME account config"
    case "/cluster/acme/plugins": "ACME plugin"
    case "/cluster/backup": "job"
    case "/cluster/jobs/realm-sync": "realm-sync job"
    case "/cluster/metrics/server": "metric server"
    case "/cluster/replication": "replication job"
    case "/cluster/sdn/vnets/{vnet}/subnets": "sdn subnet object ID"
    case "/nodes/{node}/network": "interface"
    default: kind(byLastPart: parent)
    }
  }

  private static func kind(byLastPart parent: String) -> String {
    let parts = parent.split(separator: "/").filter { !$0.hasPrefix("{") }
    guard let last = parts.last.map(String.init) else { return "object" }
    let area = parts.dropFirst().first ?? ""
    let single =
      last.hasSuffix("ies")
      ? last.dropLast(3) + "y"
      : last.hasSuffix("s") && last != "dns" ? String(last.dropLast()) : last
    switch area {
    case "sdn": return "sdn \(single) object ID"
    case "ha": return "ha \(single)"
    case "mapping": return "\(single) mapping"
    case "notifications": return area == last ? single : "endpoint"
    default: return single
    }
  }

  private static func singular(_ name: String) -> String {
    if ["dns", "fs", "mds", "zfs"].contains(name) { return name }
    if name.hasSuffix("ies") { return name.dropLast(3) + "y" }
    if name.hasSuffix("ses") { return String(name.dropLast(2)) }
    return name.hasSuffix("s") ? String(name.dropLast()) : name
  }

  /// PVE's text for what isn't there.
  static func missing(_ parent: String, _ id: String) -> APIError {
    if parent.hasSuffix("/aliases") { return .died("no such alias '\(id)'") }
    if parent.hasSuffix("/ipset") { return .died("no such IPSet '\(id)'") }
    if parent.hasSuffix("/ipset/{name}") { return .died("no such IP set entry '\(id)'") }
    switch parent {
    case "/cluster/firewall/groups": return .died("no such security group '\(id)'")
    case "/cluster/ha/groups": return .died("no such ha group '\(id)'")
    case "/cluster/ha/resources": return .died("no such resource '\(id)'")
    case "/cluster/ha/rules": return .died("no such rule '\(id)'")
    case "/cluster/backup": return .died("No such job '\(id)'")
    case "/cluster/replication": return .died("no such replication job '\(id)'")
    case "/cluster/acme/account":
      return .died("ACME account config file '\(id)' does not exist.")
    case "/cluster/acme/plugins": return .died("ACME plugin '\(id)' not defined")
    case "/nodes/{node}/network":
      return .invalid([.init(name: "iface", text: "interface does not exist")])
    default: break
    }
    let status = parent.hasPrefix("/cluster/notifications") ? 404 : 500
    return APIError(status: status, message: "\(kind(parent)) '\(id)' does not exist")
  }

  /// The member that holds the id in what is read, where it isn't the parameter's name.
  static func idMember(_ parameter: String, in place: String) -> String {
    switch (place, parameter) {
    case ("/cluster/acme/plugins", _): "plugin"
    case ("/cluster/acme/account", _): "name"
    case (_, "url_seq"): "seq"
    default: parameter
    }
  }
}
