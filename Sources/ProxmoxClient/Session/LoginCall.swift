import ConsoleProtocol

/// The calls of `/access/ticket`, step by step.
struct LoginCall: Sendable {
  let connection: APIConnection
  let clock: LoginClock

  /// For errors that come before a call.
  static let request = APIRequest(method: .post, path: "/access/ticket")

  /// User and password, then the second factor where PVE asks for one.
  func withPassword(
    user: String, password: Secret, factor: SecondFactor?
  ) async throws(PVEError) -> TicketSession.Login {
    let parameters = [Parameter("username", user), Parameter("password", password)]
    let first = try await firstStep(parameters)
    let ticket = Secret(try first.string("ticket"))
    if ticket.reveal().hasPrefix("PVE:!tfa!") {
      return try await second(user: user, pending: ticket, factor: factor)
    }
    let old = ticket.reveal().hasPrefix("PVE:tfa!")
    if old || ticket.reveal().hasPrefix("PVE:u2f!") {
      return try await oldSecondStep(
        user: user, pending: ticket, csrf: first.value["CSRFPreventionToken"].string,
        isTOTP: old, factor: factor)
    }
    return try login(from: first, user: user)
  }

  /// A new ticket for a living one; no second factor is asked.
  func renewing(_ login: TicketSession.Login) async throws(PVEError) -> TicketSession.Login {
    let answer = try await call([
      Parameter("username", login.user), Parameter("password", login.ticket),
    ])
    return try self.login(from: answer, user: login.user)
  }

  // MARK: Steps

  /// PVE 7 speaks today's form of the second step only when asked to (`new-format`); PVE 6 doesn't know the parameter
  /// and PVE 8 on ignores it.
  private func firstStep(_ parameters: [Parameter]) async throws(PVEError) -> AnswerReader {
    do {
      return try await call(parameters + [Parameter("new-format", true)])
    } catch {
      guard error.kind == .badParameters, error.fields["new-format"] != nil else { throw error }
      return try await call(parameters)
    }
  }

  private func second(
    user: String, pending: Secret, factor: SecondFactor?
  ) async throws(PVEError) -> TicketSession.Login {
    let challenge = TFAChallenge(pending: pending) ?? TFAChallenge()
    let code = try await code(for: challenge, factor)
    let answer = try await call([
      Parameter("username", user), Parameter("tfa-challenge", pending),
      Parameter("password", code),
    ])
    return try login(from: answer, user: user)
  }

  /// Up to PVE 7: the bare code to `/access/tfa`, authorised by the pending ticket.
  private func oldSecondStep(
    user: String, pending: Secret, csrf: String?, isTOTP: Bool, factor: SecondFactor?
  ) async throws(PVEError) -> TicketSession.Login {
    let code = try await code(for: TFAChallenge(totp: isTOTP, u2f: !isTOTP), factor)
    let bare = code.reveal().split(separator: ":", maxSplits: 1).last.map(String.init) ?? ""
    var request = APIRequest(
      method: .post, path: "/access/tfa", parameters: [Parameter("response", Secret(bare))])
    request.headers = [
      ("Cookie", Secret("PVEAuthCookie=" + PercentEncoding.cookie(pending.reveal())))
    ]
    if let csrf { request.headers.append(("CSRFPreventionToken", Secret(csrf))) }
    let answer = try await call(request)
    var login = try login(from: answer, user: user)
    login.csrf = login.csrf ?? csrf.map { Secret($0) }
    return login
  }

  private func code(
    for challenge: TFAChallenge, _ factor: SecondFactor?
  ) async throws(PVEError) -> Secret {
    guard let factor else {
      throw Self.request.error(
        .secondFactorNeeded, "the account wants a second factor (it has: \(challenge.kinds))")
    }
    do {
      return try await factor.code(challenge)
    } catch is CancellationError {
      throw Self.request.error(.cancelled, "cancelled")
    } catch {
      throw Self.request.error(.secondFactorNeeded, PVEError.clean("no second factor: \(error)"))
    }
  }

  private func call(_ parameters: [Parameter]) async throws(PVEError) -> AnswerReader {
    var request = Self.request
    request.parameters = parameters
    return try await call(request)
  }

  private func call(_ request: APIRequest) async throws(PVEError) -> AnswerReader {
    let (answer, host) = try await connection.exchange(request)
    do throws(PVEError) {
      let json = try request.read(answer, from: host, secrets: connection.secrets(of: request))
      return AnswerReader(value: json["data"], request: request, host: host)
    } catch {
      guard error.kind == .unauthenticated else { throw error }
      var failed = error
      failed.kind = .loginFailed
      failed.hint = PVEError.hint(for: .loginFailed)
      throw failed
    }
  }

  private func login(
    from answer: AnswerReader, user: String
  ) throws(PVEError) -> TicketSession.Login {
    let ticket = Secret(try answer.string("ticket"))
    guard !ticket.reveal().hasPrefix("PVE:!tfa!") else {
      throw answer.request.error(.secondFactorNeeded, "PVE asks for one more factor")
    }
    return TicketSession.Login(
      ticket: ticket, csrf: answer.value["CSRFPreventionToken"].string.map { Secret($0) },
      user: answer.value["username"].string ?? user, born: clock.monotonic())
  }
}
