import Testing

@testable import ConsoleProtocol

@Suite struct FrameEncoderTests {
  static func encode(
    _ payload: [UInt8], _ encoder: FrameEncoder, mask: () -> UInt32 = { 0x0403_0201 }
  ) -> [UInt8] {
    var out = [UInt8](repeating: 0xee, count: encoder.encodedSize(of: payload.count) + 8)
    let count = payload.withUnsafeBytes { input in
      out.withUnsafeMutableBytes { encoder.encode(.binary, input, into: $0, mask: mask) }
    }
    #expect(count == encoder.encodedSize(of: payload.count))
    #expect(out[count...].allSatisfy { $0 == 0xee })
    return Array(out[..<count])
  }

  @Test("every length is masked right, whatever its rest by 64, 8 and 4")
  func everyLength() throws {
    let encoder = FrameEncoder(maximumFrame: 32 << 10, zeroMask: false)
    var random = Random(seed: 2)
    for count in Array(0...300) + [65535, 65536, 65537] {
      let payload = random.bytes(count)
      let mask = UInt32.random(in: 0...UInt32.max, using: &random)
      let bytes = Self.encode(payload, encoder, mask: { mask })
      let frames = try #require(ClientFrame.all(bytes))
      #expect(frames.flatMap(\.payload) == payload)
      #expect(frames.allSatisfy { $0.fin && $0.opcode == 2 })
      #expect(frames.allSatisfy { $0.mask == withUnsafeBytes(of: mask) { Array($0) } })
    }
  }

  @Test(
    "a payload is cut into whole messages of at most the limit",
    arguments: [
      (0, [0]), (1, [1]), (32768, [32768]), (32769, [32768, 1]),
      (100_000, [32768, 32768, 32768, 1696]),
    ])
  func cut(_ count: Int, _ expected: [Int]) throws {
    let payload = Random.init(seed: 3).prefixBytes(count)
    let encoder = FrameEncoder(maximumFrame: 32768, zeroMask: false)
    let frames = try #require(ClientFrame.all(Self.encode(payload, encoder)))
    #expect(frames.map(\.payload.count) == expected)
    #expect(frames.allSatisfy { $0.fin })
    #expect(frames.flatMap(\.payload) == payload)
  }

  @Test("each frame gets a mask of its own")
  func freshMasks() throws {
    var next: UInt32 = 0
    let bytes = Self.encode([1, 2, 3, 4, 5], FrameEncoder(maximumFrame: 2, zeroMask: false)) {
      next += 1
      return next
    }
    let frames = try #require(ClientFrame.all(bytes))
    #expect(frames.map(\.mask) == [[1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0]])
    #expect(frames.flatMap(\.payload) == [1, 2, 3, 4, 5])
  }

  @Test("the zero mask asks for none and leaves the bytes as they are")
  func zeroMask() {
    let payload = Array("as it is".utf8)
    let bytes = Self.encode(payload, FrameEncoder(maximumFrame: 100, zeroMask: true)) {
      Issue.record("asked for a mask")
      return 1
    }
    #expect(bytes == [0x82, 0x88, 0, 0, 0, 0] + payload)
  }

  @Test("frames of 131,072 bytes have the long length")
  func longLength() throws {
    let bytes = Self.encode(
      [UInt8](repeating: 5, count: 131_072), FrameEncoder(maximumFrame: 131_072, zeroMask: true))
    #expect(Array(bytes[..<10]) == [0x82, 0xff, 0, 0, 0, 0, 0, 2, 0, 0])
    #expect(try #require(ClientFrame.all(bytes)).count == 1)
  }

  @Test("control frames are never cut, and keep to 125 bytes")
  func control() throws {
    let encoder = FrameEncoder(maximumFrame: 1, zeroMask: false)
    let mask: () -> UInt32 = { 0xdead_beef }
    let ping = try #require(ClientFrame.all(encoder.ping([1, 2, 3], mask: mask)))
    #expect(ping.map(\.opcode) == [9] && ping.map(\.payload) == [[1, 2, 3]])
    let pong = try #require(
      ClientFrame.all(encoder.pong(Array(repeating: 1, count: 200), mask: mask)))
    #expect(pong.map(\.opcode) == [10] && pong.map(\.payload.count) == [125])
    let close = try #require(
      ClientFrame.all(
        encoder.close(code: 4000, reason: String(repeating: "é", count: 100), mask: mask)))
    #expect(close.map(\.opcode) == [8])
    #expect(close.first?.payload == [0x0f, 0xa0] + Array(String(repeating: "é", count: 61).utf8))
  }

  @Test("the payload that fits into a room does fit")
  func fits() {
    for maximum in [1, 100, 125, 126, 300, 32768, 131_072] {
      let encoder = FrameEncoder(maximumFrame: maximum, zeroMask: true)
      for room in Array(0...600) + [32768, 65536, 65600, 200_000, 1 << 20] {
        let count = encoder.payloadThatFits(room)
        if count > 0 { #expect(encoder.encodedSize(of: count) <= room) }
      }
    }
  }
}

extension Random {
  func prefixBytes(_ count: Int) -> [UInt8] {
    var copy = self
    return copy.bytes(count)
  }
}
