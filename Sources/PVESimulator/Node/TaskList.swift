/// A worker task, found by its UPID.
struct TaskRecord {
  var upid: String
  var node: String
  var pid: Int
  var processStart: Int
  var started: Int
  var type: String
  var id: String
  /// The full auth id.
  var user: String
  var log: [String] = []
  var ended: Int?
  /// `OK` or the error's text.
  var exitStatus: String?
  var isRunning: Bool { ended == nil }

  /// The user without the token.
  private var userID: String { String(user.prefix { $0 != "!" }) }
  private var tokenMember: [JSON.Member] {
    let parts = user.split(separator: "!", maxSplits: 1)
    return parts.count == 2 ? [.init(key: "tokenid", value: .string(String(parts[1])))] : []
  }

  /// A row of `GET /nodes/{node}/tasks`.
  var row: JSON {
    var members: [JSON.Member] = [
      .init(key: "upid", value: .string(upid)), .init(key: "node", value: .string(node)),
      .init(key: "pid", value: .int(pid)), .init(key: "pstart", value: .int(processStart)),
      .init(key: "starttime", value: .int(started)), .init(key: "type", value: .string(type)),
      .init(key: "id", value: .string(id)), .init(key: "user", value: .string(userID)),
    ]
    members += tokenMember
    if let ended { members.append(.init(key: "endtime", value: .int(ended))) }
    if let exitStatus { members.append(.init(key: "status", value: .string(exitStatus))) }
    return .object(members)
  }

  /// `GET …/tasks/{upid}/status`.
  var status: JSON {
    var members: [JSON.Member] = [
      .init(key: "upid", value: .string(upid)), .init(key: "node", value: .string(node)),
      .init(key: "pid", value: .int(pid)), .init(key: "pstart", value: .int(processStart)),
      .init(key: "starttime", value: .int(started)), .init(key: "type", value: .string(type)),
      .init(key: "id", value: .string(id)), .init(key: "user", value: .string(userID)),
      .init(key: "status", value: .string(isRunning ? "running" : "stopped")),
    ]
    members += tokenMember
    if let exitStatus { members.append(.init(key: "exitstatus", value: .string(exitStatus))) }
    return .object(members)
  }
}

/// The node's worker tasks, newest last.
struct TaskList {
  /// PVE keeps far more on disk; here the oldest ended ones are forgotten.
  static let capacity = 5000

  private(set) var all: [TaskRecord] = []
  private var nextPID = 4000
  private let clock: SimulatorClock
  private let booted: Int

  init(clock: SimulatorClock, booted: Int) {
    self.clock = clock
    self.booted = booted
  }

  /// Begins a task and gives its UPID.
  mutating func begin(node: String, type: String, id: String, user: String) -> String {
    nextPID += 1
    let started = clock.now
    let processStart = max(0, started - booted) * 100 + nextPID % 100
    let upid =
      "UPID:\(node):\(hex(nextPID, digits: 8)):\(hex(processStart, digits: 8)):"
      + "\(hex(started, digits: 8)):\(type):\(id):\(user):"
    all.append(
      TaskRecord(
        upid: upid, node: node, pid: nextPID, processStart: processStart, started: started,
        type: type, id: id, user: user))
    if all.count > TaskList.capacity, let i = all.firstIndex(where: { !$0.isRunning }) {
      all.remove(at: i)
    }
    return upid
  }

  /// The task of a UPID.
  subscript(upid: String) -> TaskRecord? { all.last { $0.upid == upid } }

  /// Adds lines to a running task's log.
  mutating func log(_ upid: String, _ lines: [String]) {
    guard let i = all.lastIndex(where: { $0.upid == upid }), all[i].isRunning else { return }
    all[i].log += lines
  }

  /// Ends a task: `OK` or an error's text.
  mutating func end(_ upid: String, exit: String) {
    guard let i = all.lastIndex(where: { $0.upid == upid }), all[i].isRunning else { return }
    all[i].ended = clock.now
    all[i].exitStatus = exit
    all[i].log.append(exit == "OK" ? "TASK OK" : "TASK ERROR: \(exit)")
  }
}
