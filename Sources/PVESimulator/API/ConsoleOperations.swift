/// Mints and websockets of every console. None of them is forwarded inside a cluster: the port is open on the node
/// that was asked, and what it leads to is reached from there by ssh.
extension PVENode {
  static let consoleOperations: [Operation] = [
    Operation("POST", "/nodes/{node}/termproxy") { node, arguments throws(APIError) in
      try node.checkShellUser(arguments, tokens: node.era.tokensOpenNodeTerminals)
      // Who isn't root gets the login prompt, whatever was asked for.
      let shell = try node.shell(for: arguments)
      return try node.mintTerminal(
        .init(
          arguments, path: "/nodes/\(arguments.node)", type: "vncshell", id: "",
          check: node.era.nodeLineCheck, command: shell.command), shell.program)
    },
    Operation("POST", "/nodes/{node}/vncshell") { node, arguments throws(APIError) in
      try node.checkShellUser(arguments, tokens: false)
      try PVENode.checkShellCommand(arguments)
      let shell = try node.shell(for: arguments)
      return try node.mintTextScreen(
        .init(
          arguments, path: "/nodes/\(arguments.node)", type: "vncshell", id: "",
          check: node.era.guestLineCheck), shell.program)
    },
    Operation("POST", "/nodes/{node}/qemu/{vmid}/vncproxy") { node, arguments throws(APIError) in
      let guest = try node.guest(arguments, .qemu)
      guard let interface = guest.serialDisplay else {
        return try node.mintScreen(arguments, guest)
      }
      // A VM whose display is a serial port has a terminal for a screen. (What its viewer has to be allowed to without
      // a websocket's password is the node's privilege, on the VM's path.)
      return try node.mintTextScreen(
        .init(guest: arguments, check: node.era.guestLineCheck, privilege: "Sys.Console"),
        node.tunnelled(guest) { guest.serialConsole(interface) })
    },
    Operation("POST", "/nodes/{node}/qemu/{vmid}/termproxy") { node, arguments throws(APIError) in
      let guest = try node.guest(arguments, .qemu)
      let interface = arguments.text("serial")
      let command =
        "/usr/sbin/qm terminal \(arguments.vmid) -escape 0"
        + (interface.map { " -iface \($0)" } ?? "")
      return try node.mintTerminal(
        .init(guest: arguments, check: node.era.guestLineCheck, command: node.ssh(guest) + command),
        node.tunnelled(guest) { guest.serialConsole(interface) })
    },
    Operation("POST", "/nodes/{node}/lxc/{vmid}/vncproxy") { node, arguments throws(APIError) in
      let guest = try node.guest(arguments, .lxc)
      return try node.mintTextScreen(
        .init(guest: arguments, check: node.era.guestLineCheck),
        node.tunnelled(guest) { guest.containerConsole() })
    },
    Operation("POST", "/nodes/{node}/lxc/{vmid}/termproxy") { node, arguments throws(APIError) in
      let guest = try node.guest(arguments, .lxc)
      let command =
        "/usr/bin/dtach -A /var/run/dtach/vzctlconsole\(arguments.vmid) -r winch -z "
        + guest.consoleCommand
      return try node.mintTerminal(
        .init(guest: arguments, check: node.era.guestLineCheck, command: node.ssh(guest) + command),
        node.tunnelled(guest) { guest.containerConsole() })
    },
    Operation("GET", "/nodes/{node}/vncwebsocket") { node, arguments throws(APIError) in
      try node.checkShellUser(arguments, tokens: node.era.tokensOpenNodeTerminals)
      return try node.openWebsocket(arguments, path: "/nodes/\(arguments.node)")
    },
    Operation("GET", "/nodes/{node}/qemu/{vmid}/vncwebsocket") { node, arguments throws(APIError) in
      let result = try node.openWebsocket(arguments, path: "/vms/\(arguments.vmid)")
      _ = try node.guest(arguments, .qemu)
      return result
    },
    Operation("GET", "/nodes/{node}/lxc/{vmid}/vncwebsocket") { node, arguments throws(APIError) in
      try node.openWebsocket(arguments, path: "/vms/\(arguments.vmid)")
    },
  ]

  /// Who may have a node's shell, beyond the privilege: in the handlers of some versions a user and no token, in those
  /// of PVE 7 of the realm `pam`.
  func checkShellUser(_ arguments: Arguments, tokens: Bool) throws(APIError) {
    guard let identity = arguments.identity else { return }
    guard tokens || !identity.isToken else {
      throw .died("value '\(identity.authID)' does not look like a valid user name")
    }
    let realm = identity.user.split(separator: "@").last ?? ""
    guard !era.nodeShellsNeedPAM || realm == "pam" else {
      throw .forbidden("realm \(realm) != pam")
    }
    try resolve(node: arguments.node)
  }

  /// Anything but a login is root@pam's.
  static func checkShellCommand(_ arguments: Arguments) throws(APIError) {
    guard (arguments.text("cmd") ?? "login") == "login" || arguments.authID == "root@pam" else {
      throw .forbidden("user != root@pam")
    }
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
