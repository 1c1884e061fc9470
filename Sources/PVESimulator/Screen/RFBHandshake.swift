/// The server's side of RFB up to the security result: versions 3.3, 3.7 and 3.8, security type 2 only.
struct RFBHandshake {
  /// What came of the bytes.
  enum Outcome: Equatable {
    /// More bytes are needed.
    case pending
    /// The viewer is in; its ClientInit comes next.
    case accepted
    /// It isn't; close once the bytes have been sent.
    case refused
  }

  private enum Stage { case version, type, response, over }

  static let banner = Array("RFB 003.008\n".utf8)

  private let challenge: [UInt8]
  private var stage = Stage.version
  private var minor = 8

  init(challenge: [UInt8] = randomBytes(16)) { self.challenge = challenge }

  /// Takes bytes from the queue and puts answers into `out`.
  /// - Parameter password: asked at the moment when the response is checked; nil when none is valid (any more).
  mutating func advance(
    _ queue: inout ByteQueue, into out: inout [UInt8], password: () -> [UInt8]?
  ) -> Outcome {
    while true {
      switch stage {
      case .version:
        guard queue.count >= 12 else { return .pending }
        let line = queue.removeFirst(12)
        guard let version = RFBHandshake.minor(of: line) else {
          stage = .over
          return .refused
        }
        minor = version
        if minor == 3 {
          out += [0, 0, 0, 2] + challenge
          stage = .response
        } else {
          out += [1, 2]
          stage = .type
        }
      case .type:
        guard let type = queue[0] else { return .pending }
        queue.drop(1)
        guard type == 2 else {
          refuse("Authentication failed", into: &out)
          return .refused
        }
        out += challenge
        stage = .response
      case .response:
        guard queue.count >= 16 else { return .pending }
        let response = queue.removeFirst(16)
        guard let password = password(),
          constantTimeEqual(response, vncResponse(challenge: challenge, password: password))
        else {
          refuse("Authentication failed", into: &out)
          return .refused
        }
        out += [0, 0, 0, 0]
        stage = .over
        return .accepted
      case .over: return .refused
      }
    }
  }

  /// Only 3.8 says why.
  private mutating func refuse(_ reason: String, into out: inout [UInt8]) {
    stage = .over
    out += [0, 0, 0, 1]
    guard minor >= 8 else { return }
    let text = Array(reason.utf8)
    out += [0, 0, 0, UInt8(text.count)] + text
  }

  /// 3, 7 or 8. QEMU takes 3.4 and 3.5 for 3.3.
  private static func minor(of line: [UInt8]) -> Int? {
    let text = String(decoding: line, as: UTF8.self)
    guard text.hasPrefix("RFB 003."), text.hasSuffix("\n") else { return nil }
    switch text.dropFirst(8).dropLast() {
    case "003", "004", "005": return 3
    case "007": return 7
    case "008": return 8
    default: return nil
    }
  }
}
