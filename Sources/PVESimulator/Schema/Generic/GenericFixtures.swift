/// What a freshly installed node has: answers for operations whose plausible values by type alone would be poor, and
/// documents that are there before anybody wrote one.
enum GenericFixtures {
  /// An answer to a GET, or nil where there is none by hand.
  static func answer(_ path: String, _ arguments: Arguments, _ node: PVENode) -> JSON? {
    switch path {
    case "/": return names(["access", "cluster", "nodes", "pools", "storage", "version"], "subdir")
    case "/nodes/{node}/services": return .array(services.map { service($0, node) })
    case "/nodes/{node}/services/{service}/state":
      let name = arguments.text("service") ?? ""
      return service(services.first { $0.name == name } ?? (name, name), node)
    case "/nodes/{node}/time":
      let zone = node.cluster.objects["/nodes/\(node.name)/time", ""]?["timezone"]
      return [
        "time": .int(node.clock.now), "localtime": .int(node.clock.now),
        "timezone": zone ?? "Etc/UTC",
      ]
    case "/cluster/firewall/refs": return references(["/cluster/firewall"], arguments, node)
    case "/nodes/{node}/qemu/{vmid}/firewall/refs", "/nodes/{node}/lxc/{vmid}/firewall/refs":
      return references(
        ["/guests/\(arguments.vmid)/firewall", "/cluster/firewall"], arguments, node)
    case "/nodes/{node}/replication": return replications(node)
    case "/nodes/{node}/subscription":
      return [
        "status": "notfound", "message": "There is no subscription key",
        "serverid": .string(hexadecimal(node.name, 32).uppercased()),
        "url": "https://www.proxmox.com/en/proxmox-virtual-environment/pricing",
      ]
    case "/nodes/{node}/disks/list": return disks
    case "/nodes/{node}/apt/versions": return packages(node)
    case "/nodes/{node}/syslog":
      return .array(log(arguments, node).map { ["n": .int($0.n), "t": .string($0.text)] })
    case "/nodes/{node}/journal": return .array(log(arguments, node).map { .string($0.text) })
    case "/nodes/{node}/rrddata": return rounds(arguments, node, nodeRound)
    case "/nodes/{node}/qemu/{vmid}/rrddata", "/nodes/{node}/lxc/{vmid}/rrddata":
      return rounds(arguments, node, guestRound)
    case "/nodes/{node}/storage/{storage}/rrddata":
      return rounds(arguments, node) { _ in
        [
          .init(key: "total", value: 270_553_174_016), .init(key: "used", value: 23_475_335_168),
        ]
      }
    case "/nodes/{node}/netstat":
      return .array(
        node.guests.values.filter { $0.node === node }.map(\.description.vmid).sorted().map {
          ["vmid": .string(String($0)), "dev": "net0", "in": "0", "out": "0"]
        })
    case "/nodes/{node}/report":
      return .string("==== general system info ====\n\n# hostname\n\(node.name)\n")
    case "/cluster/acme/directories":
      return [
        ["name": "Let's Encrypt V2", "url": "https://acme-v02.api.letsencrypt.org/directory"],
        [
          "name": "Let's Encrypt V2 Staging",
          "url": "https://acme-staging-v02.api.letsencrypt.org/directory",
        ],
      ]
    case "/cluster/firewall/macros":
      return [
        ["macro": "DNS", "descr": "Domain Name System traffic (upd/tcp)"],
        ["macro": "HTTP", "descr": "Hypertext Transfer Protocol (WWW)"],
        ["macro": "HTTPS", "descr": "Hypertext Transfer Protocol (WWW) over SSL"],
        ["macro": "Ping", "descr": "ICMP echo request"],
        ["macro": "SSH", "descr": "Secure shell traffic"],
      ]
    case "/cluster/notifications/targets":
      return [
        [
          "name": "mail-to-root", "type": "sendmail", "origin": "builtin",
          "comment": "Send mails to root@pam's email address",
        ]
      ]
    case "/nodes/{node}/disks/zfs", "/nodes/{node}/disks/lvmthin", "/nodes/{node}/disks/directory",
      "/nodes/{node}/scan/zfs", "/nodes/{node}/scan/iscsi", "/nodes/{node}/hardware/pci",
      "/nodes/{node}/hardware/usb",
      "/cluster/backup-info/not-backed-up",
      "/nodes/{node}/apt/update", "/cluster/ceph/health-mute", "/cluster/ha/status/current":
      return []
    default: return nil
    }
  }

