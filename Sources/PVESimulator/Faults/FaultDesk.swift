import EventLoop

/// What conditions and happenings act on: the cluster, or a test's stand-in for it.
protocol FaultStage: AnyObject {
  /// Begins a condition, or makes a happening happen. `effect` is what ``resolve(_:asked:)`` made of it.
  func begin(_ effect: Fault.Effect, for duration: Duration?)
  /// Ends a condition.
  func end(_ effect: Fault.Effect)
  /// Puts names in the place of "the node that was asked".
  /// - Parameter request: what set it off; nil where no request did.
  func resolve(_ effect: Fault.Effect, asked request: RequestFacts?) -> Fault.Effect
  /// Whether a fault makes sense here: its nodes and guests exist.
  func check(_ fault: Fault) throws(FaultError)
}

/// The node's faults: which there are, and which a request meets. Lives on the loop.
final class FaultDesk {
  /// A fault and what came of it.
  struct Record {
    let id: String
    let fault: Fault
    /// Requests that fitted the trigger.
    var matched = 0
    /// Requests that met the fault, or times that it happened.
    var applied = 0
    /// A condition that holds, with its nodes named.
    var holding: Fault.Effect?
    fileprivate let path: Glob?
    fileprivate let user: Glob?
    fileprivate let dice: Dice
    fileprivate var timer: LoopTimer?
    /// A condition whose duration is over, or a happening that came.
    fileprivate(set) var isOver = false
  }

  /// Why it can't be injected.
  private static let capacity = 1000

  private(set) var records: [Record] = []
  /// Numbers follow from it; changing it makes other requests meet faults with odds.
  private(set) var seed: UInt64
  weak var stage: (any FaultStage)?
  private let loop: Loop?
  private var nextNumber = 1
  /// Whether any request can meet a fault: keeps the way free while there is none.
  private(set) var watchesRequests = false

  init(seed: UInt64, loop: Loop?) {
    self.seed = seed
    self.loop = loop
  }

  // MARK: the list

  /// Adds a fault, and begins it where it waits for no request.
  @discardableResult
  func add(_ fault: Fault) throws(FaultError) -> Record {
    guard records.count < FaultDesk.capacity else {
      throw FaultError("there are \(FaultDesk.capacity) faults already")
    }
    if let id = fault.id, records.contains(where: { $0.id == id }) {
      throw FaultError("there is a fault '\(id)' already")
    }
    try stage?.check(fault)
    while records.contains(where: { $0.id == "\(nextNumber)" }) { nextNumber += 1 }
    let id = fault.id ?? "\(nextNumber)"
    if fault.id == nil { nextNumber += 1 }
    let record = Record(
      id: id, fault: fault, path: fault.when.path.map(Glob.init),
      user: fault.when.user.map(Glob.init), dice: Dice(seed: seed, id))
    records.append(record)
    let family = fault.effect.family
    if family == .condition || family == .happening, !fault.when.isRequest {
      begin(at: records.count - 1, asked: nil)
    }
    update()
    return records.last { $0.id == id } ?? record
  }

  /// Takes a fault away and ends what it holds; false where there is none.
  @discardableResult
  func remove(_ id: String) -> Bool {
    guard let i = records.firstIndex(where: { $0.id == id }) else { return false }
    finish(at: i)
    records.remove(at: i)
    update()
    return true
  }

  /// Takes all away; numbers and odds begin anew, with another seed where one is given.
  func clear(seed: UInt64? = nil) {
    for i in records.indices { finish(at: i) }
    records = []
    nextNumber = 1
    if let seed { self.seed = seed }
    update()
  }

  private func update() {
    watchesRequests = records.contains { record in
      switch record.fault.effect.family {
      case .answer, .console: true
      case .condition, .happening: record.fault.when.isRequest && !record.isOver
      }
    }
  }

  // MARK: requests

  /// What the faults make of a request. Every fault that fits counts it.
  func plan(_ facts: RequestFacts) -> RequestPlan {
    var plan = RequestPlan()
    guard watchesRequests else { return plan }
    var due: [String] = []
    for i in records.indices {
      let family = records[i].fault.effect.family
      if family == .console, !facts.isUpgrade { continue }
      if family == .condition || family == .happening,
        records[i].isOver || records[i].holding != nil || !records[i].fault.when.isRequest
      {
        continue
      }
      if case .expiredTicket = records[i].fault.effect, !facts.hasTicket { continue }
      guard let count = meets(i, facts) else { continue }
      plan.faults.append(records[i].id)
      switch family {
      case .answer: spoil(&plan, records[i], facts, count)
      case .console: spoil(&plan.console, records[i])
      case .condition, .happening: due.append(records[i].id)
      }
    }
    for id in due {
      guard let i = records.firstIndex(where: { $0.id == id }) else { continue }
      begin(at: i, asked: facts)
    }
    return plan
  }

  /// Counts a request that fits; its number where it meets the fault.
  private func meets(_ i: Int, _ facts: RequestFacts) -> Int? {
    let record = records[i]
    let when = record.fault.when
    if let method = when.method, method != facts.method { return nil }
    if let node = when.node, node != facts.node, node != facts.forwardedTo { return nil }
    if let user = record.user, !user.matches(facts.user ?? "") { return nil }
    if let path = record.path, let pattern = when.path {
      let isWhole = pattern.hasPrefix("/api2")
      guard path.matches(isWhole ? facts.path : APIAddress(facts.path)?.path ?? facts.path) else {
        return nil
      }
    }
    let number = record.matched
    records[i].matched += 1
    guard number >= when.skip, record.applied < when.times ?? .max,
      when.probability >= 1 || record.dice.fraction(2 * number) < when.probability
    else { return nil }
    records[i].applied += 1
    return number
  }

