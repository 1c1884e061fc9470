import Testing

@testable import ConsoleProtocol

@Suite struct RFBClientStreamTests {
  struct Message {
    var bytes: [UInt8]
    var isInput: Bool
  }

  static func u16(_ n: Int) -> [UInt8] { [UInt8(n >> 8 & 255), UInt8(n & 255)] }
  static func u32(_ n: Int) -> [UInt8] { u16(n >> 16) + u16(n) }
  static func fill(_ count: Int) -> [UInt8] { [UInt8](repeating: 0xa5, count: count) }

  /// One of each, by the letter of the RFB documents.
  static let messages: [Message] = [
    Message(bytes: [0, 0, 0, 0] + fill(16), isInput: false),
    Message(bytes: hex("0200000300000000ffffff21fffffecd"), isInput: false),  // recorded
    Message(bytes: [2, 0, 0, 0], isInput: false),
    Message(bytes: hex("03000000000000100010"), isInput: false),  // recorded
    Message(bytes: [4, 1, 0, 0] + u32(0xff0d), isInput: true),
    Message(bytes: [5, 0xff] + u16(10) + u16(20), isInput: true),
    Message(bytes: [6, 0, 0, 0] + u32(11) + fill(11), isInput: true),
    Message(bytes: [6, 0, 0, 0] + u32(0), isInput: true),
    Message(bytes: [6, 0, 0, 0] + u32(-9) + fill(9), isInput: true),  // extended clipboard
    Message(bytes: [150, 1] + fill(8), isInput: false),
    Message(bytes: [248, 0, 0, 0] + fill(4) + [5] + fill(5), isInput: false),
    Message(bytes: [248, 0, 0, 0] + fill(4) + [0], isInput: false),
    Message(bytes: [250, 0, 1, 2], isInput: true),
    Message(bytes: [251, 0] + u16(800) + u16(600) + [2, 0] + fill(32), isInput: true),
    Message(bytes: [253, 0x81] + u16(3) + fill(3), isInput: true),
    Message(bytes: [253, 0x01, 3, 0] + fill(3), isInput: true),
    Message(bytes: [255, 0] + u16(1) + u32(0x61) + u32(30), isInput: true),
    Message(bytes: [255, 1] + u16(0), isInput: true),
    Message(bytes: [255, 1] + u16(2) + [3, 2] + u32(44100), isInput: true),
  ]

  static func filter(_ chunks: [[UInt8]], _ stream: inout RFBClientStream) -> [UInt8]? {
    var out: [UInt8] = []
    for chunk in chunks {
      var chunk = chunk
      let result = chunk.withUnsafeMutableBytes { stream.filter($0) }
      guard case .keep(let count) = result else { return nil }
      out += chunk[..<count]
    }
    return out
  }

  @Test("every message is followed to its end and no further, at any cut")
  func boundaries() {
    for message in Self.messages {
      for chunks in allCuts(message.bytes) {
        var stream = RFBClientStream(viewOnly: false)
        ([1] as [UInt8]).withUnsafeBytes { stream.track($0) }
        #expect(stream.isAtBoundary)
        for (i, chunk) in chunks.enumerated() {
          chunk.withUnsafeBytes { stream.track($0) }
          #expect(stream.isAtBoundary == (i == chunks.count - 1), "\(message.bytes)")
        }
        #expect(stream.isTracking)
      }
    }
  }

  @Test("before ClientInit nothing may be put in")
  func clientInit() {
    var stream = RFBClientStream(viewOnly: false)
    #expect(!stream.isAtBoundary)
    ([1] as [UInt8]).withUnsafeBytes { stream.track($0) }
    #expect(stream.isAtBoundary)
    #expect(RFBClientStream(viewOnly: true, startsAtClientInit: false).isAtBoundary)
  }

  @Test("the keep-alive is itself a message that view-only lets through")
  func keepAlive() {
    var stream = RFBClientStream(viewOnly: true, startsAtClientInit: false)
    #expect(Self.filter([RFBClientStream.keepAlive], &stream) == RFBClientStream.keepAlive)
    #expect(stream.isAtBoundary)
  }

