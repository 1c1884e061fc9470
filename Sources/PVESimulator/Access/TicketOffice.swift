import ConsoleProtocol
import EventLoop

/// Makes and checks PVE's tickets: text, time, and an RSA signature over both and over what is not in the text.
///
/// It lives on the cluster's loop.
final class TicketOffice {
  /// A login is good for two hours, and for five minutes before its time (clocks differ).
  static let loginLife = 7200
  static let grace = 300
  /// Console and tunnel tickets are good for less than 20 s before and 40 s after their time.
  static let consoleLife = -19...39

  let clock: SimulatorClock
  /// Login tickets that are bad before their time.
  let revocations = Revocations()
  /// Where the new key of a rotation is brought; without one it is made on the spot.
  var loop: Loop?
  /// Called when ``document`` has changed.
  var persist: () -> Void = {}

  private var keys: AuthKeys
  private var csrfSecret = randomBytes(32)
  /// What waits for a key that is being made.
  private var rotations: [() -> Void] = []
  /// Signatures of login tickets that were right; checking one again would cost as much as everything else in a
  /// request.
  private var known: [String: (parts: Parts, isCurrent: Bool)] = [:]

  init(clock: SimulatorClock) {
    self.clock = clock
    keys = AuthKeys(now: clock.now)
  }

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
    let ticket = assemble(
      prefix: "PVE", data: "!tfa!" + percentEncoded(challenge.text), hidden: user)
    revocations.issued(ticket, user: user, now: clock.now)
    return ticket
  }

  /// PVE 7's ticket of somebody whose password was right: `PVE:tfa!user@realm:HEXTIME::SIGNATURE`.
  func half(user: String) -> String {
    let ticket = assemble(prefix: "PVE", data: "tfa!" + escaped(user), hidden: nil)
    revocations.issued(ticket, user: user, now: clock.now)
    return ticket
  }

  /// Who a login ticket belongs to, while it is good.
  func user(ofLogin ticket: String) -> String? {
    guard let (data, time) = login(ticket), !data.hasPrefix("tfa!"), !data.hasPrefix("u2f!"),
      !revocations.isRevoked(ticket, user: data, issued: time)
    else { return nil }
    return data
  }

  /// Who a half login belongs to, while it is good.
  func user(ofHalf ticket: String) -> String? {
    guard let (data, time) = login(ticket), data.hasPrefix("tfa!") else { return nil }
    let user = String(data.dropFirst(4))
    return revocations.isRevoked(ticket, user: user, issued: time) ? nil : user
  }

  /// What a login ticket says, while it is in time.
  private func login(_ ticket: String) -> (data: String, time: Int)? {
    rotateWhereDue()
    let found: (parts: Parts, isCurrent: Bool)
    if let cached = known[ticket] {
      found = cached
    } else {
      guard let parts = split(ticket, prefix: "PVE", hasData: true), !parts.data.hasPrefix("!"),
        let isCurrent = signer(of: parts, hidden: nil)
      else { return nil }
      found = (parts, isCurrent)
      if known.count >= 4096 { known.removeAll() }
      known[ticket] = found
    }
    guard isInTime(found.parts.time, isCurrent: found.isCurrent) else { return nil }
    return (found.parts.data.replacing("%3A", with: ":"), found.parts.time)
  }

  /// Whether a pending ticket is this user's and still good.
  func isPending(_ ticket: String, user: String) -> Bool {
    rotateWhereDue()
    guard let parts = split(ticket, prefix: "PVE", hasData: true), parts.data.hasPrefix("!tfa!"),
      let isCurrent = signer(of: parts, hidden: user)
    else { return false }
    return isInTime(parts.time, isCurrent: isCurrent)
      && !revocations.isRevoked(ticket, user: user, issued: parts.time)
  }

  // MARK: rotating the key

  /// Puts a new key in the place of the one that signs, as PVE does once a day. Logins stay good for their two hours,
  /// consoles and tunnels that are not open yet don't.
  func rotateAuthKey(_ done: @escaping () -> Void = {}) {
    guard let loop else {
      keys.rotate(to: SigningKey(), at: clock.now)
      rotated()
      return done()
    }
    rotations.append(done)
    if rotations.count == 1 { make(on: loop, isAutomatic: false) }
  }

  private func rotateWhereDue() {
    guard rotations.isEmpty, keys.isDue(at: clock.now) else { return }
    guard let loop else {
      keys.rotate(to: SigningKey(), at: clock.now)
      return rotated()
    }
    rotations.append {}
    make(on: loop, isAutomatic: true)
  }

  private func make(on loop: Loop, isAutomatic: Bool) {
    let office = OnLoop(self, loop: loop)
    let began = isAutomatic ? clock.now : nil
    KeyMaker.make { key in
      office.execute { office in
        office.keys.rotate(to: key, at: office.clock.now, makingSince: began)
        office.rotated()
        let waiting = office.rotations
        office.rotations = []
        for done in waiting { done() }
      }
    }
  }

  private func rotated() {
    known.removeAll()
    persist()
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
    guard parts.count == 2, parts[0].utf8.count == 8, let time = Int(parts[0], radix: 16) else {
      return false
    }
    let age = clock.now - time
    guard age > -TicketOffice.grace, age < TicketOffice.loginLife else { return false }
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
    return isShort(text, prefix: "PVEVNC", hidden: hidden(authID, path, port))
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
    isShort(ticket, prefix: "PVETUNNEL", hidden: "\(authID):/socket/\(socket)")
  }

  /// Short-lived tickets must be signed with the current key.
  private func isShort(_ ticket: String, prefix: String, hidden: String) -> Bool {
    rotateWhereDue()
    guard let parts = split(ticket, prefix: prefix, hasData: false),
      TicketOffice.consoleLife.contains(clock.now - parts.time),
      let isCurrent = signer(of: parts, hidden: hidden)
    else { return false }
    return isCurrent || keys.signedWhileMaking(at: parts.time)
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
    rotateWhereDue()
    let isFirst = !keys.isMade
    let plain = prefix + ":" + (data.map { $0 + ":" } ?? "") + hex(clock.now, digits: 8)
    let signature = keys.current.sign(hidden.map { "\(plain):\($0)" } ?? plain)
    if isFirst { persist() }
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

  /// Whether the current key signed it, or the one before; nil for neither.
  private func signer(of parts: Parts, hidden: String?) -> Bool? {
    let text = hidden.map { "\(parts.plain):\($0)" } ?? parts.plain
    if keys.current.verify(text, signature: parts.signature) { return true }
    guard let previous = keys.previous else { return nil }
    return previous.key.verify(text, signature: parts.signature) ? false : nil
  }

  /// Whether a login ticket of a time is good: its age, and that its key was in use then.
  private func isInTime(_ time: Int, isCurrent: Bool) -> Bool {
    let age = clock.now - time
    guard age > -TicketOffice.grace, age < TicketOffice.loginLife else { return false }
    if isCurrent {
      // No key signs before it is there.
      let keyAge = max(0, clock.now - keys.since)
      return keyAge >= TicketOffice.loginLife || age < keyAge + TicketOffice.grace
    }
    // Nothing new is signed with a key that has been replaced.
    return age > clock.now - (keys.previous?.until ?? clock.now) - TicketOffice.grace
  }

  // MARK: durable state

  /// Whether there are keys to keep; the first ticket makes them.
  var hasKeys: Bool { keys.isMade }

  /// Keys and the secret of CSRF tokens, so that logins survive a restart.
  var document: JSON {
    guard case .object(let members) = keys.document else { return .null }
    return .object(members + [.init(key: "csrf", value: .string(base64(csrfSecret)))])
  }

  /// Takes the keys of a document; false where it holds none.
  func restore(from document: JSON) -> Bool {
    guard let restored = AuthKeys(document), case .string(let text)? = document["csrf"],
      let secret = base64Decoded(text)
    else { return false }
    keys = restored
    csrfSecret = secret
    known.removeAll()
    return true
  }
}
