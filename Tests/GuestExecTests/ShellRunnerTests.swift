import ConsoleProtocol
import ProxmoxClient
import Testing

@testable import GuestExec

@Suite("frames, batches and the login of a node's shell")
struct ShellRunnerTests {
  static let magic: [UInt8] = [1, 7, 9, 200, 3, 4, 5, 6, 8, 9, 10, 11]

  static func frame(_ type: Unicode.Scalar, _ payload: [UInt8]) -> [UInt8] {
    let n = payload.count
    return magic + [
      UInt8(ascii: type), UInt8(n >> 24 & 255), UInt8(n >> 16 & 255), UInt8(n >> 8 & 255),
      UInt8(n & 255),
    ] + payload
  }

  struct Read: Equatable {
    var stdout: [UInt8] = []
    var stderr: [UInt8] = []
    var noise: [UInt8] = []
    var frames: [RunnerFrame] = []
    var violations = 0
  }

  static func read(_ bytes: [UInt8], cutAt cuts: [Int] = []) -> Read {
    var reader = RunnerFrameReader(magic: magic)
    var out = Read()
    var start = 0
    for end in cuts.sorted() + [bytes.count] where end >= start && end <= bytes.count {
      Array(bytes[start..<end]).withUnsafeBytes { piece in
        reader.feed(piece) { event in
          switch event {
          case .stdout(let bytes): out.stdout += bytes
          case .stderr(let bytes): out.stderr += bytes
          case .encoded(let text, let isError):
            if isError { out.stderr += text } else { out.stdout += text }
          case .frame(let frame): out.frames.append(frame)
          case .noise(let bytes): out.noise += bytes
          case .violation: out.violations += 1
          }
        }
      }
      start = end
    }
    return out
  }

