/// Which target's command is started when, and when no more are. A state machine without I/O: what happened goes in,
/// what to do comes out.
///
/// The canaries go first; the rest begins only when all of them have succeeded. Targets take turns by node, so that a
/// full node doesn't hold the others up. Every call takes time that grows with what it starts and not with how many
/// targets there are.
struct FleetScheduler: Sendable {
  /// The limits.
  struct Rules: Sendable, Hashable, Codable {
    /// Commands at the same time.
    var concurrency = 10
    /// Commands on one node at the same time; nil for no limit.
    var perNode: Int?
    /// Targets that must succeed before the others begin.
    var canaries = 0
    /// Failures that are borne; one more, and nothing new is started. Nil for any number.
    var budget: Int?
    /// What becomes of running commands when the fleet job is stopped by canaries, budget or time.
    var onStop = OnStop.finish
    /// The ends that count as failures.
    var counts = Set(FailureWord.allCases)
    /// Times that a target is tried again whose way was busy. Nothing was sent in such a case.
    var busyTries = 8
  }

  /// What becomes of running commands when a fleet job is stopped.
  enum OnStop: String, Sendable, Hashable, Codable, CaseIterable {
    /// They end by themselves.
    case finish
    /// They are cancelled.
    case cancel
  }

  /// Ends that may count as failures.
  enum FailureWord: String, Sendable, Hashable, Codable, CaseIterable {
    /// It wasn't started: nothing was sent.
    case notStarted = "not-started"
    /// It exited with a status that isn't a success.
    case exited
    /// A signal ended it.
    case signalled
    /// Its time limit was over.
    case timedOut = "timed-out"
    /// Its end isn't known.
    case lost
    /// Somebody cancelled it by itself.
    case cancelled
  }

  /// How a target's command ended.
  enum Outcome: Sendable, Hashable {
    case succeeded
    case failed(FailureWord)
    /// Nothing was sent because too much runs on the way there.
    case busy
  }

  /// Why no more are started.
  enum Stop: String, Sendable, Hashable, Codable, CaseIterable {
    /// A canary didn't succeed.
    case canaryFailed = "canary-failed"
    /// More failures than the budget bears.
    case budgetExceeded = "budget-exceeded"
    /// The time limit of the whole is over.
    case timedOut = "timed-out"
    /// Somebody cancelled it.
    case cancelled
    /// The gateway was restarted, and a part of the command that is never stored (what is secret, standard input) was
    /// gone, or the key that had ordered it.
    case notStored = "not-stored"
  }

  /// What to do.
  enum Action: Sendable, Hashable {
    /// Start a target's command; one of the events about that target follows.
    case start(Int)
    /// Cancel a target's command; its end follows all the same.
    case cancel(Int)
    /// Call ``FleetScheduler/rested(_:)`` for this node after so many seconds.
    case rest(node: Int, seconds: Int)
    /// Nothing more is started, and why. What was never started stays so.
    case stopped(Stop)
    /// Nothing runs and nothing will.
    case ended
  }

  private enum State: Sendable, Hashable {
    case waiting
    case running
    case over
  }

  private struct Node: Sendable {
    var waiting: [Int] = []
    var head = 0
    var running = 0
    /// Lowered when the way there was busy.
    var limit: Int
    var isInLine = false
    var isResting = false
    var rests = 0
    /// Successes since the limit was changed.
    var streak = 0

    var hasWaiting: Bool { head < waiting.count }

    mutating func take() -> Int? {
      guard head < waiting.count else { return nil }
      defer {
        head += 1
        if head == waiting.count {
          waiting.removeAll(keepingCapacity: true)
          head = 0
        }
      }
      return waiting[head]
    }
  }

  let rules: Rules
  private var states: [State]
  private let nodeOf: [Int]
  private var isCanary: [Bool]
  private var tries: [Int: Int] = [:]
  private var nodes: [Node]
  /// Nodes that may have something to start, in turn.
  private var line: [Int] = []
  private var lineHead = 0
  private var held: [Int] = []
  private(set) var running = 0
  private(set) var failures = 0
  private var canariesLeft: Int
  private var unstarted: Int
  private(set) var stop: Stop?
  private var restored: Stop?
  private var hasEnded = false

