import Testing

@testable import PVESimulator

@Suite("Screens")
struct ScreenTests {
  private func shake(_ sent: [UInt8], password: String = "secret12") -> (
    out: [UInt8], outcome: RFBHandshake.Outcome
  ) {
    var handshake = RFBHandshake(challenge: Array(0..<16))
    var queue = ByteQueue()
    var out: [UInt8] = []
    var outcome = RFBHandshake.Outcome.pending
    for byte in sent where outcome == .pending {
      queue.append([byte])
      outcome = handshake.advance(&queue, into: &out) { Array(password.utf8) }
    }
    return (out, outcome)
  }

  @Test(
    "the DES of RFB: a recorded node's challenge and answer shape; bits of the key are reversed")
  func response() {
    // The classic vector: password "password", challenge of zeroes.
    let zeroes = [UInt8](repeating: 0, count: 16)
    let a = vncResponse(challenge: zeroes, password: Array("password".utf8))
    #expect(a.count == 16)
    #expect(Array(a.prefix(8)) == Array(a.suffix(8)))
    #expect(a == vncResponse(challenge: zeroes, password: Array("password-and-more".utf8)))
    #expect(a != vncResponse(challenge: zeroes, password: Array("passwore".utf8)))
    // DES of eight zero bytes under the key of eight zero bytes is 8CA64DE9C1B123A7.
    #expect(
      vncResponse(challenge: zeroes, password: []).prefix(8).elementsEqual([
        0x8C, 0xA6, 0x4D, 0xE9, 0xC1, 0xB1, 0x23, 0xA7,
      ]))
  }

  @Test("versions 3.3, 3.7 and 3.8 log in")
  func versions() {
    let challenge = Array(UInt8(0)..<16)
    let answer = vncResponse(challenge: challenge, password: Array("secret12".utf8))
    for (version, types) in [("003", false), ("007", true), ("008", true)] {
      let sent = Array("RFB 003.\(version)\n".utf8) + (types ? [2] : []) + answer
      let (out, outcome) = shake(sent)
      #expect(outcome == .accepted)
      #expect(out == (types ? [1, 2] : [0, 0, 0, 2]) + challenge + [0, 0, 0, 0])
    }
  }

  @Test("a wrong password is refused, and 3.8 is told why")
  func wrongPassword() {
    let sent = Array("RFB 003.008\n".utf8) + [2] + [UInt8](repeating: 9, count: 16)
    let (out, outcome) = shake(sent)
    #expect(outcome == .refused)
    #expect(
      Array(out.suffix(29)) == [0, 0, 0, 1, 0, 0, 0, 21] + Array("Authentication failed".utf8))
    let old = shake(Array("RFB 003.007\n".utf8) + [2] + [UInt8](repeating: 9, count: 16))
    #expect(Array(old.out.suffix(4)) == [0, 0, 0, 1])
  }

  @Test("other versions and security types are refused")
  func refused() {
    #expect(shake(Array("RFB 004.000\n".utf8)).outcome == .refused)
    #expect(shake(Array("GET / HTTP/1".utf8)).outcome == .refused)
    #expect(shake(Array("RFB 003.008\n".utf8) + [1]).outcome == .refused)
  }

  @Test("hextile says the same as the pixels")
  func hextile() throws {
    var frame = Framebuffer(width: 53, height: 35, color: 0x102030)
    frame.draw(65, x: 3, y: 2, color: 0xFFFFFF, background: 0)
    frame.fill(Area(x: 20, y: 20, width: 30, height: 9), 0xFF8800)
    _ = frame.line(from: (1, 30), to: (50, 3), 0x00FF00)
    let area = Area(x: 1, y: 1, width: 51, height: 33)
    var bytes: [UInt8] = []
    Hextile.encode(frame, area, .qemu, into: &bytes)
    var queue = ByteQueue()
    queue.append(bytes)
    func pixel() -> UInt32 {
      let b = queue.removeFirst(4)
      return UInt32(b[0]) | UInt32(b[1]) << 8 | UInt32(b[2]) << 16
    }
    var copy = Framebuffer(width: 53, height: 35)
    for top in stride(from: area.y, to: area.y + area.height, by: 16) {
      for left in stride(from: area.x, to: area.x + area.width, by: 16) {
        let width = min(16, area.x + area.width - left)
        let height = min(16, area.y + area.height - top)
        let flags = try #require(queue.removeFirst(1).first)
        if flags & 1 != 0 {
          for y in 0..<height { for x in 0..<width { copy.set(x: left + x, y: top + y, pixel()) } }
          continue
        }
        copy.fill(Area(x: left, y: top, width: width, height: height), pixel())
        guard flags & 8 != 0 else { continue }
        let ink = pixel()
        let count = try #require(queue.removeFirst(1).first)
        for _ in 0..<count {
          let b = queue.removeFirst(2)
          copy.fill(
            Area(
              x: left + Int(b[0] >> 4), y: top + Int(b[0] & 15), width: Int(b[1] >> 4) + 1,
              height: Int(b[1] & 15) + 1), ink)
        }
      }
    }
    #expect(queue.isEmpty)
    for y in area.y..<area.y + area.height {
      for x in area.x..<area.x + area.width {
        #expect(copy.pixel(x: x, y: y) == frame.pixel(x: x, y: y))
      }
    }
  }

  @Test("pixels in the formats that viewers ask for")
  func formats() throws {
    func bytes(_ format: PixelFormat, _ color: UInt32) -> [UInt8] {
      var out: [UInt8] = []
      format.write(color, into: &out)
      return out
    }
    #expect(bytes(.qemu, 0x112233) == [0x33, 0x22, 0x11, 0])
    #expect(bytes(.vncterm, 0xAA0000) == [1])
    let high = try #require(
      PixelFormat(bytes: [16, 16, 1, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0, 0, 0, 0]))
    #expect(bytes(high, 0xFFFFFF) == [0xFF, 0xFF])
    #expect(bytes(high, 0xFF0000) == [0xF8, 0x00])
    #expect(PixelFormat(bytes: [24, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0]) == nil)
    #expect(PixelFormat(bytes: PixelFormat.qemu.bytes) == .qemu)
  }

  @Test("a text screen wraps, scrolls, moves and erases")
  func text() {
    var screen = TextScreen(width: 12 * 10, height: 18 * 3)
    #expect(screen.columns == 10)
    #expect(screen.rows == 3)
    screen.write("0123456789ab\r\ncd\u{8}X")
    #expect(screen.lines == ["0123456789", "ab", "cX"])
    screen.write("\r\nnew")
    #expect(screen.lines == ["ab", "cX", "new"])
    screen.write("\u{1B}[1;2HZ\u{1B}[K\u{1B}[3;1H\u{1B}[2K\u{1B}[31mr\u{1B}[0m\u{1B}]0;title\u{7}s")
    #expect(screen.lines == ["aZ", "cX", "rs"])
    screen.write("\u{1B}[2J")
    #expect(screen.lines == ["", "", ""])
  }

  @Test("hostile terminal output stays inside the screen")
  func hostile() {
    var screen = TextScreen(width: 100, height: 60)
    var state: UInt64 = 42
    for _ in 0..<200 {
      var bytes: [UInt8] = []
      for _ in 0..<200 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let byte = UInt8(truncatingIfNeeded: state >> 33)
        bytes += byte % 5 == 0 ? [27, 91] : byte % 7 == 0 ? Array("99999;99999H".utf8) : [byte]
      }
      screen.write(bytes)
      _ = screen.takeDamage()
    }
    #expect(screen.lines.count == screen.rows)
  }

  @Test("keys become what a terminal sends")
  func keys() {
    #expect(ConsoleScreen.bytes(of: 0x61, control: false) == [0x61])
    #expect(ConsoleScreen.bytes(of: 0x63, control: true) == [3])
    #expect(ConsoleScreen.bytes(of: 0xFF0D, control: false) == [13])
    #expect(ConsoleScreen.bytes(of: 0xE9, control: false) == Array("é".utf8))
    #expect(ConsoleScreen.bytes(of: 0x0100_20AC, control: false) == Array("€".utf8))
    #expect(ConsoleScreen.bytes(of: 0xFFE1, control: false) == nil)
  }
}