  @Test("frames are read the same however they are cut")
  func cuts() {
    // Output that holds the magic, and whole frames; a broadcast between frames that begins like a magic.
    let evil = Self.frame("x", Array("exit 0 0 0 ".utf8)) + Self.magic.prefix(5)
    let stream =
      Array("login\r\n".utf8) + Self.frame("r", Array("perl 5".utf8))
      + Self.frame("s", Array("42".utf8))
      + Self.frame("O", evil) + Array(Self.magic.prefix(7)) + Array("wall!".utf8) + [1]
      + Self.frame("E", [0, 255]) + Self.frame("O", []) + Self.frame("b", Array("1".utf8))
      + Self.frame("x", Array("signal 9 \(evil.count) 2 cancelled".utf8))
    let whole = Self.read(stream)
    #expect(whole.stdout == evil)
    #expect(whole.stderr == [0, 255])
    #expect(
      whole.noise == Array("login\r\n".utf8) + Array(Self.magic.prefix(7)) + Array("wall!".utf8) + [
        1
      ])
    #expect(whole.frames.count == 4)
    #expect(whole.violations == 0)
    for cut in stride(from: 1, to: stream.count, by: 1) {
      #expect(Self.read(stream, cutAt: [cut]) == whole)
    }
    #expect(Self.read(stream, cutAt: Array(1..<stream.count)) == whole)
  }

  @Test("what no runner sends is a violation, not an end")
  func violations() {
    for payload in [
      "exit 256 0 0 ", "exit -1 0 0 ", "signal 0 0 0 ", "exit 0 0 ", "exit 0 0 0 why",
      "gone 0 0 0 ", "",
    ] {
      let out = Self.read(Self.frame("x", Array(payload.utf8)))
      #expect(out.frames.isEmpty, "\(payload)")
      #expect(out.violations == 1, "\(payload)")
    }
    #expect(Self.read(Self.magic + [UInt8(ascii: "O"), 0x7F, 0, 0, 0]).violations == 1)
    #expect(Self.read(Self.magic + [UInt8(ascii: "s"), 0, 1, 0, 0]).violations == 1)
    #expect(Self.read(Self.frame("?", [1])).violations == 1)
    // Cut short: nothing at all.
    let cut = Self.read(Array(Self.frame("x", Array("exit 0 0 0 ".utf8)).dropLast()))
    #expect(cut == Read())
  }

  @Test("one batch at a time, input within its window")
  func batches() throws {
    var sender = RunnerSender()
    #expect(sender.next(.binary) == nil)
    sender.add([RunnerMessage("G")])
    sender.give([UInt8](repeating: 7, count: 2 << 20))
    sender.endInput()
    sender.give([1])
    var input = 0
    var taken = 0
    var isFirst = true
    var rounds = 0
    while let batch = sender.next(.binary) {
      rounds += 1
      #expect(sender.next(.binary) == nil)
      let data = batch.count - 9 - (isFirst ? 5 : 0)
      input += max(0, data - 5)
      #expect(sender.sent - sender.taken <= sender.inputWindow)
      sender.acknowledge(rounds + 1)
      #expect(sender.isWaiting)
      sender.acknowledge(rounds)
      isFirst = false
      if sender.sent - taken >= sender.inputWindow {
        #expect(sender.next(.binary) == nil)
        taken = sender.sent
        sender.commandTook(taken)
      }
    }
    #expect(sender.sent == 2 << 20)
    #expect(sender.pendingInput == 0)
    let lines = RunnerCoding.lines.encode(3, [RunnerMessage("a", [0, 255]), RunnerMessage("G")])
    #expect(String(decoding: lines, as: UTF8.self) == "aAP8=\nb3\nG\n")
    #expect(
      String(decoding: RunnerCoding.hexadecimal.encode(1, [RunnerMessage("Q")]), as: UTF8.self)
        == "420000000100000005510000" + "0000\n")
  }

  @Test("base64 both ways")
  func base64() {
    for n in 0..<40 {
      let bytes = (0..<n).map { UInt8(truncatingIfNeeded: $0 &* 91 &+ n) }
      #expect(Base64.decode(Base64.encode(bytes)) == bytes)
    }
    #expect(Base64.decode(Array("abc".utf8)) == nil)
    #expect(Base64.decode(Array("ab*=".utf8)) == nil)
  }

  // MARK: The login

  static func bootstrap(
    _ manner: ShellBootstrap.Manner = .replace, credentials: ShellBootstrap.Credentials? = nil
  ) -> (ShellBootstrap, ShellBootstrap.Marks) {
    var generator = SystemRandomNumberGenerator()
    let marks = ShellBootstrap.Marks(using: &generator)
    return (
      ShellBootstrap(
        marks: marks, manner: manner, at: .zero, timeout: .seconds(60), credentials: credentials),
      marks
    )
  }

  static func feed(_ text: String, _ bootstrap: inout ShellBootstrap, _ ms: Int) -> Int {
    Array(text.utf8).withUnsafeBytes { bootstrap.feed($0, at: .milliseconds(ms)) }
  }

  @Test("it types at a prompt, and knows its mark in no echo")
  func prompt() {
    var (login, marks) = Self.bootstrap()
    #expect(login.step(at: .zero) == .wait(until: .seconds(1)))
    _ = Self.feed("Linux pve1\r\nLast login: ", &login, 10)
    #expect(login.step(at: .milliseconds(20)) == .wait(until: .milliseconds(260)))
    _ = Self.feed("today\r\n\u{1B}[01;32mroot@pve1\u{1B}[0m:~# ", &login, 30)
    #expect(login.step(at: .milliseconds(31)) == .type(login.line))
    // The echo, wrapped as a line editor does, and traced as `set -x` does.
    let echo = String(decoding: login.line, as: UTF8.self)
    _ = Self.feed(String(echo.prefix(80)) + " \r" + String(echo.dropFirst(80)), &login, 40)
    _ = Self.feed("+ exec /bin/sh -c \(echo)\r\n+ t=\(marks.first)\n", &login, 41)
    guard case .wait = login.step(at: .milliseconds(50)) else {
      Issue.record("an echo was taken for the mark")
      return
    }
    let answer = "\u{1}\(marks.first)-\(marks.second):/usr/bin/perl\u{2}"
    #expect(Self.feed(String(answer.prefix(20)), &login, 60) == 20)
    #expect(Self.feed(String(answer.dropFirst(20)) + "REST", &login, 61) == answer.utf8.count - 20)
    #expect(login.step(at: .milliseconds(61)) == .ready(perl: true))
  }

  @Test("the typed line fits every line editor, and is tried again when nothing happens")
  func line() {
    for manner in [ShellBootstrap.Manner.replace, .keep] {
      let (login, _) = Self.bootstrap(manner)
      #expect(login.line.count < 1000)
      #expect(login.line.first == 32)
      #expect(login.line.last == 13)
      #expect(!login.line.dropLast().contains { $0 < 32 || $0 == 33 || $0 > 126 })
    }
    var (login, _) = Self.bootstrap()
    var typed = 0
    var now = Duration.zero
    loop: while true {
      switch login.step(at: now) {
      case .type: typed += 1
      case .wait(let until): now = until
      case .failed(.silent): break loop
      default:
        Issue.record("unexpected")
        break loop
      }
    }
    #expect(typed >= 5)
    #expect(now == .seconds(60))
  }

  @Test("login prompts, no Perl, no stty, ssh's failures")
  func others() throws {
    var (asked, _) = Self.bootstrap()
    _ = Self.feed("\r\nDebian GNU/Linux 12 pve1 tty1\r\n\r\npve1 login: ", &asked, 0)
    #expect(asked.step(at: .milliseconds(300)) == .loginPrompt("pve1 login: "))

    var (loggingIn, _) = Self.bootstrap(
      .keep, credentials: .init(user: "root", password: Secret("pw")))
    // What dtach shows first is no text.
    _ = Self.feed("\u{1B}[H\u{1B}[J", &loggingIn, 0)
    #expect(loggingIn.step(at: .milliseconds(260)) == .type([13]))
    _ = Self.feed("\r\nct200 login: ", &loggingIn, 270)
    #expect(loggingIn.step(at: .milliseconds(540)) == .type(Array("root\r".utf8)))
    _ = Self.feed("root\r\nPassword: ", &loggingIn, 550)
    #expect(loggingIn.step(at: .milliseconds(810)) == .type(Array("pw\r".utf8)))
    _ = Self.feed("\r\nLogin incorrect\r\nct200 login: ", &loggingIn, 900)
    guard case .loginPrompt = loggingIn.step(at: .milliseconds(1200)) else {
      Issue.record("a refused login goes on")
      return
    }

    var (plain, marks) = Self.bootstrap()
    _ = Self.feed("\u{1}\(marks.first)-\(marks.second):\u{2}", &plain, 0)
    #expect(plain.step(at: .zero) == .ready(perl: false))
    var (bare, bareMarks) = Self.bootstrap()
    _ = Self.feed("\u{1}\(bareMarks.first)-\(bareMarks.second):stty\u{2}", &bare, 0)
    #expect(bare.step(at: .zero) == .failed(.noTerminalSettings))
    var (ssh, _) = Self.bootstrap()
    _ = Self.feed("ssh: connect to host pve2 port 22: No route to host\r\n", &ssh, 0)
    #expect(
      ssh.step(at: .zero) == .failed(.ssh("ssh: connect to host pve2 port 22: No route to host")))
  }

  @Test("variables that only env can set come last, values are no arguments")
  func wrapped() {
    var request = ExecRequest(["prog", "a b"])
    #expect(WrappedCommand(request).argv == request.argv)
    request.environment = [
      .init(name: Array("A".utf8), value: Array("secret".utf8)),
      .init(name: Array("odd.name".utf8), value: Array("other".utf8)),
    ]
    request.user = "web"
    request.directory = Array("/it's".utf8)
    let wrapped = WrappedCommand(request)
    let text = wrapped.argv.map { String(decoding: $0, as: UTF8.self) }
    #expect(text.suffix(3) == ["sh", "prog", "a b"])
    #expect(!text.joined().contains("secret"))
    #expect(!text.joined().contains("other"))
    #expect(wrapped.environment.map(\.value) == request.environment.map(\.value))
  }

  @Test("a serial terminal is typed one quoted line, or nothing")
  func serialLine() {
    let request = ExecRequest(["echo", "it's"])
    #expect(SerialTransport.typed(request) == Array("'echo' 'it'\\''s'\r".utf8))
    #expect(SerialTransport.typed(ExecRequest(["login"])).isEmpty)
  }
}
