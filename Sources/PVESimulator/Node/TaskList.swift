/// A worker task, found by its UPID: who runs what since when, and how it ended.
final class TaskRecord {
  let upid: String
  let node: String
  let pid: Int
  let processStart: Int
  let started: Int
  let type: String
  let id: String
  /// The full auth id.
  let user: String
  fileprivate(set) var log: [String] = []
  fileprivate(set) var ended: Int?
  /// `OK`, `WARNINGS: 2`, or the error's text.
  fileprivate(set) var exitStatus: String?

  init(
    node: String, pid: Int, processStart: Int, started: Int, type: String, id: String, user: String
  ) {
    upid =
      "UPID:\(node):\(hex(pid, digits: 8)):\(hex(processStart, digits: 8)):"
      + "\(hex(started, digits: 8)):\(type):\(id):\(user):"
    self.node = node
    self.pid = pid
    self.processStart = processStart
    self.started = started
    self.type = type
    self.id = id
    self.user = user
  }

  var isRunning: Bool { ended == nil }

  /// The user without the token.
  var userID: String { String(user.prefix { $0 != "!" }) }

  /// A user sees what runs for him and his tokens, a token only what runs for itself.
  func belongs(to authID: String) -> Bool { user == authID || userID == authID }

  /// What PVE's `statusfilter` calls the end: `ok`, `warning`, `error` or `unknown`.
  var statusType: String {
    guard let exitStatus else { return "unknown" }
    if exitStatus == "OK" { return "ok" }
    if exitStatus.hasPrefix("WARNINGS: ") { return "warning" }
    return exitStatus == "unexpected status" ? "unknown" : "error"
  }

  fileprivate func append(_ lines: [String]) {
    for line in lines {
      log += line.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }
  }

  fileprivate func end(_ exit: String, at time: Int) {
    ended = time
    exitStatus = exit
    // A worker that is killed writes no last line.
    if exit == "OK" || exit.hasPrefix("WARNINGS: ") {
      log.append("TASK \(exit)")
    } else if exit != "unexpected status" {
      log.append("TASK ERROR: \(exit)")
    }
  }
}

// MARK: answers

extension TaskRecord {
  private var members: [JSON.Member] {
    [
      .init(key: "upid", value: .string(upid)), .init(key: "node", value: .string(node)),
      .init(key: "pid", value: .int(pid)), .init(key: "pstart", value: .int(processStart)),
      .init(key: "starttime", value: .int(started)), .init(key: "type", value: .string(type)),
      .init(key: "id", value: .string(id)), .init(key: "user", value: .string(userID)),
    ]
  }

  private var tokenMember: [JSON.Member] {
    let parts = user.split(separator: "!", maxSplits: 1)
    return parts.count == 2 ? [.init(key: "tokenid", value: .string(String(parts[1])))] : []
  }

  /// A row of `GET /nodes/{node}/tasks`.
  var row: JSON {
    var all = members + tokenMember
    if let ended { all.append(.init(key: "endtime", value: .int(ended))) }
    all.append(.init(key: "status", value: .string(exitStatus ?? "RUNNING")))
    return .object(all)
  }

  /// A row of `GET /cluster/tasks`: what the nodes tell each other.
  var broadcastRow: JSON {
    var all = members + tokenMember
    if let ended {
      all.append(.init(key: "endtime", value: .int(ended)))
      all.append(.init(key: "status", value: .string(exitStatus ?? "")))
      all.append(.init(key: "saved", value: "1"))
    }
    return .object(all)
  }

  /// `GET …/tasks/{upid}/status`.
  var status: JSON {
    var all = members + tokenMember
    all.append(.init(key: "status", value: .string(isRunning ? "running" : "stopped")))
    if let exitStatus { all.append(.init(key: "exitstatus", value: .string(exitStatus))) }
    return .object(all)
  }
}

// MARK: kept state

extension TaskRecord {
  /// What is kept of it over a restart.
  var document: JSON {
    .object([
      .init(key: "upid", value: .string(upid)),
      .init(key: "ended", value: ended.map { .int($0) } ?? .null),
      .init(key: "exit", value: exitStatus.map { .string($0) } ?? .null),
      .init(key: "log", value: .array(log.map { .string($0) })),
    ])
  }

