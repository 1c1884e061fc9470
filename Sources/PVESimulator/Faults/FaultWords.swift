/// The words in which faults are written as text and as JSON.
///
/// Both forms are a flat list of names and values, one of which is the effect. This file is the only one that knows
/// the names.
extension Fault {
  /// A name and its value, as text.
  typealias Word = (name: String, value: String)

  private static let effectNames: Set<String> = [
    "latency", "status", "drop", "truncate", "hang", "garbage", "expired-ticket", "dial",
    "bad-frame",
    "dead-port", "terminal-ending", "cut-console", "reorder-console", "repeat-console",
    "lose-console", "console-rate", "node-down", "new-certificate", "clock-skew", "full-ports",
    "agent", "agent-delay", "slow-tasks", "kill-worker", "restart-proxy", "revoke-tickets",
    "migrate",
    "crash",
  ]

  // MARK: reading

  /// Reads names and values.
  static func read(_ words: [Word]) throws(FaultError) -> Fault {
    var left: [String: String] = [:]
    var effectName: String?
    for word in words {
      guard left.updateValue(word.value, forKey: word.name) == nil else {
        throw FaultError("'\(word.name)' is there twice")
      }
      guard effectNames.contains(word.name) else { continue }
      if let other = effectName {
        throw FaultError("a fault has one effect, not '\(other)' and '\(word.name)'")
      }
      effectName = word.name
    }
    guard let effectName else {
      throw FaultError(
        "a fault needs an effect, one of: \(effectNames.sorted().joined(separator: ", "))"
          + (words.first.map { " ('\($0.name)' is none)" } ?? ""))
    }
    let value = left.removeValue(forKey: effectName) ?? ""
    var reader = WordReader(left: left)
    let effect = try reader.effect(effectName, value)
    let trigger = try reader.trigger()
    var fault = Fault(effect, when: trigger)
    fault.duration = try reader.take("for", WordReader.duration)
    fault.id = try reader.take("id", WordReader.identifier)
    if let unknown = reader.left.keys.sorted().first {
      throw FaultError("'\(unknown)' is no field of a fault with '\(effectName)'")
    }
    switch effect.family {
    case .answer, .console:
      if fault.duration != nil {
        throw FaultError("'for' goes with conditions, not '\(effectName)'")
      }
    case .condition: break
    case .happening:
      if fault.duration != nil, effectName != "restart-proxy" {
        throw FaultError("'for' goes with conditions, not '\(effectName)'")
      }
    }
    return fault
  }

  // MARK: writing

  /// The names and values of which it is made.
  var words: [Word] {
    var out = effectWords
    if let method = when.method { out.append(("method", method)) }
    if let path = when.path { out.append(("path", path)) }
    if let user = when.user { out.append(("user", user)) }
    if let node = when.node { out.append(("node", node)) }
    if when.skip > 0 { out.append(("skip", "\(when.skip)")) }
    if let times = when.times { out.append(("times", "\(times)")) }
    if when.probability < 1 { out.append(("probability", "\(when.probability)")) }
    if let duration { out.append(("for", WordReader.text(of: duration))) }
    if let id { out.append(("id", id)) }
    return out
  }

  private var effectWords: [Word] {
    switch effect {
    case .latency(let time, let jitter):
      [("latency", WordReader.text(of: time))]
        + (jitter > .zero ? [("jitter", WordReader.text(of: jitter))] : [])
    case .status(let status, let message, let isCarriedOut):
      [("status", "\(status)"), ("message", message)] + (isCarriedOut ? [("carried-out", "")] : [])
    case .dropAnswer: [("drop", "answer")]
    case .dropRequest: [("drop", "request")]
    case .truncate(let bytes): [("truncate", "\(bytes)")]
    case .hang: [("hang", "")]
    case .garbage(let bytes): [("garbage", "\(bytes)")]
    case .expiredTicket: [("expired-ticket", "")]
    case .dial(let fault): [("dial", fault.rawValue)]
    case .badFrame(let manner): [("bad-frame", manner.rawValue)]
    case .deadPort(let manner): [("dead-port", manner.rawValue)]
    case .terminalEnding(let ending): [("terminal-ending", ending.rawValue)]
    case .cutConsole(let bytes): [("cut-console", "\(bytes)")]
    case .reorderConsole(let odds): [("reorder-console", "\(odds)")]
    case .repeatConsole(let odds): [("repeat-console", "\(odds)")]
    case .loseConsole(let odds): [("lose-console", "\(odds)")]
    case .consoleRate(let rate): [("console-rate", "\(rate)")]
    case .nodeDown(let node, let manner):
      [("node-down", node ?? "")] + (manner == .refused ? [] : [("manner", manner.rawValue)])
    case .newCertificate(let node): [("new-certificate", node ?? "")]
    case .clockSkew(let seconds): [("clock-skew", "\(seconds)")]
    case .fullPorts(let node): [("full-ports", node ?? "")]
    case .agentDelay(let delay, let vmid):
      [("agent-delay", WordReader.text(of: delay))] + (vmid.map { [("vmid", "\($0)")] } ?? [])
    case .agent(let state, let vmid):
      [("agent", state.rawValue)] + (vmid.map { [("vmid", "\($0)")] } ?? [])
    case .slowTasks(let factor): [("slow-tasks", "\(factor)")]
    case .workerDeath(let node, let worker):
      [("kill-worker", node ?? "")] + (worker.map { [("worker", "\($0)")] } ?? [])
    case .proxyRestart(let node): [("restart-proxy", node ?? "")]
    case .revokedTickets(let user): [("revoke-tickets", user ?? "")]
    case .migration(let vmid, let node):
      [("migrate", "\(vmid)")] + (node.map { [("to", $0)] } ?? [])
    case .guestCrash(let vmid): [("crash", "\(vmid)")]
    }
  }
}

