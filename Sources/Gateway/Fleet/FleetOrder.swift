import ConsoleProtocol
import GuestExec
import ProxmoxClient

/// What `POST /v1/fleet` asks for: one command on many targets.
package struct FleetOrder: Sendable {
  /// A number, or a part of the whole.
  enum Share: Sendable, Hashable {
    case count(Int)
    case percent(Double)
  }

  /// Which targets.
  var selector: Selector
  /// The same as it is shown; it may be too long or too deep to be read again.
  var select: String
  /// Only in this cluster; nil for all.
  var cluster: String?
  /// The command; its target is a stand-in until each target's own is put in.
  var command: JobOrder
  /// Commands at the same time.
  var concurrency = 10
  /// Commands on one node at the same time.
  var perNode: Int?
  /// Targets that must succeed before the others begin.
  var canary: Share?
  /// Failures that are borne.
  var failureBudget: Share?
  /// What becomes of running commands when the whole is stopped.
  var onBudget = FleetScheduler.OnStop.finish
  /// The ends that count as failures.
  var failures = Set(FleetScheduler.FailureWord.allCases)
  /// Exit statuses that are successes.
  var successCodes: Set<Int> = [0]
  /// Nothing new is started after this long.
  var totalTimeLimit: Duration?
  /// Whether only to tell what would be done.
  var isDryRun = false

  /// The fields of the JSON form.
  static let fields =
    [
      "select", "cluster", "concurrency", "perNode", "canary", "failureBudget", "onBudget",
      "failures", "successCodes", "totalTimeLimit", "dryRun",
    ] + JobOrder.commandFields

  /// The most targets of one fleet job.
  static let maximumTargets = 10_000
  /// The most commands at the same time.
  static let maximumConcurrency = 1_000

  /// Reads the JSON form.
  init(_ body: JSONBody, _ configuration: ExecConfiguration) throws(Problem) {
    guard !body.value("select").isNull else {
      throw Problem(
        400, "missing-field", "The field 'select' is missing.", field: "select",
        remedy: "Send e.g. {\"select\":\"tag=web and node=pve1\",\"argv\":[\"uptime\"]}.")
    }
    do throws(SelectorError) {
      selector = try Selector(body.value("select"))
    } catch {
      var problem = Problem(
        400, "bad-selector", error.description, field: "select", remedy: error.remedy)
      if let position = error.position { problem.more["position"] = .int(position) }
      throw problem
    }
    select = selector.description
    cluster = try body.string("cluster")
    command = try JobOrder(body, configuration, target: Self.standIn(), cluster: nil)
    guard command.input != .streamed else {
      throw Problem(
        422, "unsupported", "The standard input of many commands can't be streamed.",
        field: "stdin", remedy: "Give it as a text, or as stdinBase64: each target gets it whole.")
    }
    guard command.onDisconnect == .keep else {
      throw Problem(
        422, "unsupported", "Nobody looks on at the commands of a fleet job by themselves.",
        field: "onDisconnect", remedy: "Leave it out; DELETE /v1/fleet/{id} cancels them all.")
    }
    guard command.request.terminal == nil else {
      throw Problem(
        422, "unsupported", "The commands of a fleet job have no terminal.", field: "terminal",
        remedy: "Leave it out.")
    }
    concurrency = try body.int("concurrency", 1...Self.maximumConcurrency) ?? 10
    perNode = try body.int("perNode", 1...Self.maximumConcurrency)
    canary = try Self.share(body, "canary", least: 1)
    failureBudget = try Self.share(body, "failureBudget", least: 0)
    if let word = try body.string("onBudget") {
      guard let rule = FleetScheduler.OnStop(rawValue: word) else {
        throw Self.bad("onBudget", word, "finish, cancel")
      }
      onBudget = rule
    }
    if let words = try body.strings("failures") {
      failures = []
      for word in words {
        guard let known = FleetScheduler.FailureWord(rawValue: word) else {
          throw Self.bad(
            "failures", word,
            FleetScheduler.FailureWord.allCases.map(\.rawValue).joined(separator: ", "))
        }
        failures.insert(known)
      }
    }
    if !body.value("successCodes").isNull {
      guard let list = body.value("successCodes").array, !list.isEmpty, list.count <= 256 else {
        throw JSONBody.wrong("successCodes", "a list of exit statuses such as [0, 2]")
      }
      successCodes = []
      for item in list {
        guard case .int(let code) = item, (0...Int(UInt32.max)).contains(code) else {
          throw JSONBody.wrong("successCodes", "a list of exit statuses such as [0, 2]")
        }
        successCodes.insert(code)
      }
    }
    totalTimeLimit = try body.seconds("totalTimeLimit", most: .seconds(366 * 86_400))
    isDryRun = try body.bool("dryRun") ?? false
  }

  /// Puts the parts together.
  init(selector: Selector, command: JobOrder) {
    self.selector = selector
    self.command = command
    select = selector.description
  }

  /// Any guest at all.
  static func standIn() -> Target { VMID(100).map { Target.qemu($0) } ?? .name("none") }

  private static func bad(_ field: String, _ word: String, _ known: String) -> Problem {
    Problem(
      400, "bad-value", "'\(field)' holds '\(word.prefix(40))'.", field: field,
      remedy: "There are: \(known).")
  }

  /// A number, or `"5%"`.
  private static func share(
    _ body: JSONBody, _ name: String, least: Int
  ) throws(Problem) -> Share? {
    let shape = "a number of targets, or a part of them such as \"5%\""
    switch body.value(name) {
    case .null: return nil
    case .int(let count):
      guard (least...maximumTargets).contains(count) else {
        throw Problem(
          422, "out-of-range", "'\(name)' is \(count).", field: name,
          remedy: "It takes a number from \(least) to \(maximumTargets), or e.g. \"5%\".")
      }
      return .count(count)
    case .string(let text):
      guard text.hasSuffix("%"), let percent = Double(text.dropLast()), percent >= 0,
        percent <= 100, least == 0 || percent > 0
      else { throw JSONBody.wrong(name, shape) }
      return .percent(percent)
    default: throw JSONBody.wrong(name, shape)
    }
  }

  /// The scheduler's limits for so many targets. A part of them is rounded up for canaries (a canary is wanted), and down
  /// for failures (no more are borne than were said).
  func rules(targets: Int) -> FleetScheduler.Rules {
    var rules = FleetScheduler.Rules()
    rules.concurrency = concurrency
    rules.perNode = perNode
    switch canary {
    case .count(let count)?: rules.canaries = min(count, targets)
    case .percent(let percent)?:
      rules.canaries = min(targets, max(1, Int((percent * Double(targets) / 100).rounded(.up))))
    case nil: rules.canaries = 0
    }
    switch failureBudget {
    case .count(let count)?: rules.budget = count
    case .percent(let percent)?:
      rules.budget = Int((percent * Double(targets) / 100).rounded(.down))
    case nil: rules.budget = nil
    }
    rules.onStop = onBudget
    rules.counts = failures
    return rules
  }

  /// The order of one target.
  func order(for target: FleetTarget, fleet: String) -> JobOrder {
    var out = command
    out.target = target.place.target
    out.cluster = target.cluster
    out.fleet = fleet
    return out
  }
}

