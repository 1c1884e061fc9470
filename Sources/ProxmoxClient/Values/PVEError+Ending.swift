import ConsoleProtocol

extension PVEError {
  /// The error as the end of a console that couldn't be opened because of it.
  public var ending: Ending {
    let (hop, kind): (Ending.Hop, Ending.Kind) =
      switch self.kind {
      case .badConfiguration: (.gateway, .apiError)
      case .unauthenticated: (.api, .ticketRejected)
      case .loginFailed: (.api, .loginFailed)
      case .secondFactorNeeded: (.api, .secondFactorNeeded)
      case .forbidden: (.api, .permissionDenied)
      case .tokenUnsupported: (.api, .tokenUnsupported)
      case .guestNotFound, .nodeNotFound, .targetNotFound, .ambiguousTarget: (.api, .guestNotFound)
      case .noSuchConsole: (.api, .noSuchConsole)
      case .guestNotRunning: (.guest, .guestNotRunning)
      case .nodeUnreachable: (.api, .nodeUnreachable)
      case .portsExhausted: (.api, .portsExhausted)
      case .workerTimeout: (.worker, .workerTimeout)
      case .tlsUntrusted: (.api, .tlsUntrusted)
      case .connectFailed, .timedOut, .connectionLost: (.api, .apiUnreachable)
      case .shutDown: (.gateway, .serverShutdown)
      case .cancelled: (.viewer, .viewerLeft)
      case .malformedAnswer, .bodyTooLarge, .redirected: (.api, .protocolViolation)
      case .badParameters, .locked, .notImplemented, .tooLarge, .refused, .failed: (.api, .apiError)
      }
    let where_ = host.map { " (\($0))" } ?? ""
    var sentence = message + where_
    if let last = sentence.last, !".!?…".contains(last) { sentence += "." }
    var remedy = hint
    if let last = remedy.last, last.isLetter || last.isNumber || last == ")" { remedy += "." }
    return Ending(
      hop: hop, kind: kind, sentence: sentence, remedy: remedy,
      details: fields.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" })
  }
}
