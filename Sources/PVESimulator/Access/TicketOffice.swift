import ConsoleProtocol

/// Makes and checks PVE's tickets: text, time, and an RSA signature over both and over what is not in the text.
struct TicketOffice {
  /// A login is good for two hours, and for five minutes before its time (clocks differ).
  static let loginLife = -300...7200
  /// Console and tunnel tickets are good from 20 s before to 40 s after their time.
  static let consoleLife = -20...40

  let clock: SimulatorClock
  /// Login tickets that are bad before their time.
  let revocations = Revocations()
  private let csrfSecret = randomBytes(32)

  init(clock: SimulatorClock) { self.clock = clock }

  // MARK: login tickets

  /// `PVE:user@realm:HEXTIME::SIGNATURE`.
  func login(user: String) -> String {
    let ticket = assemble(prefix: "PVE", data: escaped(user), hidden: nil)
    revocations.issued(ticket, user: user, now: clock.now)
    return ticket
  }

  /// `PVE:!tfa!CHALLENGE:HEXTIME::SIGNATURE`: the password was right, the second factor is missing. The user is
  /// in the signature only.
  func pending(user: String, challenge: JSON) -> String {
    assemble(prefix: "PVE", data: "!tfa!" + percentEncoded(challenge.text), hidden: user)
  }

  /// Who a login ticket belongs to, while it is good.
  func user(ofLogin ticket: String) -> String? {
    guard let parts = split(ticket, prefix: "PVE", hasData: true), !parts.data.hasPrefix("!"),
      valid(parts, hidden: nil, life: TicketOffice.loginLife)
    else { return nil }
    let user = parts.data.replacing("%3A", with: ":")
    return revocations.isRevoked(ticket, user: user, issued: parts.time) ? nil : user
  }

  /// Whether a pending ticket is this user's and still good.
  func isPending(_ ticket: String, user: String) -> Bool {
    guard let parts = split(ticket, prefix: "PVE", hasData: true), parts.data.hasPrefix("!tfa!")
    else { return false }
    return valid(parts, hidden: user, life: TicketOffice.loginLife)
  }

  // MARK: CSRF

  /// `HEXTIME:HMAC`.
  func csrf(user: String) -> String {
    let time = hex(clock.now, digits: 8)
    return "\(time):\(csrfMAC(time: time, user: user))"
  }

  /// Whether a CSRF token is this user's and still good.
  func isCSRF(_ token: String, user: String) -> Bool {
    let parts = token.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, parts[0].utf8.count == 8, let time = Int(parts[0], radix: 16),
      TicketOffice.loginLife.contains(clock.now - time)
    else { return false }
    return constantTimeEqual(
      Array(parts[1].utf8), Array(csrfMAC(time: String(parts[0]), user: user).utf8))
  }

  private func csrfMAC(time: String, user: String) -> String {
    let mac = base64(hmac(key: csrfSecret, Array("\(time):\(user)".utf8)))
    return String(mac.prefix { $0 != "=" })
  }

  // MARK: console and tunnel tickets

  /// `PVEVNC:HEXTIME::SIGNATURE`, bound to who minted it, the path and (since April 2026) the port.
  func console(authID: String, path: String, port: Int?) -> String {
    assemble(prefix: "PVEVNC", data: nil, hidden: hidden(authID, path, port))
  }

  /// Checks a console ticket, with or without the eight-character password before it.
  func isConsole(_ ticket: String, authID: String, path: String, port: Int?) -> Bool {
    var text = ticket
    if !text.hasPrefix("PVEVNC:"), text.dropFirst(8).hasPrefix(":PVEVNC:") {
      text = String(text.dropFirst(9))
    }
    guard let parts = split(text, prefix: "PVEVNC", hasData: false) else { return false }
    return valid(parts, hidden: hidden(authID, path, port), life: TicketOffice.consoleLife)
  }

  private func hidden(_ authID: String, _ path: String, _ port: Int?) -> String {
    "\(authID):\(path)" + (port.map { ":\($0)" } ?? "")
  }

  /// `PVETUNNEL:HEXTIME::SIGNATURE`, bound to who minted it and the socket.
  func tunnel(authID: String, socket: String) -> String {
    assemble(prefix: "PVETUNNEL", data: nil, hidden: "\(authID):/socket/\(socket)")
  }

  /// Checks a tunnel ticket.
  func isTunnel(_ ticket: String, authID: String, socket: String) -> Bool {
    guard let parts = split(ticket, prefix: "PVETUNNEL", hasData: false) else { return false }
    return valid(parts, hidden: "\(authID):/socket/\(socket)", life: TicketOffice.consoleLife)
  }

  // MARK: the form they share

  private struct Parts {
    var plain: String
    var data: String
    var time: Int
    var signature: [UInt8]
  }

  private func escaped(_ data: String) -> String { data.replacing(":", with: "%3A") }

  private func assemble(prefix: String, data: String?, hidden: String?) -> String {
    let plain = prefix + ":" + (data.map { $0 + ":" } ?? "") + hex(clock.now, digits: 8)
    let signature = SigningKey.shared.sign(hidden.map { "\(plain):\($0)" } ?? plain)
    return "\(plain)::\(base64(signature))"
  }

  private func split(_ ticket: String, prefix: String, hasData: Bool) -> Parts? {
    guard let middle = ticket.firstRange(of: "::") else { return nil }
    let plain = String(ticket[..<middle.lowerBound])
    let fields = plain.split(separator: ":", omittingEmptySubsequences: false)
    guard fields.count == (hasData ? 3 : 2), fields[0] == prefix, let last = fields.last,
      last.utf8.count == 8, let time = Int(last, radix: 16),
      let signature = base64Decoded(String(ticket[middle.upperBound...]))
    else { return nil }
    return Parts(
      plain: plain, data: hasData ? String(fields[1]) : "", time: time, signature: signature)
  }

  private func valid(_ parts: Parts, hidden: String?, life: ClosedRange<Int>) -> Bool {
    guard life.contains(clock.now - parts.time) else { return false }
    return SigningKey.shared.verify(
      hidden.map { "\(parts.plain):\($0)" } ?? parts.plain, signature: parts.signature)
  }
}
