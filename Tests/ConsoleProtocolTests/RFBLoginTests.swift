import Testing

@testable import ConsoleProtocol

@Suite struct RFBLoginTests {
  /// What a login did: all bytes sent (the challenge answered with its reverse), and how it ended.
  static func run(
    _ chunks: [[UInt8]], password: Bool = true
  ) -> (sent: [UInt8], end: RFBLogin.Event?, rest: [UInt8], machine: RFBLogin) {
    var login = RFBLogin(hasPassword: password)
    var sent: [UInt8] = []
    var end: RFBLogin.Event?
    var rest: [UInt8] = []
    for chunk in chunks {
      chunk.withUnsafeBytes { buffer in
        var position = 0
        for _ in 0..<20 where end == nil {
          switch login.next(buffer, &position) {
          case .needMore: return
          case .send(let bytes): sent += bytes
          case .challenge(let bytes): sent += login.answer(bytes.reversed())
          case let final: end = final
          }
        }
        rest.append(contentsOf: buffer[position...])
      }
    }
    return (sent, end, rest, login)
  }

  static let challenge = hex("269e406f423acd150043de0e4bbd3917")
  static let v38 = Array("RFB 003.008\n".utf8)

  @Test("the recorded login of a VM's screen is followed at any cut")
  func recordedQEMU() {
    let server = Self.v38 + hex("0102") + Self.challenge + hex("00000000")
    for chunks in allCuts(server) {
      let run = Self.run(chunks)
      #expect(run.end == .authenticated)
      #expect(run.sent == Self.v38 + [2] + Self.challenge.reversed())
    }
  }

  @Test("the recorded login of a container's screen (vncterm) is followed, and ServerInit stays")
  func recordedVncterm() {
    let serverInit = hex(
      "040003000808000000070007000300030600000000000014564e4320436f6d6d616e64205465726d696e616c")
    let server =
      Self.v38 + hex("0102") + hex("5fcc66291ccd11f4fde39c55b33c7efc") + hex("00000000")
      + serverInit
    let run = Self.run([server])
    #expect(run.end == .authenticated)
    #expect(run.rest == serverInit)
  }

  @Test("3.3: the server decides", arguments: ["RFB 003.003\n", "RFB 003.006\n", "RFB 003.005\n"])
  func v33(_ banner: String) {
    let none = Array(banner.utf8) + [0, 0, 0, 1]
    let vnc = Array(banner.utf8) + [0, 0, 0, 2] + Self.challenge
    let answer = Array("RFB 003.003\n".utf8)
    for chunks in allCuts(none) {
      #expect(Self.run(chunks).end == .authenticated)
      #expect(Self.run(chunks).sent == answer)
    }
    #expect(Self.run([vnc + [0, 0, 0, 0]]).end == .authenticated)
    #expect(Self.run([vnc + [0, 0, 0, 0]]).sent == answer + Self.challenge.reversed())
    #expect(Self.run([vnc + [0, 0, 0, 1]]).end == .failed(reason: ""))
    #expect(Self.run([vnc + [0, 0, 0, 2]]).end == .failed(reason: "too many attempts"))
    let refusal = Array(banner.utf8) + [0, 0, 0, 0] + [0, 0, 0, 3] + Array("why".utf8)
    for chunks in allCuts(refusal) {
      #expect(Self.run(chunks).end == .refused(reason: "why"))
    }
  }

