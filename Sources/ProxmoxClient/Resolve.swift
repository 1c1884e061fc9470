import ConsoleProtocol

extension ProxmoxClient {
  /// Finds out where a target is. A look at the cluster of up to three seconds ago will do, unless the target isn't in it.
  /// - Throws: ``PVEError/Kind/targetNotFound``, ``PVEError/Kind/nodeNotFound``, or
  ///   ``PVEError/Kind/ambiguousTarget(candidates:)`` where several guests have the name.
  public func resolve(_ target: Target) async throws(PVEError) -> Place {
    if let recent = resources.recent, let place = try? Self.resolve(target, in: recent) {
      return place
    }
    return try Self.resolve(target, in: try await inventory())
  }

  static func resolve(_ target: Target, in inventory: Inventory) throws(PVEError) -> Place {
    let request = APIRequest(method: .get, path: "/cluster/resources")
    let found: [Place]
    switch target {
    case .node(let name):
      if inventory.nodes.contains(where: { $0.node == name }) || inventory.nodes.isEmpty {
        return Place(node: name, kind: .node, name: name.value)
      }
      let names = inventory.nodes.map(\.node.value).joined(separator: ", ")
      throw request.error(
        .nodeNotFound, "there is no node '\(name)' in the cluster",
        hint: "The cluster has: \(names)")
    case .qemu(let id): found = inventory.guests.map(\.place).filter { $0.kind == .qemu(id) }
    case .lxc(let id): found = inventory.guests.map(\.place).filter { $0.kind == .lxc(id) }
    case .name(let name): found = places(named: name, in: inventory)
    }
    guard let place = found.first else { throw notFound(target, request, inventory) }
    guard found.count == 1 else {
      let list = found.map { "\($0) on \($0.node)" }.joined(separator: ", ")
      throw request.error(
        .ambiguousTarget(candidates: found),
        "'\(target)' is the name of \(found.count) guests: \(list)",
        hint: "Name one of them by its kind and number, e.g. \(place)")
    }
    return place
  }

  /// A bare number is a vmid; a name is taken as written, and where nobody has it, without regard to case.
  private static func places(named name: String, in inventory: Inventory) -> [Place] {
    if let id = VMID(name) {
      let byNumber = inventory.guests.filter { $0.vmid == id }.map(\.place)
      if !byNumber.isEmpty { return byNumber }
    }
    let exact = inventory.guests.filter { $0.name == name }.map(\.place)
    if !exact.isEmpty { return exact }
    let lower = name.lowercased()
    return inventory.guests.filter { $0.name?.lowercased() == lower }.map(\.place)
  }

  private static func notFound(
    _ target: Target, _ request: APIRequest, _ inventory: Inventory
  ) -> PVEError {
    var hint = "Check the name; a guest is only seen by who has VM.Audit on it"
    if case .name(let name) = target, inventory.nodes.contains(where: { $0.node.value == name }) {
      hint = "There is a node of that name: node/\(name)"
    }
    if let id = target.vmid, let other = inventory.guests.first(where: { $0.vmid == id }) {
      hint = "There is \(other.place) on \(other.node)"
    }
    return request.error(.targetNotFound, "there is no '\(target)' in the cluster", hint: hint)
  }
}

extension Target {
  fileprivate var vmid: VMID? {
    switch self {
    case .qemu(let id), .lxc(let id): id
    case .node, .name: nil
    }
  }
}
