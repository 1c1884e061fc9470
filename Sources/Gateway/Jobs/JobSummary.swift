import Foundation
import GuestExec
import ProxmoxClient

/// How far a job is.
package enum JobState: String, Sendable, Hashable, Codable, CaseIterable {
  /// It waits for its turn; nothing was sent.
  case queued
  /// It is being started: whether it was sent isn't known yet.
  case starting
  /// It runs.
  case running
  /// It is over; how is in ``JobSummary/end``.
  case ended
  /// It was never started; why is in ``JobSummary/failure``.
  case failed

  /// Whether nothing more will happen.
  package var isOver: Bool { self == .ended || self == .failed }
}

/// What is known of a job. Holds no secret.
package struct JobSummary: Sendable {
  /// `j-…`; unguessable, the same for ever.
  package var id: String
  /// The cluster's name.
  package var cluster: String
  /// `qemu/100`, `lxc/200` or `node/pve1`.
  package var target: String
  /// The node that it is, or was on at the start.
  package var node: String
  /// The guest's name, where it has one.
  package var name: String?
  /// How it got there; nil before the start.
  package var transport: TransportName?
  /// One sentence: why this way.
  package var reason: String?
  /// How far it is.
  package var state: JobState
  /// How the command ended.
  package var end: ExecEnd?
  /// Why the command was not started.
  package var failure: ExecFailure?
  /// Bytes of standard output that are stored.
  package var stdoutBytes = 0
  /// The same for standard error.
  package var stderrBytes = 0
  /// Bytes of standard input that the transport has taken.
  package var stdinBytes = 0
  /// Whether output on standard output is missing.
  package var stdoutTruncated = false
  /// The same for standard error.
  package var stderrTruncated = false
  /// When it was ordered.
  package var created: Date
  /// When the command was started.
  package var started: Date?
  /// When it was over.
  package var ended: Date?
  /// The name of the API key that ordered it.
  package var key: String
  /// What the caller gave it.
  package var labels: [String: String]
  /// The fleet job that it belongs to.
  package var fleet: String?
  /// The command as it may be shown: the arguments, or the shell's text; nil where it is secret.
  package var command: JSONValue?
  /// The environment's names; nil where they are secret.
  package var environment: [String]?
  /// Whether it has a terminal.
  package var hasTerminal = false
  /// `none`, `given` or `streamed`.
  package var input = "none"
  /// What happens when the caller goes away.
  package var onDisconnect = DisconnectRule.keep
  /// What was told on the way there, e.g. that the agent was waited for.
  package var notes: [String] = []

  /// The JSON form of the API.
  package var json: JSONValue {
    var out: [String: JSONValue] = [
      "id": .string(id), "cluster": .string(cluster), "target": .string(target),
      "node": .string(node), "state": .string(state.rawValue), "stdoutBytes": .int(stdoutBytes),
      "stderrBytes": .int(stderrBytes), "stdinBytes": .int(stdinBytes),
      "stdoutTruncated": .bool(stdoutTruncated), "stderrTruncated": .bool(stderrTruncated),
      "created": .string(created.rfc3339), "key": .string(key), "stdin": .string(input),
      "terminal": .bool(hasTerminal), "onDisconnect": onDisconnect.json,
      "labels": .object(labels.mapValues { .string($0) }),
    ]
    if let name { out["name"] = .string(name) }
    if let transport { out["transport"] = .string(transport.rawValue) }
    if let reason { out["reason"] = .string(reason) }
    if let end { out["end"] = end.json }
    if let failure { out["failure"] = failure.json }
    if let started { out["started"] = .string(started.rfc3339) }
    if let ended { out["ended"] = .string(ended.rfc3339) }
    if let fleet { out["fleet"] = .string(fleet) }
    if let command { out["command"] = command }
    if let environment { out["environment"] = .array(environment.map { .string($0) }) }
    if !notes.isEmpty { out["notes"] = .array(notes.map { .string($0) }) }
    return .object(out)
  }
}

extension JobSummary {
  /// What is stored of it: ``json``, with the times to the millisecond.
  var stored: JSONValue {
    guard case .object(var out) = json else { return .null }
    var times: [String: JSONValue] = ["created": .double(created.timeIntervalSince1970)]
    if let started { times["started"] = .double(started.timeIntervalSince1970) }
    if let ended { times["ended"] = .double(ended.timeIntervalSince1970) }
    out["times"] = .object(times)
    return .object(out)
  }

