import Testing

@testable import PVESimulator

/// A client's frame, by hand.
func clientFrame(
  opcode: UInt8 = 2, fin: Bool = true, reserved: UInt8 = 0, mask: [UInt8]? = [1, 2, 3, 4],
  _ payload: [UInt8]
) -> [UInt8] {
  var out: [UInt8] = [(fin ? 0x80 : 0) | reserved | opcode]
  let masked: UInt8 = mask == nil ? 0 : 0x80
  if payload.count < 126 {
    out.append(masked | UInt8(payload.count))
  } else if payload.count < 65_536 {
    out += [masked | 126, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
  } else {
    out.append(masked | 127)
    for shift in stride(from: 56, through: 0, by: -8) {
      out.append(UInt8(truncatingIfNeeded: payload.count >> shift))
    }
  }
  guard let mask else { return out + payload }
  if mask == [0, 0, 0, 0] { return out + mask + payload }
  return out + mask + payload.enumerated().map { $0.element ^ mask[$0.offset & 3] }
}

@Suite("Websocket frames are taken as pveproxy takes them")
struct FrameTests {
  private struct Seen: Equatable {
    var bytes: [UInt8] = []
    var pings: [[UInt8]] = []
    var closes = 0
    var complaints = 0
  }

  private func read(_ bytes: [UInt8], piece: Int = .max) -> Seen {
    var reader = FrameReader()
    var seen = Seen()
    var at = 0
    while at < bytes.count {
      let n = min(piece, bytes.count - at)
      var chunk = Array(bytes[at..<at + n])
      chunk.withUnsafeMutableBytes {
        reader.feed($0) { event in
          switch event {
          case .payload(let p): seen.bytes += p
          case .ping(let p): seen.pings.append(p)
          case .close: seen.closes += 1
          case .overflow: break
          case .malformed: seen.complaints += 1
          }
        }
      }
      at += n
    }
    return seen
  }

  @Test(
    "text, binary, ping, pong and zero masks, in pieces of any size",
    arguments: [1, 2, 3, 7, 64, 5000])
  func pieces(_ piece: Int) {
    let long = (0..<70_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
    let bytes =
      clientFrame(opcode: 1, Array("héllo".utf8)) + clientFrame(opcode: 9, [1, 2])
      + clientFrame(long) + clientFrame(opcode: 10, [9]) + clientFrame(mask: [0, 0, 0, 0], [5, 6])
      + clientFrame([]) + clientFrame(Array(long.prefix(200)))
    let seen = read(bytes, piece: piece)
    #expect(seen.bytes == Array("héllo".utf8) + long + [5, 6] + long.prefix(200))
    #expect(seen.pings == [[1, 2]])
    #expect(seen.complaints == 0)
  }

  @Test("131072 bytes are taken, 131073 are not")
  func limit() {
    #expect(read(clientFrame([UInt8](repeating: 1, count: 131_072))).bytes.count == 131_072)
    let over = read(clientFrame([UInt8](repeating: 1, count: 131_073)))
    #expect(over == Seen(complaints: 1))
    let absurd: [UInt8] = [0x82, 0xFF, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]
    #expect(read(absurd) == Seen(complaints: 1))
  }

  @Test("fragments, reserved bits, unknown opcodes and missing masks stick for ever")
  func malformed() {
    let after = clientFrame([1, 2, 3])
    for bad in [
      clientFrame(fin: false, [1]), clientFrame(opcode: 0, [1]), clientFrame(reserved: 0x40, [1]),
      clientFrame(opcode: 3, [1]), clientFrame(opcode: 11, [1]), clientFrame(mask: nil, [1]),
    ] {
      #expect(read(bad + after) == Seen(complaints: 1))
      #expect(read(bad + after, piece: 1) == Seen(complaints: 1))
    }
  }

  @Test(
    "what the node sends is whole, unmasked, binary, and cut reproducibly where cuts are asked for")
  func writing() {
    let payload = (0..<200_000).map { UInt8(truncatingIfNeeded: $0) }
    for cuts in [Behaviour.FrameCuts.natural, .random(seed: 7, maximum: 1000)] {
      var out: [UInt8] = []
      var again: [UInt8] = []
      var writer = FrameWriter(cuts: cuts)
      var twin = FrameWriter(cuts: cuts)
      payload.withUnsafeBytes {
        writer.binary($0, into: &out)
        twin.binary($0, into: &again)
      }
      #expect(out == again)
      var at = 0
      var whole: [UInt8] = []
      while at + 2 <= out.count {
        #expect(out[at] == 0x82)
        var length = Int(out[at + 1])
        at += 2
        if length == 126 {
          length = Int(out[at]) << 8 | Int(out[at + 1])
          at += 2
        } else if length == 127 {
          length = out[at..<at + 8].reduce(0) { $0 << 8 | Int($1) }
          at += 8
        }
        #expect(length <= 131_072)
        whole += out[at..<at + length]
        at += length
      }
      #expect(whole == payload)
    }
  }
}
