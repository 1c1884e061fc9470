import Testing

@testable import PVESimulator

@Suite("The table of operations")
struct SchemaTableTests {
  @Test(
    "every line of every era can be read",
    arguments: [
      (Era.v7_4, 541), (.v8_4, 606), (.v8_4_2026, 607), (.v9_0, 629), (.v9_1, 647), (.v9_2, 681),
    ])
  func lines(era: Era, count: Int) throws {
    let table = SchemaTable(era: era)
    #expect(table.entries.count == count)
    #expect(Set(table.entries.map { "\($0.method) \($0.path)" }).count == count)
    for entry in table.entries {
      let schema = try table.operation(entry)
      #expect(schema.method == entry.method)
      let inPath = schema.path.split(separator: "/").filter { $0.hasPrefix("{") }
      for name in inPath.map({ String($0.dropFirst().dropLast()) }) {
        #expect(
          schema.parameters[name] != nil || schema.allowsUnknownParameters,
          "\(entry.method) \(entry.path): \(name)")
      }
    }
  }

  @Test("whatever is written by hand is in some era's table")
  func strays() {
    let known = Set(
      Era.allCases.flatMap { SchemaTable(era: $0).entries.map { "\($0.method) \($0.path)" } })
    #expect(
      PVENode.operations.map { "\($0.method) \($0.path)" }.filter { !known.contains($0) } == [])
  }

  @Test("the router finds literal parts first, volumes with their slashes, and nothing else")
  func router() throws {
    let router = Router([], era: .v9_2)
    let volume = try #require(
      router.find("GET", "/nodes/pve1/storage/local/content/local:iso/a/b.iso"))
    #expect(volume.route.path == "/nodes/{node}/storage/{storage}/content/{volume}")
    #expect(volume.values == ["pve1", "local", "local:iso/a/b.iso"])
    let network = try #require(router.find("DELETE", "/cluster/firewall/ipset/web/10.0.0.0/8"))
    #expect(network.values == ["web", "10.0.0.0/8"])
    #expect(router.find("GET", "//nodes//pve1/")?.route.path == "/nodes/{node}")
    #expect(router.find("GET", "/")?.route.path == "/")
    #expect(router.find("GET", "/version")?.route.path == "/version")
    #expect(router.find("POST", "/version") == nil)
    #expect(router.find("GET", "/nodes/a b/status") == nil)
    #expect(router.find("GET", "/nosuch") == nil)
    #expect(Router([], era: .v7_4).find("GET", "/cluster/mapping/pci") == nil)
    #expect(router.find("GET", "/cluster/mapping/pci") != nil)
  }

  @Test("what older eras have and don't have")
  func eras() throws {
    func schema(_ era: Era, _ method: String, _ path: String) throws -> OperationSchema? {
      let table = SchemaTable(era: era)
      return try table.entries.first { $0.method == method && $0.path == path }
        .map(table.operation)
    }
    let agent = "/nodes/{node}/qemu/{vmid}/agent"
    let monitor = Permission.privileges(["VM.Monitor"], on: "/vms/{vmid}")
    for era in [Era.v7_4, .v8_4, .v8_4_2026] {
      for path in ["/exec", "/file-read", "/ping", "/shutdown"] {
        let method = path == "/file-read" ? "GET" : "POST"
        #expect(try schema(era, method, agent + path)?.permission == monitor)
      }
      #expect(try schema(era, "GET", agent + "/get-osinfo")?.permission == monitor)
      #expect(try schema(era, "GET", agent)?.permission == .anyUser)
    }
    #expect(
      try schema(.v9_0, "POST", agent + "/exec")?.permission
        == .privileges(["VM.GuestAgent.Unrestricted"], on: "/vms/{vmid}"))
    let old = try #require(try schema(.v7_4, "POST", agent + "/exec")?.parameters["command"])
    #expect(old.kind == .string && old.isOptional)
    let new = try #require(try schema(.v8_4, "POST", agent + "/exec")?.parameters["command"])
    #expect(new.kind == .array && !new.isOptional)
    #expect(try schema(.v9_1, "GET", agent + "/file-read")?.parameters["count"] == nil)
    #expect(try schema(.v9_2, "GET", agent + "/file-read")?.parameters["count"] != nil)
    #expect(
      try schema(.v7_4, "POST", "/nodes/{node}/execute")?.permission
        == .privileges(["Sys.Audit"], on: "/nodes/{node}"))
    #expect(try schema(.v8_4, "POST", "/nodes/{node}/execute")?.permission == .rootOnly)
    #expect(try schema(.v8_4, "POST", "/access/vncticket") == nil)
    #expect(try schema(.v8_4_2026, "POST", "/access/vncticket")?.parameters["port"] != nil)
    #expect(try schema(.v9_0, "POST", "/access/vncticket") == nil)
    #expect(try schema(.v9_1, "POST", "/access/vncticket")?.parameters["port"] == nil)
    #expect(try schema(.v7_4, "POST", "/access/tfa") != nil)
    #expect(try schema(.v8_4, "POST", "/access/tfa") == nil)
    #expect(try schema(.v7_4, "POST", "/nodes/{node}/qemu/{vmid}/mtunnel") != nil)
  }

  @Test("families have as many members as PVE gives them")
  func families() throws {
    let table = SchemaTable(era: .v9_2)
    let entry = try #require(
      table.entries.first { $0.method == "POST" && $0.path == "/nodes/{node}/qemu" })
    let parameters = try table.operation(entry).parameters
    for (base, count) in [
      "net": 32, "scsi": 31, "virtio": 16, "sata": 6, "ide": 4, "unused": 256, "serial": 4,
      "parallel": 3, "usb": 14, "hostpci": 16, "numa": 8, "virtiofs": 10, "ipconfig": 32,
    ] {
      #expect(parameters["\(base)0"] != nil)
      #expect(parameters["\(base)\(count - 1)"] != nil)
      #expect(parameters["\(base)\(count)"] == nil)
      #expect(parameters["\(base)01"] == nil)
    }
    #expect(parameters["numa"]?.kind == .boolean)
    #expect(parameters["net"] == nil)
    #expect(parameters["net[n]"] == nil)
    #expect(parameters["efidisk0"] != nil)
    #expect(parameters["efidisk1"] == nil)
  }
}

