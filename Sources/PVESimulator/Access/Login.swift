import ConsoleProtocol

/// `POST /access/ticket`: password, ticket or second factor in, ticket out. Every failure is the same 401.
struct Login {
  /// What a successful step gives.
  enum Outcome {
    /// Logged in.
    case complete(user: String)
    /// The password was right; here is what second factors there are.
    case challenge(user: String, ticket: String)
  }

  /// Clients may be this many 30 s steps off.
  private static let totpWindow = -1...1
  /// So many wrong codes in a row lock TOTP until a recovery code is used.
  private static let totpLimit = 8

  let tickets: TicketOffice

  /// The first step: a password or a login ticket, and `otp` where the client knows already.
  func begin(user: String, password: String, otp: String?, access: inout AccessControl) -> Outcome?
  {
    guard let account = access.accounts[user], account.isEnabled else { return nil }
    if password.hasPrefix("PVE:") {
      guard let owner = tickets.user(ofLogin: password) else { return nil }
      // root's own ticket opens every account; others renew their own. No second factor is asked again.
      return owner == user || owner == "root@pam" ? .complete(user: user) : nil
    }
    guard account.password == Secret(password) else { return nil }
    guard account.hasSecondFactor else { return otp == nil ? .complete(user: user) : nil }
    if let otp {
      return answer(user: user, response: otp, access: &access) ? .complete(user: user) : nil
    }
    return .challenge(
      user: user, ticket: tickets.pending(user: user, challenge: challenge(account)))
  }

  /// The second step: the pending ticket and `totp:CODE` or `recovery:CODE`.
  func finish(user: String, pending: String, response: String, access: inout AccessControl)
    -> Outcome?
  {
    guard let account = access.accounts[user], account.isEnabled,
      tickets.isPending(pending, user: user)
    else { return nil }
    return answer(user: user, response: response, access: &access) ? .complete(user: user) : nil
  }

  private func challenge(_ account: AccessControl.Account) -> JSON {
    var members: [JSON.Member] = []
    if account.totpSecret != nil, account.totpFailures < Login.totpLimit {
      members.append(.init(key: "totp", value: .bool(true)))
    }
    if !account.recoveryCodes.isEmpty {
      let left = account.recoveryCodes.keys.sorted().map { JSON.int($0) }
      members.append(.init(key: "recovery", value: .array(left)))
    }
    return .object(members)
  }

  private func answer(user: String, response: String, access: inout AccessControl) -> Bool {
    guard let account = access.accounts[user] else { return false }
    if response.hasPrefix("totp:") {
      guard let secret = account.totpSecret, account.totpFailures < Login.totpLimit else {
        return false
      }
      let code = Array(response.dropFirst(5).utf8)
      let now = tickets.clock.now / 30
      for counter in Login.totpWindow.map({ now + $0 }) where counter > account.lastTOTPCounter {
        if constantTimeEqual(code, Array(totpCode(secret: secret, counter: counter).utf8)) {
          access.update(user) {
            $0.lastTOTPCounter = counter
            $0.totpFailures = 0
          }
          return true
        }
      }
      access.update(user) { $0.totpFailures += 1 }
      return false
    }
    if response.hasPrefix("recovery:") {
      let code = Secret(String(response.dropFirst(9)))
      guard let found = account.recoveryCodes.first(where: { $0.value == code }) else {
        return false
      }
      access.update(user) {
        $0.recoveryCodes[found.key] = nil
        $0.totpFailures = 0
      }
      return true
    }
    return false
  }
}
