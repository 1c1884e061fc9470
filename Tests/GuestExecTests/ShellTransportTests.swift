import ConsoleProtocol
import EventLoop
import Foundation
import PVESimulator
import ProxmoxClient
import TestSupport
import Testing

@testable import GuestExec

@Suite("commands over a node's shell", .serialized)
struct ShellTransportTests {
  @Test("streams apart, statuses as they are", arguments: [Era.v8_4, .v9_0, .v9_2])
  func statuses(era: Era) async throws {
    try await ShellBed.with({ $0.era = era }) { bed in
      let shell = bed.shell()
      let three = try await shell.sh("echo out; echo err >&2; exit 3", on: bed.node)
      #expect(three.out == "out\n")
      #expect(three.err == "err\n")
      #expect(three.result == ExecResult(.exited(3)))
      for code in [0, 1, 255] {
        #expect(try await shell.sh("exit \(code)", on: bed.node).end == .exited(code))
      }
      #expect(try await shell.sh("kill -9 $$", on: bed.node).end == .signalled(9))
      #expect(try await shell.sh("kill -15 $$", on: bed.node).end == .signalled(15))
    }
  }

  @Test("the last words arrive however the terminal ends", arguments: TerminalEnding.allCases)
  func lastWords(ending: TerminalEnding) async throws {
    try await ShellBed.with({ $0.behaviour.terminalEnding = ending }) { bed in
      for _ in 0..<3 {
        let out = try await bed.shell().sh("echo LASTWORD; exit 4", on: bed.node)
        #expect(out.out == "LASTWORD\n")
        #expect(out.end == .exited(4))
      }
    }
  }

  static let shells: [[String]] = [
    ["/bin/bash", "--norc", "--noprofile", "-i"], ["/bin/dash", "-i"],
    ["/bin/busybox", "sh", "-i"],
    ["/bin/bash", "--norc", "-c", "set -x; exec /bin/bash --norc -ix"],
    ["/bin/sh", "-c", "sleep 2; exec /bin/bash --norc -i"],
    ["/bin/sh", "-c", "head -c 102400 /dev/zero | tr '\\0' '#'; echo; exec /bin/bash --norc -i"],
    [
      "/bin/sh", "-c",
      "PS1='\\[\\e[31m\\]\\u@\\h \\[\\e[0m\\]\\w \\t $(date) # ' exec /bin/bash --norc -i",
    ],
    ["/bin/sh", "-c", "PROMPT_COMMAND='echo prompt >&2; history -a' exec /bin/bash --norc -i"],
    [
      "/bin/sh", "-c",
      "echo \"trap 'printf \\\"%s\\\\n\\\" \\\"\\$BASH_COMMAND\\\"' DEBUG; PS1='\\$BASH_COMMAND \\001x-y:perl\\002> '\" >/tmp/.sp-rc.$$; exec /bin/bash --rcfile /tmp/.sp-rc.$$ -i",
    ],
    ["/bin/sh", "-c", "printf 'no prompt at all'; exec cat | /bin/sh"],
  ]

  @Test("login shells of all kinds take it", arguments: shells.indices, [false, true])
  func loginShells(index: Int, posix: Bool) async throws {
    defer { _ = try? shellOutput("rm -f /tmp/.sp-rc.*") }
    // Without a terminal on its input the last one can't be a runner's shell.
    let words = Self.shells[index]
    try await ShellBed.with({ $0.nodeShell = .command(words) }) { bed in
      let shell = bed.shell {
        if posix { $0.runner = .posix }
        $0.loginTimeout = .seconds(index == Self.shells.count - 1 ? 2 : 30)
      }
      guard index < Self.shells.count - 1 else {
        await #expect(throws: ExecFailure.self) { try await shell.run(["true"], on: bed.node) }
        return
      }
      let out = try await shell.sh("printf 'a\\0b'; echo err >&2; exit 7", on: bed.node)
      #expect(out.stdout == [97, 0, 98])
      #expect(out.err == "err\n")
      #expect(out.end == .exited(7))
    }
  }