@Suite("Values are checked as PVE's JSONSchema checks them")
struct SchemaValidationTests {
  private let table = SchemaTable(era: .v9_2)

  private func schema(_ fields: String) throws -> Schema {
    var reader = SchemaReader(fields.replacing(" ", with: "\t") + "\t;", table: table)
    return try reader.schema()
  }

  private func complaint(_ text: String, _ fields: String) throws -> String? {
    Validation.complaint(about: text, try schema(fields), path: "x")
  }

  @Test("types, limits, lengths, choices and patterns, in PVE's words")
  func simple() throws {
    for (text, fields, complaint) in [
      ("12", "i", nil), ("-3", "i", nil), ("+3", "i", nil),
      ("1.0", "i", "type check ('integer') failed - got '1.0'"),
      ("", "i", "type check ('integer') failed - got ''"),
      ("99999999999999999999", "i >5", "value must have a maximum value of 5"),
      ("1.5", "n", nil), (".5", "n", nil), ("5.", "n", nil), ("1e3", "n", nil),
      ("1e", "n", "type check ('number') failed - got '1e'"),
      (".", "n", "type check ('number') failed - got '.'"),
      ("nan", "n", "type check ('number') failed - got 'nan'"),
      ("0.05", "n <0.1", "value must have a minimum value of 0.1"),
      ("1", "b", nil), ("0", "b", nil), ("true", "b", "type check ('boolean') failed - got 'true'"),
      ("80", "i <5900 >5999", "value must have a minimum value of 5900"),
      ("6000", "i <5900 >5999", "value must have a maximum value of 5999"),
      ("abc", "s ]2", "value may only be 2 characters long"),
      ("äö", "s ]2", nil),
      ("a", "s [2", "value must be at least 2 characters long"),
      ("c", "s |a|b", "value 'c' does not have a value in the enumeration 'a, b'"),
      ("x1", "s ~[a-z]+", "value does not match the regex pattern"),
      ("0", "i <100 %pve-vmid", "invalid format - value does not look like a valid VM ID\n"),
    ] as [(String, String, String?)] {
      #expect(try self.complaint(text, fields) == complaint, "\(text) \(fields)")
    }
  }

