/// Writes what pveproxy sends: whole, unmasked frames, binary or pong, cut wherever the backend's bytes were cut,
/// or at random places.
struct FrameWriter {
  private let cuts: Behaviour.FrameCuts
  private var random: UInt64

  init(cuts: Behaviour.FrameCuts) {
    self.cuts = cuts
    random = if case .random(let seed, _) = cuts { seed } else { 0 }
  }

  /// Adds binary frames for the bytes.
  mutating func binary(_ bytes: UnsafeRawBufferPointer, into out: inout [UInt8]) {
    var at = 0
    while at < bytes.count {
      let n = min(bytes.count - at, nextLength())
      FrameWriter.header(opcode: 2, length: n, into: &out)
      out.append(contentsOf: bytes[at..<at + n])
      at += n
    }
  }

  /// A pong with a ping's payload.
  static func pong(_ payload: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    header(opcode: 10, length: payload.count, into: &out)
    return out + payload
  }

  private mutating func nextLength() -> Int {
    guard case .random(_, let maximum) = cuts else { return FrameReader.maximumPayload }
    // splitmix64: reproducible, and good enough to cut bytes at odd places.
    random &+= 0x9E37_79B9_7F4A_7C15
    var z = random
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    let limit = UInt64(max(1, min(maximum, FrameReader.maximumPayload)))
    return 1 + Int((z ^ z >> 31) % limit)
  }

  private static func header(opcode: UInt8, length: Int, into out: inout [UInt8]) {
    out.append(0x80 | opcode)
    if length < 126 {
      out.append(UInt8(length))
    } else if length < 65_536 {
      out += [126, UInt8(length >> 8), UInt8(length & 255)]
    } else {
      out.append(127)
      for shift in stride(from: 56, through: 0, by: -8) {
        out.append(UInt8(truncatingIfNeeded: length >> shift))
      }
    }
  }
}
