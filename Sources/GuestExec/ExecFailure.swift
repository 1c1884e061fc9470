import ConsoleProtocol
import ProxmoxClient

/// Why a command was not started. Where it may have been started there is no failure but an end:
/// ``ExecEnd/lost(_:)``.
public struct ExecFailure: Error, Sendable, Hashable, CustomStringConvertible {
  /// What is the matter. The raw value is what the API says; the same for ever.
  public enum Kind: String, Sendable, Hashable, CaseIterable {
    /// The request can't be run anywhere: see ``ExecFailure/field``.
    case badRequest = "bad-request"
    /// No such guest or node.
    case targetNotFound = "target-not-found"
    /// The guest has to run, and doesn't.
    case guestNotRunning = "guest-not-running"
    /// The VM's configuration has no guest agent (`agent: 1`).
    case agentNotConfigured = "agent-not-configured"
    /// The guest agent doesn't answer: not installed, or not started.
    case agentNotRunning = "agent-not-running"
    /// The guest is still booting: the agent was waited for in vain.
    case agentBooting = "agent-booting"
    /// The guest's agent has `guest-exec` switched off.
    case agentExecDisabled = "agent-exec-disabled"
    /// A privilege is missing.
    case permissionDenied = "permission-denied"
    /// This kind of credential, or this version of PVE, can't do it.
    case unsupportedVersion = "unsupported-version"
    /// The transport can't do what was asked (a terminal, a user, input over its limit …).
    case unsupported = "unsupported"
    /// No transport reaches that target with this configuration.
    case noTransport = "no-transport"
    /// The program isn't there or can't be run; known before anything ran.
    case startFailed = "start-failed"
    /// The way to the target broke before the command was sent.
    case unreachable = "unreachable"
    /// A login on the way was refused (ssh key, host key, password).
    case loginFailed = "login-failed"
    /// Too many commands at once.
    case busy = "busy"
    /// The caller gave up before the command was sent.
    case cancelled = "cancelled"
    /// PVE refused in another way.
    case apiError = "api-error"
  }

  /// What is the matter.
  public var kind: Kind
  /// The request's field that is wrong, where one is.
  public var field: String?
  /// One sentence for a person. Holds no secret.
  public var sentence: String
  /// What to do about it; empty where there is nothing to say.
  public var remedy: String

  /// Puts the parts together.
  public init(_ kind: Kind, _ sentence: String, remedy: String = "", field: String? = nil) {
    self.kind = kind
    self.sentence = sentence
    self.remedy = remedy
    self.field = field
  }

  static func bad(_ field: String, _ what: String, _ remedy: String) -> ExecFailure {
    ExecFailure(.badRequest, "The field '\(field)' \(what).", remedy: remedy, field: field)
  }

  /// `kind: sentence remedy`
  public var description: String {
    "\(kind.rawValue): \(sentence)" + (remedy.isEmpty ? "" : " \(remedy)")
  }
}

extension ExecFailure {
  /// What PVE, or the way to it, refused before anything ran.
  public init(_ error: PVEError) {
    let ending = error.ending
    let kind: Kind =
      switch error.kind {
      case .targetNotFound, .guestNotFound, .nodeNotFound, .ambiguousTarget: .targetNotFound
      case .guestNotRunning: .guestNotRunning
      case .forbidden: .permissionDenied
      case .tokenUnsupported, .notImplemented: .unsupportedVersion
      case .unauthenticated, .loginFailed, .secondFactorNeeded, .badConfiguration: .loginFailed
      case .connectFailed, .timedOut, .tlsUntrusted, .nodeUnreachable, .connectionLost,
        .redirected, .shutDown:
        .unreachable
      case .portsExhausted, .workerTimeout: .busy
      case .cancelled: .cancelled
      default: .apiError
      }
    self.init(kind, ending.sentence, remedy: ending.remedy)
  }
}
