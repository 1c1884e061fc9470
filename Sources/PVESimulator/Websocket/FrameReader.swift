/// Takes websocket frames from a client apart, as pveproxy does: only what it accepts, only whole frames.
struct FrameReader {
  /// What a frame asks for.
  enum Event {
    /// Text or binary: these bytes go to the backend. Valid during the call.
    case payload(UnsafeRawBufferPointer)
    /// A ping's payload, to be sent back.
    case ping([UInt8])
    /// A close frame.
    case close
    /// A frame that pveproxy dies of or gets stuck on.
    case malformed(String)
    /// More bytes of a frame than the receive buffer holds (old versions): the connection ends.
    case overflow
  }

  /// The largest payload.
  static let maximumPayload = 131_072

  /// How many bytes of an incomplete frame may wait.
  private let buffer: Int
  private var carry = ByteQueue()
  private var isStuck = false

  /// - Parameter buffer: how many bytes of an incomplete frame may wait; nil where only the payload is limited.
  init(buffer: Int? = nil) { self.buffer = buffer ?? .max }

  /// Takes bytes in; the buffer's payloads are unmasked where they lie.
  mutating func feed(_ bytes: UnsafeMutableRawBufferPointer, _ event: (Event) -> Void) {
    guard !isStuck else { return }
    if carry.isEmpty {
      let used = read(bytes, event)
      if !isStuck { carry.append(UnsafeRawBufferPointer(rebasing: bytes[used...])) }
    } else {
      carry.append(UnsafeRawBufferPointer(bytes))
      var local = carry
      carry = ByteQueue()
      let used = local.withMutableBytes { read($0, event) }
      local.drop(used)
      if !isStuck { carry = local }
    }
    if !isStuck, carry.count > buffer {
      isStuck = true
      event(.overflow)
    }
  }

  /// Reads whole frames and says how many bytes they were.
  private mutating func read(_ bytes: UnsafeMutableRawBufferPointer, _ event: (Event) -> Void)
    -> Int
  {
    var at = 0
    while bytes.count - at >= 2 {
      let first = bytes[at]
      let second = bytes[at + 1]
      if let complaint = FrameReader.complaint(first, second) { return stuck(at, complaint, event) }
      var length = Int(second & 0x7F)
      var header = 2
      if length == 126 {
        guard bytes.count - at >= 4 else { return at }
        length = Int(bytes[at + 2]) << 8 | Int(bytes[at + 3])
        header = 4
      } else if length == 127 {
        guard bytes.count - at >= 10 else { return at }
        var wide: UInt64 = 0
        for i in 2..<10 { wide = wide << 8 | UInt64(bytes[at + i]) }
        guard wide <= UInt64(FrameReader.maximumPayload) else {
          return stuck(at, "payload too large", event)
        }
        length = Int(wide)
        header = 10
      }
      guard length <= FrameReader.maximumPayload else {
        return stuck(at, "payload too large", event)
      }
      guard bytes.count - at >= header + 4 + length else { return at }
      let start = at + header + 4
      let payload = UnsafeMutableRawBufferPointer(rebasing: bytes[start..<start + length])
      unmask(payload, (bytes[start - 4], bytes[start - 3], bytes[start - 2], bytes[start - 1]))
      at = start + length
      switch first & 0x0F {
      case 1, 2: event(.payload(UnsafeRawBufferPointer(payload)))
      case 9: event(.ping(Array(payload)))
      case 8:
        isStuck = true
        event(.close)
        return at
      default: break
      }
    }
    return at
  }

  private mutating func stuck(_ at: Int, _ text: String, _ event: (Event) -> Void) -> Int {
    isStuck = true
    event(.malformed(text))
    return at
  }

  private static func complaint(_ first: UInt8, _ second: UInt8) -> String? {
    if first & 0x70 != 0 { return "reserved bits are set" }
    if first & 0x80 == 0 { return "fragmented frame" }
    guard [1, 2, 8, 9, 10].contains(first & 0x0F) else { return "unknown opcode" }
    return second & 0x80 == 0 ? "frame is not masked" : nil
  }

  private func unmask(_ bytes: UnsafeMutableRawBufferPointer, _ mask: (UInt8, UInt8, UInt8, UInt8))
  {
    let key = UInt32(mask.0) | UInt32(mask.1) << 8 | UInt32(mask.2) << 16 | UInt32(mask.3) << 24
    guard key != 0 else { return }
    let wide = UInt64(UInt32(littleEndian: key)) << 32 | UInt64(UInt32(littleEndian: key))
    var i = 0
    while bytes.count - i >= 8 {
      let word = bytes.loadUnaligned(fromByteOffset: i, as: UInt64.self)
      bytes.storeBytes(of: word ^ wide, toByteOffset: i, as: UInt64.self)
      i += 8
    }
    while i < bytes.count {
      bytes[i] ^= UInt8(truncatingIfNeeded: wide >> UInt64((i & 7) * 8))
      i += 1
    }
  }
}
