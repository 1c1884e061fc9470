import Testing

@testable import ConsoleProtocol

@Suite("Output skipped after an interrupt")
struct InterruptSkipTests {
  private func isInterrupt(_ text: String) -> Bool {
    Array(text.utf8).withUnsafeBytes { InterruptSkip.isInterrupt($0) }
  }
  private func take(_ skip: inout InterruptSkip, _ text: String, at now: Duration) {
    Array(text.utf8).withUnsafeBytes { skip.take($0, at: now) }
  }

  @Test("typed Ctrl-C, Ctrl-Z and Ctrl-\\ are interrupts; text and pastes are none")
  func keys() {
    #expect(isInterrupt("\u{03}") && isInterrupt("\u{1a}") && isInterrupt("\u{1c}"))
    #expect(isInterrupt("q\u{03}"))
    #expect(!isInterrupt("c") && !isInterrupt("") && !isInterrupt("ăć"))
    #expect(!isInterrupt("a long paste with \u{03} in it"))
  }

  @Test("a flood is dropped but for its last lines, and how much it was is said")
  func flood() {
    var skip = InterruptSkip(at: .zero)
    var now = Duration.zero
    for _ in 0..<1000 {
      now += .milliseconds(1)
      take(&skip, String(repeating: "y\r\n", count: 5000), at: now)
      #expect(!skip.isOver(at: now + .milliseconds(79)) || now > .seconds(2))
    }
    take(&skip, "^C\r\nroot@pve1:~# ", at: now)
    #expect(skip.isOver(at: now + InterruptSkip.quiet))
    let shown = String(decoding: skip.shown(), as: UTF8.self)
    #expect(shown.hasSuffix("^C\r\nroot@pve1:~# "))
    #expect(shown.contains("MiB of output skipped"))
    #expect(shown.utf8.count < InterruptSkip.keptTail + 100)
    #expect(shown.hasPrefix("\u{18}\r\n"))
  }

  @Test("little output is shown whole, without a word")
  func little() {
    var skip = InterruptSkip(at: .zero)
    take(&skip, "^C\r\n$ ", at: .milliseconds(3))
    #expect(String(decoding: skip.shown(), as: UTF8.self) == "^C\r\n$ ")
    #expect(InterruptSkip(at: .zero).shown().isEmpty)
  }

  @Test("a program that ignores the interrupt is shown again after three seconds")
  func ignored() {
    var skip = InterruptSkip(at: .seconds(10))
    var now = Duration.seconds(10)
    while now < .milliseconds(12_990) {
      now += .milliseconds(10)
      take(&skip, "still here\n", at: now)
      #expect(!skip.isOver(at: now))
    }
    #expect(skip.isOver(at: .seconds(13)))
  }

  @Test("small pieces around the bound keep the last 4 KiB and count every byte")
  func pieces() {
    var skip = InterruptSkip(at: .zero)
    for i in 0..<3000 { take(&skip, "line \(i)\n", at: .zero) }
    let shown = String(decoding: skip.shown(), as: UTF8.self)
    #expect(shown.hasSuffix("line 2999\n"))
    #expect(shown.contains("KiB of output skipped"))
    #expect(!shown.contains("line 0\n"))
  }
}
