/// The server's half of the RFB handshake towards the viewer, who has proved itself to the gateway already: security
/// type None is all that is offered, and no password of PVE's ever gets there.
///
/// When it is over, the viewer's bytes from the position on (ClientInit first) are for PVE.
package struct RFBViewerHandshake: Sendable {
  /// What comes next.
  package enum Event: Sendable, Equatable {
    /// All given bytes were taken.
    case needMore
    /// Bytes for the viewer.
    case send([UInt8])
    /// From `position` on, the bytes are the client's stream. The first is ClientInit, whose shared flag was set to
    /// 1 in place: with 0, QEMU disconnects everybody else. Final.
    case passThrough
    /// Final.
    case violation(String)
  }

  /// What the viewer gets first.
  package static let greeting = RFBVersion.v3_8.banner

  private enum Step: Sendable {
    case banner, type, clientInit
    case ended(Event)
  }

  private var step = Step.banner
  private var version = RFBVersion.v3_8
  private var collected: [UInt8] = []

  /// Begins after ``greeting`` was sent.
  package init() {}

  /// Reads on from `position`, which moves behind what was taken.
  package mutating func next(
    _ bytes: UnsafeMutableRawBufferPointer, _ position: inout Int
  ) -> Event {
    while true {
      if case .ended(let event) = step { return event }
      guard position < bytes.count else { return .needMore }
      let byte = bytes[position]
      switch step {
      case .clientInit:
        bytes[position] = 1
        return end(.passThrough)
      case .type:
        position += 1
        guard byte == RFBSecurity.none else {
          return end(.violation("the viewer chose security type \(byte), which was not offered"))
        }
        step = .clientInit
        if version == .v3_8 { return .send([0, 0, 0, 0]) }
      default:
        position += 1
        collected.append(byte)
        guard RFBVersion.mayBegin(with: byte, at: collected.count - 1) else {
          return end(.violation("the viewer does not speak RFB"))
        }
        guard collected.count == RFBVersion.length else { continue }
        guard let version = RFBVersion(banner: collected) else {
          return end(.violation("the viewer's RFB version is too old"))
        }
        collected = []
        self.version = version
        if version == .v3_3 {
          step = .clientInit
          return .send([0, 0, 0, RFBSecurity.none])
        }
        step = .type
        return .send([1, RFBSecurity.none])
      }
    }
  }

  private mutating func end(_ event: Event) -> Event {
    step = .ended(event)
    return event
  }
}
