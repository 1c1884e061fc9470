import Glibc
import Testing

@testable import PVESimulator

/// The guest agents that the tests run against; qemu-ga's are skipped where it isn't installed.
let agentBackEnds: [AgentBackEnd] = [.builtIn, .qemuGA]

extension AgentBackEnd {
  /// Whether it can be had here.
  var isHere: Bool { self != .qemuGA || DebianAgent.path != nil }
}

/// A node with VM 100, whose agent is the given one.
func withAgent<R: Sendable>(
  _ backEnd: AgentBackEnd, _ change: (inout SimulatorConfiguration) -> Void = { _ in },
  _ body: (Simulator) async throws -> R
) async throws -> R? {
  // Not failed, not passed in silence either: the runner prints the parameter.
  guard backEnd.isHere else { return nil }
  return try await withNode({ configuration in
    var guest = SimulatedGuest.vm(100, name: "web1", serial: [0: .shell], agent: true)
    guest.agentBackEnd = backEnd
    configuration.guests = [
      guest, .vm(101, name: "db1"), .vm(102, name: "off", running: false, agent: true),
      .container(200, name: "ct200"),
    ]
    change(&configuration)
  }) { pve in try await body(pve) }
}

extension Simulator {
  /// A call of the agent's API of VM 100, with the token.
  func agent(
    _ method: String, _ path: String, _ form: [String: String] = [:], vmid: Int = 100
  ) async throws -> TestAnswer {
    try await call(
      method, "/nodes/pve1/qemu/\(vmid)/agent\(path)", method == "GET" ? [:] : form,
      as: .token(self))
  }

  /// `exec` with a JSON body.
  func exec(_ words: [String], input: String? = nil, vmid: Int = 100) async throws -> TestAnswer {
    var members: [JSON.Member] = [
      .init(key: "command", value: .array(words.map { .string($0) }))
    ]
    if let input { members.append(.init(key: "input-data", value: .string(input))) }
    let body = JSON.object(members).text
    return try await raw(
      "POST /api2/json/nodes/pve1/qemu/\(vmid)/agent/exec HTTP/1.1\r\nHost: x\r\n"
        + TestCredential.token(self).lines + "Content-Type: application/json\r\n"
        + "Connection: close\r\nContent-Length: \(body.utf8.count)\r\n\r\n" + body)
  }

  /// `exec-status` until the program has ended.
  func status(_ pid: Int, vmid: Int = 100) async throws -> JSON {
    for _ in 0..<600 {
      let answer = try await agent("GET", "/exec-status?pid=\(pid)", vmid: vmid)
      guard answer.status == 200 else {
        throw ClientFailure(description: "exec-status: \(answer.status) \(answer.reason)")
      }
      if answer.data["exited"] == 1 { return answer.data }
      try await Task.sleep(for: .milliseconds(20))
    }
    throw ClientFailure(description: "the program doesn't end")
  }

  /// Runs a command to its end.
  func run(_ words: [String], input: String? = nil, vmid: Int = 100) async throws -> JSON {
    let answer = try await exec(words, input: input, vmid: vmid)
    guard let pid = answer.data["pid"]?.number else {
      throw ClientFailure(description: "exec: \(answer.status) \(answer.reason)")
    }
    return try await status(pid, vmid: vmid)
  }
}

extension NodeTests {
  @Suite("The guest agent's API, with our own agent and with Debian's qemu-ga")
  struct AgentTests {
    @Test("both streams and the exit code, as 0 or 1 flags", arguments: agentBackEnds)
    func exec(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        let both = try await pve.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
        #expect(both["exitcode"] == 3)
        #expect(both["out-data"] == "out\n" && both["err-data"] == "err\n")
        #expect(both["out-truncated"] == 0 && both["err-truncated"] == 0)
        #expect(both["signal"] == nil)
        let quiet = try await pve.run(["/bin/true"])
        #expect(quiet == ["exitcode": 0, "exited": 1] || quiet == ["exited": 1, "exitcode": 0])
      }
    }