  static let hardArguments: [[UInt8]] = [
    Array("plain".utf8), Array("two words".utf8), Array("it's \"quoted\" `x` \\ $HOME".utf8),
    Array("line\nline\n\n".utf8), Array("$(id) ; rm -rf x & | < > * ? ~ !".utf8), [],
    Array("-n".utf8), Array("--".utf8), Array("a=b".utf8), [0xFF, 0xFE, 0xC3, 0x28],
    (1...255).map { UInt8($0) }, Array("  ".utf8), Array("\t\r\u{1B}[31m".utf8),
  ]

  @Test("arguments arrive as they are", arguments: ["node", "lxc"], [false, true])
  func arguments(place: String, posix: Bool) async throws {
    try await ShellBed.with { bed in
      let shell = bed.shell { if posix { $0.runner = .posix } }
      let target = place == "node" ? bed.node : bed.container()
      let dump = Array(
        "for a; do printf '%s' \"$a\" | od -An -v -tx1 | tr -d ' \\n'; echo; done".utf8)
      var rounds = [Self.hardArguments]
      var random = SystemRandomNumberGenerator()
      for _ in 0..<4 {
        rounds.append(
          (0..<Int.random(in: 1...8)).map { _ in
            (0..<Int.random(in: 0...40)).map { _ in UInt8.random(in: 1...255, using: &random) }
          })
      }
      for arguments in rounds {
        let out = try await shell.run(
          ExecRequest(
            .argv([Array("/bin/sh".utf8), Array("-c".utf8), dump, Array("sh".utf8)] + arguments)),
          on: target)
        let wanted = arguments.map {
          String(decoding: Hexadecimal.encode($0), as: UTF8.self) + "\n"
        }
        #expect(out.out == wanted.joined())
        #expect(out.end == .exited(0), "\(out.err)")
      }
    }
  }

  @Test("64 MiB of both streams arrive whole")
  func binary() async throws {
    try await ShellBed.with { bed in
      let process = try await bed.shell().start(
        ExecRequest(
          .shell(
            Array(
              """
              perl -e 'binmode STDOUT; binmode STDERR; my $s = pack "C*", 0..255; $s x= 256;
              for (1..512) { print STDOUT $s; print STDERR $s; }'
              """.utf8))), on: bed.node)
      var (out, error) = (PatternCheck(), PatternCheck())
      var end: ExecEnd?
      while let event = await process.next() {
        switch event {
        case .stdout(let bytes): out.add(bytes)
        case .stderr(let bytes): error.add(bytes)
        case .ended(let result): end = result.end
        case .note: break
        }
      }
      #expect(end == .exited(0))
      #expect(out == PatternCheck(count: 32 << 20))
      #expect(error == PatternCheck(count: 32 << 20))
    }
  }

  @Test("input of any byte, 16 MiB of it, and its end", arguments: [false, true])
  func input(posix: Bool) async throws {
    try await ShellBed.with { bed in
      let shell = bed.shell { if posix { $0.runner = .posix } }
      let all = (0..<1024).map { UInt8(truncatingIfNeeded: $0) }
      let echo = try await shell.run(["cat"], on: bed.node, input: all)
      #expect(echo.stdout == all)
      // The command's answer comes after the end of its input.
      let much = [UInt8](repeating: 0x5A, count: (posix ? 1 : 16) << 20)
      let count = try await shell.sh("wc -c; echo done", on: bed.node, input: much)
      #expect(count.out == "\(much.count)\ndone\n")
      #expect(count.end == .exited(0))
      let none = try await shell.run(["cat"], on: bed.node)
      #expect(none.stdout.isEmpty)
      #expect(none.end == .exited(0))
      let deaf = try await shell.sh("exec <&-; sleep 0.2; echo ok", on: bed.node, input: much)
      #expect(deaf.out == "ok\n")
    }
  }

  @Test("output that looks like frames is output")
  func lookalikes() async throws {
    try await ShellBed.with { bed in
      // A command that repeats whatever its runner was told and says, as far as it can know it.
      let out = try await bed.shell().sh(
        "printf '\\001x\\000\\000\\000\\014exit 0 0 0 '; tr '\\0' '\\n' </proc/$PPID/cmdline; echo end",
        on: bed.node)
      #expect(out.out.hasPrefix("\u{1}x\0\0\0\u{C}exit 0 0 0 "))
      #expect(out.out.hasSuffix("end\n"))
      #expect(out.end == .exited(0))
    }
  }

