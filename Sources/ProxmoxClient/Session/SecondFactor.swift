import ConsoleProtocol

/// The second factors that an account has, as the pending ticket of the first step lists them.
public struct TFAChallenge: Sendable, Hashable {
  /// A time-based code (`totp:123456`).
  public var totp: Bool
  /// The recovery codes that are left (`recovery:…`), by index; empty means none.
  public var recovery: [Int]
  /// A Yubico one-time password (`yubico:…`).
  public var yubico: Bool
  /// A security key in a browser.
  public var webauthn: Bool
  /// A security key in a browser, the old way.
  public var u2f: Bool

  /// Puts the parts together.
  public init(
    totp: Bool = false, recovery: [Int] = [], yubico: Bool = false, webauthn: Bool = false,
    u2f: Bool = false
  ) {
    self.totp = totp
    self.recovery = recovery
    self.yubico = yubico
    self.webauthn = webauthn
    self.u2f = u2f
  }

  /// Reads it out of a pending ticket, `PVE:!tfa!<percent-escaped JSON>:TIME::SIGNATURE`; nil for any other ticket.
  init?(pending ticket: Secret) {
    let text = ticket.reveal()
    let prefix = "PVE:!tfa!"
    guard text.hasPrefix(prefix) else { return nil }
    let escaped = text.dropFirst(prefix.count).prefix { $0 != ":" }
    let json = (try? JSONParser.parse(Array(PercentEncoding.decode(escaped).utf8))) ?? .null
    let recovery: [Int] =
      json["recovery"].array?.compactMap(\.int) ?? (json["recovery"].bool == true ? [0] : [])
    self.init(
      totp: json["totp"].bool ?? false, recovery: recovery, yubico: json["yubico"].bool ?? false,
      webauthn: json["webauthn"].object != nil, u2f: json["u2f"].object != nil)
  }

  /// `totp, recovery` …, for a sentence.
  var kinds: String {
    var out: [String] = []
    if totp { out.append("totp") }
    if !recovery.isEmpty { out.append("recovery") }
    if yubico { out.append("yubico") }
    if webauthn { out.append("webauthn") }
    if u2f { out.append("u2f") }
    return out.isEmpty ? "unknown" : out.joined(separator: ", ")
  }
}

/// Where the second factor comes from: typed by a person, or computed.
public struct SecondFactor: Sendable {
  let code: @Sendable (TFAChallenge) async throws -> Secret
  /// Whether no person is asked: then a refused login isn't tried again at once (eight wrong codes lock the factor).
  let isAutomatic: Bool

  /// A closure that answers a challenge with `totp:123456`, `recovery:CODE` or `yubico:OTP`. What it throws ends the
  /// login.
  public init(_ code: @escaping @Sendable (TFAChallenge) async throws -> Secret) {
    self.code = code
    isAutomatic = false
  }

  private init(automatic code: @escaping @Sendable (TFAChallenge) async throws -> Secret) {
    self.code = code
    isAutomatic = true
  }

  /// Codes computed from a TOTP secret (base32, RFC 6238, six digits, 30 s, SHA-1: what PVE's page sets up).
  public static func totp(secret: Secret) -> SecondFactor {
    totp(secret: secret, clock: .system)
  }

  static func totp(secret: Secret, clock: WallClock) -> SecondFactor {
    let generator = TOTPGenerator(secret: secret, clock: clock)
    return SecondFactor(automatic: { challenge in
      guard challenge.totp else { throw SecondFactorMissing(kinds: challenge.kinds) }
      return Secret("totp:" + (try await generator.next()))
    })
  }
}

/// The account has no factor of the kind that is configured.
struct SecondFactorMissing: Error, CustomStringConvertible {
  let kinds: String
  var description: String { "the account has no TOTP factor (it has: \(kinds))" }
}