    @Test("a signal is no exit code", arguments: agentBackEnds)
    func signal(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        let end = try await pve.run(["/bin/sh", "-c", "kill -9 $$"])
        #expect(end["signal"] == 9 && end["exitcode"] == nil)
      }
    }

    @Test("the end can be read once", arguments: agentBackEnds)
    func once(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        let pid = try #require(try await pve.exec(["/bin/true"]).data["pid"]?.number)
        _ = try await pve.status(pid)
        let again = try await pve.agent("GET", "/exec-status?pid=\(pid)")
        #expect(again.status == 500 && again.reason == "Agent error: Invalid parameter 'pid'")
        #expect(
          again.body == #"{"data":null,"message":"Agent error: Invalid parameter 'pid'\n"}"#
            || again.body == #"{"message":"Agent error: Invalid parameter 'pid'\n","data":null}"#)
      }
    }

    @Test(
      "a child in the background that holds a stream keeps `exited` at 0", arguments: agentBackEnds)
    func background(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        let words = ["/bin/sh", "-c", "sleep 3 & echo hi"]
        let pid = try #require(try await pve.exec(words).data["pid"]?.number)
        try await Task.sleep(for: .milliseconds(300))
        let early = try await pve.agent("GET", "/exec-status?pid=\(pid)")
        #expect(early.data == ["exited": 0])
        #expect(try await pve.status(pid)["out-data"] == "hi\n")
      }
    }

    @Test("bytes come as the characters of their numbers, and go as such", arguments: agentBackEnds)
    func bytes(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        let out = try await pve.run(["/usr/bin/printf", #"h\303\251\377"#])
        #expect(out["out-data"] == "h\u{C3}\u{A9}\u{FF}")
        let all = String(String.UnicodeScalarView((0...255).compactMap { Unicode.Scalar($0) }))
        let back = try await pve.run(["/bin/cat"], input: all)
        #expect(back["out-data"] == .string(all))
        let wide = try await pve.exec(["/bin/cat"], input: "€")
        #expect(wide.status == 500)
        #expect(wide.reason.hasPrefix("Wide character in subroutine entry at "))
      }
    }

    @Test("input of 65,536 characters is taken, one more is a 400", arguments: agentBackEnds)
    func input(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        let most = String(repeating: "é", count: 65_536)
        let out = try await pve.run(["/usr/bin/wc", "-c"], input: most)
        #expect(out["out-data"] == "65536\n")
        let tooMuch = try await pve.exec(["/bin/cat"], input: most + "x")
        #expect(tooMuch.status == 400)
        #expect(
          tooMuch.json["errors"]?["input-data"] == "value may only be 65536 characters long")
        // Without input it is empty, not ours.
        #expect(try await pve.run(["/usr/bin/wc", "-c"])["out-data"] == "0\n")
      }
    }

    @Test(
      "16 MiB of a stream are kept, and the byte after them sets the flag", arguments: agentBackEnds
    )
    func truncation(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        for (bytes, flag) in [(16 << 20, 0), (16 << 20 + 1, 1)] {
          let end = try await pve.run(["/bin/sh", "-c", "head -c \(bytes) /dev/zero | tr '\\0' x"])
          let count = end["out-data"]?.asText?.utf8.count
          #expect(count == 16 << 20)
          #expect(end["out-truncated"] == .int(flag))
        }
        await pve.change { $0.agentTruncation = .whenTruncated }
        #expect(try await pve.run(["/bin/echo", "x"])["out-truncated"] == nil)
      }
    }

    @Test("arguments arrive as they were sent, empty ones too", arguments: agentBackEnds)
    func arguments(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        let words = ["", "a b", "'\"$(id)`x`", "line\nline", "é€", "--", "-n", "*", " "]
        let out = try await pve.run(["/usr/bin/printf", "%s|"] + words)
        let expected = words.map { $0 + "|" }.joined()
        let got = out["out-data"]?.asText?.unicodeScalars.compactMap { UInt8(exactly: $0.value) }
        #expect(String(decoding: got ?? [], as: UTF8.self) == expected)
      }
    }

    @Test("PVE 7 joins repeated keys with NUL bytes and loses empty arguments at the end")
    func sevenLosesEmpty() async throws {
      _ = try await withAgent(.builtIn, { $0.era = .v7_4 }) { pve in
        let form =
          "command=/usr/bin/printf&command=%25s%7C&command=&command=a%20b&command=&command="
        let answer = try await pve.raw(
          "POST /api2/json/nodes/pve1/qemu/100/agent/exec HTTP/1.1\r\nHost: x\r\n"
            + TestCredential.token(pve).lines
            + "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n"
            + "Content-Length: \(form.utf8.count)\r\n\r\n" + form)
        let pid = try #require(answer.data["pid"]?.number)
        #expect(try await pve.status(pid)["out-data"] == "|a b|")
      }
    }

    @Test(
      "a program that doesn't exist is a 596 without a body; switched off, a 500 that says why",
      arguments: agentBackEnds)
    func noProgram(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        for words in [["/bin/nope"], ["/bin/echo one two"]] {
          let answer = try await pve.exec(words)
          #expect(answer.status == 596 && answer.reason == "Broken pipe" && answer.body.isEmpty)
        }
        await pve.change { $0.wideErrorsKillDaemon = false }
        let answer = try await pve.exec(["/bin/nope"])
        #expect(answer.status == 500)
        #expect(
          answer.json["message"]?.asText
            == "Agent error: Guest agent command failed, error was 'Failed to execute child process "
            + "“/bin/nope” (No such file or directory)'\n")
      }
    }

    @Test(
      "files: written whole, read by range, and the texts for what isn't there",
      arguments: agentBackEnds)
    func files(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        let path = backEnd == .builtIn ? "/tmp/built-in" : "/tmp/debian"
        let written = try await pve.agent(
          "POST", "/file-write", ["file": path, "content": "0123456789\u{FF}"])
        #expect(written.status == 200 && written.data == .null)
        let all = try await pve.agent("GET", "/file-read?file=\(path)")
        #expect(all.data == ["content": "0123456789\u{FF}", "bytes-read": 11])
        let part = try await pve.agent("GET", "/file-read?file=\(path)&offset=2&count=3")
        #expect(part.data["content"] == "234" && part.data["truncated"] == 1)
        #expect(part.data["bytes-read"] == 3)
        let raw = try await pve.agent("GET", "/file-read?file=\(path)&decode=0")
        #expect(raw.data["content"] == "MDEyMzQ1Njc4Of8=")
        let encoded = try await pve.agent(
          "POST", "/file-write", ["file": path, "content": "aGVsbG8=", "encode": "0"])
        #expect(encoded.status == 200)
        #expect(try await pve.agent("GET", "/file-read?file=\(path)").data["content"] == "hello")
        #expect(try await pve.run(["/bin/cat", path])["out-data"] == "hello")
        let missing = try await pve.agent("GET", "/file-read?file=%2Fnope")
        #expect(
          missing.reason
            == "Agent error: failed to open file '/nope' (mode: 'r'): No such file or directory")
        let noFolder = try await pve.agent(
          "POST", "/file-write", ["file": "/nope/x", "content": "x"])
        #expect(
          noFolder.reason
            == "Agent error: failed to open file '/nope/x' (mode: 'wb'): No such file or directory")
        let long = try await pve.agent(
          "POST", "/file-write", ["file": path, "content": String(repeating: "x", count: 61_441)])
        #expect(long.status == 400)
      }
    }

    @Test("a file larger than 16 MiB is cut there", arguments: agentBackEnds)
    func largeFile(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        for (bytes, truncated) in [(16 << 20 - 1, JSON?.none), (16 << 20 + 5, 1)] {
          _ = try await pve.run(["/usr/bin/truncate", "-s", "0", "/tmp/large"])
          _ = try await pve.run(["/usr/bin/truncate", "-s", "\(bytes)", "/tmp/large"])
          let answer = try await pve.agent("GET", "/file-read?file=/tmp/large&decode=0")
          #expect(answer.data["truncated"] == truncated)
          #expect(answer.data["bytes-read"] == .int(min(bytes, 16 << 20)))
        }
      }
    }

    @Test(
      "one-word commands answer `result`, and an agent's error inside of it",
      arguments: agentBackEnds)
    func oneWord(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        let ping = try await pve.agent("POST", "/ping")
        #expect(ping.body == #"{"data":{"result":{}}}"#)
        let system = try await pve.agent("GET", "/get-osinfo").data["result"]
        #expect(system?["kernel-release"]?.asText?.isEmpty == false)
        #expect(system?["id"]?.asText?.isEmpty == false)
        let interfaces = try await pve.agent("GET", "/network-get-interfaces").data["result"]
        #expect(interfaces?.items.first?["name"] == "lo")
        for name in [
          "get-time", "info", "get-vcpus", "get-fsinfo", "get-memory-blocks",
          "get-memory-block-info", "get-host-name", "get-users", "get-timezone",
        ] {
          let answer = try await pve.agent("GET", "/\(name)")
          #expect(answer.status == 200 && answer.data["result"] != nil, "\(name)")
          #expect(answer.data["result"]?["error"] == nil, "\(name)")
        }
        #expect(try await pve.agent("POST", "/fsfreeze-status").data["result"] == "thawed")
        #expect(try await pve.agent("POST", "/fsfreeze-freeze").data["result"] == 1)
        #expect(try await pve.agent("POST", "/fsfreeze-status").data["result"] == "frozen")
        #expect(try await pve.agent("POST", "/fsfreeze-thaw").data["result"] == 1)
        let refused = try await pve.agent("POST", "/suspend-ram")
        #expect(refused.status == 200)
        #expect(refused.data["result"]?["error"]?["class"] == "GenericError")
        let legacy = try await pve.agent("POST", "", ["command": "get-host-name"])
        #expect(legacy.data["result"]?["host-name"]?.asText?.isEmpty == false)
        let unknown = try await pve.agent("POST", "", ["command": "exec"])
        #expect(unknown.status == 400)
        #expect(try await pve.agent("GET", "").data.items.first?["name"] == "exec")
      }
    }

    @Test("a shutdown through the agent stops the VM", arguments: agentBackEnds)
    func shutdown(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        #expect(try await pve.agent("POST", "/shutdown").status == 200)
        var answer = try await pve.agent("POST", "/ping")
        for _ in 0..<50 where answer.status == 200 {
          try await Task.sleep(for: .milliseconds(20))
          answer = try await pve.agent("POST", "/ping")
        }
        #expect(answer.reason == "VM 100 is not running")
      }
    }

    @Test("passwords: a user who is there, and one who isn't", arguments: agentBackEnds)
    func passwords(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        let good = try await pve.agent(
          "POST", "/set-user-password", ["username": "root", "password": "abcde"])
        #expect(good.status == 200 && good.data["result"] == .object([]))
        let bad = try await pve.agent(
          "POST", "/set-user-password", ["username": "nobody-here", "password": "abcde"])
        #expect(bad.reason == "Agent error: child process has failed to set user password")
      }
    }

    @Test("the errors come in PVE's order: configuration, power, ping, command")
    func order() async throws {
      _ = try await withAgent(
        .builtIn,
        {
          $0.timings.agentPing = .seconds(1)
          $0.timings.agentCommand = .seconds(1)
          var hanging = SimulatedGuest.vm(110, name: "hangs", agent: true)
          hanging.agentBackEnd = .hangs
          var absent = SimulatedGuest.vm(111, name: "absent", agent: true)
          absent.agentBackEnd = .absent
          $0.guests += [hanging, absent]
        }
      ) { pve in
        func expect(_ vmid: Int, _ expected: String) async throws {
          let answer = try await pve.exec(["/bin/true"], vmid: vmid)
          #expect("\(answer.status) \(answer.reason)" == expected)
        }
        try await expect(
          999, "500 Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist")
        try await expect(101, "500 No QEMU guest agent configured")
        try await expect(102, "500 VM 102 is not running")
        try await expect(111, "500 QEMU guest agent is not running")
        try await expect(110, "500 VM 110 qga command 'guest-exec' failed - got timeout")
        await pve.change { $0.agents[100] = .execDisabled }
        try await expect(100, "500 Agent error: Command guest-exec has been disabled")
        #expect(try await pve.agent("POST", "/ping").status == 200)
        for state in [AgentState.silent, .booting] {
          await pve.change { $0.agents[100] = state }
          try await expect(100, "500 QEMU guest agent is not running")
        }
        await pve.change { $0.agents[100] = nil }
        #expect(try await pve.run(["/bin/true"])["exitcode"] == 0)
      }
    }

    @Test("eight calls at once are served one after the other", arguments: agentBackEnds)
    func parallel(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd, { $0.timings.agentLatency = .milliseconds(20) }) { pve in
        let codes = try await withThrowingTaskGroup(of: Int.self) { group in
          for i in 0..<8 {
            group.addTask {
              try await pve.run(["/bin/sh", "-c", "exit \(i)"])["exitcode"]?.number ?? -1
            }
          }
          return try await group.reduce(into: Set<Int>()) { $0.insert($1) }
        }
        #expect(codes == Set(0..<8))
      }
    }

    @Test("a call behind one that hangs gives up by itself")
    func behindHanging() async throws {
      _ = try await withAgent(
        .hangs,
        {
          $0.timings.agentPing = .milliseconds(300)
          $0.timings.agentCommand = .seconds(4)
        }
      ) { pve in
        async let first = pve.exec(["/bin/true"])
        try await Task.sleep(for: .milliseconds(300))
        let second = try await pve.agent("POST", "/ping")
        #expect(second.reason == "QEMU guest agent is not running")
        #expect(try await first.reason == "VM 100 qga command 'guest-exec' failed - got timeout")
      }
    }

    @Test("PVE 7 takes the command as one text and splits it", arguments: agentBackEnds)
    func oldCommand(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd, { $0.era = .v7_4 }) { pve in
        func out(_ form: String) async throws -> JSON? {
          let answer = try await pve.raw(
            "POST /api2/json/nodes/pve1/qemu/100/agent/exec HTTP/1.1\r\nHost: x\r\n"
              + TestCredential.token(pve).lines
              + "Connection: close\r\nContent-Length: \(form.utf8.count)\r\n\r\n\(form)")
          guard let pid = answer.data["pid"]?.number else {
            throw ClientFailure(description: "\(answer.status) \(answer.reason)")
          }
          return try await pve.status(pid)["out-data"]
        }
        #expect(try await out("command=/bin/echo+one,two%3Bthree+four") == "one two three four\n")
        #expect(try await out("command=/bin/echo&command=a+b&command=c") == "a b c\n")
        let none = try await pve.agent("POST", "/exec", [:])
        #expect(none.reason == "command or input-data (or both) required")
      }
    }

    @Test(
      "PVE 8 on: one text is one word, and the command is not optional", arguments: agentBackEnds)
    func newCommand(_ backEnd: AgentBackEnd) async throws {
      _ = try await withAgent(backEnd) { pve in
        let none = try await pve.agent("POST", "/exec", [:])
        #expect(none.status == 400)
        #expect(
          none.json["errors"]?["command"] == "property is missing and it is not optional")
        #expect(try await pve.agent("POST", "/exec", ["command": "/bin/true"]).status == 200)
      }
    }
  }
}
