/// The login inside a terminal's websocket: one line, answered by the two bytes `OK`.
///
/// termproxy writes `OK` without a newline and often glues it to the first output, so that exactly two bytes are
/// taken and the rest is left. A refusal has no bytes at all: the connection just closes.
package struct TermproxyLogin: Sendable {
  /// What the answer turned out to be. Everything but `needMore` is final.
  package enum Event: Sendable, Equatable {
    /// The two bytes are not complete yet.
    case needMore
    /// `OK`. The next byte is the terminal's output.
    case loggedIn
    /// Something other than `OK`: no termproxy. Holds the first wrong byte.
    case garbage(UInt8)
  }

  private let line: Secret
  private var seen = 0
  private var wrong: UInt8?

  /// - Parameter line: `AUTHID:TICKET` with its newline; termproxy reads at most 4096 bytes.
  package init(line: Secret) { self.line = line }

  /// The line's bytes. They must leave within one websocket frame of their own.
  package func lineBytes() -> [UInt8] { Array(line.reveal().utf8) }

  /// Reads on from `position`, which moves behind what was taken.
  package mutating func next(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> Event {
    if let wrong { return .garbage(wrong) }
    while seen < 2 {
      guard position < bytes.count else { return .needMore }
      let byte = bytes[position]
      guard byte == (seen == 0 ? UInt8(ascii: "O") : UInt8(ascii: "K")) else {
        wrong = byte
        return .garbage(byte)
      }
      position += 1
      seen += 1
    }
    return .loggedIn
  }
}
