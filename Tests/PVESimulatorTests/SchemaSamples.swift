@testable import PVESimulator

/// Makes values that fit a schema, and values that don't, one a way of not fitting.
struct SchemaSamples {
  let era: Era

  /// Names of things that are there, by the name of the parameter.
  private static let known: [String: String] = [
    "node": "pve1", "target": "pve1", "storage": "local", "userid": "root@pam", "realm": "pve",
    "poolid": "pool1", "roleid": "PVEAuditor", "service": "pveproxy", "vmid": "100",
    "upid": "UPID:pve1:00000FA1:0000000A:6B01E1A0:vncproxy:100:root@pam:",
    "volume": "local:iso/none.iso", "iface": "vmbr1", "id": "sample", "cputype": "sample",
    "groupid": "staff", "tokenid": "sample",
  ]

  /// Texts of formats that have a name.
  private static let texts: [String: String] = [
    "CIDR": "192.0.2.0/24", "CIDRv4": "192.0.2.0/24", "CIDRv6": "2001:db8::/64",
    "FullRangeCIDR": "0.0.0.0/0", "IPorCIDR": "192.0.2.1", "IPorCIDRorAlias": "192.0.2.1",
    "address": "192.0.2.1", "bridge-pair": "vmbr0:vmbr1", "disk-size": "4G",
    "dns-name": "host.example.com", "email": "a@example.com", "email-or-username": "root",
    "ip": "192.0.2.1", "ipv4": "192.0.2.1", "ipv4mask": "255.255.255.0", "ipv6": "2001:db8::1",
    "ldap-simple-attr": "cn", "lxc-ip-with-ll-iface": "192.0.2.1",
    "mac-addr": "BC:24:11:00:00:01", "mac-prefix": "BC:24:11",
    "pem-certificate-chain": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
    "pem-string": "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
    "pve-bridge-id": "vmbr0", "pve-calendar-event": "mon..fri 22:00", "pve-command-batch": "[]",
    "pve-configid": "sample", "pve-cpuset": "0-3,5", "pve-cpu-model": "host",
    "pve-ct-timezone": "UTC", "pve-day-of-week": "mon", "pve-fw-addr-spec": "192.0.2.0/24",
    "pve-fw-comment-spec": "about", "pve-fw-conntrack-helper": "ftp", "pve-fw-dport-spec": "80",
    "pve-fw-icmp-type-spec": "any", "pve-fw-protocol-spec": "tcp", "pve-fw-sport-spec": "1024:2000",
    "pve-groupid": "staff", "pve-ha-node": "pve1:2", "pve-ha-resource-id": "vm:100",
    "pve-ha-resource-or-vm-id": "vm:100", "pve-hotplug-features": "network,disk",
    "pve-iface": "vmbr0", "pve-ipv4-config": "dhcp", "pve-ipv6-config": "auto",
    "pve-lxc-dev-string": "/dev/null", "pve-lxc-mp-string": "local:4", "pve-node": "pve1",
    "pve-phys-bits": "host", "pve-poolid": "pool1", "pve-priv": "VM.Audit", "pve-realm": "pve",
    "pve-replication-job-id": "100-0", "pve-roleid": "PVEAuditor",
    "pve-startup-order": "order=1,up=2", "pve-storage-content": "iso", "pve-storage-id": "local",
    "pve-storage-path": "/mnt/data", "pve-storage-portal-dns": "192.0.2.1",
    "pve-storage-server": "192.0.2.1", "pve-storage-vgname": "pve", "pve-tag": "red",
    "pve-storage-zfs-blocksize": "8k", "pve-task-status-type": "ok", "pve-tokenid": "root@pam!x",
    "pve-userid": "root@pam", "pve-vlan-id-or-range": "2-4094", "pve-vmid": "100",
    "pve-volume-id": "local:iso/none.iso", "pve-volume-id-or-absolute-path": "/tmp/disk.raw",
    "pve-volume-id-or-qm-path": "local:1", "storage-pair": "local", "string": "text",
    "urlencoded": "a%20b",
  ]

  // MARK: what fits

  /// A value that fits.
  func value(_ schema: Schema, _ name: String) -> ParameterValue {
    guard schema.kind == .array else { return .text(text(schema, name)) }
    let inner = (schema.items ?? schema.variants.first?.items).map { text($0, name) } ?? "sample"
    return .list([.text(inner)])
  }

  func text(_ schema: Schema, _ name: String) -> String {
    let facts = schema.facts
    if let known = Self.known[name], Validation.complaint(about: known, schema, path: name) == nil {
      return known
    }
    if let choice = facts.choices.first { return choice }
    switch schema.kind {
    case .boolean: return "1"
    case .integer, .number:
      if case .text(let format)? = facts.format, let text = Self.texts[format.name] { return text }
      if let least = facts.minimum { return least.text }
      if let most = facts.maximum { return most.text }
      return "1"
    case .string, .array, .any: break
    }
    if case .properties(let keys)? = facts.format { return propertyString(keys) }
    if case .text(let format)? = facts.format, let text = Self.texts[format.name],
      facts.pattern?.matches(text) != false, text.count >= facts.minimumLength ?? 0,
      text.count <= facts.maximumLength ?? .max
    {
      return text
    }
    if let pattern = facts.pattern {
      for length in 1...64 {
        let text = pattern.root.example(length)
        if pattern.matches(text), text.count >= facts.minimumLength ?? 0 { return text }
      }
    }
    return String(repeating: "a", count: max(1, facts.minimumLength ?? 0))
  }

