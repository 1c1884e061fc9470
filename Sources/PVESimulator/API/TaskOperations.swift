/// `/nodes/{node}/tasks`.
extension PVENode {
  static let taskOperations: [Operation] = [
    Operation(
      method: "GET", path: "/nodes/{node}/tasks",
      parameters: [
        .node, .boolean("errors"), .integer("limit", optional: true, minimum: 0),
        .integer("since", optional: true), .integer("until", optional: true),
        .string("source", optional: true, choices: ["archive", "active", "all"]),
        .integer("start", optional: true, minimum: 0), .string("statusfilter", optional: true),
        .string("typefilter", optional: true), .string("userfilter", optional: true),
        ParameterSchema(
          name: "vmid", kind: .integer, isOptional: true, minimum: 100, maximum: 999_999_999,
          format: .vmid),
      ],
      isForwarded: true
    ) { node, arguments in
      let source = arguments.text("source") ?? "archive"
      let seesAll = node.holds(arguments, "Sys.Audit", on: "/nodes/\(node.name)")
      let rows = node.tasks.all.reversed().filter { task in
        (source == "all" || (source == "active") == task.isRunning)
          && (seesAll || task.user == arguments.authID)
          && (arguments.text("typefilter").map { $0 == task.type } ?? true)
          && (arguments.text("userfilter").map { task.user.contains($0) } ?? true)
          && (arguments.text("vmid").map { $0 == task.id } ?? true)
          && (arguments.integer("since").map { task.started >= $0 } ?? true)
          && (arguments.integer("until").map { task.started <= $0 } ?? true)
          && (!arguments.flag("errors") || (task.exitStatus ?? "OK") != "OK")
      }
      let page = rows.dropFirst(arguments.integer("start") ?? 0)
        .prefix(arguments.integer("limit") ?? 50)
      return APIResult(.array(page.map(\.row)), total: rows.count)
    },
    Operation(
      method: "GET", path: "/nodes/{node}/tasks/{upid}", parameters: [.node, .string("upid")]
    ) { _, _ in
      APIResult([["name": "log"], ["name": "status"]])
    },
    Operation(
      method: "GET", path: "/nodes/{node}/tasks/{upid}/status",
      parameters: [.node, .string("upid")], isProtected: true, isForwarded: true
    ) { node, arguments throws(APIError) in
      APIResult(try node.task(arguments, "Sys.Audit").status)
    },
    Operation(
      method: "GET", path: "/nodes/{node}/tasks/{upid}/log",
      parameters: [
        .node, .string("upid"), .boolean("download"), .integer("limit", optional: true, minimum: 0),
        .integer("start", optional: true, minimum: 0),
      ],
      isProtected: true, isForwarded: true
    ) { node, arguments throws(APIError) in
      let log = try node.task(arguments, "Sys.Audit").log
      let start = arguments.integer("start") ?? 0
      // A limit of 0 means all.
      let limit = arguments.integer("limit") ?? 50
      let lines = log.enumerated().dropFirst(start).prefix(limit == 0 ? log.count : limit)
      return APIResult(
        .array(lines.map { ["n": .int($0.offset + 1), "t": .string($0.element)] }),
        total: log.count)
    },
    Operation(
      method: "DELETE", path: "/nodes/{node}/tasks/{upid}", parameters: [.node, .string("upid")],
      isProtected: true, isForwarded: true
    ) { node, arguments throws(APIError) in
      let task = try node.task(arguments, "Sys.Modify")
      // The answer comes first, as the signal to another process needs its time.
      node.loop.schedule(after: .milliseconds(1)) { [weak node] in
        node?.workers[task.upid]?.terminate()
      }
      return APIResult(.null)
    },
  ]

  /// The task of a UPID: one's own, or with a privilege on the node.
  private func task(_ arguments: Arguments, _ privilege: String) throws(APIError) -> TaskRecord {
    let upid = arguments.text("upid") ?? ""
    guard upid.hasPrefix("UPID:"),
      upid.split(separator: ":", omittingEmptySubsequences: false).count == 9
    else {
      throw .invalid([.init(name: "upid", text: "unable to parse worker upid '\(upid)'")])
    }
    guard let task = tasks[upid] else {
      throw .died("unable to open file - No such file or directory")
    }
    if task.user != arguments.authID, !holds(arguments, privilege, on: "/nodes/\(task.node)") {
      throw .forbidden("/nodes/\(task.node), \(privilege)")
    }
    return task
  }
}
