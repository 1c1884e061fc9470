/// Backpressure of a terminal whose viewer (xterm.js) says how much it has drawn: a websocket's empty send queue says
/// nothing about a browser that still has megabytes to parse.
package struct TerminalCredit: Sendable {
  /// Sent and not acknowledged: at this many bytes reading from upstream stops.
  package static let highWater: UInt64 = 512 << 10
  /// … and at this many it goes on.
  package static let lowWater: UInt64 = 128 << 10

  /// An acknowledgement that can't be true.
  package enum Violation: Error, Sendable, Equatable {
    /// More than was ever sent.
    case moreThanSent(acknowledged: UInt64, sent: UInt64)
    /// Less than before.
    case backwards(acknowledged: UInt64, before: UInt64)
  }

  /// Bytes sent since `ready`.
  package private(set) var sent: UInt64 = 0
  /// Bytes that the viewer has consumed since `ready`.
  package private(set) var acknowledged: UInt64 = 0
  /// Whether reading from upstream has to rest. Between the water marks it stays what it was.
  package private(set) var shouldPause = false

  /// Nothing sent, nothing acknowledged.
  package init() {}

  /// Counts bytes that went to the viewer.
  package mutating func note(sent count: Int) {
    sent += UInt64(max(count, 0))
    if sent - acknowledged >= Self.highWater { shouldPause = true }
  }

  /// Takes the viewer's cumulative count. The same count twice is fine.
  package mutating func acknowledge(_ total: UInt64) throws(Violation) {
    guard total <= sent else { throw .moreThanSent(acknowledged: total, sent: sent) }
    guard total >= acknowledged else {
      throw .backwards(acknowledged: total, before: acknowledged)
    }
    acknowledged = total
    if sent - acknowledged <= Self.lowWater { shouldPause = false }
  }
}
