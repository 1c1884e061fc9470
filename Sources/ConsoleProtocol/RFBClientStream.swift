/// Follows the messages of an RFB client's stream, from ClientInit on, at a cost per message and not per byte.
///
/// It knows whether the stream is between two messages, so that a message of our own may be put in
/// (``keepAlive``), and it can hold back everything with which a viewer would act (``filter(_:)``).
package struct RFBClientStream: Sendable {
  /// What to do with filtered bytes.
  package enum Filtered: Sendable, Equatable {
    /// The first so many bytes of the buffer go on; the others are gone.
    case keep(Int)
    /// A message that can't be followed: it may hide anything. Final.
    case violation(String)
  }

  /// `FramebufferUpdateRequest`, incremental, of the first pixel: harmless, and it is a byte in `qm vncproxy`'s
  /// relay, which gives up after 15 minutes without any.
  package static let keepAlive: [UInt8] = [3, 1, 0, 0, 0, 0, 0, 1, 0, 1]

  private enum State: Sendable, Equatable {
    /// The one byte of ClientInit.
    case clientInit
    case type
    /// The first bytes of a message, until its length is known: how many are there, and what they are (the last
    /// eight, the newest lowest; no header here needs more).
    case header(type: UInt8, count: Int, bytes: UInt64)
    /// So many bytes of a message whose length is known.
    case body(UInt64)
    /// So many encodings of a SetEncodings, in bytes, and the last four of them.
    case encodings(Int, UInt32)
    case lost
  }

  private let isViewOnly: Bool
  private var state: State
  private var isDropping = false
  /// The client has said that it may send pointer messages with a seventh byte.
  private var hasExtendedButtons = false
  private var sawInput = false

  /// - Parameters:
  ///   - viewOnly: whether ``filter(_:)`` drops input.
  ///   - startsAtClientInit: false where ClientInit has gone by already.
  package init(viewOnly: Bool, startsAtClientInit: Bool = true) {
    isViewOnly = viewOnly
    state = startsAtClientInit ? .clientInit : .type
  }

  /// Whether a message of our own may be sent now.
  package var isAtBoundary: Bool { state == .type }

  /// Whether the stream is still understood.
  package var isTracking: Bool { state != .lost }

  /// Whether keys, pointer or clipboard came since it was last asked: a person is there. (Update requests come
  /// by themselves.)
  package mutating func takeSawInput() -> Bool {
    defer { sawInput = false }
    return sawInput
  }

  /// Follows bytes that go on unchanged. At a message that isn't known it gives up for good.
  package mutating func track(_ bytes: UnsafeRawBufferPointer) {
    var position = 0
    while position < bytes.count, state != .lost {
      if advance(bytes, &position) != nil { state = .lost }
    }
  }

  /// Where the session is view-only: drops key, pointer, clipboard, audio, power (xvp), resize and gii messages and
  /// moves the others together at the buffer's beginning. Otherwise the same as ``track(_:)``.
  package mutating func filter(_ bytes: UnsafeMutableRawBufferPointer) -> Filtered {
    guard isViewOnly else {
      track(UnsafeRawBufferPointer(bytes))
      return .keep(bytes.count)
    }
    guard state != .lost, let base = bytes.baseAddress else {
      return bytes.isEmpty ? .keep(0) : .violation("the RFB stream can't be followed any more")
    }
    var read = 0
    var written = 0
    while read < bytes.count {
      let start = read
      if let unknown = advance(UnsafeRawBufferPointer(bytes), &read) {
        state = .lost
        return .violation("RFB message type \(unknown) is unknown, and the session is view-only")
      }
      if isDropping { continue }
      if written != start {
        (base + written).copyMemoryOverlapping(from: base + start, read - start)
      }
      written += read - start
    }
    return .keep(written)
  }

  /// Takes bytes that all belong to one message (at least one). Returns a type that isn't known.
  private mutating func advance(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> UInt8? {
    switch state {
    case .clientInit:
      position += 1
      isDropping = false
      state = .type
    case .type:
      let type = bytes[position]
      guard begin(type) else { return type }
      state = .header(type: type, count: 0, bytes: 0)
      return header(type, 0, 0, bytes, &position)
    case .header(let type, let count, let seen):
      return header(type, count, seen, bytes, &position)
    case .body(let left):
      let taken = Int(min(left, UInt64(bytes.count - position)))
      position += taken
      state = left == UInt64(taken) ? .type : .body(left - UInt64(taken))
    case .encodings(var left, var last):
      while left > 0, position < bytes.count {
        last = last << 8 | UInt32(bytes[position])
        position += 1
        left -= 1
        if left % 4 == 0, Int32(bitPattern: last) == -316 { hasExtendedButtons = true }
      }
      state = left == 0 ? .type : .encodings(left, last)
    case .lost:
      position = bytes.count
    }
    return nil
  }

  /// Sorts a message by its type; false for an unknown one.
  private mutating func begin(_ type: UInt8) -> Bool {
    switch type {
    case 0, 3, 150, 248: isDropping = false
    case 2:
      isDropping = false
      hasExtendedButtons = false
    case 4, 5, 6, 255:
      isDropping = isViewOnly
      sawInput = true
    case 250, 251, 253: isDropping = isViewOnly
    default: return false
    }
    return true
  }

  /// Collects a message's first bytes until they tell its length.
  private mutating func header(
    _ type: UInt8, _ countBefore: Int, _ seenBefore: UInt64, _ bytes: UnsafeRawBufferPointer,
    _ position: inout Int
  ) -> UInt8? {
    var count = countBefore
    var seen = seenBefore
    while position < bytes.count {
      seen = seen << 8 | UInt64(bytes[position])
      position += 1
      count += 1
      switch length(type, count, seen) {
      case .unknown: continue
      case .impossible: return type
      case .total(let total):
        let left = total - UInt64(count)
        if type == 2 {
          state = left == 0 ? .type : .encodings(Int(left), 0)
        } else {
          state = left == 0 ? .type : .body(left)
        }
        return nil
      }
    }
    state = .header(type: type, count: count, bytes: seen)
    return nil
  }

  private enum Length {
    case unknown
    case impossible
    case total(UInt64)
  }

  /// A message's whole length, as soon as its first `count` bytes tell; `seen` holds the last eight of them.
  private func length(_ type: UInt8, _ count: Int, _ seen: UInt64) -> Length {
    switch type {
    case 0: return .total(20)  // SetPixelFormat
    case 2: return count < 4 ? .unknown : .total(4 + 4 * (seen & 0xffff))  // SetEncodings
    case 3: return .total(10)  // FramebufferUpdateRequest
    case 4: return .total(8)  // KeyEvent
    case 5:  // PointerEvent; with ExtendedMouseButtons, the mask's highest bit announces a byte
      guard hasExtendedButtons else { return .total(6) }
      return count < 2 ? .unknown : .total(seen & 0x80 == 0 ? 6 : 7)
    case 6:  // ClientCutText; a negative length is the extended clipboard's
      guard count == 8 else { return .unknown }
      return .total(8 + UInt64(Int32(truncatingIfNeeded: seen).magnitude))
    case 150: return .total(10)  // EnableContinuousUpdates
    case 248: return count < 9 ? .unknown : .total(9 + (seen & 0xff))  // ClientFence
    case 250: return .total(4)  // xvp
    case 251: return count < 7 ? .unknown : .total(8 + 16 * (seen & 0xff))  // SetDesktopSize
    case 253:  // gii: the second byte's highest bit tells the length's byte order
      guard count == 4 else { return .unknown }
      let length = UInt16(truncatingIfNeeded: seen)
      return .total(4 + UInt64(seen & 0x80_0000 != 0 ? length : length.byteSwapped))
    case 255:  // QEMU: extended key, audio
      guard count >= 2 else { return .unknown }
      if count == 2 {
        switch seen & 0xff {
        case 0: return .total(12)
        case 1: return .unknown
        default: return .impossible
        }
      }
      guard count == 4 else { return .unknown }
      switch seen & 0xffff {
      case 0, 1: return .total(4)
      case 2: return .total(10)
      default: return .impossible
      }
    default: return .impossible
    }
  }
}

extension UnsafeMutableRawPointer {
  /// `memmove`: the two places may overlap.
  fileprivate func copyMemoryOverlapping(from source: UnsafeMutableRawPointer, _ count: Int) {
    copyMemory(from: UnsafeRawPointer(source), byteCount: count)
  }
}
