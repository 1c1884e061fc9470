/// `mtunnel` and its websocket, for VMs and containers. (PVE has them since 7.3, so every era does.)
extension PVENode {
  static let tunnelOperations: [Operation] =
    tunnelOperations(of: .qemu) + tunnelOperations(of: .lxc)

  private static func tunnelOperations(of kind: SimulatedGuest.Kind) -> [Operation] {
    let base = "/nodes/{node}/\(kind.rawValue)/{vmid}"
    return [
      Operation("POST", base + "/mtunnel") { node, arguments throws(APIError) in
        try node.mintTunnel(arguments, kind)
      },
      Operation("GET", base + "/mtunnelwebsocket") { node, arguments throws(APIError) in
        try node.openTunnel(arguments, kind)
      },
    ]
  }

  private func mintTunnel(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    try checkLocal(arguments)
    let vmid = arguments.vmid
    for storage in arguments.list("storages") {
      _ = try tunnelStorage(storage, for: arguments.authID)
    }
    try createTunnelGuest(vmid, kind)
    let socket = kind == .qemu ? "/run/qemu-server/\(vmid).mtunnel" : "/run/pve/ct-\(vmid).mtunnel"
    let upid = tasks.begin(
      node: name, type: kind == .qemu ? "qmtunnel" : "vzmtunnel", id: "\(vmid)",
      user: arguments.authID)
    TunnelWorker(
      node: self, upid: upid, socket: socket, kind: kind, vmid: vmid, authID: arguments.authID
    ).listen(for: timings.tunnelWait)
    return APIResult([
      "ticket": .string(tickets.tunnel(authID: arguments.authID, socket: socket)),
      "socket": .string(socket), "upid": .string(upid),
    ])
  }

  private func openTunnel(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    try checkLocal(arguments)
    let socket = arguments.text("socket") ?? ""
    guard
      tickets.isTunnel(
        arguments.text("ticket") ?? "", authID: arguments.authID, socket: socket)
    else {
      throw APIError(status: 401, message: "permission denied - invalid PVETUNNEL ticket")
    }
    _ = try guest(arguments, kind)
    return APIResult(["port": .null, "socket": .string(socket)], dial: .socket(socket))
  }

  /// A tunnel's calls are not forwarded, and refuse another node's name.
  private func checkLocal(_ arguments: Arguments) throws(APIError) {
    guard arguments.node == name else {
      throw .invalid([
        .init(name: "node", text: "node needs to be 'localhost' or local hostname '\(name)'")
      ])
    }
  }
}
