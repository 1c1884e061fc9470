/// What only VMs have (`sendkey`, `unlink`, cloud-init), and what only containers have (`interfaces`).
extension PVENode {
  static let machineOperations: [Operation] = {
    let base = "/nodes/{node}/qemu/{vmid}"
    return [
      Operation("PUT", base + "/unlink") { node, arguments throws(APIError) in
        var values = Parameters()
        for pair in arguments.values.pairs {
          values.set(pair.name == "idlist" ? "delete" : pair.name, pair.value)
        }
        let update = try ConfigUpdate(
          Arguments(identity: arguments.identity, values: values), .qemu, on: node)
        try update.apply(log: { _ in })
        return APIResult(.null)
      },
      Operation("PUT", base + "/sendkey") { node, arguments throws(APIError) in
        try node.requireRoot(arguments, for: "skiplock")
        let guest = try node.guest(arguments, .qemu)
        try node.requireUnlocked(guest, unless: arguments.flag("skiplock"))
        guard guest.isRunning else { throw .died("VM \(guest.vmid) not running") }
        return APIResult(.null)
      },
      Operation("GET", base + "/cloudinit") { node, arguments throws(APIError) in
        let config = try node.guest(arguments, .qemu).config
        let rows = config.options.options.filter { isCloudinit($0.key) }.map { option -> JSON in
          [
            "key": .string(option.key),
            "value": GuestOptions.json(option.key, option.value, .qemu),
          ]
        }
        return APIResult(.array(rows))
      },
      Operation("PUT", base + "/cloudinit") { node, arguments throws(APIError) in
        try node.requireUnlocked(try node.guest(arguments, .qemu))
        return APIResult(.null)
      },
      Operation("GET", base + "/cloudinit/dump") { node, arguments throws(APIError) in
        let guest = try node.guest(arguments, .qemu)
        return APIResult(.string(CloudInit(guest).text(arguments.text("type") ?? "user")))
      },
      Operation("GET", "/nodes/{node}/lxc/{vmid}/interfaces") { node, arguments throws(APIError) in
        node.interfaces(try node.guest(arguments, .lxc))
      },
    ]
  }()

  private static func isCloudinit(_ key: String) -> Bool {
    [
      "cicustom", "cipassword", "citype", "ciuser", "ciupgrade", "nameserver", "searchdomain",
      "sshkeys",
    ]
    .contains(key) || key.hasPrefix("ipconfig")
  }

  /// Addresses of a container that runs; the second part of them is made up.
  private func interfaces(_ guest: Guest) -> APIResult {
    guard guest.isRunning else { return APIResult(.null) }
    var rows: [JSON] = [
      [
        "name": "lo", "hwaddr": "00:00:00:00:00:00", "hardware-address": "00:00:00:00:00:00",
        "inet": "127.0.0.1/8", "inet6": "::1/128",
        "ip-addresses": [
          ["ip-address": "127.0.0.1", "ip-address-type": "inet", "prefix": 8],
          ["ip-address": "::1", "ip-address-type": "inet6", "prefix": 128],
        ],
      ]
    ]
    for option in guest.config.options.options
    where GuestOptions.family(option.key, .lxc)?.name == "net" {
      var parts: [String: String] = [:]
      for part in option.value.split(separator: ",") {
        let halves = part.split(separator: "=", maxSplits: 1)
        if halves.count == 2 { parts[String(halves[0])] = String(halves[1]) }
      }
      let mac = (parts["hwaddr"] ?? "").lowercased()
      let given = parts["ip"].flatMap { $0.contains("/") ? $0 : nil }
      let address = given ?? "192.0.2.\(100 + guest.vmid % 150)/24"
      let halves = address.split(separator: "/")
      rows.append([
        "name": .string(parts["name"] ?? "eth0"), "hwaddr": .string(mac),
        "hardware-address": .string(mac), "inet": .string(address),
        "ip-addresses": [
          [
            "ip-address": .string(String(halves.first ?? "")), "ip-address-type": "inet",
            "prefix": .int(halves.last.flatMap { Int($0) } ?? 24),
          ]
        ],
      ])
    }
    return APIResult(.array(rows))
  }
}

/// The files that PVE makes for cloud-init.
private struct CloudInit {
  private let options: OptionList
  private let name: String
  private let vmid: Int

  init(_ guest: Guest) {
    options = guest.config.future
    name = guest.description.name
    vmid = guest.vmid
  }

  func text(_ type: String) -> String {
    switch type {
    case "meta": "instance-id: \(lowerHex(sha1(Array((user + network).utf8))))\n"
    case "network": network
    default: user
    }
  }

  private var user: String {
    var out = "#cloud-config\nhostname: \(name)\nmanage_etc_hosts: true\n"
    if let domain = options["searchdomain"] { out += "fqdn: \(name).\(domain)\n" }
    if let user = options["ciuser"] { out += "user: \(user)\n" }
    if options["cipassword"] != nil { out += "password: **********\n" }
    if let keys = options["sshkeys"] {
      out += "ssh_authorized_keys:\n"
      for line in percentDecoded(keys.utf8, plusIsSpace: false).split(separator: "\n") {
        out += "  - \(line)\n"
      }
    }
    out += "chpasswd:\n  expire: False\n"
    if options["ciuser"] == nil { out += "users:\n  - default\n" }
    return out + "package_upgrade: \(options["ciupgrade"] == "0" ? "false" : "true")\n"
  }

  private var network: String {
    var out = "version: 1\nconfig:\n"
    for option in options.options.sorted(by: { $0.key < $1.key })
    where GuestOptions.family(option.key, .qemu)?.name == "net" {
      let index = option.key.dropFirst(3)
      let mac = option.value.split(separator: ",").first?.split(separator: "=").last ?? ""
      out += "    - type: physical\n      name: eth\(index)\n"
      out += "      mac_address: '\(mac.lowercased())'\n      subnets:\n"
      let parts = (options["ipconfig\(index)"] ?? "ip=dhcp").split(separator: ",")
      let ip = parts.first { $0.hasPrefix("ip=") }?.dropFirst(3) ?? "dhcp"
      if ip == "dhcp" {
        out += "      - type: dhcp4\n"
      } else {
        out += "      - type: static\n        address: '\(ip)'\n"
        if let gateway = parts.first(where: { $0.hasPrefix("gw=") }) {
          out += "        gateway: '\(gateway.dropFirst(3))'\n"
        }
      }
    }
    if let server = options["nameserver"] {
      out += "    - type: nameserver\n      address:\n"
      for address in listParts(server) { out += "      - '\(address)'\n" }
    }
    return out
  }
}
