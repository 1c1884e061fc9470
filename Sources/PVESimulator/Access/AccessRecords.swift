import ConsoleProtocol

/// A user, as `user.cfg` and the realms' password files know them.
struct User {
  /// `name@realm`.
  let id: String
  var isEnabled = true
  /// Seconds since 1970; 0 for never.
  var expires = 0
  var firstName: String?
  var lastName: String?
  var email: String?
  var comment: String?
  /// PVE's field for old second factors: `x` says that there are new ones.
  var keys: String?
  /// Nil where nobody can log in with a password.
  var password: Secret?
  var tokens: [String: APIToken] = [:]

  init(_ id: String) { self.id = id }

  var name: Substring { AuthID.user(id)?.name ?? "" }
  var realm: String { AuthID.user(id).map { String($0.realm) } ?? "" }
}

/// An API token.
struct APIToken {
  var secret: Secret
  /// Whether its rights are cut to what its own ACL gives.
  var isSeparated = true
  /// Seconds since 1970; 0 for never, nil where nobody ever said.
  var expires: Int?
  var comment: String?
}

/// A group of users.
struct UserGroup {
  var members: Set<String> = []
  var comment: String?
}

/// Who a role is given to.
enum ACLSubject: Hashable, Comparable {
  case user(String)
  case group(String)
  /// `user@realm!token`.
  case token(String)

  /// As the API names the kind.
  var type: String {
    switch self {
    case .user: "user"
    case .group: "group"
    case .token: "token"
    }
  }

  var id: String {
    switch self {
    case .user(let id), .group(let id), .token(let id): id
    }
  }

  init?(type: String, id: String) {
    switch type {
    case "user": self = .user(id)
    case "group": self = .group(id)
    case "token": self = .token(id)
    default: return nil
    }
  }

  /// Users, then groups, then tokens, as PVE lists them.
  static func < (a: ACLSubject, b: ACLSubject) -> Bool { (a.rank, a.id) < (b.rank, b.id) }

  private var rank: Int {
    switch self {
    case .user: 0
    case .group: 1
    case .token: 2
    }
  }
}

/// Where users come from and what checks their passwords.
struct Realm {
  /// `pam`, `pve`, `ldap`, `ad` or `openid`.
  var type: String
  /// Options as they were set, by name.
  var options: [String: String] = [:]
  /// The password for binding to the directory.
  var password: Secret?

  var comment: String? { options["comment"] }
  var isDefault: Bool { options["default"] == "1" }
  /// Whether `Joe@realm` is `joe@realm`.
  var ignoresCase: Bool { options["case-sensitive"] == "0" }

  /// The second factor that everybody in it needs: `oath` or `yubico`.
  var requiredFactor: String? {
    guard let config = options["tfa"] else { return nil }
    return config.split(separator: ",").lazy.compactMap { part -> String? in
      part.hasPrefix("type=") ? String(part.dropFirst(5)) : nil
    }.first
  }
}