  /// Puts what a fresh node has into the cluster's store.
  static func fill(_ objects: ObjectStore, node: String) {
    let network = "/nodes/\(node)/network"
    objects.addBuiltIn(
      network, "eno1",
      [
        "type": "eth", "active": 1, "exists": 1, "method": "manual", "method6": "manual",
        "priority": 3,
      ])
    objects.addBuiltIn(
      network, "vmbr0",
      [
        "type": "bridge", "active": 1, "autostart": 1, "method": "static", "method6": "manual",
        "address": "192.0.2.10", "netmask": "24", "cidr": "192.0.2.10/24", "gateway": "192.0.2.1",
        "bridge_ports": "eno1", "bridge_stp": "off", "bridge_fd": "0", "priority": 4,
      ])
    objects.addBuiltIn("/nodes/\(node)/dns", "", ["search": "example.com", "dns1": "192.0.2.53"])
    objects.addBuiltIn(
      "/nodes/\(node)/hosts", "",
      ["data": .string("127.0.0.1 localhost\n192.0.2.10 \(node).example.com \(node)\n")])
  }

  /// Puts what a fresh cluster has into its store.
  static func fill(_ objects: ObjectStore) {
    objects.addBuiltIn("/cluster/options", "", ["keyboard": "en-us"])
    objects.addBuiltIn("/cluster/sdn/ipams", "pve", ["type": "pve"])
    objects.addBuiltIn(
      "/cluster/notifications/endpoints/sendmail", "mail-to-root",
      [
        "comment": "Send mails to root@pam's email address", "mailto-user": ["root@pam"],
        "origin": "builtin",
      ])
    objects.addBuiltIn(
      "/cluster/notifications/matchers", "default-matcher",
      [
        "comment": "Route all notifications to mail-to-root", "mode": "all",
        "target": ["mail-to-root"], "origin": "builtin",
      ])
  }

  private static func names(_ all: [String], _ key: String) -> JSON {
    .array(all.map { .object([.init(key: key, value: .string($0))]) })
  }

  private static func hexadecimal(_ seed: String, _ count: Int) -> String {
    String(lowerHex(sha1(Array(seed.utf8))).prefix(count))
  }

  // MARK: services

  private static let services: [(name: String, about: String)] = [
    ("chrony", "chrony, an NTP client/server"), ("corosync", "Corosync Cluster Engine"),
    ("cron", "Regular background program processing daemon"),
    ("ksmtuned", "Kernel Samepage Merging (KSM) Tuning Daemon"),
    ("lxcfs", "FUSE filesystem for LXC"), ("postfix", "Postfix Mail Transport Agent"),
    ("proxmox-firewall", "Proxmox nftables firewall"),
    ("pve-cluster", "The Proxmox VE cluster filesystem"), ("pve-firewall", "Proxmox VE firewall"),
    ("pve-ha-crm", "PVE Cluster HA Resource Manager Daemon"),
    ("pve-ha-lrm", "PVE Local HA Resource Manager Daemon"), ("pvedaemon", "PVE API Daemon"),
    ("pvefw-logger", "Proxmox VE firewall logger"), ("pveproxy", "PVE API Proxy Server"),
    ("pvescheduler", "Proxmox VE scheduler"), ("pvestatd", "PVE Status Daemon"),
    ("spiceproxy", "PVE SPICE Proxy Server"), ("sshd", "OpenBSD Secure Shell server"),
    ("syslog", "System Logging Service"), ("systemd-journald", "Journal Service"),
  ]

  private static func service(_ about: (name: String, about: String), _ node: PVENode) -> JSON {
    let isStopped =
      node.cluster.objects["/nodes/\(node.name)/services", about.name]?["state"] == "dead"
    return [
      "service": .string(about.name), "name": .string(about.name), "desc": .string(about.about),
      "state": isStopped ? "dead" : "running", "active-state": isStopped ? "inactive" : "active",
      "unit-state": "enabled",
    ]
  }

  // MARK: what is made of other documents

  /// IP sets and aliases that rules may name.
  private static func references(_ places: [String], _ arguments: Arguments, _ node: PVENode)
    -> JSON
  {
    let wanted = arguments.text("type")
    var rows: [JSON] = []
    for place in places {
      let scope = place.hasPrefix("/cluster") ? "dc" : "guest"
      for (folder, type) in [("aliases", "alias"), ("ipset", "ipset")]
      where wanted == nil || wanted == type {
        for (name, document) in node.cluster.objects.documents(in: "\(place)/\(folder)") {
          var row: JSON = [
            "type": .string(type), "name": .string(name), "scope": .string(scope),
            "ref": .string("\(type == "ipset" ? "+" : "")\(scope)/\(name)"),
          ]
          if let comment = document["comment"] { row = row.with("comment", comment) }
          rows.append(row)
        }
      }
    }
    return .array(rows)
  }

