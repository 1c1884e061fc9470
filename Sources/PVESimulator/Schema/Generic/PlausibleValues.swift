/// Values that a node might give, by the type and the name of a member.
struct PlausibleValues {
  private let node: PVENode

  init(_ node: PVENode) { self.node = node }

  /// A value of a type. Optional members of objects are there where their name says what they are.
  func value(_ type: ReturnType, _ name: String) -> JSON {
    switch type {
    case .null: return .null
    case .any: return .string(text(name) ?? "")
    case .string: return .string(text(name) ?? name)
    case .integer: return .int(number(name) ?? 0)
    case .number: return fraction(name).map(JSON.double) ?? .int(number(name) ?? 0)
    case .boolean: return .flag(PlausibleValues.truths.contains(name))
    case .array(let item):
      switch item {
      case .any: return []
      case .object(let members) where members.isEmpty: return []
      default: return .array([value(item, name)])
      }
    case .object(let members):
      var out: [JSON.Member] = []
      for member in members where !member.isOptional || isKnown(member) {
        out.append(.init(key: member.name, value: value(member.type, member.name)))
      }
      return .object(out)
    }
  }

  /// A value that was written, in the type in which it is read.
  static func fit(_ value: JSON, _ type: ReturnType) -> JSON {
    switch (type, value) {
    case (.integer, .string(let text)), (.boolean, .string(let text)):
      return Int(text).map(JSON.int) ?? value
    case (.number, .string(let text)):
      return Int(text).map(JSON.int) ?? Double(text).map(JSON.double) ?? value
    case (.string, .int(let number)): return .string(String(number))
    case (.string, .double(let number)): return .string(String(number))
    case (.string, .array(let items)):
      return .string(
        items.map { if case .string(let text) = $0 { text } else { $0.text } }
          .joined(separator: ","))
    case (.array, .string(let text)): return .array(splitList(text).map(JSON.string))
    case (.array, .int), (.array, .double): return .array([value])
    default: return value
    }
  }

  private func isKnown(_ member: ReturnType.Member) -> Bool {
    switch member.type {
    case .string: text(member.name) != nil
    case .integer: number(member.name) != nil
    case .number: fraction(member.name) != nil || number(member.name) != nil
    case .null, .boolean, .any, .array, .object: false
    }
  }

  private static let truths: Set = ["active", "enabled", "mounted", "online", "quorate", "safe"]

  private func text(_ name: String) -> String? {
    switch name {
    case "node", "target", "requested-node", "preferred_node": node.name
    case "storage": "local"
    case "status", "state": "ok"
    case "active-state": "active"
    case "unit-state": "enabled"
    case "upid": "UPID:\(node.name):00000FA1:00000000:00000000:generic::root@pam:"
    case "user", "userid": "root@pam"
    case "digest", "config_digest": lowerHex(sha1(Array(node.name.utf8)))
    case "fingerprint", "pve_fp": "\(node.certificates.fingerprint)"
    case "pem", "cert": node.certificates.certificatePEM
    case "ip", "address", "pve_addr", "ring0_addr": "192.0.2.10"
    case "cidr": "192.0.2.0/24"
    case "gateway": "192.0.2.1"
    case "netmask": "24"
    case "mac": "BC:24:11:00:00:01"
    case "iface", "bridge": "vmbr0"
    case "timezone": "Etc/UTC"
    case "version": node.era.version
    case "type": "any"
    case "level", "error", "errors", "message", "warning": ""
    case "comment", "description": ""
    case "ticket": "simulated"
    case "host": "127.0.0.1"
    case "id", "name": "any"
    default: nil
    }
  }

  private func number(_ name: String) -> Int? {
    switch name {
    case "vmid", "guest": node.guests.keys.min() ?? 100
    case "uptime": node.clock.now - node.booted
    case "time", "localtime", "timestamp", "checktime", "starttime", "next-run": node.clock.now
    case "notbefore": node.certificates.notBefore
    case "notafter": node.certificates.notAfter
    case "maxcpu", "cpus", "cores": 2
    case "sockets", "nodes", "nodeid", "quorum_votes", "version": 1
    case "maxmem", "memtotal": 25_276_514_304
    case "mem", "memused": 1_334_693_888
    case "maxdisk", "size", "total": 270_553_174_016
    case "disk", "used", "alloc": 23_475_335_168
    case "free", "avail", "available": 247_077_838_848
    case "port": 8006
    default: nil
    }
  }

  private func fraction(_ name: String) -> Double? {
    switch name {
    case "cpu": 0.0277227722772277
    case "wait": 0.000247524752475248
    case "used_fraction": 0.0867679314773506
    default: nil
    }
  }
}
