import ConsoleProtocol
import GuestExec
import ProxmoxClient

extension FleetEngine {
  /// So many targets are asked about at the same time.
  private static let questions = 16
  /// After this long the remaining targets are answered without their transports.
  private static let patience = Duration.seconds(60)

  /// What an order would do: its targets, which of them go first, and how each would be reached. Runs nothing.
  func preview(_ order: FleetOrder, by key: APIKey) async throws(Problem) -> JSONValue {
    let candidates = try await select(order, by: key)
    let targets = candidates.enumerated().map { i, candidate in
      FleetTarget(index: i, cluster: candidate.cluster, place: candidate.place)
    }
    let rules = order.rules(targets: targets.count)
    let scheduler = FleetScheduler(nodes: FleetRun.nodeNumbers(targets), rules: rules)
    let ways = await ways(targets, order, key)
    var list: [JSONValue] = []
    var byTransport: [String: Int] = [:]
    for (i, target) in targets.enumerated() {
      var out: [String: JSONValue] = [
        "index": .int(i), "cluster": .string(target.cluster),
        "target": .string(target.place.description), "node": .string(target.place.node.value),
        "canary": .bool(scheduler.isCanary(i)), "transport": .null,
      ]
      if let name = target.place.name { out["name"] = .string(name) }
      switch ways[i] {
      case .way(let name, let reason)?:
        out["transport"] = .string(name.rawValue)
        out["reason"] = .string(reason)
        byTransport[name.rawValue, default: 0] += 1
      case .none(let failure)?:
        out["failure"] = failure.json
        byTransport["none", default: 0] += 1
      case nil: byTransport["not-asked", default: 0] += 1
      }
      list.append(.object(out))
    }
    return .object([
      "dryRun": .bool(true), "select": .string(order.selector.description),
      "total": .int(targets.count), "canaries": .int(rules.canaries),
      "failureBudget": rules.budget.map { .int($0) } ?? .null,
      "concurrency": .int(rules.concurrency), "perNode": rules.perNode.map { .int($0) } ?? .null,
      "transports": .object(byTransport.mapValues { .int($0) }), "targets": .array(list),
    ])
  }

  private enum Way: Sendable {
    case way(TransportName, String)
    case none(ExecFailure)
  }

  private func ways(
    _ targets: [FleetTarget], _ order: FleetOrder, _ key: APIKey
  ) async -> [Int: Way] {
    let end = ContinuousClock.now + Self.patience
    return await withTaskGroup(of: (Int, Way)?.self) { group in
      var out: [Int: Way] = [:]
      var next = 0
      func ask() {
        guard next < targets.count, ContinuousClock.now < end else { return }
        let target = targets[next]
        next += 1
        group.addTask { await (target.index, self.way(target, order, key)) }
      }
      for _ in 0..<Self.questions { ask() }
      for await answer in group {
        if let (i, way) = answer { out[i] = way }
        ask()
      }
      return out
    }
  }

  private func way(_ target: FleetTarget, _ order: FleetOrder, _ key: APIKey) async -> Way {
    guard let exec = jobs.execs[target.cluster] else {
      return .none(ExecFailure(.noTransport, "The cluster has no way to commands."))
    }
    let assessments = await exec.explain(order.command.request, on: target.place)
    let named = order.command.transport
    let allowed = key.policy?.transports
    let fitting = assessments.filter { assessment in
      named.map { $0 == assessment.transport } ?? allowed?.contains(assessment.transport) ?? true
    }
    for assessment in fitting {
      if case .possible(let reason) = assessment.verdict {
        return .way(assessment.transport, reason)
      }
    }
    for assessment in fitting {
      if case .impossible(let failure) = assessment.verdict, failure.kind != .noTransport {
        return .none(failure)
      }
    }
    return .none(
      ExecFailure(.noTransport, "No transport that may be used reaches \(target.place)."))
  }
}
