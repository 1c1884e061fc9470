import ConsoleProtocol

/// Who asks: what a request's headers prove.
struct Identity: Sendable, Hashable {
  /// `user@realm`, or `user@realm!token`.
  let authID: String
  /// Whether an API token was shown instead of a ticket.
  let isToken: Bool
  /// `user@realm` in either case.
  let user: String

  init(authID: String) {
    self.authID = authID
    let token = AuthID.token(authID)
    isToken = token != nil
    user = token?.user ?? authID
  }
}

/// Reads credentials as pveproxy does: cookie first, then the `Authorization` header; the server decodes percent
/// signs, so a ticket may arrive raw or encoded.
struct Authenticator {
  /// Why a request is turned away before its handler runs: a 401's reason phrase.
  struct Refusal: Error {
    let reason: String
  }

  private static let open: Set<String> = [
    "GET /access/domains", "GET /access/ticket", "POST /access/ticket", "POST /access/openid/login",
    "POST /access/openid/auth-url",
  ]

  let tickets: TicketOffice

  /// - Parameters:
  ///   - path: relative to the API, e.g. `/nodes`.
  ///   - isUpload: browsers send files with plain forms, so those need no CSRF token.
  /// - Returns: nil where no credentials are needed and none were shown.
  func identify(
    _ head: RequestHead, path: String, access: AccessControl, isUpload: Bool = false
  ) throws(Refusal) -> Identity? {
    let call = "\(head.method) \(path)"
    guard !isOpen(call, access.era) else {
      // Nobody looks at credentials here, except that some of these operations refuse tokens.
      return token(in: head).flatMap { try? identify(token: $0, access) }
    }
    if let ticket = ticket(in: head) {
      return try identify(ticket: ticket, head, call, access, isUpload)
    }
    guard let token = token(in: head) else { throw Refusal(reason: "No ticket") }
    return try identify(token: token, access)
  }

  private func isOpen(_ call: String, _ era: Era) -> Bool {
    Authenticator.open.contains(call)
      || (call == "POST /access/vncticket" && era.hasConsoleTicketCheck)
  }

  private func identify(
    ticket: String, _ head: RequestHead, _ call: String, _ access: AccessControl, _ isUpload: Bool
  ) throws(Refusal) -> Identity {
    let user: String
    if let login = tickets.user(ofLogin: ticket) {
      user = login
    } else if let half = tickets.user(ofHalf: ticket) {
      // Half a login is good for its other half only.
      guard call == "POST /access/tfa" else { throw Refusal(reason: "No ticket") }
      user = half
    } else {
      throw refusal(access.era, "permission denied - invalid PVE ticket")
    }
    do throws(APIError) {
      _ = try access.enabledUser(user)
    } catch {
      throw refusal(access.era, error.message)
    }
    if !isUpload, head.method != "GET",
      !tickets.isCSRF(head.header("csrfpreventiontoken") ?? "", user: user)
    {
      throw Refusal(reason: "Permission denied - invalid csrf token")
    }
    return Identity(authID: user)
  }

  private func identify(token text: String, _ access: AccessControl) throws(Refusal) -> Identity {
    do throws(APIError) {
      return Identity(authID: try check(token: text, access))
    } catch {
      throw refusal(access.era, error.message)
    }
  }

  /// - Returns: the token's full id.
  private func check(token text: String, _ access: AccessControl) throws(APIError) -> String {
    guard let mark = text.lastIndex(of: "=") else { throw .died("no tokenid specified") }
    let id = String(text[..<mark])
    guard let (user, name) = AuthID.token(id) else {
      throw .died("'\(id)' is not a valid token ID - not able to split into user and token parts")
    }
    _ = try access.enabledUser(user)
    let token = try access.token(name, of: user)
    if let expires = token.expires, expires > 0, expires < access.clock.now {
      throw .died("token '\(name)' access expired")
    }
    guard token.secret == Secret(String(text[text.index(after: mark)...])) else {
      throw .died("invalid token value!")
    }
    return id
  }

  /// Since pve-manager 9.1.5 / 8.4.17 nobody is told what is wrong with a credential.
  private func refusal(_ era: Era, _ detail: String) -> Refusal {
    Refusal(reason: era.hidesAuthenticationDetail ? "Authentication failed!" : detail)
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

  /// `user@realm!name=secret`.
  private func token(in head: RequestHead) -> String? {
    guard let header = head.header("authorization"), header.hasPrefix("PVEAPIToken") else {
      return nil
    }
    let rest = header.dropFirst(11)
    guard let separator = rest.first, separator == "=" || separator == " " else { return nil }
    return percentDecoded(rest.dropFirst().utf8, plusIsSpace: false)
  }
}
