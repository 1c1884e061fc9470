import ConsoleProtocol
import Foundation
import GuestExec
import ProxmoxClient

/// One target of a fleet job, and how far it is. Holds no secret.
struct FleetTarget: Sendable, Hashable {
  /// How far it is.
  enum State: String, Sendable, Hashable, CaseIterable {
    /// Its turn hasn't come.
    case waiting
    /// Its job was ordered.
    case running
    /// It exited with a status that is a success.
    case succeeded
    /// It certainly didn't: see ``FleetTarget/word``.
    case failed
    /// Its end isn't known: it may have run.
    case lost
    /// It was never started, because the whole was stopped.
    case skipped

    /// Whether nothing more will happen.
    var isOver: Bool { self != .waiting && self != .running }
  }

  /// Its number in the fleet job, from 0.
  var index: Int
  /// Its cluster.
  var cluster: String
  /// Where it was when it was selected.
  var place: Place
  /// Whether it goes first.
  var isCanary = false
  /// How far it is.
  var state = State.waiting
  /// How it ended: `exited`, `signalled`, `timed-out`, `lost`, `cancelled`, `not-started`.
  var word: String?
  /// The last job that was ordered for it.
  var job: String?
  /// How its command ended.
  var end: ExecEnd?
  /// Why it wasn't started.
  var failure: ExecFailure?
  /// How it got there.
  var transport: TransportName?
  /// Bytes of output that are stored.
  var stdoutBytes = 0
  /// Bytes of error output that are stored.
  var stderrBytes = 0
  /// How often a job was ordered for it: more than once where the way was busy.
  var attempts = 0
  /// When its job was ordered.
  var started: Date?
  /// When it was over.
  var ended: Date?
  /// The number of its last change in the fleet job.
  var revision = 0

  init(index: Int, cluster: String, place: Place) {
    self.index = index
    self.cluster = cluster
    self.place = place
  }

  /// The JSON form of the API.
  var json: JSONValue {
    var out = common
    out["index"] = .int(index)
    out["state"] = .string(state.rawValue)
    if let end { out["end"] = end.json }
    if let failure { out["failure"] = failure.json }
    if let started { out["started"] = .string(started.rfc3339) }
    if let ended { out["ended"] = .string(ended.rfc3339) }
    return .object(out)
  }

  private var common: [String: JSONValue] {
    var out: [String: JSONValue] = [
      "cluster": .string(cluster), "target": .string(place.description),
      "node": .string(place.node.value), "canary": .bool(isCanary), "attempts": .int(attempts),
      "stdoutBytes": .int(stdoutBytes), "stderrBytes": .int(stderrBytes),
    ]
    if let name = place.name { out["name"] = .string(name) }
    if let word { out["outcome"] = .string(word) }
    if let job { out["job"] = .string(job) }
    if let transport { out["transport"] = .string(transport.rawValue) }
    return out
  }

  /// What is stored, beside index, state and revision.
  var stored: JSONValue {
    var out = common
    if let end { out["end"] = end.json }
    if let failure { out["failure"] = failure.json }
    if let started { out["started"] = .double(started.timeIntervalSince1970) }
    if let ended { out["ended"] = .double(ended.timeIntervalSince1970) }
    return .object(out)
  }

  /// Reads what was stored; nil for what was spoiled.
  init?(index: Int, state: String, revision: Int, stored json: JSONValue) {
    guard let cluster = json["cluster"].string, let state = State(rawValue: state),
      let node = json["node"].string.flatMap({ NodeName($0) }),
      let target = json["target"].string.flatMap({ try? Target($0) })
    else { return nil }
    let kind: Place.Kind
    switch target {
    case .node: kind = .node
    case .qemu(let id): kind = .qemu(id)
    case .lxc(let id): kind = .lxc(id)
    case .name: return nil
    }
    self.init(
      index: index, cluster: cluster,
      place: Place(node: node, kind: kind, name: json["name"].string))
    self.state = state
    self.revision = revision
    isCanary = json["canary"].bool ?? false
    word = json["outcome"].string
    job = json["job"].string
    end = ExecEnd(json: json["end"])
    failure = ExecFailure(json: json["failure"])
    transport = json["transport"].string.flatMap { TransportName(rawValue: $0) }
    stdoutBytes = json["stdoutBytes"].int ?? 0
    stderrBytes = json["stderrBytes"].int ?? 0
    attempts = json["attempts"].int ?? 0
    started = json["started"].double.map { Date(timeIntervalSince1970: $0) }
    ended = json["ended"].double.map { Date(timeIntervalSince1970: $0) }
  }
}

extension FleetTarget {
  /// Takes over what became of its job.
  /// - Parameter successCodes: exit statuses that are successes.
  /// - Returns: what the scheduler has to know.
  mutating func take(_ job: JobSummary, successCodes: Set<Int>) -> FleetScheduler.Outcome {
    self.job = job.id
    end = job.end
    failure = job.failure
    transport = job.transport
    stdoutBytes = job.stdoutBytes
    stderrBytes = job.stderrBytes
    ended = job.ended ?? Date()
    if let failure, job.state == .failed {
      switch failure.kind {
      case .busy: return .busy
      case .cancelled: return settle(.failed, .cancelled)
      default: return settle(.failed, .notStarted)
      }
    }
    switch job.end {
    case .exited(let code)?:
      guard successCodes.contains(code) else { return settle(.failed, .exited) }
      state = .succeeded
      word = FleetScheduler.FailureWord.exited.rawValue
      return .succeeded
    case .signalled?: return settle(.failed, .signalled)
    case .timedOut?: return settle(.failed, .timedOut)
    case .cancelled?: return settle(.failed, .cancelled)
    case .lost?, nil: return settle(.lost, .lost)
    }
  }

  /// Takes over that no job could be ordered.
  mutating func take(_ problem: Problem) -> FleetScheduler.Outcome {
    ended = Date()
    let kind: ExecFailure.Kind =
      switch problem.status {
      case 403: .permissionDenied
      case 404: .targetNotFound
      case 429, 503: .busy
      case 502, 504: .unreachable
      default: .badRequest
      }
    failure = ExecFailure(kind, problem.detail, remedy: problem.remedy ?? "")
    if kind == .busy { return .busy }
    return settle(.failed, .notStarted)
  }

  private mutating func settle(
    _ state: State, _ word: FleetScheduler.FailureWord
  ) -> FleetScheduler.Outcome {
    self.state = state
    self.word = word.rawValue
    return .failed(word)
  }

  /// For the scheduler, of a target whose end is known from before a restart.
  var outcome: FleetScheduler.Outcome? {
    switch state {
    case .succeeded: .succeeded
    case .failed, .lost:
      word.flatMap { FleetScheduler.FailureWord(rawValue: $0) }.map { .failed($0) }
        ?? .failed(.lost)
    case .waiting, .running, .skipped: nil
    }
  }
}