  /// A task out of its document, or nil for one that is none. What was running when the process died has no end
  /// in its log, and PVE calls that an unexpected status.
  static func restored(_ document: JSON, now: Int) -> TaskRecord? {
    guard case .string(let upid)? = document["upid"], let parts = UPIDParts(upid) else {
      return nil
    }
    let task = TaskRecord(
      node: parts.node, pid: parts.pid, processStart: parts.processStart, started: parts.started,
      type: parts.type, id: parts.id, user: parts.user)
    guard task.upid == upid else { return nil }
    if case .array(let lines)? = document["log"] {
      task.log = lines.compactMap { if case .string(let line) = $0 { line } else { nil } }
    }
    if case .int(let ended)? = document["ended"], case .string(let exit)? = document["exit"] {
      task.ended = ended
      task.exitStatus = exit
    } else {
      task.end("unexpected status", at: now)
    }
    return task
  }
}

/// The parts of `UPID:node:pid:pstart:starttime:type:id:user:`.
struct UPIDParts {
  var node: String
  var pid: Int
  var processStart: Int
  var started: Int
  var type: String
  var id: String
  var user: String

  /// Nil for a text of another form.
  init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 9, parts[0] == "UPID", parts[8].isEmpty, !parts[1].isEmpty,
      parts[2].utf8.count == 8, let pid = Int(parts[2], radix: 16),
      (8...9).contains(parts[3].utf8.count), let processStart = Int(parts[3], radix: 16),
      parts[4].utf8.count == 8, let started = Int(parts[4], radix: 16), !parts[5].isEmpty,
      !parts[7].isEmpty
    else { return nil }
    node = String(parts[1])
    self.pid = pid
    self.processStart = processStart
    self.started = started
    type = String(parts[5])
    id = String(parts[6])
    user = String(parts[7])
  }
}

/// A node's worker tasks.
struct TaskList {
  /// PVE keeps far more on disk; here the oldest ended ones are forgotten.
  static let capacity = 5000

  private var byUPID: [String: TaskRecord] = [:]
  private var active: [String: TaskRecord] = [:]
  /// In the order in which they ended, the newest last; the first `forgotten` of them are gone.
  private var archive: [TaskRecord] = []
  private var nextPID = 4000
  private let clock: SimulatorClock
  private let booted: Int
  /// Told of every task that begins, ends, or is forgotten.
  var keep: ((TaskRecord, _ isForgotten: Bool) -> Void)?

  init(clock: SimulatorClock, booted: Int) {
    self.clock = clock
    self.booted = booted
  }

  /// Begins a task and gives its UPID.
  mutating func begin(node: String, type: String, id: String, user: String) -> String {
    nextPID += 1
    let started = clock.now
    let task = TaskRecord(
      node: node, pid: nextPID, processStart: max(0, started - booted) * 100 + nextPID % 100,
      started: started, type: type, id: id, user: user)
    byUPID[task.upid] = task
    active[task.upid] = task
    keep?(task, false)
    return task.upid
  }

  /// The task of a UPID.
  subscript(upid: String) -> TaskRecord? { byUPID[upid] }

  /// Those that run, the newest first.
  var running: [TaskRecord] { active.values.sorted { ($0.started, $0.pid) > ($1.started, $1.pid) } }

  /// Those that ended, the last one first.
  var ended: ReversedCollection<[TaskRecord]> { archive.reversed() }

  /// Every task, the running ones last.
  var all: [TaskRecord] { archive + running.reversed() }

  /// Adds lines to a running task's log.
  func log(_ upid: String, _ lines: [String]) { active[upid]?.append(lines) }

  /// Ends a task: `OK`, `WARNINGS: n` or an error's text.
  mutating func end(_ upid: String, exit: String) {
    guard let task = active.removeValue(forKey: upid) else { return }
    task.end(exit, at: clock.now)
    archive.append(task)
    keep?(task, false)
    forgetOldest()
  }

  /// Takes over the tasks of an earlier life.
  mutating func restore(_ documents: [JSON]) {
    let tasks = documents.compactMap { TaskRecord.restored($0, now: clock.now) }
    for task in tasks {
      byUPID[task.upid] = task
      nextPID = max(nextPID, task.pid)
    }
    archive = (archive + tasks).sorted { ($0.ended ?? 0, $0.pid) < ($1.ended ?? 0, $1.pid) }
    forgetOldest()
  }

  /// An eighth more than the capacity is let in, so that the array is moved seldom.
  private mutating func forgetOldest() {
    guard archive.count > TaskList.capacity + TaskList.capacity / 8 else { return }
    let surplus = archive.count - TaskList.capacity
    for task in archive.prefix(surplus) {
      byUPID[task.upid] = nil
      keep?(task, true)
    }
    archive.removeFirst(surplus)
  }
}
