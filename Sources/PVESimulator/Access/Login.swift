import ConsoleProtocol

/// `POST /access/ticket`: password, ticket or second factor in, ticket out. Every failure is the same 401, so that there
/// is no reason to be had from here.
struct Login {
  /// What a successful step gives.
  enum Outcome: Equatable {
    /// Logged in.
    case complete(user: String)
    /// The password was right; here is what second factors there are.
    case challenge(user: String, ticket: String)

    /// The user of either.
    var user: String {
      switch self {
      case .complete(let user), .challenge(let user, _): user
      }
    }
  }

  let tickets: TicketOffice
  let access: AccessControl

  private var era: Era { access.era }

  /// The first step: a password or a login ticket, and `otp` where the client knows already.
  /// - Parameter newFormat: PVE 7's question whether a second factor is asked for in today's way.
  func begin(user id: String, password: String, otp: String?, newFormat: Bool = true) -> Outcome? {
    guard let user = enabled(id) else { return nil }
    if let owner = tickets.user(ofLogin: password), owner == "root@pam" || owner == user.id {
      // root's own ticket opens every account; others renew their own. No second factor is asked for again.
      return .complete(user: user.id)
    }
    guard access.isPassword(password, of: user.id) else { return nil }
    return era.hasOldSecondFactor && !newFormat
      ? oldStep(user, otp: otp) : newStep(user, otp: otp)
  }

  /// The second step: the pending ticket and `totp:CODE` or `recovery:CODE`.
  func finish(user id: String, pending: String, response: String) -> Outcome? {
    guard let user = enabled(id), access.realms[user.realm] != nil,
      isWanted(response, in: user), tickets.isPending(pending, user: user.id),
      accepts(response, of: user)
    else { return nil }
    return .complete(user: user.id)
  }

  /// A password alone, as consoles' programs check one: a second factor is looked at only where it is given.
  func isPassword(_ password: String, of id: String, otp: String?) -> Bool {
    guard let user = enabled(id), access.isPassword(password, of: id) else { return false }
    guard let otp else { return true }
    return era.hasOldSecondFactor
      ? acceptsOld(otp, of: user) : isWanted(otp, in: user) && accepts(otp, of: user)
  }

  private func enabled(_ id: String) -> User? {
    do throws(APIError) {
      return try access.enabledUser(try access.lookup(id))
    } catch {
      return nil
    }
  }

  // MARK: today's way

  private func newStep(_ user: User, otp: String?) -> Outcome? {
    let required = access.realms[user.realm]?.requiredFactor
    let known = factors(of: user)
    let asked: JSON?
    if required == "yubico" {
      // Yubico's server is asked in the second step only.
      let recovery = known.recovery.map { $0.left.map { JSON.int($0) } }
      asked = .object(
        [.init(key: "yubico", value: .bool(true))]
          + (recovery.map { [.init(key: "recovery", value: .array($0))] } ?? []))
    } else {
      asked = known.challenge
    }
    guard let asked else {
      // Nothing is set up: fine, unless the realm wants something or an answer came to no question.
      return required == nil && otp == nil ? .complete(user: user.id) : nil
    }
    guard let otp, required != "yubico" else {
      return .challenge(
        user: user.id, ticket: tickets.pending(user: user.id, challenge: asked))
    }
    return isWanted(otp, in: user) && accepts(otp, of: user) ? .complete(user: user.id) : nil
  }

  /// Whether a realm that wants one kind of second factor gets it; recovery codes do everywhere.
  private func isWanted(_ response: String, in user: User) -> Bool {
    guard let required = access.realms[user.realm]?.requiredFactor else { return true }
    let kind = response.prefix { $0 != ":" }
    return kind == "recovery" || kind == (required == "oath" ? "totp" : required)
  }

  private func accepts(_ text: String, of user: User) -> Bool {
    guard let response = SecondFactors.Response(text) else { return false }
    var known = factors(of: user)
    guard !known.isEmpty else { return false }
    let isRight = known.accepts(response, at: access.clock.now, locks: era.locksSecondFactors)
    keep(known, of: user)
    return isRight
  }

  // MARK: PVE 7's old way

  private func oldStep(_ user: User, otp: String?) -> Outcome? {
    let known = factors(of: user)
    if known.isEmpty {
      return access.realms[user.realm]?.requiredFactor == nil ? .complete(user: user.id) : nil
    }
    // Recovery codes alone are nothing that the old way knows.
    guard !known.totp.isEmpty else { return nil }
    guard let otp else {
      return .challenge(user: user.id, ticket: tickets.half(user: user.id))
    }
    return acceptsOld(otp, of: user) ? .complete(user: user.id) : nil
  }

  /// `POST /access/tfa` of PVE 7: bare digits.
  func acceptsOld(_ digits: String, of user: User) -> Bool {
    guard digits.utf8.allSatisfy({ (48...57).contains($0) }) else { return false }
    return accepts("totp:" + digits, of: user)
  }

  // MARK: the factors that count

  /// A user's second factors; where the realm wants TOTP, the keys in the user's record count too.
  private func factors(of user: User) -> SecondFactors {
    var known = access.factors[user.id] ?? SecondFactors()
    guard access.realms[user.realm]?.requiredFactor == "oath" else { return known }
    known.totp += oldKeys(of: user)
    return known
  }

  private func oldKeys(of user: User) -> [TOTPFactor] {
    splitList(user.keys ?? "").enumerated().compactMap { i, key in
      let bytes: [UInt8]?
      if key.utf8.count == 16 {
        bytes = base32Decoded(key)
      } else if key.utf8.count == 40 {
        bytes = hexDecoded(key)
      } else {
        bytes = nil
      }
      return bytes.map {
        TOTPFactor(
          id: "old-\(i)", description: "<old userconfig key \(i)>", created: 0,
          code: TOTPCode(secret: $0, account: user.id))
      }
    }
  }

  private func hexDecoded(_ text: String) -> [UInt8]? {
    let digits = text.utf8.compactMap(hexValue)
    guard digits.count == text.utf8.count, digits.count % 2 == 0 else { return nil }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
  }

  private func keep(_ factors: SecondFactors, of user: User) {
    var own = factors
    own.totp.removeAll { $0.id.hasPrefix("old-") }
    guard access.factors[user.id] != nil else { return }
    access.factors[user.id] = own
    access.persist(.tfa)
  }
}