  /// A property string with all keys that must be there.
  func propertyString(_ keys: PropertySchemas) -> String {
    var chosen = keys.required
    if chosen.isEmpty, let first = keys.all.first(where: { $0.schema.facts.alias == nil }) {
      chosen = [first]
    }
    return chosen.map { "\($0.name)=\(text($0.schema, $0.name))" }.joined(separator: ",")
  }

  /// All parameters that must be there, those in the path too.
  func required(of schema: OperationSchema) -> Parameters {
    var out = Parameters()
    for property in schema.parameters.required where property.schema.typeProperty == nil {
      out.set(property.name, value(property.schema, property.name))
    }
    // What depends on a kind, for the kind that was chosen.
    for property in schema.parameters.all {
      guard let type = property.schema.typeProperty, let kind = out[type]?.text else { continue }
      let variant = property.schema.variants.first { $0.facts.instanceTypes.contains(kind) }
      guard let variant, !variant.isOptional else { continue }
      out.set(property.name, value(variant, property.name))
    }
    for part in schema.path.split(separator: "/") where part.hasPrefix("{") {
      let name = String(part.dropFirst().dropLast())
      guard out[name] == nil else { continue }
      out.set(name, schema.parameters[name].map { value($0, name) } ?? .text("1"))
    }
    for pair in out.pairs {
      guard let needed = schema.parameters[pair.name]?.facts.needs, out[needed] == nil,
        let other = schema.parameters[needed]
      else { continue }
      out.set(needed, value(other, needed))
    }
    return out
  }

  // MARK: what doesn't fit

  /// One value that doesn't fit, and why.
  struct Misfit {
    var why: String
    var name: String
    var value: ParameterValue
  }

  /// Every way in which a parameter can be wrong.
  func misfits(_ property: PropertySchemas.Property) -> [Misfit] {
    let schema = property.schema
    guard schema.typeProperty == nil else { return [] }
    let name = property.family.map { "\($0.base)0" } ?? property.name
    var out: [Misfit] = []
    func add(_ why: String, _ value: ParameterValue) {
      out.append(Misfit(why: why, name: name, value: value))
    }
    switch schema.kind {
    case .integer:
      add("wrong type", .text("abc"))
      add("wrong type", .text("1.5"))
    case .number, .boolean: add("wrong type", .text("abc"))
    case .string, .array: add("wrong type", .object(["a": 1]))
    case .any: break
    }
    if schema.kind == .boolean { add("wrong type", .text("2")) }
    if schema.kind != .array, era.formArrays, !schema.isList {
      add("wrong type", .list([.text("1"), .text("2")]))
    }
    let facts = schema.facts
    if schema.kind == .integer || schema.kind == .number {
      if let least = facts.minimum { add("too small", .text("\(Int(least.value) - 1)")) }
      if let most = facts.maximum { add("too large", .text("\(Int(most.value) + 1)")) }
    }
    if schema.kind == .array {
      if let inner = schema.items, let text = unfit(inner, property.name) {
        add("bad item", .list([.text(text)]))
      }
    } else if schema.kind == .string, let text = unfit(schema, property.name) {
      add("does not look right", .text(text))
    }
    if schema.kind == .string, let most = facts.maximumLength {
      add("too long", .text(String(repeating: "a", count: most + 1)))
    }
    if case .properties(let keys)? = facts.format {
      let right = propertyString(keys)
      add("unknown key", .text(right + ",nonsense=1"))
      add("key without a value", .text(right + ",nonsense="))
      if let key = keys.required.first {
        add("duplicate key", .text("\(right),\(key.name)=\(text(key.schema, key.name))"))
        add(
          "missing key",
          .text(
            keys.all.first { $0.schema.isOptional }.map {
              "\($0.name)=\(text($0.schema, $0.name))"
            } ?? "nonsense=1"))
      }
    }
    if let family = property.family {
      out.append(
        Misfit(
          why: "beyond the family", name: "\(family.base)\(family.count)",
          value: value(schema, property.name)))
      out.append(
        Misfit(
          why: "leading zero", name: "\(family.base)00", value: value(schema, property.name)))
    }
    return out
  }

  /// A text against the format, the pattern, the choices or the length; nil where all texts fit.
  private func unfit(_ schema: Schema, _ name: String) -> String? {
    for text in ["§ nonsense !", "", "a\nb", "0", "a", "none!", "1x"] {
      if Validation.complaint(about: text, schema, path: name) != nil { return text }
    }
    return nil
  }
}

extension Schema {
  /// Whether an array of texts fits too.
  var isList: Bool {
    if case .text(let format)? = format { format.repetition == .list } else { false }
  }
}

extension Pattern.Node {
  /// A text that fits; longer where `length` is larger.
  func example(_ length: Int) -> String {
    switch self {
    case .start, .end, .noLineBreak: ""
    case .sequence(let parts): parts.map { $0.example(length) }.joined()
    case .choice(let branches): branches.first?.example(length) ?? ""
    case .repetition(let node, let least, let most):
      String(
        repeating: node.example(length), count: min(max(least, min(length, 4)), most ?? .max))
    case .set(let set):
      ["a", "1", "A", "0", "-", "/", ":", ".", "x", "=", "5"].first {
        set.contains($0.unicodeScalars.first ?? "a")
      }
        ?? set.ranges.first.flatMap { Unicode.Scalar($0.lowerBound) }.map { String($0) } ?? "?"
    }
  }
}
