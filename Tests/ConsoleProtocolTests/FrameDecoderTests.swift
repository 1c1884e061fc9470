import Testing

@testable import ConsoleProtocol

@Suite struct FrameDecoderTests {
  /// What was in a stream, pieces put together.
  enum Seen: Equatable {
    case message(FrameDecoder.Kind, [UInt8])
    case ping([UInt8])
    case pong([UInt8])
    case close(UInt16?, String)
    case violation(String)
  }

  static func decode(_ chunks: [[UInt8]], maximumFrame: Int = .max) -> [Seen] {
    var decoder = FrameDecoder(maximumFrame: maximumFrame)
    var seen: [Seen] = []
    var message: [UInt8] = []
    pull(chunks, { decoder.next($0, &$1) }, until: { $0 == .needMore }) { event, buffer in
      switch event {
      case .needMore: break
      case .data(let range, let kind, let isFinal):
        message.append(contentsOf: buffer[range])
        if isFinal {
          seen.append(.message(kind, message))
          message = []
        } else {
          #expect(!range.isEmpty)
        }
      case .ping(let payload): seen.append(.ping(payload))
      case .pong(let payload): seen.append(.pong(payload))
      case .close(let code, let reason): seen.append(.close(code, reason))
      case .violation(let sentence):
        seen.append(.violation(sentence))
        return false
      }
      return true
    }
    return seen
  }

  static func isViolation(_ bytes: [UInt8]) -> Bool {
    // The same at every cut.
    allCuts(bytes).allSatisfy {
      if case .violation? = decode($0).last { true } else { false }
    }
  }