  private func spoil(
    _ plan: inout RequestPlan, _ record: Record, _ facts: RequestFacts, _ number: Int
  ) {
    let ending: RequestPlan.Ending
    switch record.fault.effect {
    case .latency(let time, let jitter):
      plan.delay += time + jitter * record.dice.fraction(2 * number + 1)
      return
    case .expiredTicket:
      plan.ticketHasExpired = true
      return
    case .status(let status, let message, let isCarriedOut):
      ending =
        isCarriedOut
        ? .statusAfter(status, message: message) : .status(status, message: message)
    case .dropAnswer: ending = .dropAnswer
    case .dropRequest: ending = .dropRequest
    case .truncate(let bytes): ending = .truncate(bytes)
    case .hang: ending = .hang
    case .garbage(let bytes):
      // None of these begins an HTTP answer.
      let dice = Dice(seed: record.dice[2 * number + 1], "garbage")
      ending = .garbage(dice.bytes(bytes).map { $0 | 0x80 })
    default: return
    }
    // The first fault decides.
    guard plan.ending == nil else { return }
    plan.ending = ending
    plan.isBehindProxy = record.fault.when.node.map { $0 == facts.forwardedTo } ?? false
  }

  private func spoil(_ console: inout ConsolePlan?, _ record: Record) {
    var plan = console ?? ConsolePlan()
    let dice = Dice(seed: record.dice[2 * record.matched], "console")
    switch record.fault.effect {
    case .dial(let fault): plan.dial = plan.dial ?? fault
    case .badFrame(let manner): plan.badFrame = plan.badFrame ?? manner
    case .deadPort(let manner): plan.deadPort = plan.deadPort ?? manner
    case .terminalEnding(let ending): plan.terminalEnding = plan.terminalEnding ?? ending
    case .cutConsole(let bytes): plan.cutAfter = min(plan.cutAfter ?? .max, bytes)
    case .reorderConsole(let odds): plan.reorder = (odds, dice)
    case .repeatConsole(let odds): plan.repetition = (odds, dice)
    case .loseConsole(let odds): plan.loss = (odds, dice)
    case .consoleRate(let rate): plan.rate = min(plan.rate ?? .max, rate)
    default: return
    }
    console = plan
  }

  // MARK: conditions

  private func begin(at i: Int, asked request: RequestFacts?) {
    let fault = records[i].fault
    let id = records[i].id
    let effect = stage?.resolve(fault.effect, asked: request) ?? fault.effect
    if !fault.when.isRequest { records[i].applied += 1 }
    switch fault.effect.family {
    case .answer, .console: return
    case .happening:
      // Without a limit it comes with every request that fits.
      if !fault.when.isRequest || records[i].applied >= fault.when.times ?? .max {
        records[i].isOver = true
      }
    case .condition:
      records[i].holding = effect
      if let duration = fault.duration {
        records[i].timer = loop?.schedule(after: duration) { [weak self] in self?.expire(id) }
      }
    }
    stage?.begin(effect, for: fault.duration)
    update()
  }

  private func expire(_ id: String) {
    guard let i = records.firstIndex(where: { $0.id == id }) else { return }
    finish(at: i)
    // With a limit above one it may come again.
    if records[i].applied >= records[i].fault.when.times ?? 1 { records[i].isOver = true }
    update()
  }

  private func finish(at i: Int) {
    records[i].timer?.cancel()
    records[i].timer = nil
    guard let effect = records[i].holding else { return }
    records[i].holding = nil
    stage?.end(effect)
  }

  /// Conditions that hold.
  var conditions: some Sequence<Fault.Effect> { records.lazy.compactMap(\.holding) }

  // MARK: what others ask

  /// Whether no console port is free on a node.
  func portsAreFull(on node: String) -> Bool {
    conditions.contains {
      if case .fullPorts(let name) = $0 { name == nil || name == node } else { false }
    }
  }

  /// How much later a VM's agent answers.
  func agentDelay(of vmid: Int) -> Duration {
    conditions.reduce(.zero) { sum, effect in
      if case .agentDelay(let delay, let one) = effect, one == nil || one == vmid {
        sum + delay
      } else {
        sum
      }
    }
  }

  /// How much later a call of a guest agent is answered; nothing for other calls.
  func agentDelay(path: String) -> Duration {
    guard conditions.contains(where: { if case .agentDelay = $0 { true } else { false } }) else {
      return .zero
    }
    // /api2/json/nodes/NODE/qemu/VMID/agent/…
    let parts = path.split(separator: "/", maxSplits: 7)
    guard parts.count >= 7, parts[4] == "qemu", parts[6] == "agent", let vmid = Int(parts[5]) else {
      return .zero
    }
    return agentDelay(of: vmid)
  }

  /// By how much a task takes longer.
  var taskFactor: Double {
    conditions.reduce(1) { product, effect in
      if case .slowTasks(let factor) = effect { product * factor } else { product }
    }
  }
}

extension FaultDesk.Record {
  /// The fault and its counters, as `GET /simulator/faults` has it.
  var json: JSON {
    guard case .object(var members) = fault.json else { return .null }
    members.removeAll { $0.key == "id" }
    members.insert(.init(key: "id", value: .string(id)), at: 0)
    var named = fault
    named.id = nil
    members.append(.init(key: "text", value: .string(named.description)))
    members.append(.init(key: "matched", value: .int(matched)))
    members.append(.init(key: "applied", value: .int(applied)))
    members.append(.init(key: "state", value: .string(state)))
    return .object(members)
  }

  /// `holds` for a condition, `waits` for a request, `over`.
  var state: String {
    if holding != nil { return "holds" }
    let isSpent = fault.when.times.map { applied >= $0 } ?? false
    return isOver || isSpent ? "over" : "waits"
  }
}