  @Test("3.7: no result after None, one without a reason after a password")
  func v37() {
    let banner = Array("RFB 003.007\n".utf8)
    for chunks in allCuts(banner + [1, 1]) {
      var run = Self.run(chunks)
      // The end is there without another byte of the server.
      if run.end == nil {
        var position = 0
        run.end = run.machine.next(UnsafeRawBufferPointer(start: nil, count: 0), &position)
      }
      #expect(run.end == .authenticated)
      #expect(run.sent == banner + [1])
    }
    #expect(
      Self.run([banner + [2, 1, 2] + Self.challenge + [0, 0, 0, 1]]).end == .failed(reason: ""))
  }

  @Test(
    "3.8 and what calls itself newer",
    arguments: [
      "RFB 003.008\n", "RFB 003.889\n", "RFB 004.000\n", "RFB 004.001\n", "RFB 005.000\n",
    ])
  func v38(_ banner: String) {
    let start = Array(banner.utf8)
    let none = Self.run([start + [1, 1] + [0, 0, 0, 0]])
    #expect(none.end == .authenticated)
    #expect(none.sent == Self.v38 + [1])
    let failed =
      start + [1, 2] + Self.challenge + [0, 0, 0, 1] + [0, 0, 0, 5] + Array("wrong".utf8)
    for chunks in allCuts(failed) { #expect(Self.run(chunks).end == .failed(reason: "wrong")) }
    let refused = start + [0] + [0, 0, 0, 4] + Array("busy".utf8)
    for chunks in allCuts(refused) { #expect(Self.run(chunks).end == .refused(reason: "busy")) }
  }

  @Test("a password prefers type 2, without one type 1 is taken")
  func preference() {
    #expect(Self.run([Self.v38 + [3, 1, 2, 19]]).sent == Self.v38 + [2])
    #expect(Self.run([Self.v38 + [3, 19, 2, 1]], password: false).sent == Self.v38 + [1])
  }

  @Test("nothing in common, or a strange result, is a violation")
  func nothingInCommon() {
    #expect(
      Self.run([Self.v38 + [2, 16, 19]]).end
        == .violation("the server offers security types 16, 19 only"))
    #expect(
      Self.run([Self.v38 + [1, 2]], password: false).end
        == .violation("the server offers security types 2 only"))
    #expect(
      Self.run([Array("RFB 003.003\n".utf8) + [0, 0, 0, 19]]).end
        == .violation("the server demands security type 19"))
    #expect(
      Self.run([Self.v38 + [1, 1] + [1, 0, 0, 0]]).end == .violation("security result 16777216"))
  }

  @Test(
    "what is not RFB is known by its first wrong byte",
    arguments: [
      ("SSH-2.0", 1), ("RFC", 3), ("RFB\n", 4), ("RFB 00x", 7), ("RFB 003-008\n", 8),
      ("RFB 003.008 ", 12), ("RFB 002.008\n", 12), ("RFB 003.002\n", 12),
    ])
  func notRFB(_ text: String, _ count: Int) {
    for chunks in allCuts(Array(text.utf8)) {
      #expect(Self.run(chunks).end == .notRFB(Array(text.utf8.prefix(count))))
    }
  }

  @Test("a reason of four gigabytes is cut at 4 KiB, one without an end is told as far as it came")
  func longReason() {
    let head = Self.v38 + [0] + [0xff, 0xff, 0xff, 0xff]
    #expect(
      Self.run([head + [UInt8](repeating: 65, count: 5000)]).end
        == .refused(reason: String(repeating: "A", count: 4096)))
    var run = Self.run([head + [66, 67]])
    #expect(run.end == nil)
    #expect(run.machine.closed() == .refused(reason: "BC"))
    run = Self.run([Self.v38 + [1, 1] + [0, 0, 0, 1]])
    #expect(run.machine.closed() == .failed(reason: ""))
    run = Self.run([Self.v38])
    #expect(run.machine.closed() == nil)
  }

  @Test("whether the server has spoken is known")
  func heard() {
    #expect(!Self.run([]).machine.hasHeardServer)
    #expect(Self.run([[82]]).machine.hasHeardServer)
    #expect(Self.run([Self.v38]).machine.hasHeardServer)
  }

  @Test("a DES key is the first eight bytes with their bits turned round")
  func key() {
    #expect(
      RFBLogin.vncKey(password: [0x01, 0x80, 0x0f, 0xaa]) == [0x80, 0x01, 0xf0, 0x55, 0, 0, 0, 0])
    #expect(
      RFBLogin.vncKey(password: Array("PVEVNC:6B01E1B5".utf8))
        == RFBLogin.vncKey(password: Array("PVEVNC:6".utf8)))
    #expect(RFBLogin.vncKey(password: []) == [UInt8](repeating: 0, count: 8))
  }

  @Test("random servers never trap, and end the same however they are cut")
  func fuzz() {
    var random = Random(seed: 5)
    for _ in 0..<2000 {
      var bytes =
        [Self.v38, Array("RFB 003.003\n".utf8), Array("RFB 003.007\n".utf8)]
        .randomElement(using: &random) ?? []
      bytes += (0..<40).map { _ in UInt8.random(in: 0...3, using: &random) }
      if Bool.random(using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(
          in: 0...255, using: &random)
      }
      let whole = Self.run([bytes])
      let cut = Self.run(bytes.map { [$0] })
      #expect(whole.sent == cut.sent)
      #expect(whole.end == cut.end)
    }
  }
}
