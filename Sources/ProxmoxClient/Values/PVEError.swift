import ConsoleProtocol

/// Why a call to PVE didn't give an answer. Any status that isn't 2xx is one of these.
///
/// It holds no credential, ticket or password: they are cut out of whatever text the node sent.
public struct PVEError: Error, Sendable, Hashable {
  /// Which clock ran out.
  public enum Phase: String, Sendable, Hashable {
    /// Name lookup, TCP and TLS.
    case connect
    /// The whole call.
    case total
    /// No byte for too long.
    case idle
  }

  /// What happened.
  public enum Kind: Sendable, Hashable {
    /// A credential, host or file in the configuration can't be used.
    case badConfiguration
    /// 401: no, an unknown or an expired credential.
    case unauthenticated
    /// User and password, or the second factor, were refused. PVE doesn't say which.
    case loginFailed
    /// The account wants a second factor and none is configured that it takes.
    case secondFactorNeeded
    /// 403, with the path and the privileges that PVE named (`VM.Audit|VM.Console` means either).
    case forbidden(path: String?, privilege: String?)
    /// An API token can't do this on that version, or ever.
    case tokenUnsupported
    /// 400: see ``PVEError/fields``.
    case badParameters
    /// No guest with that number. PVE says 500.
    case guestNotFound
    /// No node with that name. PVE says 500.
    case nodeNotFound
    /// No guest with that name or number in the cluster, as far as the credential may look.
    case targetNotFound
    /// Several guests have the name.
    case ambiguousTarget(candidates: [Place])
    /// That place has no such console, e.g. a serial port on a container.
    case noSuchConsole
    /// The guest has to run, and doesn't.
    case guestNotRunning
    /// The guest is locked by a backup, snapshot, migration …
    case locked
    /// 501: that node's version has no such call.
    case notImplemented
    /// The request's body is over the node's limit.
    case tooLarge
    /// 595 to 599: the node we talk to couldn't reach the one that the call is for (or its own daemon).
    case nodeUnreachable
    /// All of the node's hundred console ports are taken.
    case portsExhausted
    /// The console's worker didn't come up in time.
    case workerTimeout
    /// The certificate isn't trusted.
    case tlsUntrusted(expected: Fingerprint?, seen: Fingerprint?)
    /// No connection; nothing of the request was sent.
    case connectFailed
    /// A time-out.
    case timedOut(Phase)
    /// The connection broke after the request, or a part of it, was sent. Whether it ran is unknown.
    case connectionLost
    /// The answer is larger than the limit (in bytes).
    case bodyTooLarge(limit: Int)
    /// A redirect. None is followed: it would carry the credential somewhere else.
    case redirected(to: String?)
    /// The answer isn't what PVE answers; the field is the one that is missing or wrong.
    case malformedAnswer(field: String?)
    /// The Swift task was cancelled.
    case cancelled
    /// The client was shut down.
    case shutDown
    /// Any other 4xx.
    case refused
    /// Any other 5xx, a plain failure of the call inside PVE.
    case failed
  }

  /// What happened.
  public var kind: Kind
  /// The HTTP status, where there was an answer.
  public var status: Int?
  /// PVE's own words (the body's `message`, else the reason phrase), or ours where PVE said nothing.
  public var message: String
  /// By parameter, what PVE found wrong with it.
  public var fields: [String: String]
  /// The call's method.
  public var method: HTTPMethod
  /// The call's path below `/api2/json`, without its query.
  public var path: String
  /// The host that was asked, `HOST:PORT`.
  public var host: String?
  /// What to do about it; empty where there is nothing to say.
  public var hint: String

  /// Puts the parts together.
  public init(
    kind: Kind, status: Int? = nil, message: String, fields: [String: String] = [:],
    method: HTTPMethod, path: String, host: String? = nil, hint: String = ""
  ) {
    self.kind = kind
    self.status = status
    self.message = message
    self.fields = fields
    self.method = method
    self.path = path
    self.host = host
    self.hint = hint
  }

  /// A short word for the kind, the same for ever: `forbidden`, `node-unreachable` …
  public var code: String {
    switch kind {
    case .badConfiguration: "bad-configuration"
    case .unauthenticated: "unauthenticated"
    case .loginFailed: "login-failed"
    case .secondFactorNeeded: "second-factor-needed"
    case .forbidden: "permission-denied"
    case .tokenUnsupported: "token-unsupported"
    case .badParameters: "bad-parameters"
    case .guestNotFound: "guest-not-found"
    case .nodeNotFound: "node-not-found"
    case .targetNotFound: "target-not-found"
    case .ambiguousTarget: "ambiguous-target"
    case .noSuchConsole: "no-such-console"
    case .guestNotRunning: "guest-not-running"
    case .locked: "locked"
    case .notImplemented: "not-implemented"
    case .tooLarge: "too-large"
    case .nodeUnreachable: "node-unreachable"
    case .portsExhausted: "ports-exhausted"
    case .workerTimeout: "worker-timeout"
    case .tlsUntrusted: "tls-untrusted"
    case .connectFailed: "api-unreachable"
    case .timedOut: "timed-out"
    case .connectionLost: "connection-lost"
    case .bodyTooLarge: "body-too-large"
    case .redirected: "redirected"
    case .malformedAnswer: "malformed-answer"
    case .cancelled: "cancelled"
    case .shutDown: "shut-down"
    case .refused: "refused"
    case .failed: "api-error"
    }
  }

  /// Whether nothing of the request can have reached a node, so that another host may be tried.
  var nothingWasSent: Bool { kind == .connectFailed || kind == .timedOut(.connect) }
}

extension PVEError: CustomStringConvertible {
  /// One line: call, status, message, fields, hint.
  public var description: String {
    var text = "\(method.rawValue) \(path)"
    if let host { text += " on \(host)" }
    text += ": "
    if let status { text += "\(status) " }
    text += message
    for (name, reason) in fields.sorted(by: { $0.key < $1.key }) { text += "; \(name): \(reason)" }
    if !hint.isEmpty { text += ". \(hint)" }
    return text
  }
}
