/// `/nodes/{node}/tasks`.
extension PVENode {
  static let taskOperations: [Operation] = [
    Operation("GET", "/nodes/{node}/tasks") { node, arguments in
      let filter = TaskFilter(
        arguments, seesAll: node.holds(arguments, "Sys.Audit", on: "/nodes/\(node.name)"))
      var page: [JSON] = []
      var total = 0
      let start = arguments.integer("start") ?? 0
      let limit = arguments.integer("limit") ?? 50
      func add(_ task: TaskRecord) {
        guard filter.passes(task) else { return }
        total += 1
        if total > start, page.count < limit { page.append(task.row) }
      }
      let source = arguments.text("source") ?? "archive"
      if source != "archive" { node.tasks.running.forEach(add) }
      if source != "active" { node.tasks.ended.forEach(add) }
      return APIResult(.array(page), total: total)
    },
    Operation("GET", "/nodes/{node}/tasks/{upid}") { _, _ in
      APIResult([["name": "log"], ["name": "status"]])
    },
    Operation("GET", "/nodes/{node}/tasks/{upid}/status") { node, arguments throws(APIError) in
      APIResult(try node.task(arguments, "Sys.Audit").status)
    },
    Operation("GET", "/nodes/{node}/tasks/{upid}/log") { node, arguments throws(APIError) in
      try node.taskLog(arguments)
    },
    Operation("DELETE", "/nodes/{node}/tasks/{upid}") { node, arguments throws(APIError) in
      let task = try node.task(arguments, "Sys.Modify")
      // The answer comes first, as the signal to another process needs its time.
      node.loop.schedule(after: .milliseconds(1)) { [weak node] in
        _ = node?.stopTask(task.upid)
      }
      return APIResult(.null)
    },
  ]

  /// A page of a task's log. PVE reads the log as a file, and says in a line of its own that it can't.
  private func taskLog(_ arguments: Arguments) throws(APIError) -> APIResult {
    let upid = arguments.text("upid") ?? ""
    let parts = try upidParts(upid)
    let task = tasks[upid]
    try checkTaskAccess(parts, arguments, "Sys.Audit")
    guard let task else {
      return APIResult(
        [["n": 1, "t": "unable to open file - No such file or directory"]], total: 1)
    }
    guard !task.log.isEmpty else { return APIResult([["n": 1, "t": "no content"]], total: 1) }
    let start = arguments.integer("start") ?? 0
    // A limit of 0 means all.
    let limit = arguments.integer("limit") ?? 50
    let last = limit == 0 ? task.log.count : min(task.log.count, start + limit)
    let lines = (min(start, last)..<last).map { i -> JSON in
      ["n": .int(i + 1), "t": .string(task.log[i])]
    }
    return APIResult(.array(lines), total: task.log.count)
  }

  /// The task of a UPID: one's own, or with a privilege on the node.
  private func task(_ arguments: Arguments, _ privilege: String) throws(APIError) -> TaskRecord {
    let upid = arguments.text("upid") ?? ""
    let parts = try upidParts(upid)
    guard let task = tasks[upid] else {
      throw .invalid([.init(name: "upid", text: "no such task")])
    }
    try checkTaskAccess(parts, arguments, privilege)
    return task
  }

  private func upidParts(_ upid: String) throws(APIError) -> UPIDParts {
    guard let parts = UPIDParts(upid) else {
      throw .invalid([.init(name: "upid", text: "unable to parse worker upid '\(upid)'")])
    }
    return parts
  }

  private func checkTaskAccess(_ parts: UPIDParts, _ arguments: Arguments, _ privilege: String)
    throws(APIError)
  {
    let owner = parts.user.prefix { $0 != "!" }
    guard
      parts.user == arguments.authID || owner == arguments.authID
        || holds(arguments, privilege, on: "/nodes/\(name)")
    else { throw .forbidden("/nodes/\(name), \(privilege)") }
  }
}

/// The filters of `GET /nodes/{node}/tasks`.
private struct TaskFilter {
  let authID: String
  let seesAll: Bool
  let errorsOnly: Bool
  let type: String?
  let user: String?
  let vmid: String?
  let since: Int?
  let until: Int?
  let statuses: [String]?

  init(_ arguments: Arguments, seesAll: Bool) {
    authID = arguments.authID
    self.seesAll = seesAll
    errorsOnly = arguments.flag("errors")
    type = arguments.text("typefilter")
    user = arguments.text("userfilter")?.lowercased()
    vmid = arguments.text("vmid")
    since = arguments.integer("since")
    until = arguments.integer("until")
    statuses = arguments.text("statusfilter").map(listParts)
  }

  func passes(_ task: TaskRecord) -> Bool {
    (user.map { task.userID.lowercased().contains($0) } ?? true)
      && (seesAll || task.belongs(to: authID)) && (type.map { $0 == task.type } ?? true)
      && (!errorsOnly || task.isRunning || task.statusType == "error"
        || task.statusType == "unknown")
      && (vmid.map { $0 == task.id } ?? true) && (since.map { task.started >= $0 } ?? true)
      && (until.map { task.started <= $0 } ?? true)
      && (statuses.map { $0.contains(task.statusType) } ?? true)
  }
}

/// The parts of a list as PVE's parameters hold it: separated by commas, semicolons or white space.
func listParts(_ text: String) -> [String] {
  text.split { $0 == "," || $0 == ";" || $0 == " " || $0 == "\0" || $0 == "\t" || $0 == "\n" }
    .map(String.init)
}