  /// - Parameter nodes: for each target the number of its node, from 0.
  init(nodes numbers: [Int], rules: Rules) {
    self.rules = rules
    nodeOf = numbers
    states = Array(repeating: .waiting, count: numbers.count)
    isCanary = Array(repeating: false, count: numbers.count)
    let most = max(1, rules.perNode ?? .max)
    nodes = Array(repeating: Node(limit: most), count: (numbers.max() ?? -1) + 1)
    unstarted = numbers.count
    canariesLeft = min(max(0, rules.canaries), numbers.count)
    let canaries = Self.order(numbers, count: nodes.count).prefix(canariesLeft)
    for target in canaries { isCanary[target] = true }
    for target in canaries { enqueue(target) }
    if canariesLeft == 0 {
      for target in numbers.indices { enqueue(target) }
    } else {
      held = numbers.indices.filter { !isCanary[$0] }
    }
  }

  /// The targets in the order in which nodes take turns.
  private static func order(_ numbers: [Int], count: Int) -> [Int] {
    var byNode = Array(repeating: [Int](), count: count)
    for (target, node) in numbers.enumerated() where byNode.indices.contains(node) {
      byNode[node].append(target)
    }
    var out: [Int] = []
    out.reserveCapacity(numbers.count)
    var round = 0
    var left = byNode.filter { !$0.isEmpty }
    while !left.isEmpty {
      for list in left { out.append(list[round]) }
      round += 1
      left.removeAll { $0.count <= round }
    }
    return out
  }

  /// Whether a target is one of those that go first.
  func isCanary(_ target: Int) -> Bool { isCanary.indices.contains(target) && isCanary[target] }

  /// Whether a target's turn is still to come.
  func isWaiting(_ target: Int) -> Bool {
    states.indices.contains(target) && states[target] == .waiting
  }

  /// Whether everything is over.
  var isOver: Bool { hasEnded }

  // MARK: What happens

  /// Takes over what an earlier process of ours knew. To be called before ``begin()``, once for each target that isn't
  /// waiting any more.
  mutating func restore(_ target: Int, running isRunning: Bool, outcome: Outcome?) {
    guard states.indices.contains(target), states[target] == .waiting else { return }
    unstarted -= 1
    if isRunning {
      states[target] = .running
      running += 1
      nodes[nodeOf[target]].running += 1
      return
    }
    states[target] = .over
    if let outcome, let reason = count(target, outcome), restored == nil { restored = reason }
  }

  /// The same for the reason to stop.
  mutating func restore(stop: Stop) { restored = stop }

  /// The first commands; after a restart, or what was to be done about running ones when nothing more was to start.
  mutating func begin() -> [Action] {
    if let reason = restored {
      return halt(reason, cancelling: reason == .cancelled || rules.onStop == .cancel) + go()
    }
    releaseIfCanariesDone()
    return go()
  }

  /// A target's command is over.
  mutating func ended(_ target: Int, _ outcome: Outcome) -> [Action] {
    guard states.indices.contains(target), states[target] == .running else { return [] }
    let node = nodeOf[target]
    running -= 1
    nodes[node].running -= 1
    if outcome == .busy, stop == nil, tries[target, default: 0] < rules.busyTries {
      return retry(target, on: node) + go()
    }
    states[target] = .over
    if outcome == .succeeded { recover(node) }
    var out: [Action] = []
    if let reason = count(target, outcome), stop == nil {
      out += halt(reason, cancelling: rules.onStop == .cancel)
    }
    releaseIfCanariesDone()
    line(up: node)
    return out + go()
  }

  /// The time of the whole is over.
  mutating func timeOver() -> [Action] {
    guard stop == nil, !hasEnded else { return [] }
    return halt(.timedOut, cancelling: rules.onStop == .cancel) + go()
  }

