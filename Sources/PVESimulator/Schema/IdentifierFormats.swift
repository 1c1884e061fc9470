/// Names of nodes, guests, users and the like.
extension NamedFormats {
  static func identifiers(_ name: String) -> TextFormat.Check? {
    switch name {
    case "pve-node":
      return rule("[a-zA-Z0-9]([a-zA-Z0-9\\-]*[a-zA-Z0-9])?") { _ in
        "value does not look like a valid node name"
      }
    case "pve-vmid":
      return rule("[1-9][0-9]{2,8}") { _ in "value does not look like a valid VM ID" }
    case "pve-configid":
      return rule("(?i:[a-z][a-z0-9_-]+)") { "invalid configuration ID '\($0)'" }
    case "pve-storage-id":
      return rule("(?i:[a-z][a-z0-9\\-\\_\\.]*[a-z0-9])") {
        "storage ID '\($0)' contains illegal characters"
      }
    case "pve-bridge-id": return rule("[-_.\\w\\d]+") { "invalid bridge ID '\($0)'" }
    case "pve-iface":
      return rule("(?i:[a-z][a-z0-9_]{1,20}([:\\.]\\d+)?)") {
        "invalid network interface name '\($0)'"
      }
    case "pve-vlan-id-or-range": return vlan
    case "pve-tag":
      return rule("(?i:[a-z0-9_][a-z0-9_\\-\\+\\.]*)") { _ in "invalid characters in tag" }
    case "pve-replication-job-id":
      return rule("[1-9][0-9]{2,8}-\\d{1,9}") { "invalid replication job id '\($0)'" }
    case "pve-ha-node":
      return rule("[a-zA-Z0-9]([a-zA-Z0-9\\-]*[a-zA-Z0-9])?(:\\d+)?") { _ in
        "value does not look like a valid ha group node"
      }
    case "pve-ha-resource-or-vm-id":
      return rule("([a-z]+:\\S+|[1-9][0-9]{2,8})") { _ in
        "value does not look like a valid ha resource or vm id"
      }
    case "pve-ha-resource-id":
      return rule("[a-z]+:\\S+") { _ in "value does not look like a valid ha resource id" }
    case "bridge-pair", "storage-pair":
      let single = check(name == "bridge-pair" ? "pve-bridge-id" : "pve-storage-id")
      return { pair in
        if pair == "1" { return nil }
        let halves = pair.split(separator: ":", omittingEmptySubsequences: false)
        for half in halves.count == 2 ? halves.map(String.init) : [pair] {
          if let complaint = single?(half) {
            return "entry '\(pair)' contains invalid ID - \(complaint)\n"
          }
        }
        return nil
      }
    case "pve-cpu-model":
      return rule("[A-Za-z0-9][A-Za-z0-9\\-\\_\\.]*") { "Invalid CPU type '\($0)'" }
    default: return nil
    }
  }

  /// `5` or `2-4094`.
  @Sendable private static func vlan(_ text: String) -> String? {
    let ends = text.split(separator: "-", omittingEmptySubsequences: false)
    guard (1...2).contains(ends.count),
      ends.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { (48...57).contains($0) } })
    else { return "invalid VLAN configuration '\(text)'" }
    let tags = ends.map { Int($0) ?? .max }
    for tag in tags where !(2...4094).contains(tag) { return "invalid VLAN tag '\(tag)'" }
    if tags.count == 2, tags[0] >= tags[1] {
      return "VLAN range must go from lower to higher tag '\(text)'"
    }
    return nil
  }

  static func users(_ name: String) -> TextFormat.Check? {
    let realm = "[A-Za-z][A-Za-z0-9\\.\\-_]+"
    let userName = "[\\w\\+\\-\\~]+(\\.[\\w\\+\\-\\~]+)*"
    let email = "\(userName)@[a-zA-Z0-9\\-]+(\\.[a-zA-Z0-9\\-]+)*"
    switch name {
    case "pve-realm":
      return rule(realm) { _ in "value does not look like a valid realm" }
    case "pve-userid":
      let pattern = try? Pattern("[^\\s:/]+@\(realm)")
      return { user in
        if user.unicodeScalars.count > 64 {
          return "user name '\(user)' is too long (\(user.unicodeScalars.count) > 64)"
        }
        if user.unicodeScalars.count < 3 { return "user name '\(user)' is too short" }
        return pattern?.matches(user) == true
          ? nil : "value '\(user)' does not look like a valid user name"
      }
    case "pve-tokenid":
      return rule("[^\\s:/]+@\(realm)!\(realm)") {
        "value '\($0)' does not look like a valid token ID"
      }
    case "pve-groupid":
      return rule("[A-Za-z0-9\\.\\-_]+") { "group name '\($0)' contains invalid characters" }
    case "pve-roleid":
      return rule("[A-Za-z0-9\\.\\-_]+") { "role name '\($0)' contains invalid characters" }
    case "pve-poolid":
      let pattern = try? Pattern("[A-Za-z0-9\\.\\-_]+(/[A-Za-z0-9\\.\\-_]+)*")
      return { pool in
        guard pattern?.matches(pool) == true else {
          return "pool name '\(pool)' contains invalid characters"
        }
        return pool.split(separator: "/").count > 3
          ? "pool name '\(pool)' nested too deeply (max levels = 3)" : nil
      }
    case "email":
      return rule(email) { _ in "value does not look like a valid email address" }
    case "email-or-username":
      return rule("(\(email)|\(userName))") { _ in
        "value does not look like a valid email address or user name"
      }
    case "ldap-simple-attr":
      return rule("[a-zA-Z0-9]+") {
        "value '\($0)' does not look like a simple ldap attribute name"
      }
    default: return nil
    }
  }
}
