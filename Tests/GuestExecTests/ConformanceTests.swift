import ConsoleProtocol
import Glibc
import TestSupport
import Testing

@testable import GuestExec

/// What every transport does alike.
@Suite("The contract, on every transport", .timeLimit(.minutes(3)))
struct ConformanceTests {
  private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

  @Test(
    "statuses arrive as they are, ssh's own 255 and a shell's 126 and 127 too", arguments: Way.all)
  func statuses(_ way: Way) async throws {
    let reached = try await way.reach()
    for status in [0, 1, 3, 126, 127, 128, 254, 255] {
      #expect(try await reached.shell("exit \(status)").result == ExecResult(.exited(status)))
    }
  }

  @Test("a signal is a signal", arguments: Way.all)
  func signals(_ way: Way) async throws {
    let reached = try await way.reach()
    for number in [9, 15] {
      let end = try await reached.shell("kill -\(number) $$").end
      #expect(end == (way.tellsSignals ? .signalled(number) : .exited(128 + number)))
    }
    #expect(try await reached.shell("exit 137").end == .exited(137))
  }

  @Test("the two streams are two", arguments: Way.all)
  func streams(_ way: Way) async throws {
    let told = try await way.reach().shell("printf out; printf err >&2; printf more; exit 4")
    #expect(told.text == "outmore")
    #expect(told.errors == "err")
    #expect(told.end == .exited(4))
  }

  @Test("a program that isn't there never looks like one that ran", arguments: Way.all)
  func missing(_ way: Way) async throws {
    let reached = try await way.reach()
    for program in ["/nonexistent/program", "no-such-program"] {
      do {
        let told = try await reached.run(ExecRequest([program]))
        #expect(told.end == .exited(127))
      } catch let failure as ExecFailure {
        #expect(failure.kind == .startFailed)
        #expect(failure.sentence.contains(program))
      }
    }
    let file = try await reached.folder() + "/text"
    _ = try await reached.shell("echo exit 0 >\(file)")
    do {
      let told = try await reached.run(ExecRequest([file]))
      #expect(told.end == .exited(126))
    } catch let failure as ExecFailure {
      #expect(failure.kind == .startFailed)
    }
  }

  @Test("every byte comes back as it was sent, on both streams", arguments: Way.all)
  func binary(_ way: Way) async throws {
    var all = (0...255).map { UInt8($0) }
    all += all.reversed()
    all += bytes("\r\n\u{4}\u{3}\u{1a}~.\n")
    let told = try await way.reach().run(
      ExecRequest(.shell(bytes("tee /dev/stderr")), hasInput: true), input: all)
    #expect(told.end == .exited(0))
    #expect(told.stdout == all)
    #expect(told.stderr == all)
  }

  @Test("without input there is an end of file at once", arguments: Way.all)
  func noInput(_ way: Way) async throws {
    let told = try await way.reach().shell("cat; echo done")
    #expect(told.text == "done\n")
  }

  @Test(
    "input of 8 MiB arrives whole, and its end is seen while output goes on", arguments: Way.here)
  func largeInput(_ way: Way) async throws {
    let reached = try await way.reach()
    let process = try await reached.start(
      ExecRequest(.shell(bytes("cat; echo; echo behind the end")), hasInput: true))
    var sent = StreamHash()
    var generator = SystemRandomNumberGenerator()
    let block = (0..<65_536).map { _ in UInt8.random(in: 0...255, using: &generator) }
    for _ in 0..<128 { block.withUnsafeBytes { sent.add($0) } }
    bytes("\nbehind the end\n").withUnsafeBytes { sent.add($0) }
    let writer = Task {
      for _ in 0..<128 { try await process.write(block) }
      await process.closeInput()
    }
    var got = StreamHash()
    var end: ExecEnd?
    while let event = await process.next() {
      if case .stdout(let bytes) = event { bytes.withUnsafeBytes { got.add($0) } }
      if case .ended(let result) = event { end = result.end }
    }
    try await writer.value
    #expect(end == .exited(0))
    #expect(got == sent)
  }