  @Test("formats with names")
  func formats() throws {
    for (format, right, wrong) in [
      ("pve-node", ["a", "pve-1", "A1"], ["", "-a", "a-", "a.b", "ä"]),
      ("pve-vmid", ["100", "999999999"], ["99", "0100", "1000000000", "x"]),
      ("pve-configid", ["ab", "A_b-1"], ["a", "1a", "a b"]),
      ("pve-storage-id", ["local", "a.b-c_d"], ["a", "local-", "1a"]),
      ("pve-userid", ["root@pam", "a.b@my-realm"], ["root", "root@", "@pam", "a:b@pam", "a@1"]),
      ("pve-realm", ["pam"], ["p", "1a", "a b"]),
      ("ipv4", ["192.0.2.1"], ["192.0.2", "192.0.2.256", "192.0.2.01", "::1"]),
      (
        "ipv6", ["::", "2001:db8::1", "::ffff:192.0.2.1"], ["1", ":::", "fe80::1%eth0", "1.2.3.4"]
      ),
      ("ip", ["192.0.2.1", "::1"], ["host"]),
      ("CIDRv4", ["10.0.0.0/8"], ["10.0.0.0", "10.0.0.0/7", "10.0.0.0/33", "10.0.0.0/x"]),
      ("CIDRv6", ["2001:db8::/64"], ["2001:db8::", "2001:db8::/129"]),
      ("CIDR", ["10.0.0.0/8", "::/8"], ["10.0.0.0"]),
      ("ipv4mask", ["255.255.255.0", "0.0.0.0"], ["255.0.255.0", "24"]),
      ("pve-ipv4-config", ["dhcp", "manual", "10.0.0.2/24"], ["auto", "10.0.0.2"]),
      ("pve-ipv6-config", ["dhcp", "auto", "fd00::2/64"], ["10.0.0.2/24"]),
      ("mac-addr", ["BC:24:11:00:00:01"], ["01:24:11:00:00:01", "BC-24-11-00-00-01", "BC:24"]),
      ("dns-name", ["a", "a-b.example.com"], ["", "a..b", "-a", "a_b"]),
      ("address", ["192.0.2.1", "host.example"], ["a_b"]),
      ("disk-size", ["32", "32G", "1.5T"], ["32GB", "G", "-1"]),
      ("pve-volume-id", ["local:iso/a.iso"], ["local", "local:", "/dev/sda"]),
      ("pve-volume-id-or-qm-path", ["none", "cdrom", "/dev/sda", "local:8"], ["local"]),
      ("pve-iface", ["vmbr0", "eth0.100", "eth0:1"], ["a", "0eth", "vm br0"]),
      ("email", ["a+b@example.com"], ["a", "a@", "@b"]),
      ("email-opt", ["", "a@b"], ["a"]),
      ("email-list", ["", "a@b,c@d", "a@b c@d;e@f"], ["a@b,c"]),
      ("urlencoded", ["a%20b", ""], ["a b", "a+b"]),
      ("pve-tag-list", ["red;green", "a,b c", ""], ["ä", "red;-x"]),
      ("pve-cpuset", ["0", "0-3,5"], ["a", "0-", ""]),
      (
        "pve-calendar-event",
        [
          "daily", "*:0/15", "mon..fri 22:00", "sat *-*-1..7 02:30", "21:00", "*/5", "mon,tue 3:30",
        ], ["often", "mon..nosuch", "25 o'clock"]
      ),
      ("pve-priv-list", ["VM.Audit,VM.Console"], ["VM.Nosuch"]),
      ("pve-startup-order", ["order=1", "1,up=5,down=6", "up=5"], ["first", "up=x"]),
      ("pve-hotplug-features", ["1", "network,disk"], ["2", "network,moon"]),
      ("storage-pair-list", ["1", "local", "a1:b1,c1:d1"], ["local:", "a1:b1:c1"]),
      ("pve-poolid", ["a", "a/b/c"], ["a/b/c/d", "a b", "/a"]),
      ("pve-vlan-id-or-range-list", ["2-4094", "2 4 6-9"], ["1", "9-6", "x"]),
      ("pve-fw-addr-spec", ["+web", "10.0.0.0/8,10.1.1.1", "10.0.0.1-10.0.0.9"], ["10.0.0.0/99"]),
      ("pve-fw-dport-spec", ["80", "80,443", "ssh", "1:9"], ["70000", "80,", "1:2:3"]),
      ("pve-ha-resource-or-vm-id", ["100", "vm:100"], ["vm", "10"]),
      ("pve-storage-content-list", ["iso,images"], ["movies"]),
      ("pve-groupid-list", ["a,b", ""], ["a b@"]),
      ("pve-command-batch", ["[]", #"[{"path":"version","method":"GET"}]"#], ["{}", "x", "[1]"]),
      ("graphite-path", ["whatever it is", ""], []),
    ] as [(String, [String], [String])] {
      let check = NamedFormats.text(format)
      for text in right { #expect(check.complaint(about: text) == nil, "\(format): \(text)") }
      for text in wrong { #expect(check.complaint(about: text) != nil, "\(format): \(text)") }
    }
    #expect(
      NamedFormats.text("pve-storage-id").complaint(about: "-")
        == "storage ID '-' contains illegal characters")
    #expect(
      NamedFormats.text("pve-bridge-id-list").complaint(about: "vmbr0,a/b")
        == "invalid bridge ID 'a/b'")
  }

  @Test("every format of the schema is known, or listed as known by name only")
  func allFormats() throws {
    let byNameOnly: Set = [
      "graphite-path", "pve-acme-alias", "pve-acme-domain", "pve-dir-override", "pve-node-location",
      "pve-qm-bootdisk", "pve-sdn-bgp-rt", "pve-sdn-fabric-id", "pve-sdn-isis-net",
      "pve-sdn-fabric-wireguard-interface", "pve-sdn-prefix-list-id", "pve-sdn-route-map-id",
      "pve-sdn-subnet-id", "pve-storage-options", "pve-storage-path-in-property-string", "string",
    ]
    var found: Set<String> = []
    func visit(_ schema: Schema) {
      switch schema.format {
      case .text(let format)? where format.check == nil: found.insert(format.name)
      case .properties(let keys)?: for key in keys.all { visit(key.schema) }
      case .text?, nil: break
      }
      if let items = schema.items { visit(items) }
      for variant in schema.variants { visit(variant) }
    }
    for entry in table.entries {
      for property in try table.operation(entry).parameters.all { visit(property.schema) }
    }
    #expect(found == byNameOnly)
  }

  @Test("property strings, and the errors inside them")
  func propertyStrings() throws {
    let entry = try #require(
      table.entries.first { $0.method == "POST" && $0.path == "/nodes/{node}/qemu" })
    let parameters = try table.operation(entry).parameters
    func complaint(_ name: String, _ text: String) throws -> String? {
      Validation.complaint(about: text, try #require(parameters[name]), path: name)
    }
    for (name, text) in [
      ("net0", "virtio,bridge=vmbr0"), ("net0", "model=virtio"),
      ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=yes"),
      ("scsi0", "local:8"), ("scsi0", "file=local:8,iothread=on"), ("scsi0", "volume=local:8"),
      ("agent", "1"), ("agent", "enabled=1,type=isa"), ("agent", "0,freeze-fs-on-backup=0"),
      ("boot", "order=scsi0;net0"), ("cpu", "host,flags=+aes"), ("ipconfig0", "ip=dhcp"),
      ("ipconfig0", "ip=10.0.0.2/24,gw=10.0.0.1"), ("memory", "512"), ("cdrom", "none"),
      ("smbios1", "uuid=227e69b1-7ff9-4646-8ec1-2aa9e63bfdf8"),
    ] { #expect(try complaint(name, text) == nil, "\(name)=\(text)") }
    let start = "invalid format - "
    for (name, text, expected) in [
      ("net0", "bridge=vmbr0", "format error\nnet0.model: \(Validation.missing)\n"),
      (
        "net0", "virtio,bridge=a/b",
        "format error\nnet0.bridge: invalid format - invalid bridge ID 'a/b'\n\n"
      ),
      (
        "net0", "virtio,firewall=2",
        "format error\nnet0.firewall: type check ('boolean') failed - got '2'\n"
      ),
      ("net0", "virtio,nonsense=1", "invalid key in comma-separated list property: nonsense\n"),
      ("net0", "virtio,bridge", "duplicate key in comma-separated list property: model\n"),
      (
        "net0", "virtio=BC:24:11:00:00:01,e1000=BC:24:11:00:00:02",
        "key alias 'model' is already defined\n"
      ),
      (
        "net0", "virtio,bridge=a,bridge=b",
        "duplicate key in comma-separated list property: bridge\n"
      ),
      ("net0", "virtio,bridge=", "missing key in comma-separated list property\n"),
      ("net0", "virtio,=b", "missing key in comma-separated list property\n"),
      (
        "ivshmem", "x", "value without key, but schema does not define a default key\n"
      ),
      (
        "net0", "virtio,mtu=1,queues=99",
        "format error\nnet0.queues: value must have a maximum value of 64\n"
      ),
      (
        "ipconfig0", "gw=10.0.0.1",
        "format error\nipconfig0.ip: missing property - 'ipconfig0.gw' requires this property\n"
      ),
    ] {
      #expect(try complaint(name, text) == start + expected, "\(name)=\(text)")
    }
  }

  private func check(
    _ method: String, _ path: String, _ values: [(String, ParameterValue)], era: Era = .v9_2
  ) throws -> [String: String] {
    let table = SchemaTable(era: era)
    let entry = try #require(table.entries.first { $0.method == method && $0.path == path })
    let schema = try table.operation(entry)
    var parameters = Parameters()
    for (name, value) in values { parameters.set(name, value) }
    do throws(APIError) {
      try Validation.check(Validation.normalized(parameters, schema, era), against: schema)
      return [:]
    } catch {
      #expect(error.status == 400)
      return Dictionary(uniqueKeysWithValues: error.fields.map { ($0.name, $0.text) })
    }
  }

  @Test("objects, null, arrays, single texts for arrays, lists for texts")
  func shapes() throws {
    let exec = "/nodes/{node}/qemu/{vmid}/agent/exec"
    let place: [(String, ParameterValue)] = [("node", .text("pve1")), ("vmid", .text("100"))]
    #expect(try check("POST", exec, place) == ["command": Validation.missing])
    #expect(
      try check("POST", exec, place + [("command", .null)]) == ["command": Validation.missing])
    #expect(try check("POST", exec, place + [("command", .text("/bin/ls -l"))]) == [:])
    #expect(
      try check("POST", exec, place + [("command", .text(""))])
        == ["command": "type check ('array') failed"])
    #expect(
      try check("POST", exec, place + [("command", .list([.text("a"), .list([])]))])
        == ["command[1]": "type check ('string') failed - got ARRAY"])
    #expect(
      try check("POST", exec, place + [("command", .object([:]))])
        == ["command": "type check ('array') failed"])
    #expect(
      try check("POST", exec, place + [("command", .text("a")), ("input-data", .object([:]))])
        == ["input-data": "type check ('string') failed - got HASH"])
    #expect(
      try check("POST", exec, place + [("command", .list([.text("a"), .text("b")]))], era: .v7_4)
        == [:])
    #expect(try check("POST", exec, place, era: .v7_4) == [:])
    #expect(
      try check(
        "POST", "/nodes/{node}/qemu",
        place + [("tags", .list([.text("red"), .text("green")])), ("name", .list([.text("a")]))])
        == ["name": "type check ('string') failed - got ARRAY"])
  }

  @Test("parameters that need others, several texts for one, and kinds of objects")
  func relations() throws {
    let qemu: [(String, ParameterValue)] = [("node", .text("pve1")), ("vmid", .text("100"))]
    #expect(
      try check("POST", "/nodes/{node}/qemu", qemu + [("force", .text("1"))])
        == ["archive": "missing property - 'force' requires this property"])
    #expect(
      try check(
        "POST", "/nodes/{node}/qemu",
        qemu + [("force", .text("1")), ("unique", .text("1"))])
        == [
          "archive":
            #"missing property - 'force' requires this property\nmissing property - 'unique' requires this property"#
        ])
    let rule: [(String, ParameterValue)] = [
      ("rule", .text("r1")), ("resources", .text("vm:100")),
    ]
    let rules = "/cluster/ha/rules"
    #expect(try check("POST", rules, rule)["type"] == Validation.missing)
    #expect(
      try check("POST", rules, rule + [("type", .text("node-affinity"))])
        == ["nodes": Validation.missing])
    #expect(
      try check("POST", rules, rule + [("type", .text("resource-affinity"))])
        == ["affinity": Validation.missing])
    #expect(
      try check(
        "POST", rules,
        rule + [("type", .text("resource-affinity")), ("affinity", .text("positive"))]) == [:])
  }
}