  /// Somebody cancels the whole: what runs is cancelled too.
  mutating func cancel() -> [Action] {
    guard stop != .cancelled, !hasEnded else { return [] }
    stop = nil
    return halt(.cancelled, cancelling: true) + go()
  }

  /// The time of ``Action/rest(node:seconds:)`` is over.
  mutating func rested(_ node: Int) -> [Action] {
    guard nodes.indices.contains(node), nodes[node].isResting else { return [] }
    nodes[node].isResting = false
    line(up: node)
    return go()
  }

  // MARK: Inside

  /// Counts an end.
  /// - Returns: why to stop now.
  private mutating func count(_ target: Int, _ outcome: Outcome) -> Stop? {
    switch outcome {
    case .succeeded:
      if isCanary[target] { canariesLeft -= 1 }
      return nil
    case .failed(let word):
      if rules.counts.contains(word) { failures += 1 }
    case .busy:
      if rules.counts.contains(.notStarted) { failures += 1 }
    }
    if isCanary[target] { return .canaryFailed }
    if let budget = rules.budget, failures > budget { return .budgetExceeded }
    return nil
  }

  private mutating func halt(_ reason: Stop, cancelling: Bool) -> [Action] {
    stop = reason
    held = []
    line = []
    lineHead = 0
    var out: [Action] = [.stopped(reason)]
    if cancelling {
      for (target, state) in states.enumerated() where state == .running {
        out.append(.cancel(target))
      }
    }
    return out
  }

  private mutating func releaseIfCanariesDone() {
    guard canariesLeft == 0, stop == nil, !held.isEmpty else { return }
    let targets = held
    held = []
    for target in targets { enqueue(target) }
  }

  private mutating func enqueue(_ target: Int) {
    let node = nodeOf[target]
    nodes[node].waiting.append(target)
    line(up: node)
  }

  private mutating func line(up node: Int) {
    guard !nodes[node].isInLine, nodes[node].hasWaiting else { return }
    nodes[node].isInLine = true
    line.append(node)
  }

  /// A node whose way was busy gets one command fewer at a time; with none running there, it is left alone for a while.
  private mutating func retry(_ target: Int, on node: Int) -> [Action] {
    tries[target, default: 0] += 1
    states[target] = .waiting
    unstarted += 1
    nodes[node].waiting.append(target)
    nodes[node].limit = max(1, nodes[node].running)
    nodes[node].streak = 0
    guard nodes[node].running == 0 else {
      line(up: node)
      return []
    }
    guard !nodes[node].isResting else { return [] }
    nodes[node].isResting = true
    let seconds = 1 << min(nodes[node].rests, 5)
    nodes[node].rests += 1
    return [.rest(node: node, seconds: seconds)]
  }

  /// A node that was busy gets one command more at a time once several in a row have worked.
  private mutating func recover(_ node: Int) {
    nodes[node].rests = 0
    guard nodes[node].limit < max(1, rules.perNode ?? .max) else { return }
    nodes[node].streak += 1
    guard nodes[node].streak >= nodes[node].limit * 4 else { return }
    nodes[node].streak = 0
    nodes[node].limit += 1
  }

  /// Starts what may start.
  private mutating func go() -> [Action] {
    var out: [Action] = []
    while stop == nil, running < max(1, rules.concurrency), lineHead < line.count {
      let node = line[lineHead]
      lineHead += 1
      nodes[node].isInLine = false
      // A node at its limit comes back into the line when one of its commands ends.
      guard nodes[node].running < nodes[node].limit, !nodes[node].isResting else { continue }
      guard let target = nodes[node].take() else { continue }
      // Restored as running or over.
      guard states[target] == .waiting else {
        line(up: node)
        continue
      }
      states[target] = .running
      unstarted -= 1
      running += 1
      nodes[node].running += 1
      out.append(.start(target))
      line(up: node)
    }
    if lineHead > 1024, lineHead * 2 > line.count {
      line.removeSubrange(..<lineHead)
      lineHead = 0
    }
    if running == 0, !hasEnded, stop != nil || unstarted == 0 {
      hasEnded = true
      out.append(.ended)
    }
    return out
  }
}