  @Test("messages, fragments and control frames between them come out the same at any cut")
  func everyCut() {
    let stream =
      serverFrame(2, [1, 2, 3]) + serverFrame(1, Array("héllo".utf8))
      + serverFrame(2, [4], fin: false) + serverFrame(9, [9, 9]) + serverFrame(0, [], fin: false)
      + serverFrame(0, [5, 6], fin: false) + serverFrame(10, []) + serverFrame(0, [7])
      + serverFrame(2, []) + serverFrame(2, Array(repeating: 8, count: 130))
      + serverFrame(8, [0x0f, 0xa0] + Array("bye".utf8)) + [1, 2, 3]
    let expected: [Seen] = [
      .message(.binary, [1, 2, 3]), .message(.text, Array("héllo".utf8)), .ping([9, 9]), .pong([]),
      .message(.binary, [4, 5, 6, 7]), .message(.binary, []),
      .message(.binary, Array(repeating: 8, count: 130)), .close(4000, "bye"),
    ]
    for chunks in allCuts(stream) { #expect(Self.decode(chunks) == expected) }
  }

  @Test("payload is pointed at, not copied, and comes as far as it has arrived")
  func inPlace() {
    var decoder = FrameDecoder()
    var first = Array(serverFrame(2, Array(0..<100))[..<50])
    first.withUnsafeMutableBytes { buffer in
      var position = 0
      #expect(decoder.next(buffer, &position) == .data(2..<50, .binary, isFinal: false))
      #expect(decoder.next(buffer, &position) == .needMore)
      #expect(position == 50)
    }
    #expect(!decoder.isBetweenFrames)
    var second = [UInt8](48..<100) + [0x82]
    second.withUnsafeMutableBytes { buffer in
      var position = 0
      #expect(decoder.next(buffer, &position) == .data(0..<52, .binary, isFinal: true))
      #expect(decoder.isBetweenFrames)
      #expect(decoder.next(buffer, &position) == .needMore)
      #expect(!decoder.isBetweenFrames)
    }
  }

  @Test("lengths of all three forms are read", arguments: [0, 1, 125, 126, 65535, 65536, 131072])
  func lengths(_ count: Int) {
    let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
    let stream = serverFrame(2, payload) + serverFrame(2, [1])
    #expect(
      Self.decode([stream]) == [.message(.binary, payload), .message(.binary, [1])])
    var random = Random(seed: UInt64(count))
    #expect(
      Self.decode(randomCuts(stream, &random, upTo: 5000))
        == [.message(.binary, payload), .message(.binary, [1])])
  }

  @Test(
    "what no server may send is a violation at any cut",
    arguments: [
      [0xc2, 1, 0], [0xa2, 1, 0], [0x92, 1, 0],  // reserved bits
      [0x82, 0x81, 0, 0, 0, 0, 1],  // masked
      [0x83, 0], [0x87, 0], [0x8b, 0], [0x8f, 0],  // reserved opcodes
      [0x09, 0], [0x08, 0], [0x0a, 0],  // fragmented control frames
      [0x89, 126, 0, 126], [0x88, 127], [0x8a, 126],  // long control frames
      [0x80, 0], [0x00, 0],  // continuation of nothing
      [0x02, 1, 0, 0x82, 0], [0x01, 0, 0x01, 0],  // a beginning within a message
      [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],  // a negative length
      [0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
      [0x82, 126, 0, 125], [0x82, 126, 0, 0],  // not the shortest form
      [0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
      [0x88, 1, 3],  // half a code
      // 999, 1005, 0, 5000
      [0x88, 2, 3, 0xe7], [0x88, 2, 3, 0xed], [0x88, 2, 0, 0], [0x88, 2, 0x13, 0x88],
      [0x88, 4, 3, 0xe8, 0xc3, 0x28],  // not UTF-8
    ] as [[UInt8]])
  func violations(_ bytes: [UInt8]) { #expect(Self.isViolation(bytes)) }

  @Test("a violation stays, whatever comes after it")
  func violationStays() {
    var decoder = FrameDecoder()
    var bytes: [UInt8] = [0x83, 0] + serverFrame(2, [1])
    bytes.withUnsafeMutableBytes { buffer in
      var position = 0
      let first = decoder.next(buffer, &position)
      #expect(decoder.next(buffer, &position) == first)
      position = 2
      #expect(decoder.next(buffer, &position) == first)
    }
  }

  @Test("a length of 2^63-1 is counted and not stored")
  func hugeLength() {
    let head: [UInt8] = [0x82, 127, 0x7f] + Array(repeating: 0xff, count: 7)
    var decoder = FrameDecoder()
    var bytes = head + [1, 2, 3]
    bytes.withUnsafeMutableBytes { buffer in
      var position = 0
      #expect(decoder.next(buffer, &position) == .data(10..<13, .binary, isFinal: false))
      #expect(decoder.next(buffer, &position) == .needMore)
    }
  }

  @Test("a frame over the configured limit is a violation, one at the limit is not")
  func limit() {
    #expect(
      Self.decode([serverFrame(2, [1, 2, 3])], maximumFrame: 3) == [.message(.binary, [1, 2, 3])])
    guard case .violation? = Self.decode([serverFrame(2, [1, 2, 3, 4])], maximumFrame: 3).first
    else {
      Issue.record("taken")
      return
    }
  }

  @Test("a close may come without code and reason")
  func emptyClose() {
    #expect(Self.decode([serverFrame(8, [])]) == [.close(nil, "")])
  }

  @Test("random valid streams come out the same whole and cut")
  func randomStreams() {
    var random = Random(seed: 7)
    for _ in 0..<150 {
      var stream: [UInt8] = []
      var expected: [Seen] = []
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        var message: [UInt8] = []
        let pieces = Int.random(in: 1...3, using: &random)
        for piece in 0..<pieces {
          let part = random.bytes([0, 1, 100, 126, 300, 66_000].randomElement(using: &random) ?? 0)
          message += part
          stream += serverFrame(piece == 0 ? 2 : 0, part, fin: piece == pieces - 1)
          if piece < pieces - 1, Bool.random(using: &random) {
            let ping = random.bytes(Int.random(in: 0...125, using: &random))
            stream += serverFrame(9, ping)
            expected.append(.ping(ping))
          }
        }
        expected.append(.message(.binary, message))
      }
      #expect(Self.decode([stream]) == expected)
      #expect(Self.decode(randomCuts(stream, &random, upTo: 70_000)) == expected)
      #expect(Self.decode(randomCuts(stream, &random, upTo: 700)) == expected)
    }
  }

  @Test("random garbage never traps, and ends the same however it is cut")
  func garbage() {
    var random = Random(seed: 8)
    for _ in 0..<3000 {
      var bytes = random.bytes(Int.random(in: 1...60, using: &random))
      if Bool.random(using: &random) { bytes[0] = 0x82 }
      #expect(Self.decode([bytes]) == Self.decode(bytes.map { [$0] }))
    }
  }
}