  @Test("a slow reader holds the command back, and loses nothing")
  func slowReader() async throws {
    try await ShellBed.with { bed in
      let process = try await bed.shell().start(
        ExecRequest(.shell(Array("head -c 8388608 /dev/zero; echo done >&2".utf8))), on: bed.node)
      try await Task.sleep(for: .milliseconds(700))
      let out = await process.collect()
      #expect(out.stdout.count == 8 << 20)
      #expect(out.err == "done\n")
      #expect(out.end == .exited(0))
    }
  }

  @Test("signals, cancelling and time limits", arguments: [false, true])
  func ending(posix: Bool) async throws {
    try await ShellBed.with { bed in
      let shell = bed.shell { if posix { $0.runner = .posix } }
      let trapped = try await shell.start(
        ExecRequest(
          .shell(Array("trap 'echo got; exit 5' INT; echo ready; while :; do sleep 0.1; done".utf8))
        ),
        on: bed.node)
      var out = await trapped.collect { $0.out.contains("ready") }
      try await trapped.signal(2)
      out = await trapped.collect()
      #expect(out.out == "got\n")
      #expect(out.end == .exited(5))

      let sleeper = try await shell.start(ExecRequest(["sleep", "1000"]), on: bed.node)
      await sleeper.cancel()
      #expect(await sleeper.collect().end == .cancelled)

      // It ignores TERM, and so does its child.
      let stubborn = try await shell.start(
        ExecRequest(.shell(Array("trap '' TERM; sleep 997 & echo up; wait; sleep 997".utf8))),
        on: bed.node)
      _ = await stubborn.collect { $0.out.contains("up") }
      await stubborn.cancel()
      #expect(await stubborn.collect().end == .cancelled)
      #expect(try shellOutput("pgrep -x -f 'sleep 997' || true") == "")

      var limited = ExecRequest(["sleep", "996"])
      limited.timeLimit = .milliseconds(300)
      #expect(try await shell.run(limited, on: bed.node).end == .timedOut)
    }
  }

  @Test("what is left in the background does not keep the end back")
  func background() async throws {
    try await ShellBed.with { bed in
      let out = try await bed.shell().sh("sleep 995 & echo hi", on: bed.node)
      #expect(out.out == "hi\n")
      #expect(out.end == .exited(0))
    }
  }

