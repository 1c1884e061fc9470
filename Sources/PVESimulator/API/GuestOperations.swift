/// `/nodes/{node}/qemu` and `/nodes/{node}/lxc` without consoles: lists, state, configuration, power.
extension PVENode {
  static let guestOperations: [Operation] =
    operations(of: .qemu, list: [.boolean("full")]) + operations(of: .lxc, list: [])

  private static func operations(of kind: SimulatedGuest.Kind, list: [ParameterSchema])
    -> [Operation]
  {
    let base = "/nodes/{node}/\(kind.rawValue)"
    let looks = Permission.privileges(["VM.Audit"], on: "/vms/{vmid}")
    let powers = Permission.privileges(["VM.PowerMgmt"], on: "/vms/{vmid}")
    let task = kind == .qemu ? "qm" : "vz"
    let common: [ParameterSchema] = [.node, .vmid, .boolean("skiplock")]
    return [
      Operation(
        method: "GET", path: base, parameters: [.node] + list, isProtected: true, isForwarded: true
      ) { node, arguments in
        let rows = node.visibleGuests(arguments).filter { $0.description.kind == kind }
        return APIResult(.array(rows.map { .object(node.row($0)) }))
      },
      Operation(
        method: "GET", path: base + "/{vmid}/status/current", parameters: [.node, .vmid],
        permission: looks, isProtected: true, isForwarded: true
      ) { node, arguments throws(APIError) in
        let guest = try node.guest(arguments, kind)
        var members = node.row(guest) + [.init(key: "ha", value: ["managed": 0])]
        if kind == .qemu {
          members.append(
            .init(key: "qmpstatus", value: .string(guest.isRunning ? "running" : "stopped")))
          if guest.isRunning {
            members.append(.init(key: "clipboard", value: .null))
            if guest.description.agent { members.append(.init(key: "agent", value: 1)) }
          }
        }
        return APIResult(.object(members))
      },
      Operation(
        method: "GET", path: base + "/{vmid}/config",
        parameters: [
          .node, .vmid, .boolean("current"), .string("snapshot", optional: true, maximumLength: 40),
        ],
        permission: looks, isForwarded: true
      ) { node, arguments throws(APIError) in
        APIResult(.object(node.configuration(of: try node.guest(arguments, kind))))
      },
      Operation(
        method: "POST", path: base + "/{vmid}/status/start",
        parameters: common
          + (kind == .lxc
            ? [.boolean("debug")]
            : [.integer("timeout", optional: true, minimum: 0), .string("machine", optional: true)]),
        permission: powers, isProtected: true, isForwarded: true
      ) { node, arguments throws(APIError) in
        let guest = try node.guest(arguments, kind)
        return node.quickTask("\(task)start", arguments) {
          guard !guest.isRunning else {
            return kind == .qemu
              ? "VM \(arguments.vmid) already running" : "CT \(arguments.vmid) already running"
          }
          guest.start()
          return nil
        }
      },
      Operation(
        method: "POST", path: base + "/{vmid}/status/stop",
        parameters: common + [.boolean("overrule-shutdown")]
          + (kind == .qemu
            ? [.boolean("keepActive"), .integer("timeout", optional: true, minimum: 0)] : []),
        permission: powers, isProtected: true, isForwarded: true
      ) { node, arguments throws(APIError) in
        let guest = try node.guest(arguments, kind)
        return node.quickTask("\(task)stop", arguments) {
          if !guest.isRunning, kind == .lxc { return "CT \(arguments.vmid) not running" }
          guest.stop()
          return nil
        }
      },
      Operation(
        method: "POST", path: base + "/{vmid}/status/shutdown",
        parameters: common
          + [.boolean("forceStop"), .integer("timeout", optional: true, minimum: 0)]
          + (kind == .qemu ? [.boolean("keepActive")] : []),
        permission: powers, isProtected: true, isForwarded: true
      ) { node, arguments throws(APIError) in
        let guest = try node.guest(arguments, kind)
        return node.quickTask("\(task)shutdown", arguments) {
          guard guest.isRunning else {
            return kind == .qemu
              ? "VM \(arguments.vmid) not running" : "CT \(arguments.vmid) not running"
          }
          guest.stop()
          return nil
        }
      },
    ]
  }

