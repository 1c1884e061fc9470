import Testing

@testable import ConsoleProtocol

@Suite struct RFBViewerHandshakeTests {
  /// What the viewer got, how it ended, and the bytes for PVE.
  static func run(_ chunks: [[UInt8]]) -> (
    sent: [UInt8], end: RFBViewerHandshake.Event?, rest: [UInt8]
  ) {
    var handshake = RFBViewerHandshake()
    var sent = RFBViewerHandshake.greeting
    var end: RFBViewerHandshake.Event?
    var rest: [UInt8] = []
    for chunk in chunks {
      var chunk = chunk
      chunk.withUnsafeMutableBytes { buffer in
        var position = 0
        while end == nil {
          switch handshake.next(buffer, &position) {
          case .needMore: return
          case .send(let bytes): sent += bytes
          case let final: end = final
          }
        }
        rest.append(contentsOf: buffer[position...])
      }
    }
    return (sent, end, rest)
  }

  static let greeting = Array("RFB 003.008\n".utf8)

  @Test(
    "a viewer of any version gets in without a password, and shares the screen",
    arguments: [
      ("RFB 003.003\n", [] as [UInt8], [0, 0, 0, 1] as [UInt8]),
      ("RFB 003.005\n", [], [0, 0, 0, 1]),
      ("RFB 003.007\n", [1], [1, 1]), ("RFB 003.008\n", [1], [1, 1, 0, 0, 0, 0]),
      ("RFB 003.889\n", [1], [1, 1, 0, 0, 0, 0]),
    ])
  func versions(_ banner: String, _ choice: [UInt8], _ answer: [UInt8]) {
    for shared: UInt8 in [0, 1, 255] {
      let more: [UInt8] = [3, 1, 0, 0, 0, 0, 0, 1, 0, 1]
      for chunks in allCuts(Array(banner.utf8) + choice + [shared] + more) {
        let run = Self.run(chunks)
        #expect(run.sent == Self.greeting + answer)
        #expect(run.end == .passThrough)
        #expect(run.rest == [1] + more)
      }
    }
  }

  @Test(
    "another security type, another protocol or another age is a violation",
    arguments: [
      Array("RFB 003.008\n".utf8) + [2], Array("RFB 003.007\n".utf8) + [0],
      Array("GET / HTTP/1.1".utf8), Array("RFB 002.000\n".utf8), [0],
    ])
  func violations(_ bytes: [UInt8]) {
    for chunks in allCuts(bytes) {
      guard case .violation? = Self.run(chunks).end else {
        Issue.record("no violation")
        continue
      }
    }
  }

  @Test("random viewers never trap, and end the same however they are cut")
  func fuzz() {
    var random = Random(seed: 6)
    for _ in 0..<1000 {
      let bytes = Self.greeting.prefix(Int.random(in: 0...12, using: &random)) + random.bytes(5)
      let whole = Self.run([Array(bytes)])
      let cut = Self.run(bytes.map { [$0] })
      #expect(whole.sent == cut.sent && whole.end == cut.end && whole.rest == cut.rest)
    }
  }
}
