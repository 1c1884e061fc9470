import Testing

@testable import ConsoleProtocol

@Suite struct TerminalInputTests {
  static func opened(maximumFrame: Int = 32768, size: TerminalSize? = nil) -> TerminalInput {
    var input = TerminalInput(maximumFrame: maximumFrame, size: size)
    input.open(at: .zero)
    return input
  }

  static func enqueue(_ text: String, _ input: inout TerminalInput) {
    Array(text.utf8).withUnsafeBytes { input.enqueue($0) }
  }

  /// The frame that leaves now, as text; nil when none does.
  static func frame(_ input: inout TerminalInput, _ now: Duration) -> String? {
    guard case .frame(let range) = input.next(at: now) else { return nil }
    return input.withBytes(range) { String(decoding: $0, as: UTF8.self) }
  }

  @Test("the recorded messages come out byte for byte")
  func recorded() throws {
    var input = Self.opened()
    input.resize(try #require(TerminalSize(columns: 100, rows: 30)), at: .milliseconds(1451))
    #expect(
      Self.frame(&input, .milliseconds(1501)).map { Array($0.utf8) } == hex("313a3130303a33303a"))
    Self.enqueue("echo hi; stty size\n", &input)
    #expect(
      Self.frame(&input, .seconds(2)).map { Array($0.utf8) }
        == hex("303a31393a6563686f2068693b20737474792073697a650a"))
    #expect(Self.frame(&input, .seconds(32)).map { Array($0.utf8) } == hex("32"))
  }

  @Test("LEN counts bytes, not characters")
  func multibyte() {
    var input = Self.opened()
    Self.enqueue("é€", &input)
    #expect(Self.frame(&input, .zero) == "0:5:é€")
  }

  @Test("nothing leaves before OK, not even a size")
  func notOpen() throws {
    var input = TerminalInput(maximumFrame: 100, size: TerminalSize(columns: 120, rows: 40))
    Self.enqueue("x", &input)
    #expect(input.next(at: .seconds(100)) == .idle)
    input.open(at: .seconds(100))
    #expect(Self.frame(&input, .seconds(100)) == "1:120:40:")
    #expect(input.next(at: .seconds(100)) == .wait(until: .seconds(100) + TerminalInput.pause))
    #expect(Self.frame(&input, .seconds(101)) == "0:1:x")
    #expect(input.pendingBytes == 0)
  }

  @Test(
    "what is typed after a pause leaves at once, what is typed in a burst leaves as one message")
  func coalesced() {
    var input = Self.opened()
    Self.enqueue("a", &input)
    #expect(Self.frame(&input, .zero) == "0:1:a")
    for c in ["b", "c", "d"] { Self.enqueue(c, &input) }
    #expect(input.next(at: .milliseconds(2)) == .wait(until: TerminalInput.pause))
    Self.enqueue("e", &input)
    #expect(Self.frame(&input, TerminalInput.pause) == "0:4:bcde")
    Self.enqueue("f", &input)
    #expect(Self.frame(&input, .seconds(1)) == "0:1:f")
  }

  @Test("a large paste is one message over several frames, and the next header waits for its size")
  func paste() {
    var input = Self.opened()
    let paste = Random(seed: 4).prefixBytes(100_000)
    paste.withUnsafeBytes { input.enqueue($0) }
    var frames: [[UInt8]] = []
    while case .frame(let range) = input.next(at: .zero) {
      frames.append(input.withBytes(range) { Array($0) })
      if frames.count == 2 { Self.enqueue("later", &input) }
    }
    #expect(frames.map(\.count) == [32768, 32768, 32768, 1705])
    #expect(frames.flatMap { $0 } == Array("0:100000:".utf8) + paste)
    let allowed = TerminalInput.pause + .nanoseconds(30_517) * 97
    #expect(input.next(at: .zero) == .wait(until: allowed))
    #expect(Self.frame(&input, allowed) == "0:5:later")
  }

  @Test("behind a slower reader the next header waits for longer")
  func slowReader() {
    var input = TerminalInput(maximumFrame: 1 << 20, rate: 1 << 20)
    input.open(at: .zero)
    [UInt8](repeating: 1, count: 512 << 10).withUnsafeBytes { input.enqueue($0) }
    #expect(Self.frame(&input, .zero) != nil)
    Self.enqueue("x", &input)
    #expect(Self.frame(&input, .milliseconds(500)) == nil)
    #expect(Self.frame(&input, .milliseconds(510)) == "0:1:x")
  }

  @Test("one message holds at most a mebibyte")
  func cap() {
    var input = Self.opened()
    let all = [UInt8](repeating: 7, count: (1 << 20) + 10)
    all.withUnsafeBytes { input.enqueue($0) }
    var total = 0
    while case .frame(let range) = input.next(at: .zero) { total += range.count }
    #expect(total == (1 << 20) + "0:1048576:".utf8.count)
    #expect(input.pendingBytes == 10)
    #expect(Self.frame(&input, .seconds(1))?.hasPrefix("0:10:") == true)
  }

  @Test("a size is sent when it has rested, the last one wins, and never within a message")
  func resize() throws {
    var input = Self.opened(maximumFrame: 64)
    let sizes = try (0..<4).map { try #require(TerminalSize(columns: 80 + $0, rows: 24)) }
    Self.enqueue(String(repeating: "x", count: 100), &input)
    #expect(Self.frame(&input, .zero)?.hasPrefix("0:100:x") == true)
    for (i, size) in sizes.enumerated() { input.resize(size, at: .milliseconds(i)) }
    #expect(Self.frame(&input, .seconds(1))?.allSatisfy { $0 == "x" } == true)
    #expect(Self.frame(&input, .seconds(2)) == "1:83:24:")
    input.resize(sizes[3], at: .seconds(3))
    #expect(Self.frame(&input, .seconds(4)) == nil)
    input.resize(sizes[1], at: .seconds(5))
    #expect(input.next(at: .seconds(5)) == .wait(until: .seconds(5) + TerminalInput.resizeDelay))
  }

  @Test("a size that never rests is sent all the same after a while")
  func restlessResize() throws {
    var input = Self.opened()
    var sent: Duration?
    for i in 0..<100 where sent == nil {
      let now: Duration = .milliseconds(10 * i)
      input.resize(try #require(TerminalSize(columns: 80 + i, rows: 24)), at: now)
      if Self.frame(&input, now) != nil { sent = now }
    }
    #expect(sent == TerminalInput.longestResizeDelay)
  }

  @Test("a size that went back to the one sent is not sent again")
  func resizeBack() throws {
    var input = Self.opened()
    let a = try #require(TerminalSize(columns: 80, rows: 24))
    input.resize(a, at: .zero)
    #expect(Self.frame(&input, .milliseconds(50)) == "1:80:24:")
    input.resize(try #require(TerminalSize(columns: 90, rows: 24)), at: .seconds(1))
    input.resize(a, at: .seconds(1))
    #expect(Self.frame(&input, .seconds(2)) == nil)
  }

  @Test("silence is broken every thirty seconds")
  func keepAlive() {
    var input = Self.opened()
    #expect(input.next(at: .seconds(1)) == .wait(until: .seconds(30)))
    #expect(Self.frame(&input, .seconds(30)) == "2")
    #expect(input.next(at: .seconds(30)) == .wait(until: .seconds(60)))
    Self.enqueue("x", &input)
    #expect(Self.frame(&input, .seconds(40)) == "0:1:x")
    #expect(input.next(at: .seconds(60)) == .wait(until: .seconds(70)))
  }

  @Test(
    "termproxy gets every byte and every header, at random bursts, pastes and sizes",
    arguments: 0..<12)
  func againstTheParser(_ seed: Int) throws {
    var random = Random(seed: UInt64(seed))
    var input = Self.opened(maximumFrame: [64, 4096, 32768].randomElement(using: &random) ?? 64)
    var termproxy = TermproxyModel()
    var wire: [UInt8] = []
    var expected: [UInt8] = []
    var lastSize: TerminalSize?
    var now: Duration = .zero
    for step in 0..<4000 {
      now += .milliseconds(1)
      if step < 2500 {
        switch Int.random(in: 0..<100, using: &random) {
        case 0:
          let paste = random.bytes(Int.random(in: 1...200_000, using: &random))
          expected += paste
          paste.withUnsafeBytes { input.enqueue($0) }
        case 1..<40:
          let key = random.bytes(Int.random(in: 1...3, using: &random))
          expected += key
          key.withUnsafeBytes { input.enqueue($0) }
        case 40..<50:
          let size = try #require(
            TerminalSize(
              columns: Int.random(in: 16...4096, using: &random),
              rows: Int.random(in: 2...2160, using: &random)))
          lastSize = size
          input.resize(size, at: now)
        default: break
        }
      }
      // The socket takes what it is given; termproxy keeps up with 64 MiB/s.
      while case .frame(let range) = input.next(at: now) {
        wire.append(contentsOf: input.withBytes(range) { Array($0) })
      }
      var budget = 64 << 10
      var at = 0
      while at < wire.count, budget > 0 {
        let count = termproxy.read(wire[at..<min(wire.count, at + budget)])
        at += count
        budget -= count
      }
      wire.removeFirst(at)
    }
    #expect(input.pendingBytes == 0 && wire.isEmpty)
    #expect(!termproxy.isDamaged)
    #expect(termproxy.typed == expected)
    #expect(termproxy.sizes.last == lastSize.map { [$0.columns, $0.rows] })
  }

  @Test("the parser model does lose a header at its buffer's edge, so the test above can fail")
  func modelLoses() {
    var termproxy = TermproxyModel()
    let burst = Array(String(repeating: "0:2:ab", count: 3000).utf8)
    var at = 0
    while at < burst.count { at += termproxy.read(burst[at...]) }
    #expect(termproxy.isDamaged)
    #expect(termproxy.typed.count < 6000)
  }

  @Test("a long stream costs the same per byte from first to last, and leaves nothing behind")
  func longStream() {
    var input = Self.opened()
    let chunk = [UInt8](repeating: 65, count: 16 << 10)
    var now: Duration = .zero
    var sent = 0
    for _ in 0..<2048 {  // 32 MiB, always 1 to 2 MiB waiting
      chunk.withUnsafeBytes { input.enqueue($0) }
      while input.pendingBytes > 1 << 20 {
        switch input.next(at: now) {
        case .frame(let range): sent += range.count
        case .wait(let until): now = until
        case .idle: Issue.record("idle")
        }
      }
    }
    while input.pendingBytes > 0 {
      switch input.next(at: now) {
      case .frame(let range): sent += range.count
      case .wait(let until): now = until
      case .idle: Issue.record("idle")
      }
    }
    #expect(sent > 2048 * chunk.count && sent < 2048 * chunk.count + 40 * 12)
  }
}
