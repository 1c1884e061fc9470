import EventLoop
import GuestExec
import ProxmoxClient

extension Route {
  /// Commands: see `docs/api.md`.
  static let commands: [Route] = [
    Route("POST", "/v1/exec", .right(.exec)) { plane, call throws(Problem) in
      try await plane.createJob(call)
    },
    Route("GET", "/v1/exec", .right(.exec)) { plane, call throws(Problem) in
      try await plane.listJobs(call)
    },
    Route("GET", "/v1/exec/{id}", .right(.exec)) { plane, call throws(Problem) in
      try await plane.showJob(call)
    },
  ]
}

extension ControlPlane {
  func createJob(_ call: Call) async throws(Problem) -> HTTPResponse {
    let body = try JSONBody(call.request, known: JobOrder.fields)
    let order = try JobOrder(body, jobs.configuration)
    let summary = try await jobs.submit(order, by: try caller(call))
    return .json(
      201, summary.json, headers: [("Location", "\(prefix)/v1/exec/\(summary.id)")])
  }

  func listJobs(_ call: Call) async throws(Problem) -> HTTPResponse {
    let all = try await jobs.list(key: try caller(call).has(.execAll) ? nil : call.key)
    return .json(200, .object(["jobs": .array(all.map(\.json))]))
  }

  func showJob(_ call: Call) async throws(Problem) -> HTTPResponse {
    .json(200, try await visibleJob(call).json)
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
