import ConsoleProtocol

/// Who we are toward PVE.
public enum Credential: Sendable {
  /// An API token: `user@realm!name` and its UUID.
  case token(id: String, secret: Secret)
  /// `user@realm`, its password, and a second factor where the account has one.
  case password(user: String, password: Secret, secondFactor: SecondFactor?)
  /// A ticket from somewhere else (`PVE:user@realm:…`), with its CSRF token if writes are wanted at once. It is
  /// renewed while it lives; once it is expired, nothing can be done with it.
  case ticket(Secret, csrf: Secret?)

  /// The kinds of credential that PVE treats differently.
  public enum Kind: Sendable, Hashable {
    /// Goes as `Authorization: PVEAPIToken=…`.
    case token
    /// Goes as the cookie `PVEAuthCookie`.
    case ticket
  }

  /// Which of the two.
  public var kind: Kind { if case .token = self { .token } else { .ticket } }

  /// The user or token, without any secret: `user@realm!name`, `user@realm`, or the ticket's user.
  public var identity: String {
    switch self {
    case .token(let id, _): id
    case .password(let user, _, _): user
    case .ticket(let ticket, _): Ticket(ticket)?.user ?? "ticket"
    }
  }

  /// What is wrong with it, in a sentence, or nil. Checked before anything is sent: a line break out of a file would
  /// end a header early.
  var defect: String? {
    func hasControl(_ text: String) -> Bool { text.utf8.contains { $0 < 32 || $0 == 127 } }
    switch self {
    case .token(let id, let secret):
      if hasControl(id) || hasControl(secret.reveal()) {
        return "the API token contains a line break or control character (a file's last line end?)"
      }
      let parts = id.split(separator: "!", omittingEmptySubsequences: false)
      guard parts.count == 2, !parts[1].isEmpty, parts[0].contains("@"), !id.contains("=") else {
        return "the API token's name '\(id.prefix(80))' is not of the form user@realm!name"
      }
      return secret.isEmpty ? "the API token's secret is empty" : nil
    case .password(let user, let password, _):
      if hasControl(user) || hasControl(password.reveal()) {
        return
          "user or password contains a line break or control character (a file's last line end?)"
      }
      guard user.contains("@"), !user.contains("!") else {
        return "the user '\(user.prefix(80))' is not of the form user@realm, e.g. root@pam"
      }
      return password.isEmpty ? "the password is empty" : nil
    case .ticket(let ticket, let csrf):
      if hasControl(ticket.reveal()) || hasControl(csrf?.reveal() ?? "") {
        return "the ticket contains a line break or control character (a file's last line end?)"
      }
      return ticket.isEmpty ? "the ticket is empty" : nil
    }
  }
}

/// The readable parts of a login ticket: `PVE:user@realm:6B01E1A0::signature`. Colons in the user are `%3A`.
struct Ticket: Sendable {
  /// `user@realm`
  let user: String
  /// When the node signed it, in seconds since 1970.
  let issued: Int

  init?(_ ticket: Secret) {
    let parts = ticket.reveal().split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count >= 5, parts[0] == "PVE", !parts[1].isEmpty, !parts[1].hasPrefix("!"),
      parts[2].utf8.count == 8, let time = Int(parts[2], radix: 16), parts[3].isEmpty
    else { return nil }
    user = PercentEncoding.decode(parts[1])
    issued = time
  }
}
