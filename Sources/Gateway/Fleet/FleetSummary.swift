import Foundation
import GuestExec
import ProxmoxClient

/// What is known of a fleet job as a whole. Holds no secret.
struct FleetSummary: Sendable {
  /// How far it is.
  enum State: String, Sendable, CaseIterable {
    /// Targets wait or run.
    case running
    /// Nothing more is started; some still run.
    case stopping
    /// Nothing runs and nothing will.
    case ended
  }

  /// `f-…`; unguessable.
  var id: String
  /// How far it is.
  var state = State.running
  /// Why it was stopped before all targets had their turn.
  var stop: FleetScheduler.Stop?
  /// When it was ordered.
  var created: Date
  /// When it was over.
  var ended: Date?
  /// The name of the API key that ordered it.
  var key: String
  /// The fleet job whose targets it runs again.
  var rerunOf: String?
  /// The order: ``FleetOrder/stored``.
  var order: JSONValue
  /// The command as it may be shown; nil where it is secret.
  var command: JSONValue?
  /// What the caller gave it.
  var labels: [String: String]
  /// Targets by state.
  var counts: [FleetTarget.State: Int]
  /// The number of the last change.
  var revision = 0

  /// How many targets there are.
  var total: Int { counts.values.reduce(0, +) }

  /// The selector as it is shown, cut where it is a long list.
  private var select: String {
    let text = order["select"].string ?? ""
    return text.utf8.count > 2000 ? "\(text.prefix(1999))…" : text
  }

  /// One word for its end: `completed`, or why it was stopped.
  var end: String? { state == .ended ? stop?.rawValue ?? "completed" : nil }

  /// The counts, each state with its number.
  var progress: JSONValue {
    var out: [String: JSONValue] = ["total": .int(total)]
    for state in FleetTarget.State.allCases { out[state.rawValue] = .int(counts[state] ?? 0) }
    return .object(out)
  }

  /// The JSON form of the API.
  var json: JSONValue {
    var out: [String: JSONValue] = [
      "id": .string(id), "state": .string(state.rawValue), "created": .string(created.rfc3339),
      "key": .string(key), "select": .string(select), "targets": progress,
      "revision": .int(revision), "labels": .object(labels.mapValues { .string($0) }),
      "concurrency": order["concurrency"], "onBudget": order["onBudget"],
      "successCodes": order["successCodes"], "failures": order["failures"],
    ]
    for name in ["cluster", "perNode", "canary", "failureBudget", "totalTimeLimit"]
    where !order[name].isNull { out[name] = order[name] }
    if let command { out["command"] = command }
    if let rerunOf { out["rerunOf"] = .string(rerunOf) }
    if let stop { out["stopped"] = .string(stop.rawValue) }
    if let ended { out["ended"] = .string(ended.rfc3339) }
    if let end {
      out["end"] = .string(end)
      out["succeeded"] = .bool(counts[.succeeded] == total)
    }
    return .object(out)
  }

  /// What is stored, beside the columns of its own.
  var stored: JSONValue {
    var out: [String: JSONValue] = [
      "created": .double(created.timeIntervalSince1970), "order": order,
      "labels": .object(labels.mapValues { .string($0) }), "counts": progress,
    ]
    if let command { out["command"] = command }
    if let rerunOf { out["rerunOf"] = .string(rerunOf) }
    return .object(out)
  }

  init(
    id: String, created: Date, key: String, rerunOf: String?, order: JSONValue,
    command: JSONValue?, labels: [String: String], counts: [FleetTarget.State: Int]
  ) {
    self.id = id
    self.created = created
    self.key = key
    self.rerunOf = rerunOf
    self.order = order
    self.command = command
    self.labels = labels
    self.counts = counts
  }

  /// Reads what was stored.
  init?(
    id: String, key: String, state: String, stop: String?, revision: Int, ended: Double?,
    stored json: JSONValue
  ) {
    guard let state = State(rawValue: state), let created = json["created"].double else {
      return nil
    }
    var counts: [FleetTarget.State: Int] = [:]
    for state in FleetTarget.State.allCases { counts[state] = json["counts"][state.rawValue].int }
    self.init(
      id: id, created: Date(timeIntervalSince1970: created), key: key,
      rerunOf: json["rerunOf"].string, order: json["order"],
      command: json["command"].isNull ? nil : json["command"],
      labels: (json["labels"].object ?? [:]).compactMapValues(\.string), counts: counts)
    self.state = state
    self.stop = stop.flatMap { .init(rawValue: $0) }
    self.revision = revision
    self.ended = ended.map { Date(timeIntervalSince1970: $0) }
  }
}