@Suite("Patterns of the schema")
struct PatternTests {
  @Test("match as Perl's do between ^ and $")
  func matching() throws {
    for (pattern, right, wrong) in [
      ("[a-z]+", ["a", "abc", "abc\n"], ["", "a1", "a\n\n"]),
      ("a|b", ["a", "ax", "b", "xb"], ["xa", "bx", "c"]),
      ("(?^:^(0x)[0-9a-f]{2})", ["0xff"], ["ff", "0xfff", "0xf"]),
      ("(?^i:[a-c])x", ["Ax", "bx"], ["AX", "dx"]),
      ("([A-F]{2}:){2}[A-F]{2}", ["AA:BB:CC"], ["AA:BB", "AA:BB:CC:DD"]),
      ("\\d{1,3}(\\.\\d+)?", ["1", "123.5"], ["1234", "1."]),
      ("[^\\x00-\\x1F]*", ["", "é"], ["a\u{1}"]),
      ("\\w+", ["aé1_"], ["a-"]),
      (".", ["a"], ["\n", "ab"]),
      ("\\S{2,}", ["ab"], ["a", "a b"]),
      (
        "[0-9a-z]{0,4096}", ["", String(repeating: "a", count: 4096)],
        [String(repeating: "a", count: 4097), "-"]
      ),
      ("[\\]a-]+", ["]a-"], ["b"]),
      ("a?b*?c", ["c", "abbc"], ["aac"]),
      ("x{2}", ["xx"], ["x{2}"]),
      ("a(?!\\n)", ["a"], ["a\n"]),
    ] as [(String, [String], [String])] {
      let compiled = try Pattern(pattern)
      for text in right { #expect(compiled.matches(text), "\(pattern) \(text)") }
      for text in wrong { #expect(!compiled.matches(text), "\(pattern) \(text)") }
    }
  }

  @Test("no text makes a pattern take long")
  func hostile() throws {
    let pattern = try Pattern("(a*)*(a*)*b")
    #expect(!pattern.matches(String(repeating: "a", count: 20_000)))
  }

  @Test("what is no pattern is refused")
  func malformed() {
    for text in ["(", "[a", "a)", "(?<x>a)", "\\q", "[b-a]"] {
      #expect(throws: PatternParser.Malformed.self) { try Pattern(text) }
    }
  }
}
