import ConsoleProtocol

/// Who asks: what a request's headers prove.
struct Identity: Sendable, Hashable {
  /// `user@realm`, or `user@realm!token`.
  var authID: String
  /// Whether an API token was shown instead of a ticket.
  var isToken: Bool { authID.contains("!") }
  /// `user@realm` in either case.
  var user: String { String(authID.prefix { $0 != "!" }) }
}

/// Reads credentials as pveproxy does: cookie first, then the `Authorization` header; the server decodes percent
/// signs, so a ticket may arrive raw or encoded.
struct Authenticator {
  /// Why a request is turned away before its handler runs: a 401's reason phrase.
  struct Refusal: Error {
    let reason: String
  }

  private static let open: Set<String> = [
    "GET /access/domains", "GET /access/ticket", "POST /access/ticket", "POST /access/vncticket",
    "POST /access/openid/login", "POST /access/openid/auth-url",
  ]

  let tickets: TicketOffice

  /// - Parameter path: relative to the API, e.g. `/nodes`.
  /// - Returns: nil where no credentials are needed and none were shown.
  func identify(_ head: RequestHead, path: String, access: AccessControl) throws(Refusal)
    -> Identity?
  {
    let needed = !Authenticator.open.contains("\(head.method) \(path)")
    if let ticket = ticket(in: head) {
      guard let user = tickets.user(ofLogin: ticket), access.accounts[user]?.isEnabled == true
      else {
        if !needed { return nil }
        throw Refusal(reason: "Authentication failed!")
      }
      if needed, head.method != "GET",
        !tickets.isCSRF(head.header("csrfpreventiontoken") ?? "", user: user)
      {
        throw Refusal(reason: "Permission denied - invalid csrf token")
      }
      return Identity(authID: user)
    }
    if let (id, secret) = token(in: head) {
      let parts = id.split(separator: "!", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, let account = access.accounts[String(parts[0])], account.isEnabled,
        let known = account.tokens[String(parts[1])], known.secret == secret
      else {
        if !needed { return nil }
        throw Refusal(reason: "Authentication failed!")
      }
      return Identity(authID: id)
    }
    if needed { throw Refusal(reason: "No ticket") }
    return nil
  }

  private func ticket(in head: RequestHead) -> String? {
    if let cookie = head.header("cookie") {
      for pair in cookie.split(separator: ";") {
        let text = pair.drop { $0 == " " }
        if text.hasPrefix("PVEAuthCookie=") {
          return percentDecoded(text.dropFirst(14).utf8, plusIsSpace: false)
        }
      }
    }
    guard let header = head.header("authorization"), header.hasPrefix("PVEAuthCookie=") else {
      return nil
    }
    return percentDecoded(header.dropFirst(14).utf8, plusIsSpace: false)
  }

  private func token(in head: RequestHead) -> (String, Secret)? {
    guard let header = head.header("authorization"), header.hasPrefix("PVEAPIToken") else {
      return nil
    }
    let rest = header.dropFirst(11)
    guard let separator = rest.first, separator == "=" || separator == " " else { return nil }
    let value = percentDecoded(rest.dropFirst().utf8, plusIsSpace: false)
    guard let at = value.firstIndex(of: "=") else { return nil }
    return (String(value[..<at]), Secret(String(value[value.index(after: at)...])))
  }
}
