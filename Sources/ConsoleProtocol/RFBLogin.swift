/// The client's half of the RFB handshake towards PVE, from the banner to the end of authentication.
///
/// It stops before ClientInit: the viewer's own goes through (with the shared flag set). DES is done by the caller:
/// ``Event/challenge(_:)`` is answered by ``answer(_:)`` with the challenge encrypted under ``vncKey(password:)``.
package struct RFBLogin: Sendable {
  /// What comes next.
  package enum Event: Sendable, Equatable {
    /// All given bytes were taken, more are needed (or an answer to the challenge is).
    case needMore
    /// Bytes for the server.
    case send([UInt8])
    /// 16 bytes to be encrypted.
    case challenge([UInt8])
    /// Logged in; the server waits for ClientInit. Final.
    case authenticated
    /// The server does not want to talk at all, and may say why. Final.
    case refused(reason: String)
    /// The password was not taken. PVE's VMs have one password at a time: a second mint replaces it. Final.
    case failed(reason: String)
    /// The first bytes are not an RFB banner; holds them. Final.
    case notRFB([UInt8])
    /// A break of the protocol, or nothing in common. Final.
    case violation(String)
  }

  /// The most of a reason that is kept, in bytes.
  package static let maximumReason = 4 << 10

  private enum Step: Sendable {
    case banner
    /// 3.3: the server's choice.
    case type
    case typeCount
    case typeList(Int)
    case challenge
    case waitForAnswer
    case result
    case reasonLength(authentication: Bool)
    case reason(authentication: Bool)
    case ended(Event)
  }

  private let hasPassword: Bool
  private var step = Step.banner
  private var version = RFBVersion.v3_8
  private var collected: [UInt8] = []
  private var wanted = RFBVersion.length

  /// - Parameter hasPassword: whether a challenge can be answered; security type 2 is preferred then.
  package init(hasPassword: Bool) { self.hasPassword = hasPassword }

  /// Whether the server has said anything. A stopped VM's worker closes before.
  package var hasHeardServer: Bool {
    if case .banner = step { return !collected.isEmpty }
    return true
  }

  /// The DES key of a password: its first eight bytes, zeros behind, the bits of each byte in reverse order
  /// (the oldest VNC wrote keys so, and everybody followed).
  package static func vncKey(password: [UInt8]) -> [UInt8] {
    var key = password.prefix(8).map { byte in
      var rest = byte
      var out: UInt8 = 0
      for _ in 0..<8 {
        out = out << 1 | rest & 1
        rest >>= 1
      }
      return out
    }
    while key.count < 8 { key.append(0) }
    return key
  }

  /// Reads on from `position`, which moves behind what was taken.
  package mutating func next(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> Event {
    while true {
      if case .ended(let event) = step { return event }
      if case .waitForAnswer = step { return .needMore }
      while collected.count < wanted {
        guard position < bytes.count else { return .needMore }
        let byte = bytes[position]
        position += 1
        collected.append(byte)
        if case .banner = step, !RFBVersion.mayBegin(with: byte, at: collected.count - 1) {
          return end(.notRFB(collected))
        }
      }
      let part = collected
      collected = []
      if let event = take(part) { return event }
    }
  }

  /// Gives the encrypted challenge; returns the bytes for the server.
  package mutating func answer(_ response: [UInt8]) -> [UInt8] {
    guard case .waitForAnswer = step else { return [] }
    expect(.result, 4)
    return response
  }

  /// To be called when the peer closed: the end that follows, or nil where only the closing itself is to be told.
  package mutating func closed() -> Event? {
    switch step {
    case .ended(let event): return event
    case .reasonLength(let authentication): return fail(authentication, [])
    case .reason(let authentication): return fail(authentication, collected)
    default: return nil
    }
  }

  private mutating func expect(_ next: Step, _ count: Int) {
    step = next
    wanted = count
  }

  private mutating func end(_ event: Event) -> Event {
    step = .ended(event)
    collected = []
    return event
  }

  private mutating func fail(_ authentication: Bool, _ reason: [UInt8]) -> Event {
    let text = String(decoding: reason, as: UTF8.self)
    return end(authentication ? .failed(reason: text) : .refused(reason: text))
  }

  /// Takes a complete part of the handshake. Nil: go on.
  private mutating func take(_ part: [UInt8]) -> Event? {
    switch step {
    case .banner:
      guard let version = RFBVersion(banner: part) else { return end(.notRFB(part)) }
      self.version = version
      if version == .v3_3 { expect(.type, 4) } else { expect(.typeCount, 1) }
      return .send(version.banner)
    case .type:
      switch Self.number(part) {
      case 0: expect(.reasonLength(authentication: false), 4)
      case UInt32(RFBSecurity.none): return end(.authenticated)
      case UInt32(RFBSecurity.vnc) where hasPassword: expect(.challenge, 16)
      case let other: return end(.violation("the server demands security type \(other)"))
      }
      return nil
    case .typeCount:
      let count = Int(part.first ?? 0)
      if count == 0 {
        expect(.reasonLength(authentication: false), 4)
      } else {
        expect(.typeList(count), count)
      }
      return nil
    case .typeList:
      if hasPassword, part.contains(RFBSecurity.vnc) {
        expect(.challenge, 16)
        return .send([RFBSecurity.vnc])
      }
      guard part.contains(RFBSecurity.none) else {
        let types = part.map(String.init).joined(separator: ", ")
        return end(.violation("the server offers security types \(types) only"))
      }
      // Before 3.8 there is no result after None, and the driver still has to send the choice.
      if version == .v3_8 { expect(.result, 4) } else { step = .ended(.authenticated) }
      return .send([RFBSecurity.none])
    case .challenge:
      expect(.waitForAnswer, 0)
      return .challenge(part)
    case .result:
      switch Self.number(part) {
      case 0: return end(.authenticated)
      case let code where code <= 2:
        guard version == .v3_8 else {
          return end(.failed(reason: code == 2 ? "too many attempts" : ""))
        }
        expect(.reasonLength(authentication: true), 4)
        return nil
      case let code: return end(.violation("security result \(code)"))
      }
    case .reasonLength(let authentication):
      let length = Int(min(Self.number(part), UInt32(Self.maximumReason)))
      if length == 0 { return fail(authentication, []) }
      expect(.reason(authentication: authentication), length)
      return nil
    case .reason(let authentication):
      return fail(authentication, part)
    case .waitForAnswer, .ended:
      return nil
    }
  }

  private static func number(_ bytes: [UInt8]) -> UInt32 {
    bytes.reduce(0) { $0 << 8 | UInt32($1) }
  }
}
