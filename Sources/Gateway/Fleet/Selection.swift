import ConsoleProtocol
import ProxmoxClient

/// What a selector finds in the clusters' inventories.
struct Selection: Sendable {
  /// What is selected: clusters in the configuration's order, guests by number, then nodes by name.
  var targets: [SelectorCandidate] = []
  /// What was looked through, for whoever wonders why nothing was found.
  var looked = Looked()

  /// How many there were of what.
  struct Looked: Sendable, Hashable {
    /// The clusters' names.
    var clusters: [String] = []
    /// Guests, templates left out.
    var guests = 0
    /// Nodes.
    var nodes = 0
    /// Templates, which are never selected.
    var templates = 0
    /// Those that fit but for not running.
    var notRunning = 0
  }

  /// Looks through the inventories.
  ///
  /// Unless the selector speaks of `state`, only what runs is selected; a target that is named by itself is selected
  /// whatever its state, so that it is told apart from the ones that worked.
  /// - Throws: ``Problem`` `no-such-target` where a target that is named by itself isn't there, `empty-selection` where
  ///   nothing fits.
  init(
    _ selector: Selector, in inventories: [(cluster: String, inventory: Inventory)]
  ) throws(Problem) {
    let matcher = SelectorMatcher(selector)
    var unseen = Self.Names(matcher.named)
    for (cluster, inventory) in inventories {
      looked.clusters.append(cluster)
      looked.nodes += inventory.nodes.count
      for guest in inventory.guests {
        let candidate = SelectorCandidate(guest, cluster: cluster)
        if candidate.isTemplate {
          looked.templates += 1
          continue
        }
        looked.guests += 1
        let isNamed = unseen.see(candidate)
        consider(candidate, isNamed: isNamed, matcher)
      }
      for node in inventory.nodes {
        let candidate = SelectorCandidate(node, cluster: cluster)
        let isNamed = unseen.see(candidate)
        consider(candidate, isNamed: isNamed, matcher)
      }
    }
    let missing = unseen.missing
    guard missing.isEmpty else { throw Self.missing(missing, looked) }
    guard !targets.isEmpty else { throw Self.empty(selector, looked) }
  }

  private mutating func consider(
    _ candidate: SelectorCandidate, isNamed: Bool, _ matcher: SelectorMatcher
  ) {
    guard matcher.matches(candidate) else { return }
    if !matcher.namesState, !isNamed, !candidate.states.contains("running") {
      looked.notRunning += 1
      return
    }
    targets.append(candidate)
  }

  /// The targets that are named by themselves, and which of them were seen.
  private struct Names {
    private var exact: [String: Int] = [:]
    private var others: [Int] = []
    private let patterns: [Selector.TargetPattern]
    private var seen: [Bool]

    init(_ patterns: [Selector.TargetPattern]) {
      self.patterns = patterns
      seen = Array(repeating: false, count: patterns.count)
      for (i, pattern) in patterns.enumerated() {
        if let key = Self.key(pattern) {
          // Named twice is named once.
          if exact[key] != nil { seen[i] = true } else { exact[key] = i }
        } else {
          others.append(i)
        }
      }
    }

    private static func key(_ pattern: Selector.TargetPattern) -> String? {
      guard pattern.cluster == nil else { return nil }
      return pattern.kind.map { "\($0.rawValue)/\(pattern.id.text)" } ?? pattern.id.text
    }

    mutating func see(_ candidate: SelectorCandidate) -> Bool {
      var found = false
      var keys = [candidate.place.description]
      if candidate.kind != .node {
        keys += [candidate.id] + (candidate.place.name.map { [$0] } ?? [])
      }
      for key in keys {
        if let i = exact[key] {
          seen[i] = true
          found = true
        }
      }
      for i in others where patterns[i].matches(candidate) {
        seen[i] = true
        found = true
      }
      return found
    }

    var missing: [String] {
      patterns.indices.filter { !seen[$0] }.map { patterns[$0].description }
    }
  }

  private static func missing(_ names: [String], _ looked: Looked) -> Problem {
    let few = names.prefix(10).joined(separator: ", ")
    var problem = Problem(
      404, "no-such-target",
      names.count == 1
        ? "There is no target '\(few)' in \(looked.place)."
        : "\(names.count) of the targets are not in \(looked.place): \(few)\(names.count > 10 ? " …" : "").",
      field: "select",
      remedy: "Leave them out, or look at GET /v1/inventory; templates are never selected.")
    problem.more["missing"] = .array(names.prefix(100).map { .string($0) })
    return problem
  }

  private static func empty(_ selector: Selector, _ looked: Looked) -> Problem {
    let text = selector.description
    var sentence =
      "Nothing fits '\(text.prefix(200))\(text.count > 200 ? "…" : "")' among \(looked.guests) guests and "
      + "\(looked.nodes) nodes of \(looked.place)"
    if looked.templates > 0 { sentence += " (\(looked.templates) templates are never selected)" }
    var problem = Problem(
      422, "empty-selection", sentence + ".", field: "select",
      remedy: looked.notRunning > 0
        ? "\(looked.notRunning) would fit but don't run; add state=any to select them all the same."
        : "Look at names, tags and pools in GET /v1/inventory, and try with \"dryRun\": true.")
    problem.more["notRunning"] = .int(looked.notRunning)
    return problem
  }
}

extension Selection.Looked {
  /// For a sentence.
  var place: String {
    clusters.count == 1
      ? "the cluster '\(clusters[0])'"
      : "the clusters \(clusters.map { "'\($0)'" }.joined(separator: ", "))"
  }
}
