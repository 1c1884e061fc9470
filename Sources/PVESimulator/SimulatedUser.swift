import ConsoleProtocol

/// Somebody who may log in to the simulated cluster.
public struct SimulatedUser: Sendable {
  /// `name@realm`, e.g. `alice@pve`.
  public var id: String
  /// The password; random per start where nil (``Simulator/password(of:)`` tells).
  public var password: Secret?
  /// Roles by path, inherited downwards, e.g. `["/": "PVEAuditor"]`.
  public var roles: [String: String]
  /// A TOTP secret in base32: logging in then takes a second step.
  public var totpSecret: Secret?
  /// One-time recovery codes: a second step as well.
  public var recoveryCodes: [Secret]
  /// API tokens by name.
  public var tokens: [String: Token]

  /// An API token.
  public struct Token: Sendable {
    /// The UUID; random per start where nil.
    public var secret: Secret?
    /// Whether the token has only those rights that its own roles give **and** its user has.
    public var separated: Bool
    /// Roles by path of a separated token.
    public var roles: [String: String]
    /// A token; by default with all rights of its user.
    public init(secret: Secret? = nil, separated: Bool = false, roles: [String: String] = [:]) {
      self.secret = secret
      self.separated = separated
      self.roles = roles
    }
  }

  /// A user.
  public init(
    _ id: String, password: Secret? = nil, roles: [String: String] = [:], totpSecret: Secret? = nil,
    recoveryCodes: [Secret] = [], tokens: [String: Token] = [:]
  ) {
    self.id = id
    self.password = password
    self.roles = roles
    self.totpSecret = totpSecret
    self.recoveryCodes = recoveryCodes
    self.tokens = tokens
  }

  /// root@pam with the token `sallyport`; alice@pve who may do everything; auditor@pve who may only look;
  /// totp@pve who may do everything and logs in with a second factor.
  public static var demo: [SimulatedUser] {
    [
      SimulatedUser("root@pam", tokens: ["sallyport": Token()]),
      SimulatedUser("alice@pve", roles: ["/": "Administrator"]),
      SimulatedUser("auditor@pve", roles: ["/": "PVEAuditor"]),
      SimulatedUser(
        "totp@pve", roles: ["/": "Administrator"], totpSecret: Secret("JBSWY3DPEHPK3PXP"),
        recoveryCodes: [Secret("1111-2222-3333-4444"), Secret("5555-6666-7777-8888")]),
    ]
  }
}