  @Test("view-only drops every message that acts and keeps the others, at any cut")
  func viewOnly() {
    let all = [1] + Self.messages.flatMap(\.bytes)
    let kept = [1] + Self.messages.filter { !$0.isInput }.flatMap(\.bytes)
    for chunks in allCuts(all) {
      var stream = RFBClientStream(viewOnly: true)
      #expect(Self.filter(chunks, &stream) == kept)
      #expect(stream.isAtBoundary)
    }
  }

  @Test("random mixtures at random cuts keep the same bytes")
  func randomMixtures() {
    var random = Random(seed: 9)
    for _ in 0..<300 {
      let chosen = (0..<30).compactMap { _ in Self.messages.randomElement(using: &random) }
      let all = chosen.flatMap(\.bytes)
      var viewOnly = RFBClientStream(viewOnly: true, startsAtClientInit: false)
      let cuts = randomCuts(all, &random, upTo: 50)
      #expect(Self.filter(cuts, &viewOnly) == chosen.filter { !$0.isInput }.flatMap(\.bytes))
      var tracking = RFBClientStream(viewOnly: false, startsAtClientInit: false)
      #expect(Self.filter(cuts, &tracking) == all)
      #expect(tracking.isAtBoundary)
    }
  }

  @Test(
    "a pointer message has a seventh byte only if the viewer announced it, and only with the marker"
  )
  func extendedButtons() {
    let announced = [2, 0] + Self.u16(2) + Self.u32(-239) + Self.u32(-316)
    let long: [UInt8] = [5, 0x80, 0, 1, 0, 1, 3]
    let short: [UInt8] = [5, 0x01, 0, 1, 0, 1]
    for chunks in allCuts(announced + long + short + long + Self.u16(0x0301) + Self.fill(8)) {
      var stream = RFBClientStream(viewOnly: true, startsAtClientInit: false)
      #expect(Self.filter(chunks, &stream) == announced + Self.u16(0x0301) + Self.fill(8))
      #expect(stream.isAtBoundary)
    }
    var stream = RFBClientStream(viewOnly: true, startsAtClientInit: false)
    #expect(Self.filter([Array(long.dropLast())], &stream) == [])
    #expect(stream.isAtBoundary)
  }

  @Test("an unknown message ends tracking for good, and a view-only session")
  func unknown() {
    for bytes: [UInt8] in [[7], [252, 0], [255, 2], [255, 1, 0, 3]] {
      var tracking = RFBClientStream(viewOnly: false, startsAtClientInit: false)
      #expect(
        Self.filter([bytes, RFBClientStream.keepAlive], &tracking) == bytes
          + RFBClientStream.keepAlive)
      #expect(!tracking.isTracking && !tracking.isAtBoundary)
      var viewOnly = RFBClientStream(viewOnly: true, startsAtClientInit: false)
      #expect(Self.filter([bytes], &viewOnly) == nil)
      #expect(Self.filter([RFBClientStream.keepAlive], &viewOnly) == nil)
    }
  }

  @Test("keys, pointer and clipboard are a person; update requests are not")
  func input() {
    var stream = RFBClientStream(viewOnly: true, startsAtClientInit: false)
    _ = Self.filter([RFBClientStream.keepAlive], &stream)
    #expect(stream.takeSawInput() == false)
    _ = Self.filter([[4, 1, 0, 0, 0, 0, 0, 65]], &stream)
    #expect(stream.takeSawInput() == true)
    #expect(stream.takeSawInput() == false)
  }

  @Test("garbage never traps, and what view-only lets through is never input")
  func fuzz() {
    var random = Random(seed: 10)
    let types: [UInt8] = [0, 2, 3, 4, 5, 6, 150, 248, 250, 251, 253, 255]
    for _ in 0..<3000 {
      var bytes = random.bytes(Int.random(in: 1...80, using: &random))
      bytes[0] = types.randomElement(using: &random) ?? 0
      let cuts = randomCuts(bytes, &random, upTo: 9)
      var whole = RFBClientStream(viewOnly: true, startsAtClientInit: false)
      var cut = whole
      let a = Self.filter([bytes], &whole)
      #expect(a == Self.filter(cuts, &cut))
      guard let a else { continue }
      #expect(whole.isAtBoundary == cut.isAtBoundary)
      var again = RFBClientStream(viewOnly: true, startsAtClientInit: false)
      #expect(Self.filter([a], &again) == a)
      #expect(again.takeSawInput() == false)
    }
  }
}
