/// What `/simulator` can do.
extension ControlDesk {
  // MARK: faults

  /// `/simulator/faults`
  func faults(_ request: Request) throws(Refusal) -> JSON {
    let desk = cluster.faults
    switch request.method {
    case "POST":
      // One, or several at once.
      guard let body = request.body else { throw .bad("a fault is a JSON object") }
      let added = try inject(body, after: {})
      if case .array = body { return .array(added.map(\.json)) }
      return added.first?.json ?? .null
    case "PUT":
      // All of them anew, with the seed that their odds follow from.
      let fields = try request.fields("seed", "faults")
      let seed = try ControlDesk.seed(fields["seed"])
      _ = try inject(fields["faults"] ?? .array([]), after: { desk.clear(seed: seed) })
    case "DELETE": desk.clear()
    default: break
    }
    return [
      "seed": .string(String(desk.seed)), "faults": .array(desk.records.map(\.json)),
    ]
  }

  private static func seed(_ json: JSON?) throws(Refusal) -> UInt64? {
    switch json {
    case nil, .null?: return nil
    case .int(let n)? where n >= 0: return UInt64(n)
    case .string(let text)?:
      guard let n = UInt64(text) else { throw .bad("'seed' is a whole number from 0 on") }
      return n
    default: throw .bad("'seed' is a whole number from 0 on")
    }
  }

  /// Reads all before it adds one, so that a mistake changes nothing.
  private func inject(_ json: JSON, after prepare: () -> Void) throws(Refusal)
    -> [FaultDesk.Record]
  {
    let items = if case .array(let several) = json { several } else { [json] }
    do throws(FaultError) {
      var read: [Fault] = []
      for item in items { read.append(try Fault(json: item)) }
      for fault in read { try cluster.check(fault) }
      try keepReachable(read)
      prepare()
      var added: [FaultDesk.Record] = []
      for fault in read { added.append(try cluster.faults.add(fault)) }
      return added
    } catch {
      throw .bad(error.description)
    }
  }

  /// With every node gone for good there would be nobody to take the faults away again.
  private func keepReachable(_ faults: [Fault]) throws(FaultError) {
    let gone = (faults + cluster.faults.records.map(\.fault)).compactMap { fault -> String? in
      guard case .nodeDown(let name, _) = fault.effect, fault.duration == nil else { return nil }
      return name ?? cluster.nodes.first?.name
    }
    guard !gone.isEmpty, cluster.nodes.allSatisfy({ gone.contains($0.name) }) else { return }
    throw FaultError("no node would be left to take the fault away; give it a 'for'")
  }

  /// `/simulator/faults/{id}`
  func fault(_ request: Request, id: String) throws(Refusal) -> JSON {
    guard let record = cluster.faults.records.first(where: { $0.id == id }) else {
      throw .missing("there is no fault '\(id)'")
    }
    if request.method == "DELETE" { cluster.faults.remove(id) }
    return record.json
  }

  // MARK: journal

  /// `GET /simulator/journal?since=&limit=&method=&path=&user=&status=`
  func journal(_ request: Request) throws(Refusal) -> JSON {
    let known = ["since", "limit", "method", "path", "user", "node", "status"]
    for name in request.query.names where !known.contains(name) {
      throw .bad("unknown filter '\(name)'; there are: \(known.joined(separator: ", "))")
    }
    let since = try request.number("since") ?? 0
    let limit = try request.number("limit") ?? Journal.capacity
    let status = try request.number("status")
    let method = request.query["method"]?.text?.uppercased()
    let node = request.query["node"]?.text
    let path = (request.query["path"]?.text).map { (Glob($0), $0.hasPrefix("/api2")) }
    let user = (request.query["user"]?.text).map(Glob.init)
    let entries = cluster.journal.entries(since: since, limit: limit) { entry in
      if let method, entry.method != method { return false }
      if let node, entry.node != node { return false }
      if let status, entry.status != status { return false }
      if let user, !user.matches(entry.user ?? "") { return false }
      if let (pattern, isWhole) = path {
        return pattern.matches(isWhole ? entry.path : APIAddress(entry.path)?.path ?? entry.path)
      }
      return true
    }
    return ["last": .int(cluster.journal.last), "entries": .array(entries.map(\.json))]
  }

  /// `DELETE /simulator/journal`
  func clearJournal() -> JSON {
    cluster.journal.clear()
    return ["last": .int(cluster.journal.last), "entries": []]
  }

  // MARK: clock, tasks, guests

  /// `/simulator/clock`
  func clock(_ request: Request) throws(Refusal) -> JSON {
    let clock = cluster.clock
    if request.method == "POST" {
      let fields = try request.fields("advance", "set")
      switch (fields["advance"], fields["set"]) {
      case (.int(let seconds)?, nil) where abs(seconds) <= ControlDesk.longest:
        clock.advance(seconds: seconds)
      case (nil, .int(let time)?) where time >= 0 && time <= 4_000_000_000: clock.set(to: time)
      default: throw .bad("either 'advance' (seconds) or 'set' (seconds since 1970) is a number")
      }
    }
    return ["time": .int(clock.now), "offset": .int(clock.offset)]
  }

  private static let longest = 10 * 365 * 86_400

  /// `POST /simulator/tasks/{upid}/kill`
  func killTask(_ upid: String) throws(Refusal) -> JSON {
    guard let worker = cluster.nodes.lazy.compactMap({ $0.workers[upid] }).first else {
      throw .missing("no such task is running")
    }
    worker.terminate()
    return ["killed": .string(upid)]
  }

  /// `/simulator/guests/{vmid}/…`
  func guest(_ request: Request, _ vmid: String, _ what: String) throws(Refusal) -> JSON {
    guard let guest = Int(vmid).flatMap({ cluster.guests[$0] }) else {
      throw .missing("there is no guest \(vmid)")
    }
    switch what {
    case "crash":
      try allow(["POST"], request.method)
      guest.stop()
    case "screen":
      try allow(["GET"], request.method)
      return ["lines": .array(guest.screenText.map { .string($0) })]
    default: throw .missing("there is no /simulator/guests/\(vmid)/\(what)")
    }
    return [
      "vmid": .int(guest.description.vmid), "node": .string(guest.node.name),
      "status": .string(guest.isRunning ? "running" : "stopped"),
    ]
  }
}
