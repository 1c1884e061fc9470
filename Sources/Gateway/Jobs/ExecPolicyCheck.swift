import ConsoleProtocol
import GuestExec
import ProxmoxClient

extension JobEngine {
  /// Lays the key's rules over an order, before anything is stored or sent.
  /// - Returns: the order with what the rules add: the longest time limit where it had none, and the ways that `auto`
  ///   may take.
  /// - Throws: ``Problem`` 403 `policy-refused`; 503 where tags, pool or state decide and can't be looked up.
  func permitted(
    _ order: JobOrder, at place: JobPlace, by key: APIKey
  ) async throws(Problem) -> JobOrder {
    guard let policy = key.policy else { return order }
    let question = ExecPolicy.Question(
      candidate: try await candidate(place, for: policy), request: order.request,
      transport: order.transport)
    var out = order
    out.request = try policy.allow(question, key: key.name)
    out.allowedTransports = policy.transports
    return out
  }

  /// What each rule of the key says of an order, and where its target is; nothing where the key has no rules.
  func policyVerdicts(
    _ order: JobOrder, by key: APIKey
  ) async throws(Problem) -> (place: JobPlace, verdicts: [ExecPolicy.Verdict]) {
    let (cluster, found) = try await clusters.resolve(order.target, in: order.cluster)
    let place = JobPlace(cluster: cluster.name, place: found)
    guard let policy = key.policy else { return (place, []) }
    let question = ExecPolicy.Question(
      candidate: try await candidate(place, for: policy), request: order.request,
      transport: order.transport)
    return (place, policy.explain(question))
  }

  private func candidate(
    _ place: JobPlace, for policy: ExecPolicy
  ) async throws(Problem) -> SelectorCandidate {
    if let known = place.candidate { return known }
    let plain = SelectorCandidate(place: place.place, cluster: place.cluster)
    guard policy.needsInventory else { return plain }
    guard let cluster = clusters[place.cluster] else { throw Self.undecided(place) }
    let inventory: Inventory
    do throws(PVEError) {
      // A fleet job asks for every target: one look does for all of some seconds.
      inventory = try await cluster.ask { client throws(PVEError) in
        try await client.recentInventory()
      }
    } catch {
      throw Self.undecided(place)
    }
    let found: SelectorCandidate? =
      switch place.place.kind {
      case .node:
        inventory.nodes.first { $0.node == place.place.node }.map {
          SelectorCandidate($0, cluster: place.cluster)
        }
      case .qemu, .lxc:
        inventory.guests.first { $0.place.kind == place.place.kind }.map {
          SelectorCandidate($0, cluster: place.cluster)
        }
      }
    guard let found else { throw Self.undecided(place) }
    return found
  }

  /// What can't be known is not allowed.
  private static func undecided(_ place: JobPlace) -> Problem {
    var problem = Problem(
      503, "policy-undecided",
      "The rule exec.targets needs the tags, pool or state of \(place.place), and the cluster doesn't tell them now.",
      remedy: "Try again in a moment.")
    problem.more["rule"] = .string(ExecPolicy.Rule.targets.rawValue)
    return problem
  }
}
