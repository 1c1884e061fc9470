import ConsoleProtocol
import ProxmoxClient

/// All clusters behind the gateway, by name.
struct Clusters: Sendable {
  /// In the order of the configuration.
  let all: [Cluster]

  init(_ configurations: [ClusterConfiguration]) { all = configurations.map { Cluster($0) } }

  /// One by its name.
  subscript(name: String) -> Cluster? { all.first { $0.name == name } }

  /// The one whose API host minted a console.
  func owner(of plan: UpstreamPlan) -> Cluster? {
    all.first { cluster in
      cluster.client.configuration.hosts.contains { $0.host == plan.host && $0.port == plan.port }
    }
  }

  func shutdown() { for cluster in all { cluster.client.shutdown() } }

  /// Finds a target in the cluster that was named, or, where there are several and none was named, in all of them.
  func resolve(
    _ target: Target, in name: String?
  ) async throws(Problem) -> (cluster: Cluster, place: Place) {
    if let name {
      guard let cluster = self[name] else {
        throw Problem(
          404, "unknown-cluster", "There is no cluster '\(name.prefix(80))'.", field: "cluster",
          remedy: "The clusters are: \(all.map(\.name).joined(separator: ", ")).")
      }
      return (cluster, try await place(target, in: cluster))
    }
    if let only = all.first, all.count == 1 { return (only, try await place(target, in: only)) }
    return try await search(target)
  }

  private func search(_ target: Target) async throws(Problem) -> (cluster: Cluster, place: Place) {
    let results = await withTaskGroup(of: (Int, Result<Place, Problem>).self) { group in
      for (i, cluster) in all.enumerated() {
        group.addTask {
          do throws(Problem) {
            return (i, .success(try await place(target, in: cluster)))
          } catch {
            return (i, .failure(error))
          }
        }
      }
      return await group.reduce(into: [Int: Result<Place, Problem>]()) { $0[$1.0] = $1.1 }
    }
    var found: [(Cluster, Place)] = []
    var failures: [Problem] = []
    for (i, cluster) in all.enumerated() {
      switch results[i] {
      case .success(let place)?: found.append((cluster, place))
      case .failure(let problem)?: failures.append(problem)
      case nil: break
      }
    }
    if let first = found.first, found.count == 1 { return first }
    guard found.isEmpty else {
      var problem = Problem(
        409, "ambiguous-target",
        "'\(target)' is in several clusters: \(found.map { $0.0.name }.joined(separator: ", ")).",
        field: "target", remedy: "Name the cluster in the field 'cluster'.")
      problem.more["candidates"] = .array(
        found.map { Problem.candidate($0.1, cluster: $0.0.name) })
      throw problem
    }
    // An ambiguity or an outage says more than that it isn't anywhere else.
    throw failures.first { $0.status == 409 } ?? failures.first { $0.status >= 500 }
      ?? failures.first
      ?? Problem(404, "target-not-found", "There is no '\(target)'.", field: "target")
  }

  private func place(_ target: Target, in cluster: Cluster) async throws(Problem) -> Place {
    do throws(PVEError) {
      return try await cluster.ask { client throws(PVEError) in try await client.resolve(target) }
    } catch {
      var problem = Problem(error, cluster: cluster.name, field: "target")
      if problem.status == 404, let inventory = try? await cluster.client.inventory() {
        let near = Self.similar(to: target, in: inventory)
        problem.more["candidates"] = .array(
          near.map { Problem.candidate($0, cluster: cluster.name) })
        if !near.isEmpty {
          let list = near.map { place in
            place.name.map { "\(place) (\($0))" } ?? place.description
          }
          problem.remedy = [problem.remedy ?? "", "There is: \(list.joined(separator: ", "))."]
            .filter { !$0.isEmpty }.joined(separator: " ")
        }
      }
      throw problem
    }
  }

  /// What somebody may have meant, at most ten.
  static func similar(to target: Target, in inventory: Inventory) -> [Place] {
    let places =
      inventory.guests.map(\.place)
      + inventory.nodes.map { Place(node: $0.node, kind: .node, name: nil) }
    guard places.count > 10 else { return places }
    let wanted = target.description.split(separator: "/").last.map { $0.lowercased() } ?? ""
    return Array(
      places.filter { place in
        let names = [place.name ?? "", place.vmid?.description ?? place.node.value]
        return names.contains { name in
          let lower = name.lowercased()
          return !lower.isEmpty && (lower.contains(wanted) || wanted.contains(lower))
        }
      }.prefix(10))
  }
}