/// Takes values out of a fault's words.
struct WordReader {
  private(set) var left: [String: String]

  init(left: [String: String]) { self.left = left }

  /// A field's value, where it is there.
  mutating func take<T>(
    _ name: String, _ read: (_ name: String, _ value: String) throws(FaultError) -> T
  ) throws(FaultError) -> T? {
    guard let value = left.removeValue(forKey: name) else { return nil }
    return try read(name, value)
  }

  mutating func trigger() throws(FaultError) -> Fault.Trigger {
    var trigger = Fault.Trigger()
    trigger.method = try take("method") { name, value throws(FaultError) in
      let method = value.uppercased()
      guard ["GET", "POST", "PUT", "DELETE"].contains(method) else {
        throw FaultError("'method' is GET, POST, PUT or DELETE, not '\(value)'")
      }
      return method
    }
    trigger.path = try take("path") { name, value throws(FaultError) in
      guard value.hasPrefix("/") || value.hasPrefix("*") else {
        throw FaultError("'path' begins with / or *, unlike '\(value)'")
      }
      return value
    }
    trigger.user = try take("user", WordReader.filled)
    trigger.node = try take("node", WordReader.filled)
    trigger.times = try take("times", WordReader.positive)
    trigger.skip = try take("skip", WordReader.count) ?? 0
    if let nth = try take("nth", WordReader.positive) {
      guard trigger.skip == 0, trigger.times == nil else {
        throw FaultError("'nth' says both 'skip' and 'times'; give it alone")
      }
      trigger.skip = nth - 1
      trigger.times = 1
    }
    trigger.probability = try take("probability", WordReader.odds) ?? 1
    return trigger
  }

  mutating func effect(_ name: String, _ value: String) throws(FaultError) -> Fault.Effect {
    switch name {
    case "latency":
      return .latency(
        try WordReader.duration(name, value),
        jitter: try take("jitter", WordReader.duration) ?? .zero)
    case "status":
      let status = try WordReader.positive(name, value)
      guard (200...599).contains(status) else {
        throw FaultError("'status' is 200 to 599, not \(status)")
      }
      let isCarriedOut = try take("carried-out") { name, value throws(FaultError) in
        try WordReader.bare(name, value, true)
      }
      return .status(
        status, message: try take("message") { $1 } ?? "simulated fault",
        carriedOut: isCarriedOut ?? false)
    case "drop":
      switch value {
      case "", "answer", "true": return .dropAnswer
      case "request": return .dropRequest
      default: throw FaultError("'drop' is answer or request, not '\(value)'")
      }
    case "truncate": return .truncate(bytes: try WordReader.count(name, value))
    case "hang": return try WordReader.bare(name, value, .hang)
    case "garbage":
      return .garbage(bytes: value.isEmpty ? 64 : try WordReader.positive(name, value))
    case "expired-ticket": return try WordReader.bare(name, value, .expiredTicket)
    case "dial": return .dial(try WordReader.choice(name, value))
    case "bad-frame": return .badFrame(try WordReader.choice(name, value))
    case "dead-port": return .deadPort(try WordReader.choice(name, value))
    case "terminal-ending": return .terminalEnding(try WordReader.choice(name, value))
    case "cut-console": return .cutConsole(afterBytes: try WordReader.count(name, value))
    case "reorder-console": return .reorderConsole(odds: try WordReader.odds(name, value))
    case "repeat-console": return .repeatConsole(odds: try WordReader.odds(name, value))
    case "lose-console": return .loseConsole(odds: try WordReader.odds(name, value))
    case "console-rate": return .consoleRate(bytesPerSecond: try WordReader.positive(name, value))
    case "node-down":
      let manner: Reachability = try take("manner", WordReader.choice) ?? .refused
      guard manner != .up else { throw FaultError("'manner' of a node that is down can't be up") }
      return .nodeDown(WordReader.optional(value), manner)
    case "new-certificate": return .newCertificate(WordReader.optional(value))
    case "clock-skew":
      guard let seconds = Int(value), abs(seconds) <= 10 * 365 * 86_400 else {
        throw FaultError("'clock-skew' is a number of seconds, not '\(value)'")
      }
      return .clockSkew(seconds: seconds)
    case "full-ports": return .fullPorts(WordReader.optional(value))
    case "agent-delay":
      return .agentDelay(
        try WordReader.duration(name, value), vmid: try take("vmid", WordReader.positive))
    case "agent":
      return .agent(
        try WordReader.choice(name, value), vmid: try take("vmid", WordReader.positive))
    case "slow-tasks":
      guard let factor = Double(value), factor >= 0, factor <= 1_000_000 else {
        throw FaultError("'slow-tasks' is a factor, not '\(value)'")
      }
      return .slowTasks(factor: factor)
    case "kill-worker":
      let worker = try take("worker", WordReader.count)
      if let worker, worker > 2 { throw FaultError("'worker' is 0, 1 or 2, not \(worker)") }
      return .workerDeath(WordReader.optional(value), worker: worker)
    case "restart-proxy": return .proxyRestart(WordReader.optional(value))
    case "revoke-tickets": return .revokedTickets(user: WordReader.optional(value))
    case "migrate":
      return .migration(
        vmid: try WordReader.positive(name, value), to: try take("to", WordReader.filled))
    case "crash": return .guestCrash(vmid: try WordReader.positive(name, value))
    default: throw FaultError("'\(name)' is no effect")
    }
  }

