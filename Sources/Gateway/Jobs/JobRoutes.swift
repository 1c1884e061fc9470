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
    Route("DELETE", "/v1/exec/{id}", .right(.exec)) { plane, call throws(Problem) in
      try await plane.endJob(call)
    },
    Route("GET", "/v1/exec/{id}/output", .right(.exec)) { plane, call throws(Problem) in
      try await plane.jobOutput(call)
    },
    Route("PUT", "/v1/exec/{id}/stdin", .right(.exec)) { plane, call throws(Problem) in
      try await plane.jobInput(call)
    },
    Route("POST", "/v1/exec/{id}/signal", .right(.exec)) { plane, call throws(Problem) in
      try await plane.signalJob(call)
    },
    Route("POST", "/v1/exec/{id}/resize", .right(.exec)) { plane, call throws(Problem) in
      try await plane.resizeJob(call)
    },
  ]
}
