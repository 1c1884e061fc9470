import ConsoleProtocol
import EventLoop
import GuestExec
import ProxmoxClient

extension RemoteCommandStatus {
  /// How a job ended. What is no exit status is never given as one.
  init(_ summary: JobSummary) {
    if let failure = summary.failure {
      self.init(failure)
    } else {
      switch summary.end {
      case .exited(let status): self = .exited(status)
      case .signalled(let number): self = .signalled(number)
      case .timedOut:
        self = .failed(
          "Timeout", "The command was ended: it ran longer than its time limit.", code: 504,
          causes: [Cause("ExecEnd", "timed-out")])
      case .cancelled:
        self = .failed(
          "Cancelled", "The command was cancelled.", code: 499,
          causes: [Cause("ExecEnd", "cancelled")])
      case .lost(let why):
        self = .failed(
          "OutcomeUnknown", "How the command ended is not known: \(why)", code: 500,
          causes: [Cause("ExecEnd", "lost")])
      case nil:
        self = .failed(
          "OutcomeUnknown", "How the command ended is not known.", code: 500,
          causes: [Cause("ExecEnd", "lost")])
      }
    }
    if summary.stdoutTruncated { causes.append(Cause("Truncated", "stdout")) }
    if summary.stderrTruncated { causes.append(Cause("Truncated", "stderr")) }
    causes.append(Cause("Job", summary.id))
  }

  /// Why a command was not started.
  init(_ failure: ExecFailure) {
    let reason: String
    let code: Int
    switch failure.kind {
    case .badRequest, .unsupported: (reason, code) = ("BadRequest", 400)
    case .targetNotFound: (reason, code) = ("NotFound", 404)
    case .guestNotRunning: (reason, code) = ("Conflict", 409)
    case .busy: (reason, code) = ("TooManyRequests", 429)
    case .agentBooting, .agentNotRunning, .unreachable:
      (reason, code) = ("ServiceUnavailable", 503)
    default: (reason, code) = ("InternalError", 500)
    }
    self = .failed(
      reason, Self.sentence(failure.sentence, failure.remedy), code: code,
      causes: [Cause("Sallyport", failure.kind.rawValue)])
  }

  /// Why the API refused.
  init(_ problem: Problem, before: String = "") {
    self = .failed(
      KubernetesStatus.reason(problem.status),
      before + Self.sentence(problem.detail, problem.remedy ?? ""), code: problem.status,
      causes: [Cause("Sallyport", problem.kind)])
  }

  /// What is the matter, and what to do about it.
  static func sentence(_ what: String, _ remedy: String) -> String {
    remedy.isEmpty ? what : "\(what) \(remedy)"
  }
}

/// Refusals in the form of the Kubernetes API: the object `Status`, whose message kubectl shows.
enum KubernetesStatus {
  /// The word for an HTTP status. Clients choose by it what they print in front of the message.
  static func reason(_ status: Int) -> String {
    switch status {
    case 400, 422: "BadRequest"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "NotFound"
    case 405: "MethodNotAllowed"
    case 406: "NotAcceptable"
    case 409: "Conflict"
    case 429: "TooManyRequests"
    case 503: "ServiceUnavailable"
    case 504: "Timeout"
    default: "InternalError"
    }
  }

  /// A refusal for want of a key, with what is the matter with kubectl over plain HTTP.
  static func explained(
    _ problem: Problem, _ request: HTTPRequest, _ connection: Connection
  ) -> Problem {
    guard problem.status == 401, connection.scheme == "http",
      request.headers["authorization"] == nil,
      (request.headers["user-agent"] ?? "").hasPrefix("kubectl")
    else { return problem }
    var out = problem
    out.remedy =
      "kubectl sends its token over https only: give the gateway a certificate (listen.tls), or put a proxy with one "
      + "in front."
    return out
  }

  /// A problem as an answer under `/k8s`.
  static func response(_ problem: Problem) -> HTTPResponse {
    let status = RemoteCommandStatus(problem)
    var headers = problem.headers
    headers.append(("Content-Type", "application/json"))
    headers.append(("Cache-Control", "no-store"))
    return HTTPResponse(
      status: problem.status, headers: headers, body: Array(status.json.utf8))
  }
}
