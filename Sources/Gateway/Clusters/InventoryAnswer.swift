import ConsoleProtocol
import ProxmoxClient

extension Clusters {
  /// What is in some clusters, asked in parallel, in their order.
  static func inventories(
    of clusters: [Cluster]
  ) async -> [(cluster: String, result: Result<Inventory, Problem>)] {
    let answers = await withTaskGroup(of: (Int, Result<Inventory, Problem>).self) { group in
      for (i, cluster) in clusters.enumerated() {
        group.addTask {
          let answer = await cluster.result { client throws(PVEError) in
            try await client.inventory()
          }
          return (i, answer.mapError { Problem($0, cluster: cluster.name) })
        }
      }
      return await group.reduce(into: [Int: Result<Inventory, Problem>]()) { $0[$1.0] = $1.1 }
    }
    return clusters.enumerated().compactMap { i, cluster in answers[i].map { (cluster.name, $0) } }
  }

  /// `GET /v1/inventory`: every cluster's nodes and guests, asked in parallel. A cluster that fails says so in its own
  /// entry.
  func inventory() async -> JSONValue {
    let answers = await withTaskGroup(of: (Int, JSONValue).self) { group in
      for (i, cluster) in all.enumerated() {
        group.addTask { (i, await Self.entry(cluster)) }
      }
      return await group.reduce(into: [Int: JSONValue]()) { $0[$1.0] = $1.1 }
    }
    return .object(["clusters": .array(all.indices.compactMap { answers[$0] })])
  }

  private static func entry(_ cluster: Cluster) async -> JSONValue {
    var out: [String: JSONValue] = [
      "name": .string(cluster.name), "nodes": .array([]), "guests": .array([]),
    ]
    do throws(PVEError) {
      let inventory = try await cluster.ask { client throws(PVEError) in
        try await client.inventory()
      }
      out["nodes"] = .array(inventory.nodes.map(\.json))
      out["guests"] = .array(inventory.guests.map(\.json))
      if let version = try? await cluster.client.version() {
        out["version"] = .string(version.description)
      }
    } catch {
      out["error"] = Problem(error, cluster: cluster.name).json
    }
    return .object(out)
  }
}

extension Inventory.Node {
  fileprivate var json: JSONValue {
    .object([
      "node": .string(node.value), "status": .string(status), "cpu": .number(cpu),
      "maxcpu": .number(maxcpu), "mem": .number(mem), "maxmem": .number(maxmem),
      "uptime": .number(uptime),
      "consoles": .array(
        status == "online"
          ? [.string(Console.terminal.description), .string(Console.vnc.description)] : []),
    ])
  }
}

extension Inventory.Guest {
  fileprivate var json: JSONValue {
    var out: [String: JSONValue] = [
      "vmid": .int(vmid.value), "type": .string(type), "node": .string(node.value),
      "status": .string(status), "tags": .array(tags.map { .string($0) }),
      "template": .bool(template), "cpu": .number(cpu), "maxcpu": .number(maxcpu),
      "mem": .number(mem), "maxmem": .number(maxmem), "uptime": .number(uptime),
      // A VM's serial ports by number are not listed: which it has only its configuration tells.
      "consoles": .array(
        consoles.filter { $0 == .vnc || $0 == .terminal }.map { .string($0.description) }),
    ]
    out["name"] = .string(name ?? "\(type)/\(vmid)")
    if let lock { out["lock"] = .string(lock) }
    return .object(out)
  }
}

extension JSONValue {
  fileprivate static func number(_ value: Double?) -> JSONValue {
    guard let value else { return .null }
    return Int(exactly: value).map { .int($0) } ?? .double(value)
  }
  fileprivate static func number(_ value: Int?) -> JSONValue { value.map { .int($0) } ?? .null }
}
