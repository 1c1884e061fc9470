/// Reads a websocket server's frames in the buffer into which the socket was read: payload is never copied but
/// pointed at, and each payload byte is looked at by nobody here.
///
/// The driver reads into its buffer, sets a position to 0 and calls ``next(_:_:)`` until `needMore`. Any cut is
/// legal: a header may span reads, a payload is given out as it arrives. PVE sends unfragmented binary frames;
/// a peer behind it or in front of it may do anything that RFC 6455 allows.
package struct FrameDecoder: Sendable {
  /// What a data message claims to hold.
  package enum Kind: Sendable, Equatable {
    /// Opcode 1. Its UTF-8 is not checked here.
    case text
    /// Opcode 2.
    case binary
  }

  /// What comes next in the stream.
  package enum Event: Sendable, Equatable {
    /// The buffer is used up.
    case needMore
    /// A piece of a message, as a range of the buffer; the last piece of a message has `isFinal`. Empty pieces
    /// come only as last ones.
    case data(Range<Int>, Kind, isFinal: Bool)
    /// To be answered by a pong with the same payload.
    case ping([UInt8])
    /// The payload of the ping that it answers.
    case pong([UInt8])
    /// The peer says goodbye. What follows it is swallowed.
    case close(code: UInt16?, reason: String)
    /// What no server may send. Repeated for ever after.
    case violation(String)
  }

  private enum State: Sendable, Equatable {
    case firstByte
    case secondByte(UInt8)
    /// `missing` of the extended length's `width` bytes are still to come.
    case length(first: UInt8, width: Int, missing: Int, value: UInt64)
    case payload(remaining: UInt64, isFinal: Bool)
    case control(opcode: UInt8, missing: Int, bytes: [UInt8])
    case closed
    case violated(String)
  }

  private var state = State.firstByte
  /// The kind of the message that is being received; nil between messages.
  private var message: Kind?
  private let maximumFrame: UInt64

  /// - Parameter maximumFrame: the largest payload of one data frame that is accepted, in bytes. Payloads are
  ///   never collected, so that it guards counters, not memory.
  package init(maximumFrame: Int = .max) {
    self.maximumFrame = UInt64(max(maximumFrame, 0))
  }

  /// Whether the next byte begins a frame: an end of the connection here cuts nothing.
  package var isBetweenFrames: Bool { state == .firstByte }

  /// Reads on from `position`, which moves behind what was taken.
  package mutating func next(
    _ bytes: UnsafeMutableRawBufferPointer, _ position: inout Int
  ) -> Event {
    while true {
      switch state {
      case .payload(let remaining, let isFinal):
        let available = bytes.count - position
        if available == 0, remaining > 0 { return .needMore }
        let taken = remaining < UInt64(available) ? Int(remaining) : available
        let range = position..<position + taken
        position += taken
        let left = remaining - UInt64(taken)
        let kind = message ?? .binary
        if left > 0 {
          state = .payload(remaining: left, isFinal: isFinal)
          return .data(range, kind, isFinal: false)
        }
        state = .firstByte
        if isFinal { message = nil }
        if taken == 0, !isFinal { continue }
        return .data(range, kind, isFinal: isFinal)

      case .firstByte:
        guard position < bytes.count else { return .needMore }
        let byte = bytes[position]
        position += 1
        if let wrong = wrongFirst(byte) { return violate(wrong) }
        state = .secondByte(byte)

      case .secondByte(let first):
        guard position < bytes.count else { return .needMore }
        let byte = bytes[position]
        position += 1
        guard byte & 0x80 == 0 else { return violate("a server's frame is masked") }
        if first & 0x08 != 0 {
          guard byte <= 125 else { return violate("a control frame is longer than 125 bytes") }
          state = .control(opcode: first & 0x0f, missing: Int(byte), bytes: [])
        } else {
          switch byte {
          case 126: state = .length(first: first, width: 2, missing: 2, value: 0)
          case 127: state = .length(first: first, width: 8, missing: 8, value: 0)
          default:
            if let wrong = begin(first, UInt64(byte)) { return violate(wrong) }
          }
        }

      case .length(let first, let width, var missing, var value):
        while missing > 0, position < bytes.count {
          value = value << 8 | UInt64(bytes[position])
          position += 1
          missing -= 1
        }
        state = .length(first: first, width: width, missing: missing, value: value)
        if missing > 0 { return .needMore }
        guard value >> 63 == 0 else { return violate("a frame's length has its highest bit set") }
        guard value > (width == 2 ? 125 : 0xffff) else {
          return violate("a frame's length is not in its shortest form")
        }
        if let wrong = begin(first, value) { return violate(wrong) }

      case .control(let opcode, let missing, var payload):
        state = .firstByte  // Lets go of the array, so that appending does not copy it.
        let taken = min(missing, bytes.count - position)
        payload.append(contentsOf: bytes[position..<position + taken])
        position += taken
        guard taken == missing else {
          state = .control(opcode: opcode, missing: missing - taken, bytes: payload)
          return .needMore
        }
        switch opcode {
        case 9: return .ping(payload)
        case 10: return .pong(payload)
        default: return close(payload)
        }

      case .closed:
        position = bytes.count
        return .needMore

      case .violated(let sentence):
        return .violation(sentence)
      }
    }
  }

  private mutating func violate(_ sentence: String) -> Event {
    state = .violated(sentence)
    return .violation(sentence)
  }

  /// Checks FIN, RSV and opcode against what is being received.
  private func wrongFirst(_ byte: UInt8) -> String? {
    guard byte & 0x70 == 0 else { return "a reserved bit is set though no extension is in use" }
    switch byte & 0x0f {
    case 0: return message == nil ? "a continuation without a beginning" : nil
    case 1, 2: return message == nil ? nil : "a message begins within another"
    case 8, 9, 10: return byte & 0x80 != 0 ? nil : "a control frame is fragmented"
    default: return "opcode \(byte & 0x0f) is reserved"
    }
  }

  private mutating func begin(_ first: UInt8, _ length: UInt64) -> String? {
    guard length <= maximumFrame else { return "a frame of \(length) bytes is over the limit" }
    switch first & 0x0f {
    case 1: message = .text
    case 2: message = .binary
    default: break
    }
    state = .payload(remaining: length, isFinal: first & 0x80 != 0)
    return nil
  }

  private mutating func close(_ payload: [UInt8]) -> Event {
    if payload.isEmpty {
      state = .closed
      return .close(code: nil, reason: "")
    }
    guard payload.count >= 2 else { return violate("a close frame of one byte") }
    let code = UInt16(payload[0]) << 8 | UInt16(payload[1])
    switch code {
    case 1000...1003, 1007...1014, 3000...4999: break
    default: return violate("close code \(code) may not be sent")
    }
    guard let reason = String(validating: payload.dropFirst(2), as: UTF8.self) else {
      return violate("a close reason is not UTF-8")
    }
    state = .closed
    return .close(code: code, reason: reason)
  }
}
