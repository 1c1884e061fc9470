import ConsoleProtocol
import EventLoop
import GuestExec
import ProxmoxClient

/// The answers of the API about jobs, in the order of ``Route/commands``.
extension ControlPlane {
  /// The longest that a request waits for a job.
  static let longestWait = 300.0

  func createJob(_ call: Call) async throws(Problem) -> HTTPResponse {
    let query = try QueryParameters(call, known: ["wait"])
    let body = try JSONBody(call.request, known: JobOrder.fields)
    let order = try JobOrder(body, jobs.configuration)
    let key = try caller(call)
    if try body.bool("explain") ?? false { return try await explainJob(order, key) }
    let idempotencyKey = call.request.headers["idempotency-key"]
    if let idempotencyKey, !(1...255).contains(idempotencyKey.utf8.count) {
      throw Problem(
        400, "bad-value", "The Idempotency-Key has \(idempotencyKey.utf8.count) bytes.",
        field: "Idempotency-Key", remedy: "Send 1 to 255 bytes, e.g. a UUID.")
    }
    let wait = try query.seconds("wait", most: Self.longestWait)
    let (taken, isRepeat) = try await jobs.take(order, by: key, idempotencyKey: idempotencyKey)
    var summary = taken
    if let wait { summary = try await awaited(summary.id, wait) }
    var headers = [(name: "Location", value: "\(prefix)/v1/exec/\(summary.id)")]
    if isRepeat { headers.append(("Idempotency-Replayed", "true")) }
    return .json(isRepeat ? 200 : 201, summary.json, headers: headers)
  }

  private func explainJob(_ order: JobOrder, _ key: APIKey) async throws(Problem) -> HTTPResponse {
    let (place, verdicts) = try await jobs.policyVerdicts(order, by: key)
    let policy = JSONValue.array(verdicts.map(\.json))
    guard verdicts.allSatisfy(\.isAllowed) else {
      return .json(
        200,
        .object([
          "cluster": .string(place.cluster), "target": .string(place.place.description),
          "node": .string(place.place.node.value), "policy": policy, "transports": .array([]),
          "chosen": .null,
        ]))
    }
    let answer = try await jobs.explain(order, by: key)
    var out: [String: JSONValue] = [
      "cluster": .string(answer.place.cluster), "target": .string(answer.place.place.description),
      "node": .string(answer.place.place.node.value),
      "transports": .array(
        answer.assessments.map { item in
          var entry: [String: JSONValue] = ["transport": .string(item.transport.rawValue)]
          switch item.verdict {
          case .possible(let reason):
            entry["possible"] = .bool(true)
            entry["reason"] = .string(reason)
          case .impossible(let failure):
            entry["possible"] = .bool(false)
            entry["failure"] = failure.json
          }
          return .object(entry)
        }),
      "chosen": answer.chosen.map { .string($0.rawValue) } ?? .null, "policy": policy,
    ]
    if let name = answer.place.place.name { out["name"] = .string(name) }
    return .json(200, .object(out))
  }

  /// A job once it is over, or as it is after that time. Who waits looks on: with `onDisconnect` it counts.
  private func awaited(_ id: String, _ wait: Duration) async throws(Problem) -> JobSummary {
    let job = try await jobs.find(id)
    let attachment = JobAttachment(job)
    let summary = await job.over(within: wait)
    attachment.release()
    return summary
  }

  func listJobs(_ call: Call) async throws(Problem) -> HTTPResponse {
    let query = try QueryParameters(
      call, known: ["limit", "before", "fleet", "target", "key", "label"], repeated: "state")
    var states: Set<JobState> = []
    for (name, value) in call.request.query where name == "state" {
      guard let state = JobState(rawValue: value) else {
        throw Problem(
          400, "bad-state", "There is no state '\(value.prefix(80))'.", field: "state",
          remedy: "There are: \(JobState.allCases.map(\.rawValue).joined(separator: ", ")).")
      }
      states.insert(state)
    }
    var labels: [String: String] = [:]
    if let label = query.text("label") {
      let parts = label.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2 else {
        throw Problem(
          400, "bad-value", "'label' is '\(label.prefix(80))'.", field: "label",
          remedy: "It takes NAME=VALUE.")
      }
      labels[String(parts[0])] = String(parts[1])
    }
    let key = try caller(call)
    let limit = try query.int("limit", 1...1000) ?? 100
    if let wanted = query.text("key"), wanted != key.name { try key.demand(.execAll) }
    let all = try await jobs.list(
      limit: limit + 1, states: states,
      key: query.text("key") ?? (key.has(.execAll) ? nil : key.name), fleet: query.text("fleet"),
      target: query.text("target"), labels: labels, before: query.text("before"))
    var out: [String: JSONValue] = ["jobs": .array(all.prefix(limit).map(\.json))]
    if all.count > limit, let last = all.prefix(limit).last { out["next"] = .string(last.id) }
    return .json(200, .object(out))
  }

