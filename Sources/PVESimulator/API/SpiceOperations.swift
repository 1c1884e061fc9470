/// SPICE: what remote-viewer needs to know. There is no SPICE server behind it; a viewer that follows the answer finds
/// nobody.
///
/// Unlike the other consoles these are forwarded: the answer is the guest's node's.
extension PVENode {
  static let spiceOperations: [Operation] = [
    Operation("POST", "/nodes/{node}/spiceshell") { node, arguments throws(APIError) in
      try node.checkShellUser(arguments, tokens: false)
      try checkShellCommand(arguments)
      return try node.spiceTerminal(
        arguments, type: "spiceshell", id: "", vmid: 0, title: "Shell on '\(node.name)'")
    },
    Operation("POST", "/nodes/{node}/qemu/{vmid}/spiceproxy") { node, arguments throws(APIError) in
      let guest = try node.guest(arguments, .qemu)
      guard guest.isRunning, guest.hasSpice else { throw .died("no spice port") }
      // The port is QEMU's for as long as it runs; no worker task is involved.
      let port = PVENode.spicePorts.lowerBound + arguments.vmid % PVENode.spicePorts.count
      return node.spiceAnswer(
        arguments, vmid: arguments.vmid, port: port,
        title: "VM \(arguments.vmid) - \(guest.description.name)")
    },
    Operation("POST", "/nodes/{node}/lxc/{vmid}/spiceproxy") { node, arguments throws(APIError) in
      let guest = try node.guest(arguments, .lxc)
      return try node.spiceTerminal(
        arguments, type: "spiceproxy", id: "\(arguments.vmid)", vmid: arguments.vmid,
        title: "CT \(arguments.vmid) - \(guest.description.name)")
    },
  ]

  /// Where PVE puts SPICE servers.
  static let spicePorts = 61_000...61_999

  /// spiceterm: a terminal over SPICE. It waits 40 s for a viewer, who won't come.
  private func spiceTerminal(
    _ arguments: Arguments, type: String, id: String, vmid: Int, title: String
  ) throws(APIError) -> APIResult {
    guard !portsAreFull,
      let port = PVENode.spicePorts.first(where: { !consoles.spicePorts.contains($0) })
    else { throw .died("unable to find free port (61000-61999)") }
    let upid = tasks.begin(node: name, type: type, id: id, user: arguments.authID)
    SpiceTerminalWorker(node: self, upid: upid, port: port).listen(for: timings.spiceWait)
    return spiceAnswer(arguments, vmid: vmid, port: port, title: title)
  }

  /// What `remote-viewer` reads: names and values of its configuration file.
  private func spiceAnswer(_ arguments: Arguments, vmid: Int, port: Int, title: String)
    -> APIResult
  {
    let proxy = arguments.text("proxy") ?? "\(name).simulated"
    let isIPv6 = proxy.contains(":") && !proxy.hasPrefix("[")
    let host = isIPv6 ? "[\(proxy)]" : proxy
    return APIResult([
      "type": "spice", "title": .string(title),
      "host": .string(
        tickets.spice(vmid: vmid, node: name, port: era.consoleTicketsBindPort ? port : nil)),
      "proxy": .string("http://\(host):3128"), "tls-port": .int(port),
      "host-subject": .string("OU=PVE Cluster Node,O=Proxmox Virtual Environment,CN=\(name)"),
      "ca": .string(certificates.caPEM.replacing("\n", with: "\\n")),
      "password": .string(lowerHex(randomBytes(20))), "delete-this-file": 1,
      "toggle-fullscreen": "Shift+F11", "release-cursor": "Ctrl+Alt+R",
      "secure-attention": "Ctrl+Alt+Ins",
    ])
  }
}

extension TicketOffice {
  /// A SPICE proxy's ticket: `pvespiceproxy:time:vmid:node[:port]::digest`, all of it in lower case, since viewers
  /// send it as a host name. The port is in it since April 2026.
  func spice(vmid: Int, node: String, port: Int?) -> String {
    let plain =
      "pvespiceproxy:\(hex(clock.now, digits: 8)):\(vmid):\(node)"
      + (port.map { ":\($0)" } ?? "")
    let lower = plain.lowercased()
    return lower + "::" + lowerHex(sha1(SigningKey.shared.sign(lower)))
  }
}

/// spiceterm, which nobody reaches.
final class SpiceTerminalWorker: ConsoleWorker {
  override func openListener() { node.consoles.spicePorts.insert(port) }
  override func closeListener() { node.consoles.spicePorts.remove(port) }
  override func nobodyCame() { finish() }
}
