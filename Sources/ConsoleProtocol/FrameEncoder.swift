/// Writes a websocket client's frames: each a whole message (FIN set), masked, no larger than the peer takes.
///
/// PVE gives up on fragments, on extensions and on frames over 128 KiB (64 KiB in old versions), so that nothing
/// else is ever written. The copy into the output and the masking are one pass, 32 bytes at a time.
package struct FrameEncoder: Sendable {
  /// The opcodes that a client may send here.
  package enum Opcode: UInt8, Sendable {
    /// UTF-8 text.
    case text = 1
    /// Bytes.
    case binary = 2
    /// Goodbye.
    case close = 8
    /// To be answered by a pong.
    case ping = 9
    /// The answer to a ping.
    case pong = 10
  }

  /// The largest payload of one frame, in bytes.
  package let maximumFrame: Int
  /// Whether the mask is four zero bytes. Only for verified TLS, where no intermediary sees the bytes: the mask is
  /// there to keep a sender from forging another protocol's bytes in front of such a one.
  package let zeroMask: Bool

  /// - Parameters:
  ///   - maximumFrame: the largest payload of one frame, in bytes; at least 1.
  ///   - zeroMask: use four zero bytes instead of asking for masks; pveproxy has a fast path for them.
  package init(maximumFrame: Int, zeroMask: Bool) {
    self.maximumFrame = max(maximumFrame, 1)
    self.zeroMask = zeroMask
  }

  /// The bytes that a payload of `count` bytes becomes.
  package func encodedSize(of count: Int) -> Int {
    Self.encodedSize(of: count, maximumFrame: maximumFrame)
  }

  /// The bytes that a payload of `count` bytes becomes in frames of at most `maximumFrame` bytes each.
  package static func encodedSize(of count: Int, maximumFrame: Int) -> Int {
    let whole = count / maximumFrame
    let rest = count % maximumFrame
    var size = whole * (maximumFrame + headerSize(maximumFrame))
    if rest > 0 || count == 0 { size += rest + headerSize(rest) }
    return size
  }

  /// The largest payload whose frames fit into `room` bytes; for filling a fixed output buffer.
  package func payloadThatFits(_ room: Int) -> Int {
    let frame = maximumFrame + Self.headerSize(maximumFrame)
    let rest = room % frame
    // The header's size depends on the payload's; the largest header is always safe.
    return room / frame * maximumFrame + min(max(0, rest - 14), maximumFrame)
  }

  /// Writes `payload` as one or more whole frames; an empty payload is one empty frame.
  /// - Parameters:
  ///   - out: at least ``encodedSize(of:)`` bytes, not overlapping the payload.
  ///   - mask: asked for a fresh, unpredictable value once per frame, unless ``zeroMask``.
  /// - Returns: the bytes written.
  package func encode(
    _ opcode: Opcode, _ payload: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer,
    mask: () -> UInt32
  ) -> Int {
    precondition(out.count >= encodedSize(of: payload.count), "the caller's buffer is too small")
    var written = 0
    var read = 0
    repeat {
      let count = min(payload.count - read, maximumFrame)
      let key = zeroMask ? 0 : mask()
      written += Self.writeHeader(
        opcode, count: count, mask: key,
        into: UnsafeMutableRawBufferPointer(rebasing: out[written...]))
      Self.maskedCopy(
        UnsafeRawBufferPointer(rebasing: payload[read..<read + count]), mask: key,
        into: UnsafeMutableRawBufferPointer(rebasing: out[written...]))
      read += count
      written += count
    } while read < payload.count
    return written
  }

  /// One or more whole frames as an array, for what is small and rare.
  package func frame(_ opcode: Opcode, _ payload: [UInt8], mask: () -> UInt32) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: encodedSize(of: payload.count)) { out, count in
      count = payload.withUnsafeBytes {
        encode(opcode, $0, into: UnsafeMutableRawBufferPointer(out), mask: mask)
      }
    }
  }

  /// A ping; the payload is cut to the 125 bytes of a control frame.
  package func ping(_ payload: [UInt8] = [], mask: () -> UInt32) -> [UInt8] {
    control(.ping, Array(payload.prefix(125)), mask)
  }

  /// The answer to a ping, with the same payload.
  package func pong(_ payload: [UInt8], mask: () -> UInt32) -> [UInt8] {
    control(.pong, Array(payload.prefix(125)), mask)
  }

  /// A close frame. The reason is cut at a character to 123 bytes.
  package func close(code: UInt16, reason: String = "", mask: () -> UInt32) -> [UInt8] {
    var payload: [UInt8] = [UInt8(code >> 8), UInt8(code & 0xff)]
    for character in reason {
      guard payload.count + character.utf8.count <= 125 else { break }
      payload.append(contentsOf: character.utf8)
    }
    return control(.close, payload, mask)
  }

  /// A control frame is never cut, however small the frames for data have to be.
  private func control(_ opcode: Opcode, _ payload: [UInt8], _ mask: () -> UInt32) -> [UInt8] {
    Self(maximumFrame: 125, zeroMask: zeroMask).frame(opcode, payload, mask: mask)
  }

  static func headerSize(_ count: Int) -> Int { count < 126 ? 6 : count < 65536 ? 8 : 14 }

  /// Writes FIN, opcode, length and mask (whose bytes lie in memory order). Returns the bytes written.
  private static func writeHeader(
    _ opcode: Opcode, count: Int, mask: UInt32, into out: UnsafeMutableRawBufferPointer
  ) -> Int {
    out[0] = 0x80 | opcode.rawValue
    let size = headerSize(count)
    switch size {
    case 6: out[1] = 0x80 | UInt8(count)
    case 8:
      out[1] = 0x80 | 126
      out.storeBytes(of: UInt16(count).bigEndian, toByteOffset: 2, as: UInt16.self)
    default:
      out[1] = 0x80 | 127
      out.storeBytes(of: UInt64(count).bigEndian, toByteOffset: 2, as: UInt64.self)
    }
    out.storeBytes(of: mask, toByteOffset: size - 4, as: UInt32.self)
    return size
  }

  /// `out[i] = bytes[i] ^ mask[i % 4]`; a plain copy where the mask is zero.
  static func maskedCopy(
    _ bytes: UnsafeRawBufferPointer, mask: UInt32, into out: UnsafeMutableRawBufferPointer
  ) {
    if mask == 0 {
      out.copyMemory(from: bytes)
      return
    }
    guard let source = bytes.baseAddress, let target = out.baseAddress else { return }
    let count = bytes.count
    let wide = SIMD4<UInt64>(repeating: UInt64(mask) << 32 | UInt64(mask))
    var i = 0
    while i &+ 64 <= count {
      let a = source.loadUnaligned(fromByteOffset: i, as: SIMD4<UInt64>.self)
      let b = source.loadUnaligned(fromByteOffset: i &+ 32, as: SIMD4<UInt64>.self)
      target.storeBytes(of: a ^ wide, toByteOffset: i, as: SIMD4<UInt64>.self)
      target.storeBytes(of: b ^ wide, toByteOffset: i &+ 32, as: SIMD4<UInt64>.self)
      i &+= 64
    }
    while i &+ 8 <= count {
      let a = source.loadUnaligned(fromByteOffset: i, as: UInt64.self)
      target.storeBytes(of: a ^ wide[0], toByteOffset: i, as: UInt64.self)
      i &+= 8
    }
    // Little-endian and big-endian alike: the mask's bytes in memory order.
    withUnsafeBytes(of: mask) { key in
      while i < count {
        let byte = source.load(fromByteOffset: i, as: UInt8.self) ^ key[i & 3]
        target.storeBytes(of: byte, toByteOffset: i, as: UInt8.self)
        i &+= 1
      }
    }
  }
}