extension FleetOrder {
  /// What is stored of it, beside the targets. Holds no secret.
  var stored: JSONValue {
    var out: [String: JSONValue] = [
      "select": .string(select), "command": command.stored,
      "concurrency": .int(concurrency), "onBudget": .string(onBudget.rawValue),
      "failures": .array(failures.map(\.rawValue).sorted().map { .string($0) }),
      "successCodes": .array(successCodes.sorted().map { .int($0) }),
    ]
    if let cluster { out["cluster"] = .string(cluster) }
    if let perNode { out["perNode"] = .int(perNode) }
    if let canary { out["canary"] = canary.json }
    if let failureBudget { out["failureBudget"] = failureBudget.json }
    if let totalTimeLimit { out["totalTimeLimit"] = .double(totalTimeLimit.seconds) }
    return .object(out)
  }

  /// Reads ``stored``; nil where the command isn't whole, because a part of it was secret.
  init?(stored json: JSONValue) {
    guard let text = json["select"].string, let command = JobOrder(stored: json["command"]) else {
      return nil
    }
    // The targets are stored by themselves: nothing is selected a second time.
    self.init(selector: (try? Selector(text)) ?? .all, command: command)
    select = text
    cluster = json["cluster"].string
    concurrency = json["concurrency"].int ?? 10
    perNode = json["perNode"].int
    canary = Share(json["canary"])
    failureBudget = Share(json["failureBudget"])
    onBudget = json["onBudget"].string.flatMap { .init(rawValue: $0) } ?? .finish
    failures = Set(
      (json["failures"].array ?? []).compactMap { $0.string.flatMap { .init(rawValue: $0) } })
    successCodes = Set((json["successCodes"].array ?? []).compactMap(\.int))
    totalTimeLimit = json["totalTimeLimit"].double.map { .milliseconds(Int($0 * 1000)) }
  }
}

extension FleetOrder.Share {
  var json: JSONValue {
    switch self {
    case .count(let count): .int(count)
    case .percent(let percent):
      .string((Int(exactly: percent).map(String.init) ?? String(percent)) + "%")
    }
  }

  init?(_ json: JSONValue) {
    switch json {
    case .int(let count): self = .count(count)
    case .string(let text):
      guard let percent = Double(text.dropLast()) else { return nil }
      self = .percent(percent)
    default: return nil
    }
  }
}
