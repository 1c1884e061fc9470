import ConsoleProtocol

/// A credential at work: what goes into the headers of a call, and what to do when the node refuses it.
final class Identity: Sendable {
  /// What a call carries, and the login it came from.
  struct Authorization: Sendable {
    var headers: [(name: String, value: Secret)]
    var login: TicketSession.Login?
  }

  let credential: Credential
  private let tickets: TicketSession?

  init(_ credential: Credential, connection: APIConnection, clock: LoginClock) {
    self.credential = credential
    tickets =
      credential.kind == .ticket
      ? TicketSession(credential, connection: connection, clock: clock) : nil
  }

  /// The headers for a call, after a login where one is needed.
  func authorization(for request: APIRequest) async throws(PVEError) -> Authorization {
    if let defect = credential.defect {
      throw request.error(
        .badConfiguration, defect, hint: "Correct the credential in the configuration")
    }
    guard let tickets else {
      guard case .token(let id, let secret) = credential else {
        throw request.error(.badConfiguration, "the credential can't be used")
      }
      let value =
        "PVEAPIToken=\(PercentEncoding.cookie(id))=\(PercentEncoding.cookie(secret.reveal()))"
      return Authorization(headers: [("Authorization", Secret(value))], login: nil)
    }
    let login = try await tickets.login(forWriting: request.method != .get, for: request)
    var headers = [
      (
        name: "Cookie",
        value: Secret("PVEAuthCookie=" + PercentEncoding.cookie(login.ticket.reveal()))
      )
    ]
    // Only with a ticket, and only for what changes something: pveproxy checks nothing else.
    if request.method != .get, let csrf = login.csrf {
      headers.append(("CSRFPreventionToken", csrf))
    }
    return Authorization(headers: headers, login: login)
  }

  /// Says that a node answered 401. Whether a new login is worth a try.
  func wasRefused(_ authorization: Authorization) -> Bool {
    guard let tickets, let login = authorization.login else { return false }
    return tickets.discard(login)
  }
}