  // MARK: values

  /// JSON says `true` where text says nothing.
  static func optional(_ value: String) -> String? {
    value.isEmpty || value == "true" ? nil : value
  }

  static func bare<T>(_ name: String, _ value: String, _ effect: T) throws(FaultError) -> T {
    guard optional(value) == nil else { throw FaultError("'\(name)' has no value") }
    return effect
  }

  static func filled(_ name: String, _ value: String) throws(FaultError) -> String {
    guard !value.isEmpty else { throw FaultError("'\(name)' is empty") }
    return value
  }

  static func count(_ name: String, _ value: String) throws(FaultError) -> Int {
    guard let n = Int(value), n >= 0 else {
      throw FaultError("'\(name)' is a whole number from 0 on, not '\(value)'")
    }
    return n
  }

  static func positive(_ name: String, _ value: String) throws(FaultError) -> Int {
    guard let n = Int(value), n > 0 else {
      throw FaultError("'\(name)' is a whole number from 1 on, not '\(value)'")
    }
    return n
  }

  static func odds(_ name: String, _ value: String) throws(FaultError) -> Double {
    guard let p = Double(value), p >= 0, p <= 1 else {
      throw FaultError("'\(name)' is a number from 0 to 1, not '\(value)'")
    }
    return p
  }

  static func choice<T: RawRepresentable & CaseIterable>(_ name: String, _ value: String)
    throws(FaultError) -> T where T.RawValue == String
  {
    guard let choice = T(rawValue: value) else {
      let all = T.allCases.map(\.rawValue).joined(separator: ", ")
      throw FaultError("'\(name)' is one of \(all), not '\(value)'")
    }
    return choice
  }

  static func identifier(_ name: String, _ value: String) throws(FaultError) -> String {
    let fits = value.utf8.allSatisfy {
      (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
        || [45, 46, 95].contains($0)
    }
    guard fits, (1...64).contains(value.utf8.count) else {
      throw FaultError("'\(name)' is 1 to 64 letters, digits, '-', '_' and '.', not '\(value)'")
    }
    return value
  }

  /// `200ms`, `1.5s`, `2m`.
  static func duration(_ name: String, _ value: String) throws(FaultError) -> Duration {
    let units: [(suffix: String, nanoseconds: Double)] = [
      ("ms", 1e6), ("us", 1e3), ("s", 1e9), ("m", 60e9), ("h", 3600e9),
    ]
    for unit in units where value.hasSuffix(unit.suffix) {
      guard let n = Double(value.dropLast(unit.suffix.count)), n >= 0, n * unit.nanoseconds < 1e17
      else { break }
      return .nanoseconds(Int64((n * unit.nanoseconds).rounded()))
    }
    throw FaultError("'\(name)' is a time with its unit, like 200ms, 1.5s or 2m, not '\(value)'")
  }

  /// The shortest way to write a duration.
  static func text(of duration: Duration) -> String {
    let nanoseconds = Int(duration / .nanoseconds(1))
    if nanoseconds % 1_000_000_000 == 0 { return "\(nanoseconds / 1_000_000_000)s" }
    if nanoseconds % 1_000_000 == 0 { return "\(nanoseconds / 1_000_000)ms" }
    return "\(Double(nanoseconds) / 1000)us"
  }
}
