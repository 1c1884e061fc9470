import ConsoleProtocol
import ProxmoxClient

/// A guest or node, with what a selector may ask of it.
struct SelectorCandidate: Sendable, Hashable {
  /// The cluster's name in the configuration.
  var cluster: String
  /// Where it is, and what.
  var place: Place
  /// Its tags.
  var tags: [String] = []
  /// Its pool.
  var pool: String?
  /// Its state; a node has two words for one.
  var states: [String] = []
  /// Whether it can't run.
  var isTemplate = false

  /// A guest as PVE lists it.
  init(_ guest: Inventory.Guest, cluster: String) {
    self.cluster = cluster
    place = guest.place
    place.name = guest.name
    tags = guest.tags
    pool = guest.pool
    states = [guest.status]
    isTemplate = guest.template
  }

  /// A node as PVE lists it.
  init(_ node: Inventory.Node, cluster: String) {
    self.cluster = cluster
    place = Place(node: node.node, kind: .node, name: node.node.value)
    states = node.status == "online" ? ["online", "running"] : [node.status]
  }

  /// Of what is known without asking PVE.
  init(place: Place, cluster: String) {
    self.cluster = cluster
    self.place = place
  }

  var kind: Selector.Kind {
    switch place.kind {
    case .node: .node
    case .qemu: .qemu
    case .lxc: .lxc
    }
  }

  var id: String { place.vmid?.description ?? place.node.value }
}

/// A selector made ready for many candidates: each value is looked up and not searched.
struct SelectorMatcher: Sendable {
  private indirect enum Test: Sendable {
    case always
    case texts(Selector.Field, TextSet)
    case numbers([ClosedRange<Int>])
    case targets(TargetSet)
    case none(Test)
    case every([Test])
    case any([Test])
  }

  /// Exact texts and patterns.
  private struct TextSet: Sendable {
    var exact: Set<String> = []
    var globs: [Glob] = []

    init(_ values: [Glob]) {
      for value in values {
        if value.isExact { exact.insert(value.text) } else { globs.append(value) }
      }
    }

    func holds(_ text: String) -> Bool {
      exact.contains(text) || globs.contains { $0.matches(text) }
    }
  }

  private struct TargetSet: Sendable {
    var exact: Set<String> = []
    var names: Set<String> = []
    var patterns: [Selector.TargetPattern] = []

    init(_ values: [Selector.TargetPattern]) {
      for value in values {
        switch (value.kind, value.cluster, value.id.isExact) {
        case (let kind?, nil, true): exact.insert("\(kind.rawValue)/\(value.id.text)")
        case (nil, nil, true): names.insert(value.id.text)
        default: patterns.append(value)
        }
      }
    }

    func holds(_ candidate: SelectorCandidate) -> Bool {
      if exact.contains(candidate.place.description) { return true }
      if candidate.kind != .node {
        if let name = candidate.place.name, names.contains(name) { return true }
        if names.contains(candidate.id) { return true }
      }
      return patterns.contains { $0.matches(candidate) }
    }
  }

  private let test: Test
  /// The nodes that are spoken of: no other node is meant, whatever the conditions on guests say.
  private let nodes: Nodes
  /// Whether a state is spoken of: else only what runs is selected.
  let namesState: Bool
  /// Whether something is asked that only the inventory tells.
  let needsInventory: Bool
  /// Targets that are named one by one, and not excluded.
  let named: [Selector.TargetPattern]

  init(_ selector: Selector) {
    var facts = Facts()
    test = Self.compile(selector, positive: true, &facts)
    nodes = facts.nodes
    namesState = facts.namesState
    needsInventory = facts.needsInventory
    named = facts.named
  }

  private struct Nodes: Sendable {
    /// `type=node`
    var all = false
    /// `node/pve1`
    var patterns: [Selector.TargetPattern] = []

    func hold(_ candidate: SelectorCandidate) -> Bool {
      all || patterns.contains { $0.matches(candidate) }
    }
  }

  private struct Facts {
    var nodes = Nodes()
    var namesState = false
    var needsInventory = false
    var named: [Selector.TargetPattern] = []
  }

  private static func compile(
    _ selector: Selector, positive: Bool, _ facts: inout Facts
  ) -> Test {
    switch selector {
    case .all: return .always
    case .field(let field, let values):
      switch field {
      case .type:
        if positive, values.contains(where: { $0.text == "node" }) { facts.nodes.all = true }
      case .state:
        facts.namesState = true
        facts.needsInventory = true
        if values.contains(where: { $0.text == "any" }) { return .always }
      case .name, .tag, .pool: facts.needsInventory = true
      case .node, .cluster: break
      }
      return .texts(field, TextSet(values))
    case .vmid(let ranges): return .numbers(ranges)
    case .target(let patterns):
      for pattern in patterns {
        if pattern.kind == nil { facts.needsInventory = true }
        guard positive else { continue }
        if pattern.kind == .node { facts.nodes.patterns.append(pattern) }
        if pattern.isExact { facts.named.append(pattern) }
      }
      return .targets(TargetSet(patterns))
    case .not(let inner): return .none(compile(inner, positive: !positive, &facts))
    case .and(let parts):
      return .every(parts.map { compile($0, positive: positive, &facts) })
    case .or(let parts):
      return .any(parts.map { compile($0, positive: positive, &facts) })
    }
  }

  /// Whether a candidate is meant. Its state counts only where the selector speaks of it.
  func matches(_ candidate: SelectorCandidate) -> Bool {
    if candidate.kind == .node, !nodes.hold(candidate) { return false }
    return Self.holds(test, candidate)
  }

  private static func holds(_ test: Test, _ candidate: SelectorCandidate) -> Bool {
    switch test {
    case .always: true
    case .texts(let field, let set):
      switch field {
      case .name: candidate.place.name.map(set.holds) ?? false
      case .tag: candidate.tags.contains(where: set.holds)
      case .pool: candidate.pool.map(set.holds) ?? false
      case .node: set.holds(candidate.place.node.value)
      case .type: set.holds(candidate.kind.rawValue)
      case .state: candidate.states.contains(where: set.holds)
      case .cluster: set.holds(candidate.cluster)
      }
    case .numbers(let ranges):
      candidate.place.vmid.map { id in ranges.contains { $0.contains(id.value) } } ?? false
    case .targets(let set): set.holds(candidate)
    case .none(let inner): !holds(inner, candidate)
    case .every(let parts): parts.allSatisfy { holds($0, candidate) }
    case .any(let parts): parts.contains { holds($0, candidate) }
    }
  }
}

extension Selector.TargetPattern {
  /// Whether a candidate is meant by it. A name without a kind is a guest's.
  func matches(_ candidate: SelectorCandidate) -> Bool {
    if let cluster, !cluster.matches(candidate.cluster) { return false }
    if let kind { return kind == candidate.kind && id.matches(candidate.id) }
    guard candidate.kind != .node else { return false }
    if let name = candidate.place.name, id.matches(name) { return true }
    return id.isExact && id.text == candidate.id
  }
}