  /// Replication jobs of the node's guests.
  private static func replications(_ node: PVENode) -> JSON {
    let jobs = node.cluster.objects.documents(in: "/cluster/replication").filter {
      guard case .int(let vmid)? = $0.document["guest"] else { return false }
      return node.guests[vmid]?.node === node
    }
    return .array(jobs.map { $0.document.with("id", .string($0.id)) })
  }

  // MARK: disks and packages

  private static let disks: JSON = [
    [
      "devpath": "/dev/sda", "by_id_link": "/dev/disk/by-id/ata-SIMULATED_0001", "gpt": 1,
      "health": "PASSED", "model": "SIMULATED", "mounted": 1, "osdid": -1, "osdid-list": [],
      "serial": "0001", "size": 274_877_906_944, "type": "ssd", "used": "BIOS boot",
      "vendor": "ATA", "wearout": "100", "wwn": "0x5000000000000001",
    ]
  ]

  private static func packages(_ node: PVENode) -> JSON {
    let versions = node.era.packages
    let list = [
      ("pve-manager", versions.manager), ("libpve-http-server-perl", versions.httpServer),
      ("libpve-access-control", versions.accessControl), ("qemu-server", versions.qemuServer),
      ("pve-container", versions.container), ("proxmox-termproxy", versions.termproxy),
    ]
    return .array(
      list.map { name, version in
        [
          "Package": .string(name), "Title": .string(name), "Version": .string(version),
          "OldVersion": .string(version), "CurrentState": "Installed", "Origin": "Proxmox",
          "Arch": "all", "Priority": "optional", "Section": "admin",
          "Description": .string("Proxmox VE: \(name)"),
        ]
      })
  }

  // MARK: logs and measurements

  private static func log(_ arguments: Arguments, _ node: PVENode) -> [(n: Int, text: String)] {
    let lines = [
      "systemd[1]: Starting pveproxy.service - PVE API Proxy Server...",
      "pveproxy[1201]: starting server",
      "pveproxy[1201]: starting 3 worker(s)",
      "systemd[1]: Started pveproxy.service - PVE API Proxy Server.",
    ].enumerated().map { ($0.offset + 1, "\(node.name) \($0.element)") }
    let first = arguments.integer("start") ?? 0
    return Array(lines.dropFirst(max(0, first)).prefix(arguments.integer("limit") ?? 50))
  }

  /// Seventy measurements, the last of them now.
  private static func rounds(
    _ arguments: Arguments, _ node: PVENode, _ round: (Int) -> [JSON.Member]
  ) -> JSON {
    let step =
      switch arguments.text("timeframe") {
      case "day": 1800
      case "week": 10_800
      case "month": 43_200
      case "year", "decade": 604_800
      default: 60
      }
    let last = node.clock.now / step * step
    return .array(
      (0..<70).map { i in
        .object([.init(key: "time", value: .int(last - (69 - i) * step))] + round(i))
      })
  }

  private static func nodeRound(_ i: Int) -> [JSON.Member] {
    [
      .init(key: "cpu", value: .double(0.02 + Double(i % 7) / 1000)),
      .init(key: "maxcpu", value: 2), .init(key: "iowait", value: 0),
      .init(key: "loadavg", value: .double(0.1 + Double(i % 5) / 100)),
      .init(key: "memtotal", value: 25_276_514_304),
      .init(key: "memused", value: .int(1_327_472_640 + i % 9 * 1_048_576)),
      .init(key: "swaptotal", value: 0), .init(key: "swapused", value: 0),
      .init(key: "roottotal", value: 270_553_174_016),
      .init(key: "rootused", value: 23_475_335_168),
      .init(key: "netin", value: .int(1000 + i % 11 * 10)),
      .init(key: "netout", value: .int(2000 + i % 13 * 10)),
    ]
  }

  private static func guestRound(_ i: Int) -> [JSON.Member] {
    [
      .init(key: "cpu", value: .double(0.01 + Double(i % 7) / 1000)),
      .init(key: "maxcpu", value: 1), .init(key: "mem", value: .int(90_000_000 + i % 9 * 65536)),
      .init(key: "maxmem", value: 268_435_456), .init(key: "disk", value: 0),
      .init(key: "maxdisk", value: 34_359_738_368), .init(key: "diskread", value: 0),
      .init(key: "diskwrite", value: 0), .init(key: "netin", value: .int(100 + i % 11)),
      .init(key: "netout", value: .int(200 + i % 13)),
    ]
  }
}

extension Cluster {
  /// Puts the generic operations' store back to what a fresh cluster has.
  func resetObjects() {
    objects.removeAll()
    GenericFixtures.fill(objects)
    for node in nodes { GenericFixtures.fill(objects, node: node.name) }
  }
}