  @Test("directory, environment and user", arguments: ["node", "lxc"], [false, true])
  func surroundings(place: String, posix: Bool) async throws {
    try await ShellBed.with { bed in
      let shell = bed.shell { if posix { $0.runner = .posix } }
      let target = place == "node" ? bed.node : bed.container()
      var request = ExecRequest(
        .shell(
          Array(
            "pwd; printf '%s|' \"$A\" \"$B\"; env | grep SALLYPORT_ENV; true"
              .utf8)))
      request.directory = Array("/usr/bin".utf8)
      request.environment = [
        .init(name: Array("A".utf8), value: Array("it's \n $x".utf8)),
        .init(name: Array("B".utf8), value: [0xFF, 0x3D]),
        .init(name: Array("odd.name".utf8), value: Array("1".utf8)),
      ]
      let out = try await shell.run(request, on: target)
      #expect(
        out.stdout == Array("/usr/bin\nit's \n $x|".utf8) + [0xFF, 0x3D] + Array("|".utf8),
        "\(out.out) \(out.err)")
      // A shell would drop the third.
      request.command = .argv([Array("env".utf8)])
      #expect(try await shell.run(request, on: target).out.contains("\nodd.name=1\n"))
      var user = ExecRequest(["id", "-un"])
      user.user = "nobody"
      // A simulated container has the users that the kernel lets it have.
      let direct = try await shell.run(
        ["su", "-s", "/bin/sh", "-c", "id -un", "nobody"], on: target)
      guard place == "node" || direct.end == .exited(0) else { return }
      let who = try await shell.run(user, on: target)
      #expect(who.out == "nobody\n", "\(who.err) \(String(describing: who.end))")
    }
  }

  @Test("what can't be started is said before it counts as sent")
  func failures() async throws {
    try await ShellBed.with { bed in
      let shell = bed.shell()
      func failure(_ request: ExecRequest, on place: Place) async -> ExecFailure? {
        do throws(ExecFailure) {
          _ = try await shell.start(request, on: place)
          return nil
        } catch {
          return error
        }
      }
      #expect(await failure(ExecRequest(["no-such-program"]), on: bed.node)?.kind == .startFailed)
      #expect(await failure(ExecRequest(["/etc/passwd"]), on: bed.node)?.kind == .startFailed)
      var request = ExecRequest(["true"])
      request.directory = Array("/no/such".utf8)
      #expect(await failure(request, on: bed.node)?.field == "directory")
      request.directory = nil
      request.user = "no-such-user"
      #expect(await failure(request, on: bed.node)?.field == "user")
      #expect(
        await failure(ExecRequest(["true"]), on: bed.container(201))?.kind == .guestNotRunning)
      #expect(await failure(ExecRequest(["true"]), on: bed.vm())?.kind == .noTransport)
      #expect(await failure(ExecRequest(["true"]), on: bed.container(999))?.kind == .targetNotFound)
    }
  }

  @Test("a shell of another node than the one that is asked")
  func otherNode() async throws {
    try await ShellBed.with({
      $0.otherNodes = ["pve2"]
      $0.clusterName = "test"
    }) { bed in
      let place = Place(node: try #require(NodeName("pve2")), kind: .node)
      let out = try await bed.shell().sh("echo $PATH; exit 9", on: place)
      #expect(out.end == .exited(9))
      #expect(out.out.contains("tools-pve2"))
    }
  }

  @Test("a token alone is refused, with the remedy")
  func tokens() async throws {
    try await ShellBed.with(credential: { (.token(id: $0.tokenID, secret: $0.tokenSecret), nil) }) {
      bed in
      let verdict = await bed.shell().assess(ExecRequest(["true"]), on: bed.node)
      guard case .impossible(let failure) = verdict else {
        Issue.record("\(verdict)")
        return
      }
      #expect(failure.remedy.contains("consoleUser"))
      await #expect(throws: ExecFailure.self) {
        try await bed.shell().start(ExecRequest(["true"]), on: bed.node)
      }
    }
  }

  @Test("a terminal: its size, its changes, its keys", arguments: [false, true])
  func terminal(posix: Bool) async throws {
    try await ShellBed.with { bed in
      let shell = bed.shell { if posix { $0.runner = .posix } }
      var request = ExecRequest(
        .shell(
          Array(
            "tty >/dev/null && stty size; trap 'stty size' WINCH; read -r a; echo \"<$a>\"; read -r b; exit 6"
              .utf8)), hasInput: true)
      request.terminal = TerminalSize(columns: 101, rows: 33)
      let process = try await shell.start(request, on: bed.node)
      var out = await process.collect { $0.out.contains("33 101") }
      try await process.write(Array("hello\r".utf8))
      out = await process.collect { $0.out.contains("<hello>") }
      await process.resize(try #require(TerminalSize(columns: 90, rows: 20)))
      try await Task.sleep(for: .milliseconds(400))
      try await process.write(Array("x\r".utf8))
      out = await process.collect()
      #expect(out.out.contains("20 90"))
      #expect(out.end == .exited(6))

      request.command = .shell(Array("echo up; sleep 994".utf8))
      let killed = try await shell.start(request, on: bed.node)
      _ = await killed.collect { $0.out.contains("up") }
      try await killed.write([3])
      let end = await killed.collect().end
      #expect(end == .signalled(2) || end == .exited(130))
    }
  }

  @Test(
    "a connection that is cut midway leaves nothing but an honest end", arguments: [false, true])
  func cut(posix: Bool) async throws {
    try await ShellBed.with { bed in
      let shell = bed.shell { if posix { $0.runner = .posix } }
      let process = try await shell.start(
        ExecRequest(.shell(Array("trap '' HUP; echo up; sleep 993; sleep 993".utf8))), on: bed.node)
      _ = await process.collect { $0.out.contains("up") }
      await bed.pve.killConnections()
      let end = await process.collect().end
      guard case .lost(let why) = end else {
        Issue.record("\(String(describing: end))")
        return
      }
      #expect(why.contains("pve1"))
      let isGone = await happens {
        (try? shellOutput("pgrep -x -f 'sleep 993' || true")) == ""
      }
      #expect(isGone)
    }
  }

  @Test("nothing is left on the node: no process, no file, no history", arguments: [false, true])
  func nothingLeft(posix: Bool) async throws {
    let home = try shellOutput("mktemp -d").trimmingCharacters(in: .newlines)
    defer { _ = try? shellOutput("rm -rf \(home)") }
    try await ShellBed.with({
      $0.nodeShell = .command([
        "/bin/sh", "-c",
        "HOME=\(home) TMPDIR=\(home) HISTFILE=\(home)/history exec /bin/bash --norc -i",
      ])
    }) { bed in
      let shell = bed.shell { if posix { $0.runner = .posix } }
      let out = try await shell.sh("echo hi", on: bed.node)
      #expect(out.end == .exited(0))
      let isGone = await happens {
        (try? shellOutput("grep -la HOME=\(home) /proc/[0-9]*/environ 2>/dev/null || true")) == ""
      }
      #expect(isGone)
      try await Task.sleep(for: .milliseconds(300))
      #expect(try shellOutput("ls -A \(home)") == "")
    }
  }

  @Test("no more sessions than allowed are open at a time")
  func sessions() async throws {
    try await ShellBed.with { bed in
      let shell = bed.shell { $0.maximumPerNode = 2 }
      try await withThrowingTaskGroup(of: ExecEnd?.self) { group in
        for i in 0..<6 {
          group.addTask { try await shell.sh("sleep 0.2; exit \(i)", on: bed.node).end }
        }
        var ends: Set<ExecEnd?> = []
        for try await end in group { ends.insert(end) }
        #expect(ends == Set((0..<6).map { .exited($0) }))
      }
      let impatient = bed.shell {
        $0.maximumPerNode = 1
        $0.sessionWait = .milliseconds(100)
      }
      let first = try await impatient.start(ExecRequest(["sleep", "992"]), on: bed.node)
      do {
        _ = try await impatient.start(ExecRequest(["true"]), on: bed.node)
        Issue.record("it began")
      } catch let error as ExecFailure {
        #expect(error.kind == .busy)
      }
      await first.cancel()
      _ = await first.collect()
      #expect(try await impatient.run(["true"], on: bed.node).end == .exited(0))
    }
  }

  @Test("a limit on output cuts it, and says so")
  func outputLimit() async throws {
    try await ShellBed.with { bed in
      var request = ExecRequest(.shell(Array("head -c 3000000 /dev/zero; echo e >&2".utf8)))
      request.outputLimit = 1000
      let out = try await bed.shell().run(request, on: bed.node)
      #expect(out.stdout.count == 1000)
      #expect(out.result == ExecResult(.exited(0), stdoutTruncated: true))
    }
  }
}

/// Compares a stream with 0, 1 … 255, 0, 1 … without looking at each byte in Swift.
struct PatternCheck: Equatable {
  private static let pattern = (0..<(1 << 19)).map { UInt8(truncatingIfNeeded: $0) }
  var count = 0
  var isWhole = true

  mutating func add(_ bytes: [UInt8]) {
    let same = bytes.withUnsafeBytes { got in
      Self.pattern.withUnsafeBytes { wanted in
        guard let a = got.baseAddress, let b = wanted.baseAddress else { return true }
        return got.count <= 1 << 18 && memcmp(a, b + count % 256, got.count) == 0
      }
    }
    if !same { isWhole = false }
    count += bytes.count
  }
}

/// What a command of this machine prints.
func shellOutput(_ text: String) throws -> String {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/bin/sh")
  process.arguments = ["-c", text]
  let pipe = Pipe()
  process.standardOutput = pipe
  try process.run()
  let data = pipe.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  return String(decoding: data, as: UTF8.self)
}
