import EventLoop
import GuestExec
import ProxmoxClient

extension Route {
  /// One command on many targets: see `docs/fleet.md`.
  static let fleets: [Route] = [
    Route("POST", "/v1/fleet", .right(.exec)) { plane, call throws(Problem) in
      try await plane.createFleet(call)
    },
    Route("GET", "/v1/fleet", .right(.exec)) { plane, call throws(Problem) in
      try await plane.listFleets(call)
    },
    Route("GET", "/v1/fleet/{id}", .right(.exec)) { plane, call throws(Problem) in
      .json(200, try await plane.visibleFleet(call).json)
    },
    Route("DELETE", "/v1/fleet/{id}", .right(.exec)) { plane, call throws(Problem) in
      try await plane.cancelFleet(call)
    },
    Route("GET", "/v1/fleet/{id}/targets", .right(.exec)) { plane, call throws(Problem) in
      try await plane.listFleetTargets(call)
    },
    Route("GET", "/v1/fleet/{id}/events", .right(.exec)) { plane, call throws(Problem) in
      try await plane.fleetEvents(call)
    },
    Route("POST", "/v1/fleet/{id}/rerun", .right(.exec)) { plane, call throws(Problem) in
      try await plane.rerunFleet(call)
    },
  ]
}

extension ControlPlane {
  func createFleet(_ call: Call) async throws(Problem) -> HTTPResponse {
    let body = try JSONBody(call.request, known: FleetOrder.fields)
    let order = try FleetOrder(body, jobs.configuration)
    let key = try caller(call)
    if order.isDryRun { return .json(200, try await fleets.preview(order, by: key)) }
    let (summary, isRepeat) = try await fleets.submit(
      order, by: key, idempotencyKey: try Self.fleetIdempotencyKey(call))
    return created(summary, isRepeat)
  }

  private func created(_ summary: FleetSummary, _ isRepeat: Bool) -> HTTPResponse {
    var headers = [(name: "Location", value: "\(prefix)/v1/fleet/\(summary.id)")]
    if isRepeat { headers.append(("Idempotency-Replayed", "true")) }
    return .json(isRepeat ? 200 : 201, summary.json, headers: headers)
  }

  /// The header with which a caller makes its own retry safe.
  private static func fleetIdempotencyKey(_ call: Call) throws(Problem) -> String? {
    guard let text = call.request.headers["idempotency-key"] else { return nil }
    guard (1...255).contains(text.utf8.count) else {
      throw Problem(
        400, "bad-value", "The Idempotency-Key has \(text.utf8.count) bytes.",
        field: "Idempotency-Key", remedy: "Send 1 to 255 bytes, e.g. a UUID.")
    }
    return text
  }

  func listFleets(_ call: Call) async throws(Problem) -> HTTPResponse {
    let query = try QueryParameters(call, known: ["limit", "before"], repeated: "state")
    let states = try call.states(FleetSummary.State.self)
    let key = try caller(call)
    let all = try await fleets.list(
      limit: try query.int("limit", 1...1000) ?? 100, states: states,
      key: key.has(.execAll) ? nil : key.name, before: query.text("before"))
    return .json(200, .object(["fleets": .array(all.map(\.json))]))
  }

  func cancelFleet(_ call: Call) async throws(Problem) -> HTTPResponse {
    let summary = try await visibleFleet(call)
    guard let now = try await fleets.cancel(summary.id) else {
      return HTTPResponse(status: 204, headers: [("Cache-Control", "no-store")])
    }
    return .json(202, now.json)
  }

  func listFleetTargets(_ call: Call) async throws(Problem) -> HTTPResponse {
    let query = try QueryParameters(call, known: ["limit", "after"], repeated: "state")
    let states = try call.states(FleetTarget.State.self)
    let limit = try query.int("limit", 1...10_000) ?? 1000
    let after = try query.int("after", -1...Int(Int32.max)) ?? -1
    let summary = try await visibleFleet(call)
    // One more than is asked for tells whether there are more.
    let found = try await fleets.targets(
      summary.id, states: states, after: after, limit: limit + 1)
    var out: [String: JSONValue] = ["targets": .array(found.prefix(limit).map(\.json))]
    out["next"] = .null
    if found.count > limit, let last = found.prefix(limit).last { out["next"] = .int(last.index) }
    return .json(200, .object(out))
  }

  func rerunFleet(_ call: Call) async throws(Problem) -> HTTPResponse {
    let body = try JSONBody(call.request, known: ["only"])
    let words: [String]
    switch body.value("only") {
    case .null: words = ["failed"]
    case .string(let word): words = [word]
    default: words = try body.strings("only") ?? []
    }
    let possible: [FleetTarget.State] = [.failed, .lost, .skipped, .succeeded]
    var states: Set<FleetTarget.State> = []
    for word in words {
      guard let state = possible.first(where: { $0.rawValue == word }) else {
        throw Problem(
          400, "bad-value", "'only' holds '\(word.prefix(40))'.", field: "only",
          remedy: "There are: \(possible.map(\.rawValue).joined(separator: ", ")).")
      }
      states.insert(state)
    }
    guard !states.isEmpty else {
      throw Problem(
        400, "bad-value", "'only' is an empty list.", field: "only",
        remedy: "Send e.g. {\"only\":\"failed\"}.")
    }
    let summary = try await visibleFleet(call)
    let (again, isRepeat) = try await fleets.rerun(
      summary.id, only: states, by: try caller(call),
      idempotencyKey: try Self.fleetIdempotencyKey(call))
    return created(again, isRepeat)
  }

  /// The fleet job of the path. One of another key looks like none, unless the caller may see all.
  func visibleFleet(_ call: Call) async throws(Problem) -> FleetSummary {
    let id = call.values.first ?? ""
    let key = try caller(call)
    let summary = try await fleets.summary(id)
    guard summary.key == key.name || key.has(.execAll) else { throw FleetEngine.unknown(id) }
    return summary
  }
}

extension Call {
  /// The states of the parameter `state`, which may come several times and hold several with commas between.
  fileprivate func states<Word: RawRepresentable & CaseIterable & Hashable>(
    _ type: Word.Type
  ) throws(Problem) -> Set<Word> where Word.RawValue == String {
    var out: Set<Word> = []
    for (name, value) in request.query where name == "state" {
      for part in value.split(separator: ",") {
        guard let word = Word(rawValue: String(part)) else {
          throw Problem(
            400, "bad-state", "There is no state '\(part.prefix(40))'.", field: "state",
            remedy: "There are: \(Word.allCases.map(\.rawValue).joined(separator: ", ")).")
        }
        out.insert(word)
      }
    }
    return out
  }
}