  /// Reads ``stored``.
  init?(stored json: JSONValue) {
    func time(_ name: String) -> Date? {
      json["times"][name].double.map { Date(timeIntervalSince1970: $0) }
    }
    guard let id = json["id"].string, let created = time("created"),
      let state = json["state"].string.flatMap({ JobState(rawValue: $0) })
    else { return nil }
    self.init(
      id: id, cluster: json["cluster"].string ?? "", target: json["target"].string ?? "",
      node: json["node"].string ?? "", name: json["name"].string,
      transport: json["transport"].string.flatMap { TransportName(rawValue: $0) },
      reason: json["reason"].string, state: state, end: ExecEnd(json: json["end"]),
      failure: ExecFailure(json: json["failure"]), stdoutBytes: json["stdoutBytes"].int ?? 0,
      stderrBytes: json["stderrBytes"].int ?? 0, stdinBytes: json["stdinBytes"].int ?? 0,
      stdoutTruncated: json["stdoutTruncated"].bool ?? false,
      stderrTruncated: json["stderrTruncated"].bool ?? false, created: created,
      started: time("started"), ended: time("ended"), key: json["key"].string ?? "",
      labels: (json["labels"].object ?? [:]).compactMapValues(\.string),
      fleet: json["fleet"].string)
    command = json["command"].isNull ? nil : json["command"]
    environment = json["environment"].array?.compactMap(\.string)
    hasTerminal = json["terminal"].bool ?? false
    input = json["stdin"].string ?? "none"
    onDisconnect = DisconnectRule(json: json["onDisconnect"]) ?? .keep
    notes = json["notes"].array?.compactMap(\.string) ?? []
  }
}

extension ExecEnd {
  /// `{"kind":"exited","code":0}`, `{"kind":"signalled","signal":9}`, `{"kind":"lost","why":"…"}`, or the kind alone.
  package var json: JSONValue {
    var out: [String: JSONValue] = ["kind": .string(word)]
    switch self {
    case .exited(let code): out["code"] = .int(code)
    case .signalled(let number): out["signal"] = .int(number)
    case .lost(let why): out["why"] = .string(why)
    case .timedOut, .cancelled: break
    }
    return .object(out)
  }

  /// Reads ``json``.
  package init?(json: JSONValue) {
    switch json["kind"].string {
    case "exited": if let code = json["code"].int { self = .exited(code) } else { return nil }
    case "signalled":
      if let number = json["signal"].int { self = .signalled(number) } else { return nil }
    case "lost": self = .lost(json["why"].string ?? "")
    case "timed-out": self = .timedOut
    case "cancelled": self = .cancelled
    default: return nil
    }
  }
}

extension ExecFailure {
  /// `{"kind":"agent-not-running","sentence":"…","remedy":"…"}`, with `field` where one is wrong.
  package var json: JSONValue {
    var out: [String: JSONValue] = [
      "kind": .string(kind.rawValue), "sentence": .string(sentence), "remedy": .string(remedy),
    ]
    if let field { out["field"] = .string(field) }
    return .object(out)
  }

  /// Reads ``json``.
  package init?(json: JSONValue) {
    guard let kind = json["kind"].string.flatMap({ Kind(rawValue: $0) }) else { return nil }
    self.init(
      kind, json["sentence"].string ?? "", remedy: json["remedy"].string ?? "",
      field: json["field"].string)
  }
}

extension DisconnectRule {
  /// `"keep"`, `"kill"` or `{"keepFor":60}`.
  var json: JSONValue {
    switch self {
    case .keep: .string("keep")
    case .kill: .string("kill")
    case .keepFor(let time): .object(["keepFor": .double(time.seconds)])
    }
  }

  /// Reads ``json``.
  init?(json: JSONValue) {
    switch json {
    case .string("keep"): self = .keep
    case .string("kill"): self = .kill
    default:
      guard let seconds = json["keepFor"].double, seconds > 0, seconds <= 366 * 86_400 else {
        return nil
      }
      self = .keepFor(.milliseconds(Int(seconds * 1000)))
    }
  }
}
