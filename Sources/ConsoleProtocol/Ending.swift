/// Why a console ended: which hop ended it, what happened, in a sentence, and what to do about it.
///
/// Every session has exactly one. It goes out as a JSON text frame on terminals, as close code and reason on
/// every websocket, and stays readable at `GET /v1/consoles/{id}`.
public struct Ending: Sendable, Hashable, Error, CustomStringConvertible {
  /// Who ended it.
  public enum Hop: String, Sendable, Hashable, CaseIterable {
    /// The person in front of the browser, or the program that looks.
    case viewer
    /// Sallyport.
    case gateway
    /// pveproxy and the PVE API behind it.
    case api
    /// PVE's worker task: termproxy, `qm vncproxy`, vncterm.
    case worker
    /// The guest itself.
    case guest
  }

  /// What happened. The raw value is what the API and the JSON frame say.
  public enum Kind: String, Sendable, Hashable, CaseIterable {
    case viewerLeft = "viewer-left"
    case viewerLost = "viewer-lost"
    case guestNotRunning = "guest-not-running"
    case guestStopped = "guest-stopped"
    case guestNotFound = "guest-not-found"
    case noSerialPort = "no-serial-port"
    case noSuchConsole = "no-such-console"
    case permissionDenied = "permission-denied"
    case ticketRejected = "ticket-rejected"
    case loginFailed = "login-failed"
    case tokenUnsupported = "token-unsupported"
    case secondFactorNeeded = "second-factor-needed"
    case apiUnreachable = "api-unreachable"
    case apiError = "api-error"
    case tlsUntrusted = "tls-untrusted"
    case nodeUnreachable = "node-unreachable"
    case workerTimeout = "worker-timeout"
    case workerExited = "worker-exited"
    case portsExhausted = "ports-exhausted"
    case protocolViolation = "protocol-violation"
    case viewerViolation = "viewer-violation"
    case slowViewer = "slow-viewer"
    case idle
    case maxDuration = "max-duration"
    case serverShutdown = "server-shutdown"
    case closedByOperator = "closed-by-operator"
    case linkUnknown = "link-unknown"
    case linkUsed = "link-used"
    case linkExpired = "link-expired"
    case originRefused = "origin-refused"
    case tooManySessions = "too-many-sessions"

    /// The websocket close code, 4000 to 4999, that stands for this kind. Fixed for ever: clients switch on it.
    public var closeCode: UInt16 {
      switch self {
      case .viewerLeft: 4000
      case .viewerLost: 4001
      case .guestNotRunning: 4100
      case .guestStopped: 4101
      case .guestNotFound: 4102
      case .noSerialPort: 4103
      case .noSuchConsole: 4104
      case .permissionDenied: 4200
      case .ticketRejected: 4201
      case .loginFailed: 4202
      case .tokenUnsupported: 4203
      case .secondFactorNeeded: 4204
      case .apiUnreachable: 4300
      case .apiError: 4301
      case .tlsUntrusted: 4302
      case .nodeUnreachable: 4303
      case .workerTimeout: 4400
      case .workerExited: 4401
      case .portsExhausted: 4402
      case .protocolViolation: 4500
      case .viewerViolation: 4501
      case .slowViewer: 4600
      case .idle: 4601
      case .maxDuration: 4602
      case .serverShutdown: 4603
      case .closedByOperator: 4604
      case .tooManySessions: 4605
      case .linkUnknown: 4700
      case .linkUsed: 4701
      case .linkExpired: 4702
      case .originRefused: 4703
      }
    }
  }

  /// Who ended it.
  public var hop: Hop
  /// What happened.
  public var kind: Kind
  /// One sentence for a person. Holds no secret.
  public var sentence: String
  /// What to do about it, or empty where there is nothing to do.
  public var remedy: String
  /// Lines that belong to it, e.g. the end of the worker's task log. May be empty.
  public var details: [String]

  /// Puts the parts together.
  public init(
    hop: Hop, kind: Kind, sentence: String, remedy: String = "", details: [String] = []
  ) {
    self.hop = hop
    self.kind = kind
    self.sentence = sentence
    self.remedy = remedy
    self.details = details
  }

  /// The close reason: `kind: sentence`, cut at a character boundary to the 123 bytes that RFC 6455 leaves.
  public var closeReason: String {
    let full = "\(kind.rawValue): \(sentence)"
    if full.utf8.count <= 123 { return full }
    var out = ""
    for c in full {
      if out.utf8.count + c.utf8.count > 120 { break }
      out.append(c)
    }
    return out + "…"
  }

  /// `[hop] kind: sentence remedy`.
  public var description: String {
    "[\(hop.rawValue)] \(kind.rawValue): \(sentence)" + (remedy.isEmpty ? "" : " \(remedy)")
  }
}
