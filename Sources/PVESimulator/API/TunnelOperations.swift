/// `mtunnel` and its websocket, for VMs and containers.
extension PVENode {
  static let tunnelOperations: [Operation] =
    tunnelOperations(of: .qemu) + tunnelOperations(of: .lxc)

  private static func tunnelOperations(of kind: SimulatedGuest.Kind) -> [Operation] {
    let base = "/nodes/{node}/\(kind.rawValue)/{vmid}"
    return [
      Operation(
        method: "POST", path: base + "/mtunnel",
        parameters: [
          .node, .vmid, .string("bridges", optional: true), .string("storages", optional: true),
        ],
        permission: .all([
          .privileges(["VM.Allocate"], on: "/vms/{vmid}"), .privileges(["Sys.Incoming"], on: "/"),
        ]),
        isProtected: true
      ) { node, arguments throws(APIError) in
        try node.mintTunnel(arguments, kind)
      },
      Operation(
        method: "GET", path: base + "/mtunnelwebsocket",
        parameters: [.node, .vmid, .string("socket"), .string("ticket")]
      ) { node, arguments throws(APIError) in
        try node.openTunnel(arguments, kind)
      },
    ]
  }

  private func mintTunnel(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError)
    -> APIResult
  {
    try checkLocal(arguments)
    let vmid = arguments.vmid
    if guests[vmid] != nil {
      throw .died("unable to create VM \(vmid) - VM \(vmid) already exists on node '\(name)'")
    }
    let socket = kind == .qemu ? "/run/qemu-server/\(vmid).mtunnel" : "/run/pve/ct-\(vmid).mtunnel"
    let upid = tasks.begin(
      node: name, type: kind == .qemu ? "qmtunnel" : "vzmtunnel", id: "\(vmid)",
      user: arguments.authID)
    TunnelWorker(node: self, upid: upid, socket: socket).listen(for: timings.tunnelWait)
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
    return APIResult(["port": .null, "socket": .string(socket)], dial: .socket(socket))
  }

  /// A tunnel's calls are not forwarded, and refuse another node's name.
  private func checkLocal(_ arguments: Arguments) throws(APIError) {
    guard arguments.node == name else {
      throw .invalid([
        .init(name: "node", text: "can't be called for remote node '\(arguments.node)'")
      ])
    }
  }
}
