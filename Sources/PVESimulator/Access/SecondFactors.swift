import ConsoleProtocol

/// A TOTP device.
struct TOTPFactor {
  var id: String
  var description: String
  /// Seconds since 1970.
  var created: Int
  var isEnabled = true
  var code: TOTPCode
  /// The counter of the last code that was used: a code is good once.
  var lastCounter: Int?
}

/// Recovery codes; nil where one is used up.
struct RecoveryCodes {
  var created: Int
  var codes: [Secret?]

  init(created: Int, codes: [Secret?]) {
    self.created = created
    self.codes = codes
  }

  /// Ten new ones, such as `0f3a-91c4-77d0-2be8`.
  static func make(at now: Int) -> RecoveryCodes {
    RecoveryCodes(
      created: now,
      codes: (0..<10).map { _ in
        let text = Array(lowerHex(randomBytes(8)))
        return Secret(
          [0..<4, 4..<8, 8..<12, 12..<16].map { String(text[$0]) }.joined(separator: "-"))
      })
  }

  /// The indexes of codes that are left.
  var left: [Int] { codes.indices.filter { codes[$0] != nil } }

  /// Uses up a code; false where it is none.
  mutating func use(_ code: String) -> Bool {
    guard let i = codes.firstIndex(where: { $0 == Secret(code) }) else { return false }
    codes[i] = nil
    return true
  }
}

/// A user's second factors, and how often they were wrong.
struct SecondFactors {
  /// So many wrong TOTP codes in a row lock TOTP until a recovery code is used.
  static let totpLimit = 8
  /// So many wrong second factors in a row lock them all for a while.
  static let limit = 100
  /// For how many seconds.
  static let lockTime = 3600

  var totp: [TOTPFactor] = []
  var recovery: RecoveryCodes?
  var isTOTPLocked = false
  /// Seconds since 1970.
  var lockedUntil: Int?
  var totpFailures = 0
  var failures = 0

  var isEmpty: Bool { totp.isEmpty && recovery == nil }

  func isLocked(at now: Int) -> Bool { lockedUntil.map { now < $0 } ?? false }

  /// What a login asks for: the JSON of a pending ticket. Nil where nothing is switched on. A locked TOTP stands in it
  /// all the same.
  var challenge: JSON? {
    var members: [JSON.Member] = []
    if totp.contains(where: \.isEnabled) { members.append(.init(key: "totp", value: .bool(true))) }
    if let recovery {
      members.append(.init(key: "recovery", value: .array(recovery.left.map { .int($0) })))
    }
    return members.isEmpty ? nil : .object(members)
  }

  /// What a response to a challenge comes to.
  enum Response: Equatable {
    case totp(String)
    case recovery(String)
    /// A security key's answer, for a challenge that nobody was given.
    case securityKey

    /// Nil for what has none of the known prefixes.
    init?(_ text: String) {
      let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2 else { return nil }
      switch parts[0] {
      case "totp": self = .totp(String(parts[1]))
      case "recovery": self = .recovery(String(parts[1]))
      case "u2f", "webauthn":
        guard (try? JSONReader.read(Array(parts[1].utf8))) != nil else { return nil }
        self = .securityKey
      default: return nil
      }
    }
  }

  /// Checks a response, counts it if it is wrong, and uses it up if it is right.
  /// - Parameter locks: whether this version of PVE locks anything and refuses used codes.
  mutating func accepts(_ response: Response, at now: Int, locks: Bool) -> Bool {
    guard !isLocked(at: now) else { return false }
    var isRight = false
    switch response {
    case .totp(let code):
      guard !isTOTPLocked else { return false }
      isRight = acceptsTOTP(code, at: now, once: locks)
      totpFailures = isRight ? 0 : totpFailures + 1
      if locks, totpFailures >= SecondFactors.totpLimit { isTOTPLocked = true }
    case .recovery(let code):
      isRight = recovery?.use(code) ?? false
      if isRight {
        isTOTPLocked = false
        lockedUntil = nil
        totpFailures = 0
      }
    case .securityKey: break
    }
    failures = isRight ? 0 : failures + 1
    if locks, failures >= SecondFactors.limit { lockedUntil = now + SecondFactors.lockTime }
    return isRight
  }

  private mutating func acceptsTOTP(_ code: String, at now: Int, once: Bool) -> Bool {
    for i in totp.indices where totp[i].isEnabled {
      guard let counter = totp[i].code.counter(of: code, at: now) else { continue }
      guard once else { return true }
      guard totp[i].lastCounter.map({ counter > $0 }) ?? true else { return false }
      totp[i].lastCounter = counter
      return true
    }
    return false
  }

  /// Takes locks and counts away; whether there was a lock.
  mutating func unlock(at now: Int) -> Bool {
    let was = isTOTPLocked || isLocked(at: now)
    isTOTPLocked = false
    lockedUntil = nil
    totpFailures = 0
    failures = 0
    return was
  }

  // MARK: as the API shows them

  /// The entries, recovery codes first.
  var entries: [JSON] {
    var out: [JSON] = []
    if let recovery {
      out.append([
        "id": "recovery", "type": "recovery", "description": "", "created": .int(recovery.created),
      ])
    }
    for factor in totp {
      var members: [JSON.Member] = [
        .init(key: "id", value: .string(factor.id)), .init(key: "type", value: "totp"),
        .init(key: "description", value: .string(factor.description)),
        .init(key: "created", value: .int(factor.created)),
      ]
      // Where it is on, nothing says so.
      if !factor.isEnabled { members.append(.init(key: "enable", value: 0)) }
      out.append(.object(members))
    }
    return out
  }

  /// The members that say what is locked.
  func lockMembers(at now: Int) -> [JSON.Member] {
    var members: [JSON.Member] = []
    if isTOTPLocked { members.append(.init(key: "totp-locked", value: 1)) }
    if let lockedUntil, now < lockedUntil {
      members.append(.init(key: "tfa-locked-until", value: .int(lockedUntil)))
    }
    return members
  }
}
