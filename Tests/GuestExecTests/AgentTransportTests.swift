import ConsoleProtocol
import Glibc
import PVESimulator
import ProxmoxClient
import Testing

@testable import GuestExec

@Suite("Commands through the guest agent")
struct AgentTransportTests {
  @Test("ends are what they were, in both modes and every version", arguments: AgentCase.all)
  func ends(_ which: AgentCase) async throws {
    _ = try await AgentBed.with(which) { bed in
      for bed in [bed.plain, bed.streaming] {
        for code in [0, 1, 255, 137] {
          #expect(try await bed.run(.sh("exit \(code)")).end == .exited(code))
        }
        for signal in [9, 15, 1] {
          #expect(try await bed.run(.sh("kill -\(signal) $$")).end == .signalled(signal))
        }
        let both = try await bed.run(.sh("echo out; echo err >&2; printf x; exit 3"))
        #expect(both.out == "out\nx" && both.err == "err\n" && both.end == .exited(3))
        let text = try await bed.run(ExecRequest(.shell([UInt8]("echo $((6*7)) 'a  b'"))))
        #expect(text.out == "42 a  b\n" && text.end == .exited(0))
        let binary = try await bed.run(["/bin/cat"], input: (0...255).map { UInt8($0) })
        #expect(binary.stdout == (0...255).map { UInt8($0) } && binary.end == .exited(0))
      }
      #expect(try await bed.leftovers() == "")
    }
  }

  @Test("argv arrives as it was sent, bytes of any kind", arguments: AgentCase.all)
  func argv(_ which: AgentCase) async throws {
    _ = try await AgentBed.with(which) { bed in
      let fixed: [[UInt8]] = [
        [], [UInt8]("a b"), [UInt8]("'\"$(id)`x`\\"), [UInt8]("line\nline\n"),
        [UInt8]("é€\u{FFFE}"),
        [UInt8]("--"), [UInt8]("-n"), [UInt8]("*"), [0xFF, 0xFE, 0xC3], [UInt8]("a,b;c"), [10, 10],
        [0x81, 0x88, 1, 127], [],
      ]
      var generator = SeededGenerator(seed: 4)
      for round in 0..<6 {
        var words = fixed.shuffled(using: &generator)
        for _ in 0..<round * 2 {
          words.append(
            (0..<Int.random(in: 0...60, using: &generator)).map { _ in
              UInt8.random(in: 1...255, using: &generator)
            })
        }
        if round == 1 { words.append([]) }
        let argv = [[UInt8]("/usr/bin/printf"), [UInt8]("%s\\0")] + words
        let wanted: [UInt8] = words.flatMap { (word: [UInt8]) -> [UInt8] in word + [0] }
        for bed in [bed.plain, bed.streaming] {
          let ran = try await bed.run(ExecRequest(.argv(argv)))
          let isSame = ran.stdout == wanted
          #expect(isSame, "round \(round) of \(bed.options.mode)")
          #expect(ran.end == .exited(0) && ran.err == "")
        }
      }
    }
  }