  @Test(
    "a machine by qm: what it can't do, who takes it up, and that no word of a command is an argument"
  )
  func machineByTool() async throws {
    let reached = try await Way.localMachine.reach()
    var terminal = ExecRequest(["sh"])
    terminal.terminal = TerminalSize(columns: 80, rows: 24)
    let request = terminal
    await #expect(throws: ExecFailure.self) { try await reached.start(request) }
    func command(_ hasInput: Bool) -> ExecRequest {
      ExecRequest(
        .argv(["sh", "-c", "cat; sleep 2; echo over", "w0rd-of-the-command"].map(bytes)),
        environment: [.init(name: bytes("SECRET"), value: bytes("s3cret-of-the-command"))],
        hasInput: hasInput)
    }
    let fed = try await reached.start(command(true))
    try await fed.write(bytes("input\n"))
    await fed.closeInput()
    let process = try await reached.start(command(false))
    let handle = try #require(process.handle)
    #expect(handle.transport == .local)
    await process.detach()
    #expect(await Told.all(fed).text == "input\nover\n")
    // Whoever comes later takes it up.
    let told = await Told.all(await reached.transport.attach(handle, from: ExecPosition()))
    #expect(told.text == "over\n" && told.end == .exited(0))

    let slow = try await reached.start(
      ExecRequest(.shell(bytes("exec sleep 60")), timeLimit: .milliseconds(500)))
    #expect(await Told.all(slow).end == .timedOut)
    func failure(_ place: Place) async -> ExecFailure.Kind? {
      do {
        _ = try await reached.transport.start(ExecRequest(["true"]), on: place)
        return nil
      } catch {
        return error.kind
      }
    }
    #expect(await failure(.machine(999)) == .targetNotFound)
    #expect(await failure(.machine(100)) == nil)
    // A stand-in that notes how it was called.
    let folder = try Tools.newFolder()
    try Tools.write(
      """
      #!/bin/sh
      printf '%s ' "$@" >>\(folder)/called
      case $2 in
        exec) cat >>\(folder)/given; echo '{"pid":7}' ;;
        exec-status) echo '{"exited":1,"exitcode":4,"out-data":"a\u{e9}"}' ;;
        *) echo '{"id":"debian"}' ;;
      esac
      """, to: folder + "/qm", mode: 0o755)
    let noted = LocalTransport(node: .one, pct: "pct", qm: folder + "/qm")
    let end = await Told.all(try await noted.start(command(false), on: .machine(100)))
    #expect(end.end == .exited(4) && end.stdout == [97, 0xE9])
    let called = Tools.read(folder + "/called")
    let given = Tools.read(folder + "/given")
    #expect(called.contains("guest exec 100 --synchronous 0 --pass-stdin 1 -- /bin/sh -c eval"))
    #expect(!called.contains("of-the-command"))
    #expect(given.contains("w0rd-of-the-command") && given.contains("s3cret-of-the-command"))
    let toolless = LocalTransport(node: .one, pct: "pct", qm: "/nonexistent/qm")
    await #expect(throws: ExecFailure.self) {
      try await toolless.start(ExecRequest(["true"]), on: .machine(100))
    }
  }

  @Test("input that nobody reads is dropped, and nobody waits for it", arguments: Way.here)
  func unreadInput(_ way: Way) async throws {
    let process = try await way.reach().start(
      ExecRequest(.shell(bytes("exec <&-; sleep 0.2; echo over")), hasInput: true))
    async let told = Told.all(process)
    for _ in 0..<64 { try await process.write([UInt8](repeating: 7, count: 65_536)) }
    await process.closeInput()
    #expect(await told.text == "over\n")
  }

  @Test("a slow reader holds the command back, and misses nothing", arguments: Way.here)
  func backpressure(_ way: Way) async throws {
    let reached = try await way.reach()
    let flag = try await reached.folder() + "/written"
    let process = try await reached.start(
      ExecRequest(.shell(bytes("head -c 33554432 /dev/zero | tr '\\0' x; touch \(flag)"))))
    try await Task.sleep(for: .milliseconds(700))
    // 32 MiB don't fit into what may wait.
    #expect(try await !reached.has(flag))
    var count = 0
    var isClean = true
    while let event = await process.next() {
      if case .stdout(let bytes) = event {
        count += bytes.count
        if count % 7 == 0 { isClean = isClean && bytes.allSatisfy { $0 == 120 } }
      }
      if case .ended(let result) = event { #expect(result == ExecResult(.exited(0))) }
    }
    #expect(count == 33_554_432)
    #expect(isClean)
    #expect(try await reached.has(flag))
  }

  @Test(
    "output over the limit is dropped and said to be missing, each stream by itself",
    arguments: Way.here)
  func limit(_ way: Way) async throws {
    var request = ExecRequest(
      .shell(bytes("head -c 300000 /dev/zero; printf 12345 >&2; exit 6")))
    request.outputLimit = 1000
    let told = try await way.reach().run(request)
    #expect(told.stdout.count == 1000)
    #expect(told.errors == "12345")
    #expect(told.result == ExecResult(.exited(6), stdoutTruncated: true, stderrTruncated: false))
    // Exactly as much as the limit is whole.
    request.command = .shell(bytes("head -c 1000 /dev/zero"))
    #expect(try await way.reach().run(request).result == ExecResult(.exited(0)))
  }

  @Test("environment and directory are exact", arguments: Way.all)
  func environment(_ way: Way) async throws {
    let reached = try await way.reach()
    let directory = try await reached.folder() + "/with space 'and quote'"
    #expect(try await reached.run(ExecRequest(["mkdir", directory])).end == .exited(0))
    let odd: [UInt8] = bytes("a'b\"c\n$(touch x)`d` ") + [0xFF, 0xFE, 0x81, 1]
    let request = ExecRequest(
      .argv(
        ["sh", "-c", #"printf "%s|%s|%s|" "$A" "$_B" "$EMPTY"; pwd"#].map(
          bytes)),
      environment: [
        .init(name: bytes("A"), value: bytes("first")), .init(name: bytes("A"), value: odd),
        .init(name: bytes("_B"), value: bytes("x=y")), .init(name: bytes("EMPTY"), value: []),
        .init(name: bytes("d"), value: bytes("not ours")),
      ], directory: bytes(directory))
    let told = try await way.reach().run(request)
    #expect(told.stdout == odd + bytes("|x=y||\(directory)\n"))
    #expect(told.end == .exited(0))

    // Shells drop names that aren't theirs; other programs see them.
    let named = try await way.reach().run(
      ExecRequest(
        .argv([bytes("env")]),
        environment: [.init(name: bytes("we.ird"), value: bytes("1 2"))]))
    #expect(named.text.contains("we.ird=1 2\n"))

    let nowhere = ExecRequest(.argv([bytes("pwd")]), directory: bytes("/nonexistent/folder"))
    switch way {
    case .localMachine: #expect(try await reached.run(nowhere).end == .exited(127))
    case .shellContainer: #expect(try await reached.run(nowhere).end == .exited(126))
    default: await #expect(throws: ExecFailure.self) { try await way.reach().run(nowhere) }
    }
  }

  @Test(
    "another user, with their groups and home", .enabled(if: geteuid() == 0),
    arguments: Way.here.filter(\.isDirect))
  func user(_ way: Way) async throws {
    var request = ExecRequest(
      .shell(bytes("id -un; id -gn; echo $HOME $USER; cat /etc/shadow 2>/dev/null; exit 5")))
    request.user = "nobody"
    let told = try await way.reach().run(request)
    #expect(told.text == "nobody\nnogroup\n/nonexistent nobody\n")
    #expect(told.end == .exited(5))
    request.user = "no-such-user"
    do {
      _ = try await way.reach().run(request)
      Issue.record("there is no such user")
    } catch let failure as ExecFailure {
      #expect(failure.kind == .startFailed)
      #expect(failure.field == "user")
    }
  }

  @Test("the time limit ends it, with what it started", arguments: Way.here)
  func timeLimit(_ way: Way) async throws {
    var request = ExecRequest(.shell(bytes("echo begun; sleep 500 & sleep 600")))
    request.timeLimit = .milliseconds(400)
    let told = try await way.reach().run(request)
    #expect(told.text == "begun\n")
    #expect(told.end == .timedOut)
  }

  @Test(
    "what it started and what doesn't heed TERM doesn't outlive its being cancelled",
    arguments: Way.here.filter { $0.isDirect && $0.tellsSignals })
  func wholeGroup(_ way: Way) async throws {
    let reached = try await way.reach()
    let mark = "4000000.\(Int.random(in: 1_000_000...9_999_999))"
    let process = try await reached.start(
      ExecRequest(.shell(bytes("(trap '' TERM; exec sleep \(mark)) & sleep 0.2; echo ready; wait")))
    )
    #expect(await process.next() == .stdout(bytes("ready\n")))
    await process.cancel()
    #expect(await Told.all(process).end == .cancelled)
    var rest = "?"
    for _ in 0..<50 where !rest.isEmpty {
      rest = try await reached.shell(
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -x '\(mark)'"
      ).text
    }
    #expect(rest == "")
  }

  @Test("who doesn't heed TERM is killed", arguments: Way.here)
  func cancel(_ way: Way) async throws {
    let process = try await way.reach().start(
      ExecRequest(.shell(bytes("trap 'echo no' TERM; echo ready; while :; do sleep 0.1; done"))))
    var text = ""
    var end: ExecEnd?
    var canceller: Task<Void, Never>?
    while let event = await process.next() {
      if case .stdout(let bytes) = event { text += String(decoding: bytes, as: UTF8.self) }
      if text == "ready\n", canceller == nil { canceller = Task { await process.cancel() } }
      if case .ended(let result) = event { end = result.end }
    }
    await canceller?.value
    #expect(end == .cancelled)
    #expect(text.hasPrefix("ready\nno\n"))
  }

  @Test(
    "a signal reaches it, and what it does then is its own affair",
    arguments: Way.here.filter(\.isDirect))
  func interrupt(_ way: Way) async throws {
    let process = try await way.reach().start(
      ExecRequest(
        .shell(bytes("trap 'echo got; exit 7' INT; echo ready; while :; do sleep 0.05; done"))))
    var text = ""
    var end: ExecEnd?
    var isSent = false
    while let event = await process.next() {
      if case .stdout(let bytes) = event { text += String(decoding: bytes, as: UTF8.self) }
      if text == "ready\n", !isSent {
        isSent = true
        try await process.signal(2)
      }
      if case .ended(let result) = event { end = result.end }
    }
    #expect(text == "ready\ngot\n")
    #expect(end == .exited(7))
  }

  @Test("what it leaves behind with its output open doesn't delay its end", arguments: Way.here)
  func background(_ way: Way) async throws {
    let clock = ContinuousClock()
    let began = clock.now
    let told = try await way.reach().shell("sleep 60 & head -c 40000 /dev/zero; exit 2")
    #expect(told.stdout.count == 40_000)
    #expect(told.end == .exited(2))
    #expect(clock.now - began < .seconds(40))
  }

  @Test("argv is what it was: any bytes, empty words, new lines, quotes", arguments: Way.all)
  func argv(_ way: Way) async throws {
    let reached = try await way.reach()
    var generator = SystemRandomNumberGenerator()
    let spice: [[UInt8]] = [
      "", " ", "\n", "\n\n", "'", "\"", "\\", "$(touch /tmp/x)", "`id`", "$HOME", "*", "?", "~",
      "!",
      "-n", "--", "a b", "\t", "#", ";", "&&", "|", "<", ">", "%s", "\\0", "é", "\r", "=", "a=b",
    ].map(bytes)
    for _ in 0..<12 {
      let words = (0..<Int.random(in: 1...12, using: &generator)).map { _ -> [UInt8] in
        if Bool.random(using: &generator), let word = spice.randomElement(using: &generator) {
          return word
        }
        return (0..<Int.random(in: 0...40, using: &generator)).map { _ in
          UInt8.random(in: 1...255, using: &generator)
        }
      }
      let told = try await reached.run(
        ExecRequest(.argv([bytes("printf"), bytes("%s\\0")] + words)))
      #expect(told.stdout == words.flatMap { $0 + [0] })
      #expect(told.errors == "")
    }
    // Close to the most that is taken.
    let long = [UInt8](repeating: UInt8(ascii: "'"), count: 100_000)
    let told = try await reached.run(ExecRequest(.argv([bytes("printf"), bytes("%s"), long])))
    #expect(told.stdout.count == long.count)
    #expect(told.stdout == long)
  }

  @Test(
    "a terminal has the size that it was given, and takes another",
    arguments: Way.here)
  func terminal(_ way: Way) async throws {
    var request = ExecRequest(
      .shell(
        bytes(
          "test -t 0 && test -t 1 && test -t 2 && stty size; echo $TERM; read -r line; stty size; echo got $line; exit 9"
        )),
      hasInput: true)
    request.terminal = TerminalSize(columns: 91, rows: 33)
    let process = try await way.reach().start(request)
    var text = ""
    var end: ExecEnd?
    var isSent = false
    while let event = await process.next() {
      if case .stdout(let bytes) = event { text += String(decoding: bytes, as: UTF8.self) }
      if text.contains("xterm"), !isSent, let size = TerminalSize(columns: 120, rows: 50) {
        isSent = true
        await process.resize(size)
        // The size travels beside the bytes, not among them.
        try await Task.sleep(for: .milliseconds(400))
        try await process.write(bytes("word\n"))
      }
      if case .ended(let result) = event { end = result.end }
    }
    #expect(
      String(decoding: text.utf8.filter { $0 != 13 }, as: UTF8.self)
        == "33 91\nxterm-256color\nword\n50 120\ngot word\n")
    #expect(end == .exited(9))
  }

  @Test(
    "Ctrl-C on the terminal interrupts, and the end of the input is Ctrl-D",
    arguments: Way.here.filter(\.isDirect))
  func terminalKeys(_ way: Way) async throws {
    var request = ExecRequest(.shell(bytes("echo ready; cat; echo over")), hasInput: true)
    request.terminal = TerminalSize(columns: 80, rows: 24)
    let process = try await way.reach().start(request)
    var text = ""
    var end: ExecEnd?
    var isClosed = false
    while let event = await process.next() {
      if case .stdout(let bytes) = event { text += String(decoding: bytes, as: UTF8.self) }
      if text.contains("ready"), !isClosed {
        isClosed = true
        await process.closeInput()
      }
      if case .ended(let result) = event { end = result.end }
    }
    #expect(text.contains("over"))
    #expect(end == .exited(0))

    request.command = .shell(bytes("trap 'exit 3' INT; echo ready; while :; do sleep 0.05; done"))
    let other = try await way.reach().start(request)
    text = ""
    while let event = await other.next() {
      if case .stdout(let bytes) = event { text += String(decoding: bytes, as: UTF8.self) }
      if text == "ready\r\n" { try await other.write([3]) }
      if case .ended(let result) = event { end = result.end }
    }
    #expect(end == .exited(3))
  }

  @Test("what was let go goes on", arguments: Way.here.filter(\.goesOn))
  func detached(_ way: Way) async throws {
    let reached = try await way.reach()
    let flag = try await reached.folder() + "/done"
    let process = try await reached.start(
      ExecRequest(.shell(bytes("sleep 0.3; head -c 4000000 /dev/zero; touch \(flag)"))))
    await process.detach()
    #expect(try await reached.waits(for: flag))
  }
}