  func showJob(_ call: Call) async throws(Problem) -> HTTPResponse {
    let query = try QueryParameters(call, known: ["wait"])
    var summary = try await visibleJob(call)
    if let wait = try query.seconds("wait", most: Self.longestWait), !summary.state.isOver {
      summary = try await awaited(summary.id, wait)
    }
    return .json(200, summary.json)
  }

  func endJob(_ call: Call) async throws(Problem) -> HTTPResponse {
    _ = try QueryParameters(call, known: [])
    let summary = try await visibleJob(call)
    if summary.state.isOver {
      try await jobs.forget(summary.id)
    } else {
      try await jobs.cancel(summary.id)
      // What ends at once is told at once.
      let job = try await jobs.find(summary.id)
      return .json(202, await job.over(within: .seconds(5)).json)
    }
    return HTTPResponse(status: 204, headers: [("Cache-Control", "no-store")])
  }

  func signalJob(_ call: Call) async throws(Problem) -> HTTPResponse {
    let body = try JSONBody(call.request, known: ["signal"])
    let summary = try await visibleJob(call)
    guard let number = SignalName.number(body.value("signal")) else {
      throw Problem(
        400, "bad-value", "'signal' is no signal.", field: "signal",
        remedy: "It takes a name such as \"INT\" or \"TERM\", or a number from 1 to 64.")
    }
    try await jobs.signal(summary.id, number)
    return HTTPResponse(status: 204, headers: [("Cache-Control", "no-store")])
  }

  func resizeJob(_ call: Call) async throws(Problem) -> HTTPResponse {
    let body = try JSONBody(call.request, known: ["columns", "rows"])
    let summary = try await visibleJob(call)
    guard let columns = try body.int("columns", 1...65535),
      let rows = try body.int("rows", 1...65535),
      let size = TerminalSize(columns: columns, rows: rows)
    else {
      throw Problem(
        400, "missing-field", "The size is incomplete.", field: "columns",
        remedy: "Send {\"columns\":80,\"rows\":24}.")
    }
    guard summary.hasTerminal else {
      throw Problem(
        409, "no-terminal", "The job has no terminal.", remedy: "Order it with 'terminal'.")
    }
    try await jobs.resize(summary.id, size)
    return HTTPResponse(status: 204, headers: [("Cache-Control", "no-store")])
  }

  func jobInput(_ call: Call) async throws(Problem) -> HTTPResponse {
    let query = try QueryParameters(call, known: ["offset", "end"])
    let summary = try await visibleJob(call)
    let offset = try query.int("offset", 0...Int.max)
    let ends = try query.flag("end")
    let bytes = call.request.body
    // An empty body without an end asks how much was taken.
    if bytes.isEmpty, !ends { return .json(200, .object(["taken": .int(summary.stdinBytes)])) }
    let jobs = jobs
    let work = Task { () -> Result<Int, Problem> in
      do throws(Problem) {
        var taken = summary.stdinBytes
        if !bytes.isEmpty { taken = try await jobs.write(summary.id, bytes, at: offset) }
        if ends { try await jobs.closeInput(summary.id) }
        return .success(taken)
      } catch {
        return .failure(error)
      }
    }
    // Longer than that, proxies and clients give up. What was sent isn't lost by it: it goes on being given.
    guard let result = await Self.value(of: work, within: .seconds(25)) else {
      let taken = try await jobs.summary(summary.id).stdinBytes
      var problem = Problem(
        429, "stdin-full",
        "The command doesn't read its standard input fast enough; \(taken) bytes were taken until now.",
        remedy: "Send the same bytes again, with the same offset: none of them will arrive twice.")
      problem.headers = [("Retry-After", "1")]
      problem.more["taken"] = .int(taken)
      if offset == nil {
        problem.remedy =
          "Ask how much was taken with an empty PUT, and use 'offset' to send the rest."
      }
      throw problem
    }
    return .json(200, .object(["taken": .int(try result.get())]))
  }

  /// A task's value if it comes in time; the task goes on in any case.
  private static func value<T: Sendable>(
    of task: Task<T, Never>, within limit: Duration
  ) async -> T? {
    await withTaskGroup(of: T?.self) { group in
      let gate = OnceGate<T>()
      Task { gate.open(await task.value) }
      group.addTask { await gate.value() }
      group.addTask {
        try? await Task.sleep(for: limit)
        return nil
      }
      let first = await group.next() ?? nil
      gate.giveUp()
      group.cancelAll()
      return first
    }
  }

  /// Whoever asks. Routes with a right have a key.
  func caller(_ call: Call) throws(Problem) -> APIKey {
    guard let key = call.apiKey else {
      throw Problem(401, "unauthenticated", "This needs an API key.")
    }
    return key
  }

  /// The job of the path. One of another key looks like none, unless the caller may see all.
  func visibleJob(_ call: Call) async throws(Problem) -> JobSummary {
    let id = call.values.first ?? ""
    let key = try caller(call)
    let summary = try await jobs.summary(id)
    guard summary.key == key.name || key.has(.execAll) else { throw JobEngine.unknown(id) }
    return summary
  }
}
