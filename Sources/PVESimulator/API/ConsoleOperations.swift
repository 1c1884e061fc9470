/// Mints and websockets of every console. None of them is forwarded inside a cluster: the port is open on the node
/// that was asked.
extension PVENode {
  private static let seesNode = Permission.privileges(["Sys.Console"], on: "/nodes/{node}")
  private static let seesGuest = Permission.privileges(["VM.Console"], on: "/vms/{vmid}")
  private static let size: [ParameterSchema] = [
    .integer("width", optional: true, 16...4096), .integer("height", optional: true, 16...2160),
  ]
  private static let command: [ParameterSchema] = [
    .string("cmd", optional: true, choices: ["ceph_install", "login", "upgrade"]),
    .string("cmd-opts", optional: true, needs: "cmd"),
  ]
  private static let portAndTicket: [ParameterSchema] = [
    .integer("port", 5900...5999), .string("vncticket", maximumLength: 512),
  ]

  static let consoleOperations: [Operation] = [
    Operation(
      method: "POST", path: "/nodes/{node}/termproxy", parameters: [.node] + command,
      permission: seesNode, isProtected: true
    ) { node, arguments throws(APIError) in
      try node.resolve(node: arguments.node)
      let isRoot = arguments.authID == "root@pam"
      return try node.mintTerminal(
        arguments, path: "/nodes/\(arguments.node)", type: "vncshell", id: "",
        command: isRoot ? "/bin/login -f root" : "/bin/login"
      ) { node.nodeTerminal(isRoot: isRoot) }
    },
    Operation(
      method: "POST", path: "/nodes/{node}/vncshell",
      parameters: [.node, .boolean("websocket")] + command + size, permission: seesNode,
      isProtected: true
    ) { node, arguments throws(APIError) in
      guard arguments.identity?.isToken == false else {
        throw .died("value '\(arguments.authID)' does not look like a valid user name")
      }
      try node.resolve(node: arguments.node)
      let isRoot = arguments.authID == "root@pam"
      if let command = arguments.text("cmd"), command != "login", !isRoot {
        throw .forbidden("user != root@pam")
      }
      return try node.mintTextScreen(
        arguments, path: "/nodes/\(arguments.node)", type: "vncshell", id: ""
      ) { node.nodeTerminal(isRoot: isRoot) }
    },
    Operation(
      method: "POST", path: "/nodes/{node}/qemu/{vmid}/vncproxy",
      parameters: [.node, .vmid, .boolean("websocket"), .boolean("generate-password")],
      permission: seesGuest, isProtected: true
    ) { node, arguments throws(APIError) in
      let guest = try node.guest(arguments, .qemu)
      return try node.mintScreen(arguments, guest)
    },
    Operation(
      method: "POST", path: "/nodes/{node}/qemu/{vmid}/termproxy",
      parameters: [
        .node, .vmid,
        .string("serial", optional: true, choices: ["serial0", "serial1", "serial2", "serial3"]),
      ],
      permission: seesGuest, isProtected: true
    ) { node, arguments throws(APIError) in
      let guest = try node.guest(arguments, .qemu)
      let interface = arguments.text("serial")
      return try node.mintTerminal(
        arguments, path: "/vms/\(arguments.vmid)", type: "vncproxy", id: "\(arguments.vmid)",
        command: "/usr/sbin/qm terminal \(arguments.vmid) -escape 0"
          + (interface.map { " -iface \($0)" } ?? "")
      ) { guest.serialConsole(interface) }
    },
    Operation(
      method: "POST", path: "/nodes/{node}/qemu/{vmid}/spiceproxy",
      parameters: [.node, .vmid, .string("proxy", optional: true)], permission: seesGuest,
      isProtected: true
    ) { node, arguments throws(APIError) in
      _ = try node.guest(arguments, .qemu)
      throw .died("no spice port")
    },
    Operation(
      method: "POST", path: "/nodes/{node}/lxc/{vmid}/vncproxy",
      parameters: [.node, .vmid, .boolean("websocket")] + size, permission: seesGuest,
      isProtected: true
    ) { node, arguments throws(APIError) in
      let guest = try node.guest(arguments, .lxc)
      return try node.mintTextScreen(
        arguments, path: "/vms/\(arguments.vmid)", type: "vncproxy", id: "\(arguments.vmid)"
      ) { guest.containerConsole() }
    },
    Operation(
      method: "POST", path: "/nodes/{node}/lxc/{vmid}/termproxy", parameters: [.node, .vmid],
      permission: seesGuest, isProtected: true
    ) { node, arguments throws(APIError) in
      let guest = try node.guest(arguments, .lxc)
      return try node.mintTerminal(
        arguments, path: "/vms/\(arguments.vmid)", type: "vncproxy", id: "\(arguments.vmid)",
        command: "/usr/bin/dtach -A /var/run/dtach/vzctlconsole\(arguments.vmid) -r winch -z "
          + "lxc-console -n \(arguments.vmid) -e -1"
      ) { guest.containerConsole() }
    },
    Operation(
      method: "GET", path: "/nodes/{node}/vncwebsocket", parameters: [.node] + portAndTicket,
      permission: seesNode
    ) { node, arguments throws(APIError) in
      try node.openWebsocket(arguments, path: "/nodes/\(arguments.node)")
    },
    Operation(
      method: "GET", path: "/nodes/{node}/qemu/{vmid}/vncwebsocket",
      parameters: [.node, .vmid] + portAndTicket, permission: seesGuest
    ) { node, arguments throws(APIError) in
      let result = try node.openWebsocket(arguments, path: "/vms/\(arguments.vmid)")
      _ = try node.guest(arguments, .qemu)
      return result
    },
    Operation(
      method: "GET", path: "/nodes/{node}/lxc/{vmid}/vncwebsocket",
      parameters: [.node, .vmid] + portAndTicket, permission: seesGuest
    ) { node, arguments throws(APIError) in
      try node.openWebsocket(arguments, path: "/vms/\(arguments.vmid)")
    },
  ]