  @Test("environment, directory and user", arguments: AgentCase.both)
  func surroundings(_ which: AgentCase) async throws {
    _ = try await AgentBed.with(which) { bed in
      var request = ExecRequest.sh("pwd; echo \"$A|$B\"; id -un")
      request.environment = [
        .init(name: [UInt8]("A"), value: [UInt8]("a 'b'\n$x")),
        .init(name: [UInt8]("B"), value: [0xFF, 10]),
        .init(name: [UInt8]("strange.name-1"), value: [UInt8]("yes no")),
      ]
      request.directory = [UInt8]("/usr/share")
      let me = try await bed.plain.run(["id", "-u"]).out
      if me == "0\n" { request.user = "nobody" }
      for bed in [bed.plain, bed.streaming] {
        let ran = try await bed.run(request)
        let wanted = [UInt8]("/usr/share\na 'b'\n$x|") + [0xFF, 10, 10]
        #expect(ran.stdout.starts(with: wanted), "\(ran.out) \(ran.err)")
        if me == "0\n" { #expect(ran.out.hasSuffix("nobody\n")) }
        // A shell would drop that one, so the program is none.
        var bare = request
        bare.command = .argv([[UInt8]("env")])
        #expect(try await bed.run(bare).out.contains("strange.name-1=yes no\n"))
      }
      for (change, words) in [
        ({ (r: inout ExecRequest) in r.directory = [UInt8]("/nowhere") }, "directory"),
        ({ (r: inout ExecRequest) in r.user = "nosuch" }, "no user 'nosuch'"),
      ] {
        var request = ExecRequest(["touch", "/tmp/sallyport-was-run"])
        change(&request)
        do throws(ExecFailure) {
          _ = try await bed.streaming.start(request)
          Issue.record("it was run")
        } catch {
          #expect(error.kind == .startFailed && error.sentence.contains(words))
        }
      }
      #expect(try await bed.leftovers() == "")
    }
  }

  @Test("a mebibyte above the agent's 16: cut and told so in plain mode, whole in streaming")
  func long() async throws {
    _ = try await AgentBed.with { bed in
      let request = ExecRequest.sh("head -c 16777217 /dev/zero | tr '\\0' x; echo e >&2")
      let plain = try await bed.plain.run(request)
      #expect(plain.stdout.count == 16 << 20 && plain.result?.stdoutTruncated == true)
      #expect(plain.result?.stderrTruncated == false && plain.end == .exited(0))
      let whole = try await bed.streaming.run(request)
      let isWhole = whole.stdout.count == 16 << 20 + 1 && whole.stdout.allSatisfy { $0 == 120 }
      #expect(isWhole && whole.err == "e\n")
      #expect(whole.result == ExecResult(.exited(0)))
      var limited = request
      limited.outputLimit = 1000
      let cut = try await bed.streaming.run(limited)
      #expect(cut.stdout.count == 1000 && cut.result?.stdoutTruncated == true)
      #expect(try await bed.leftovers() == "")
    }
  }

  @Test("lines of both streams come whole, and while the command runs", arguments: AgentCase.both)
  func live(_ which: AgentCase) async throws {
    _ = try await AgentBed.with(which) { bed in
      let process = try await bed.streaming.start(
        .sh(
          "i=0; while [ $i -lt 300 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done; sleep 6; echo end"
        ))
      var ran = Ran()
      var cameBefore = false
      while let event = await process.next() {
        switch event {
        case .stdout(let bytes):
          if ran.stdout.isEmpty, !String(decoding: bytes, as: UTF8.self).contains("end") {
            cameBefore = true
          }
          ran.stdout += bytes
        case .stderr(let bytes): ran.stderr += bytes
        case .note: break
        case .ended(let result): ran.result = result
        }
      }
      #expect(ran.out == (0..<300).map { "o\($0)\n" }.joined() + "end\n")
      #expect(ran.err == (0..<300).map { "e\($0)\n" }.joined())
      #expect(cameBefore && ran.end == .exited(0))
    }
  }

  @Test("input of many mebibytes comes back as it went", arguments: AgentCase.both)
  func input(_ which: AgentCase) async throws {
    _ = try await AgentBed.with(which) { bed in
      let size = getenv("SALLYPORT_LONG_TESTS") != nil ? 100 << 20 : 3 << 20
      let bytes = [UInt8].pattern(size)
      let begun = ContinuousClock.now
      let ran = try await bed.streaming.run(["/bin/cat"], input: bytes)
      print("\(size >> 20) MiB in and out: \(ContinuousClock.now - begun)")
      let isSame = ran.stdout == bytes
      #expect(isSame, "\(ran.stdout.count) bytes")
      #expect(ran.end == .exited(0), "\(ran.notes) \(ran.err)")
      // A command that doesn't read its input ends all the same.
      let unread = try await bed.streaming.run(["/bin/true"], input: [UInt8].pattern(300_000))
      #expect(unread.end == .exited(0))
      #expect(try await bed.leftovers() == "")
    }
  }

  @Test("plain mode takes 65,536 bytes of input and says no to more")
  func plainInput() async throws {
    _ = try await AgentBed.with { bed in
      let most = [UInt8].pattern(65_536)
      let ran = try await bed.plain.run(["/bin/cat"], input: most)
      let isSame = ran.stdout == most
      #expect(isSame && ran.end == .exited(0))
      var request = ExecRequest(["/bin/cat"])
      request.hasInput = true
      let process = try await bed.plain.start(request)
      await #expect(throws: ExecFailure.self) { try await process.write(most + [1]) }
      await process.cancel()
      #expect(await AgentBed.collect(process).end == .cancelled)
    }
  }

  @Test("a child in the background holds up the end in plain mode, and not in streaming")
  func background() async throws {
    _ = try await AgentBed.with { bed in
      let request = ExecRequest.sh("(sleep 30; echo late) & echo hi; exit 4")
      let begun = ContinuousClock.now
      let ran = try await bed.streaming.run(request)
      #expect(ran.out == "hi\n" && ran.end == .exited(4))
      #expect(ContinuousClock.now - begun < .seconds(25))
      #expect(try await bed.plain.run(.sh("(sleep 1; echo late) & echo hi")).out == "hi\nlate\n")
      #expect(try await bed.leftovers() == "")
    }
  }

  @Test(
    "a time limit, a cancellation and a signal end the command's whole group",
    arguments: AgentCase.both)
  func told(_ which: AgentCase) async throws {
    _ = try await AgentBed.with(which) { bed in
      for bed in [bed.plain, bed.streaming] {
        var limited = ExecRequest(["/bin/sleep", "41"])
        limited.timeLimit = .milliseconds(400)
        #expect(try await bed.run(limited).end == .timedOut)

        let cancelled = try await bed.start(ExecRequest(["/bin/sleep", "41"]))
        await cancelled.cancel()
        #expect(await AgentBed.collect(cancelled).end == .cancelled)
      }
      // A whole tree, one of which doesn't listen to TERM.
      let stubborn = try await bed.with { $0.grace = .seconds(1) }.streaming.start(
        .sh("trap '' TERM; echo up; sleep 42 & sleep 42; sleep 42; sleep 42"))
      #expect(await AgentBed.output(stubborn) == "up\n")
      await stubborn.cancel()
      #expect(await AgentBed.collect(stubborn).end == .cancelled)

      let interrupted = try await bed.streaming.start(.sh("echo up; exec sleep 43"))
      #expect(await AgentBed.output(interrupted) == "up\n")
      try await interrupted.signal(2)
      #expect(await AgentBed.collect(interrupted).end == .signalled(2))
      let caught = try await bed.streaming.start(
        .sh("trap 'echo got; exit 7' INT; echo up; while :; do sleep 0.1; done"))
      #expect(await AgentBed.output(caught) == "up\n")
      try await caught.signal(2)
      let ran = await AgentBed.collect(caught)
      #expect(ran.end == .exited(7) && ran.out == "got\n")
      #expect(try await bed.leftovers() == "")
    }
  }

  @Test("a terminal: its size, its input, its resize", arguments: AgentCase.both)
  func terminal(_ which: AgentCase) async throws {
    _ = try await AgentBed.with(which) { bed in
      var request = ExecRequest.sh(
        "tty; stty size; read x; echo \"got $x\"; stty size; exit 9")
      request.terminal = TerminalSize(columns: 101, rows: 33)
      request.hasInput = true
      let process = try await bed.streaming.start(request)
      var text = ""
      var result: ExecResult?
      var isTold = false
      while let event = await process.next() {
        switch event {
        case .stdout(let bytes): text += String(decoding: bytes, as: UTF8.self)
        case .ended(let end): result = end
        default: break
        }
        if !isTold, text.contains("33 101") {
          isTold = true
          if let size = TerminalSize(columns: 77, rows: 22) { await process.resize(size) }
          try await process.write([UInt8]("word\n"))
        }
      }
      #expect(text.contains("/dev/pts/"), "\(text)")
      #expect(text.contains("got word") && text.contains("22 77"), "\(text)")
      #expect(result?.end == .exited(9))
      #expect(try await bed.leftovers() == "")
    }
  }

  @Test(
    "a command over what fits into one call is written to the guest first",
    arguments: AgentCase.both)
  func large(_ which: AgentCase) async throws {
    _ = try await AgentBed.with(which) { bed in
      let word = [UInt8].pattern(100_000).filter { $0 != 0 }
      let ran = try await bed.streaming.run(
        ExecRequest(.argv([[UInt8]("/usr/bin/printf"), [UInt8]("%s"), word])))
      let isSame = ran.stdout == word
      #expect(isSame && ran.end == .exited(0), "\(ran.stdout.count) \(ran.err.prefix(200))")
      #expect(try await bed.leftovers() == "")
    }
  }

  @Test(
    "the guest's shell may be dash, bash or busybox's",
    arguments: [["dash"], ["bash", "--posix"], ["bash"], ["busybox", "sh"]])
  func shells(_ shell: [String]) async throws {
    _ = try await AgentBed.with { bed in
      guard try await bed.plain.run(["/bin/sh", "-c", "command -v \(shell[0])"]).end == .exited(0)
      else { return }
      for (text, how) in [
        ("echo out; echo err >&2; exit 3", "exit 3"), ("kill -9 $$", "signal 9"),
        ("kill -15 $$", "signal 15"), ("exit 143", "exit 143"),
        ("head -c 9000000 /dev/zero | cksum; echo out; echo err >&2", "exit 0"),
      ] {
        let runner = AgentRunner()
        let script = runner.text(.sh(text), options: bed.options)
        let ran = try await bed.plain.run(
          ExecRequest(shell + ["-s"]), input: [UInt8](script))
        let lines = ran.out.split(separator: "\n")
        #expect(ran.end == .exited(0))
        #expect(lines.first?.hasPrefix("sallyport /") == true, "\(ran.out) \(ran.err)")
        #expect(lines.first?.hasSuffix(" 1 - \(how)") == true, "\(ran.out)")
        #expect(ran.out.hasSuffix(runner.mark) && ran.err.hasSuffix(runner.mark))
        let start = String(AgentScripts.base)
        let look = try await bed.plain.run(
          ExecRequest(
            shell + ["-c", AgentScripts.poll, "sh", runner.name, start, start, start, start, "2"]))
        let (poll, rest) = try #require(AgentPoll.read(look.stdout), "\(look.out) \(look.err)")
        #expect(poll.state == .ended(why: "-", how: how) && poll.isAtEnd && rest.count == 2)
        let over = try await bed.plain.run(
          ExecRequest(shell + ["-c", AgentScripts.kill, "sh", runner.name, "15", "cancel", "1"]))
        #expect(over.out == "over\n" && over.err == "")
        try await bed.client.agentFileWrite(
          bed.place, file: poll.folder + "/x", bytes: [120])
      }
      #expect(try await bed.leftovers() == "")
    }
  }

  /// Repeatable, for the property test.
  struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      var x = state
      x ^= x >> 33
      x = x &* 0xFF51_AFD7_ED55_8CCD
      return x ^ x >> 33
    }
  }
}
