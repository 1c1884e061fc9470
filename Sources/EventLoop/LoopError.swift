import Glibc

/// What the event loops refuse, with the reason in a sentence.
public enum LoopError: Error, Sendable, Hashable, CustomStringConvertible {
  /// A system call failed: which, on what, and the system's words for it.
  case system(call: String, on: String, reason: String)
  /// A name did not resolve.
  case unresolved(host: String, reason: String)
  /// A certificate, key or authority could not be used.
  case tls(String)
  /// An address has no valid form.
  case badAddress(String)
  /// The loop has been shut down.
  case shutDown

  /// The sentence.
  public var description: String {
    switch self {
    case .system(let call, let on, let reason): "\(call) failed on \(on): \(reason)"
    case .unresolved(let host, let reason): "the name '\(host)' can't be resolved: \(reason)"
    case .tls(let why): why
    case .badAddress(let text): "'\(text)' is not an address of the form HOST:PORT"
    case .shutDown: "the event loop has been shut down"
    }
  }

  static func last(_ call: String, on what: String) -> LoopError {
    .system(call: call, on: what, reason: String(cString: strerror(errno)))
  }
}