  private func nodeTerminal(isRoot: Bool) -> any TerminalProgram {
    isRoot ? loginShell() : LoginPrompt(node: self)
  }

  private func nextPort() throws(APIError) -> Int {
    guard !portsAreFull, let port = ports.next() else {
      throw .died("unable to find free port (5900-6000)")
    }
    return port
  }

  /// The fields that every mint answers, in PVE's types: `port` is a text although the schema says integer.
  private func answer(
    _ arguments: Arguments, port: Int, ticket: String, upid: String
  ) -> [JSON.Member] {
    [
      .init(key: "user", value: .string(arguments.authID)),
      .init(key: "ticket", value: .string(ticket)),
      .init(key: "port", value: .string(String(port))), .init(key: "upid", value: .string(upid)),
    ]
  }

  private func ticket(_ arguments: Arguments, _ path: String, _ port: Int) -> String {
    tickets.console(
      authID: arguments.authID, path: path, port: era.consoleTicketsBindPort ? port : nil)
  }

  /// Mints a termproxy console.
  private func mintTerminal(
    _ arguments: Arguments, path: String, type: String, id: String, command: String,
    _ program: @escaping () -> any TerminalProgram
  ) throws(APIError) -> APIResult {
    let port = try nextPort()
    let ticket = ticket(arguments, path, port)
    let upid = tasks.begin(node: name, type: type, id: id, user: arguments.authID)
    let worker = TermproxyWorker(
      node: self, upid: upid, port: port, ticket: ticket, authID: arguments.authID, path: path,
      command: command, program: program)
    worker.listen(for: timings.listenerLife)
    return APIResult(.object(answer(arguments, port: port, ticket: ticket, upid: upid)))
  }

  /// Mints a VM's screen.
  private func mintScreen(_ arguments: Arguments, _ guest: Guest) throws(APIError) -> APIResult {
    let port = try nextPort()
    let password = randomVNCPassword()
    let ticket = password + ":" + ticket(arguments, "/vms/\(arguments.vmid)", port)
    let upid = tasks.begin(
      node: name, type: "vncproxy", id: "\(arguments.vmid)", user: arguments.authID)
    VNCProxyWorker(node: self, upid: upid, port: port, guest: guest, password: password)
      .listen(for: timings.listenerLife)
    return APIResult(
      .object(
        answer(arguments, port: port, ticket: ticket, upid: upid) + [
          .init(key: "password", value: .string(password)),
          .init(key: "cert", value: .string(certificates.caPEM)),
        ]))
  }

  /// Mints a terminal as a picture.
  private func mintTextScreen(
    _ arguments: Arguments, path: String, type: String, id: String,
    _ program: @escaping () -> any TerminalProgram
  ) throws(APIError) -> APIResult {
    let port = try nextPort()
    // Without `websocket` vncterm asks for user name and ticket over TLS, which isn't spoken here.
    let password = arguments.flag("websocket") ? randomVNCPassword() : nil
    let bare = ticket(arguments, path, port)
    let ticket = password.map { $0 + ":" + bare } ?? bare
    let upid = tasks.begin(node: name, type: type, id: id, user: arguments.authID)
    VNCTermWorker(
      node: self, upid: upid, port: port, password: password ?? randomVNCPassword(),
      width: arguments.integer("width") ?? 1024, height: arguments.integer("height") ?? 768,
      program: program
    ).listen(for: timings.listenerLife * 2)
    var members = answer(arguments, port: port, ticket: ticket, upid: upid)
    if let password { members.append(.init(key: "password", value: .string(password))) }
    members.append(.init(key: "cert", value: .string(certificates.caPEM)))
    return APIResult(.object(members))
  }

  /// Checks a websocket's ticket: this auth id, this path, this port.
  private func openWebsocket(_ arguments: Arguments, path: String) throws(APIError) -> APIResult {
    let port = arguments.integer("port") ?? 0
    guard
      tickets.isConsole(
        arguments.text("vncticket") ?? "", authID: arguments.authID, path: path,
        port: era.consoleTicketsBindPort ? port : nil)
    else {
      throw APIError(status: 401, message: "permission denied - invalid PVEVNC ticket")
    }
    return APIResult(["port": .string(arguments.text("port") ?? "")], dial: .port(port))
  }
}