  /// A task that is over in a moment; its body says what went wrong, or nil.
  fileprivate func quickTask(
    _ type: String, _ arguments: Arguments, _ body: @escaping () -> String?
  ) -> APIResult {
    let upid = tasks.begin(
      node: name, type: type, id: String(arguments.vmid), user: arguments.authID)
    loop.schedule(after: .milliseconds(20)) { [weak self] in
      let failure = body()
      self?.tasks.end(upid, exit: failure ?? "OK")
    }
    return APIResult(.string(upid))
  }

  /// What lists and `status/current` share.
  fileprivate func row(_ guest: Guest) -> [JSON.Member] {
    let about = guest.description
    var members: [JSON.Member] = [
      .init(key: "vmid", value: .int(about.vmid)), .init(key: "name", value: .string(about.name)),
      .init(key: "status", value: .string(guest.isRunning ? "running" : "stopped")),
      .init(key: "uptime", value: .int(guest.uptime)), .init(key: "cpus", value: .int(about.cores)),
      .init(key: "cpu", value: 0), .init(key: "maxmem", value: .int(about.memory)),
      .init(key: "mem", value: .int(guest.isRunning ? about.memory / 3 : 0)),
      .init(key: "disk", value: 0), .init(key: "maxdisk", value: 34_359_738_368),
      .init(key: "netin", value: 0), .init(key: "netout", value: 0),
    ]
    if guest.isRunning { members.append(.init(key: "pid", value: .int(guest.pid))) }
    if !about.tags.isEmpty {
      members.append(.init(key: "tags", value: .string(about.tags.joined(separator: ";"))))
    }
    if about.template { members.append(.init(key: "template", value: 1)) }
    if about.kind == .qemu {
      members.append(.init(key: "memhost", value: 0))
      if guest.isRunning, !about.serialPorts.isEmpty {
        members.append(.init(key: "serial", value: 1))
      }
    } else {
      members += [
        .init(key: "type", value: "lxc"), .init(key: "swap", value: 0),
        .init(key: "maxswap", value: 0), .init(key: "diskread", value: 0),
        .init(key: "diskwrite", value: 0),
      ]
    }
    return members
  }

  /// `GET …/config`.
  fileprivate func configuration(of guest: Guest) -> [JSON.Member] {
    let about = guest.description
    let digest = lowerHex(sha1(Array("\(about.vmid) \(about.name) \(about.tags)".utf8)))
    var members: [JSON.Member] = []
    switch about.kind {
    case .qemu:
      members = [
        .init(key: "name", value: .string(about.name)),
        .init(key: "memory", value: .string(String(about.memory >> 20))),
        .init(key: "cores", value: .int(about.cores)), .init(key: "cpu", value: "x86-64-v2-AES"),
        .init(key: "ostype", value: "l26"), .init(key: "vga", value: "std"),
        .init(key: "boot", value: " "), .init(key: "scsihw", value: "virtio-scsi-single"),
        .init(key: "meta", value: "creation-qemu=11.0.0,ctime=1795281569"),
      ]
      for port in about.serialPorts.keys.sorted() {
        members.append(.init(key: "serial\(port)", value: "socket"))
      }
      if about.agent { members.append(.init(key: "agent", value: "1")) }
    case .lxc:
      members = [
        .init(key: "hostname", value: .string(about.name)),
        .init(key: "memory", value: .int(about.memory >> 20)),
        .init(key: "cores", value: .int(about.cores)), .init(key: "swap", value: 0),
        .init(key: "arch", value: "amd64"), .init(key: "ostype", value: "debian"),
        .init(key: "cmode", value: "tty"),
        .init(
          key: "rootfs",
          value: .string("local:\(about.vmid)/vm-\(about.vmid)-disk-0.raw,size=8G")),
      ]
    }
    if !about.tags.isEmpty {
      members.append(.init(key: "tags", value: .string(about.tags.joined(separator: ";"))))
    }
    if about.template { members.append(.init(key: "template", value: 1)) }
    return members + [.init(key: "digest", value: .string(digest))]
  }
}
