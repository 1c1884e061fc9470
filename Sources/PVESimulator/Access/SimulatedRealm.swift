/// A realm of the simulated cluster besides `pam` and `pve`.
///
/// There is no directory behind it: users of an LDAP or Active Directory realm log in with the password that
/// ``SimulatedUser/password`` says, and an OpenID realm lets nobody in.
public struct SimulatedRealm: Sendable, Hashable {
  /// What checks the passwords.
  public enum Kind: String, Sendable, Hashable {
    /// An LDAP directory.
    case ldap
    /// A Microsoft Active Directory.
    case ad
    /// An OpenID Connect provider.
    case openid
  }

  /// Its name, e.g. `corp`: a letter, then letters, digits, dots, dashes and underscores.
  public var id: String
  /// What kind it is.
  public var kind: Kind
  /// What login windows show.
  public var comment: String?
  /// Whether `Joe@corp` is another user than `joe@corp`.
  public var isCaseSensitive = true

  /// A realm.
  public init(_ id: String, _ kind: Kind, comment: String? = nil, isCaseSensitive: Bool = true) {
    self.id = id
    self.kind = kind
    self.comment = comment
    self.isCaseSensitive = isCaseSensitive
  }
}
