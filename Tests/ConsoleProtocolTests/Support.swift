import Testing

@testable import ConsoleProtocol

/// Bytes of a hexadecimal text, as the recordings hold them.
func hex(_ text: String) -> [UInt8] {
  var out: [UInt8] = []
  var high: UInt8?
  for character in text {
    guard let digit = character.hexDigitValue else { continue }
    if let h = high {
      out.append(h << 4 | UInt8(digit))
      high = nil
    } else {
      high = UInt8(digit)
    }
  }
  return out
}

/// A small generator, so that a failing case can be run again from its seed.
struct Random: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
  mutating func bytes(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { out, filled in
      for at in stride(from: 0, to: count, by: 8) {
        let word = next()
        for i in at..<min(at + 8, count) {
          out[i] = UInt8(truncatingIfNeeded: word >> ((i - at) * 8))
        }
      }
      filled = count
    }
  }
}

/// The ways to hand over a stream: whole, cut once at every byte, and byte by byte.
func allCuts(_ bytes: [UInt8]) -> [[[UInt8]]] {
  var out = [[bytes], bytes.map { [$0] }]
  if bytes.count > 1 {
    for cut in 1..<bytes.count { out.append([Array(bytes[..<cut]), Array(bytes[cut...])]) }
  }
  return out
}

/// A random way.
func randomCuts(_ bytes: [UInt8], _ random: inout Random, upTo limit: Int) -> [[UInt8]] {
  var out: [[UInt8]] = []
  var rest = bytes[...]
  while !rest.isEmpty {
    let count = min(Int.random(in: 1...limit, using: &random), rest.count)
    out.append(Array(rest.prefix(count)))
    rest = rest.dropFirst(count)
  }
  return out
}

/// A frame as a server sends it, built from RFC 6455 and not from the code under test.
func serverFrame(_ opcode: UInt8, _ payload: [UInt8], fin: Bool = true) -> [UInt8] {
  var out: [UInt8] = [(fin ? 0x80 : 0) | opcode]
  switch payload.count {
  case ..<126: out.append(UInt8(payload.count))
  case ..<65536:
    out.append(126)
    out.append(contentsOf: [UInt8(payload.count >> 8), UInt8(payload.count & 255)])
  default:
    out.append(127)
    for shift in stride(from: 56, through: 0, by: -8) {
      out.append(UInt8(truncatingIfNeeded: payload.count >> shift))
    }
  }
  return out + payload
}

/// A client's frame, taken apart by the letter of RFC 6455.
struct ClientFrame: Equatable {
  var fin: Bool
  var opcode: UInt8
  var mask: [UInt8]
  var payload: [UInt8]

  /// Every frame of a stream; nil if it doesn't end at a frame's end or a frame has no mask.
  static func all(_ bytes: [UInt8]) -> [ClientFrame]? {
    var out: [ClientFrame] = []
    var at = 0
    while at < bytes.count {
      guard bytes.count - at >= 6, bytes[at] & 0x70 == 0, bytes[at + 1] & 0x80 != 0 else {
        return nil
      }
      let first = bytes[at]
      var count = Int(bytes[at + 1] & 0x7f)
      at += 2
      let width = count == 126 ? 2 : count == 127 ? 8 : 0
      if width > 0 {
        guard bytes.count - at >= width else { return nil }
        count = bytes[at..<at + width].reduce(0) { $0 << 8 | Int($1) }
        at += width
      }
      guard bytes.count - at >= 4 + count else { return nil }
      let mask = Array(bytes[at..<at + 4])
      at += 4
      let payload = (0..<count).map { bytes[at + $0] ^ mask[$0 % 4] }
      at += count
      out.append(
        ClientFrame(fin: first & 0x80 != 0, opcode: first & 15, mask: mask, payload: payload))
    }
    return out
  }
}

/// Hands chunks to a pull machine: each in a buffer of its own, asked until `isDone` says that it wants more.
func pull<Event>(
  _ chunks: [[UInt8]], limit: Int = 100_000,
  _ next: (UnsafeMutableRawBufferPointer, inout Int) -> Event,
  until isDone: (Event) -> Bool, _ seen: (Event, UnsafeMutableRawBufferPointer) -> Bool
) {
  for chunk in chunks {
    var chunk = chunk
    let goesOn = chunk.withUnsafeMutableBytes { buffer in
      var position = 0
      for _ in 0..<limit {
        let event = next(buffer, &position)
        #expect(position <= buffer.count)
        if isDone(event) { return true }
        if !seen(event, buffer) { return false }
      }
      Issue.record("the machine never asks for more")
      return false
    }
    if !goesOn { return }
  }
}
