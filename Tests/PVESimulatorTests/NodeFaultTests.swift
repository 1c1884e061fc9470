import ConsoleProtocol
import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("Faults, through TLS")
  struct NodeFaultTests {
    private func twoNodes(_ configuration: inout SimulatorConfiguration) {
      configuration.otherNodes = ["pve2"]
      configuration.guests = [.vm(100, name: "e", serial: [0: .echo]), .container(200, name: "c")]
    }

    /// What comes on a connection of its own until it ends; nil where it doesn't end in time.
    private func bytes(
      _ pve: Simulator, port: Int? = nil, _ path: String, seconds: Double = 10
    ) async throws -> [UInt8]? {
      let port = port ?? pve.port
      let lines = TestCredential.token(pve).lines
      return try await blocking {
        let connection = try TestConnection(port: port)
        try connection.write("GET /api2/json\(path) HTTP/1.1\r\nHost: x\r\n\(lines)\r\n")
        return connection.readToEnd(seconds: seconds)
      }
    }

    // MARK: answers

    @Test("latency delays, and only what fits")
    func latency() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        try await pve.inject("latency=300ms,path=/nodes")
        let clock = ContinuousClock()
        let slow = try await clock.measure { _ = try await pve.call("GET", "/nodes", as: token) }
        #expect(slow >= .milliseconds(300))
        #expect(pve.journal.entries.last?.faults == ["1"])
        #expect((pve.journal.entries.last?.duration ?? .zero) >= .milliseconds(300))
        #expect(try await pve.call("GET", "/version", as: token).status == 200)
        #expect(pve.journal.entries.last?.faults == [])
        await pve.clearFaults()
        #expect(try await pve.call("GET", "/nodes", as: token).status == 200)
        #expect(pve.journal.entries.last?.faults == [])
      }
    }

    @Test("any status with any message, in PVE's shape, for the n-th request")
    func status() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        try await pve.inject(Fault(.status(503, message: "no quorum"), when: .nth(2)))
        try await pve.inject("status=596,message=Broken pipe,path=/nodes")
        #expect(try await pve.call("GET", "/version", as: token).status == 200)
        let refused = try await pve.call("GET", "/version", as: token)
        #expect(refused.status == 503 && refused.reason == "no quorum")
        #expect(refused.body == #"{"data":null,"message":"no quorum\n"}"#)
        #expect(try await pve.call("GET", "/version", as: token).status == 200)
        let cut = try await pve.call("GET", "/nodes", as: token)
        #expect(cut.status == 596 && cut.reason == "Broken pipe" && cut.body.isEmpty)
        // Also for who isn't logged in.
        await pve.clearFaults()
        try await pve.inject("status=500,message=down,method=POST")
        let login = try await pve.call(
          "POST", "/access/ticket", ["username": "x", "password": "y"])
        #expect(login.status == 500 && login.reason == "down")
      }
    }

    @Test("a dropped request isn't carried out, a dropped answer is")
    func drops() async throws {
      try await withNode(twoNodes) { pve in
        let token = TestCredential.token(pve)
        try await pve.inject("drop=request,path=*/stop,times=1")
        try await pve.inject("drop=answer,path=*/stop,skip=1")
        func stop() async throws -> [UInt8]? {
          let port = pve.port
          return try await blocking {
            let connection = try TestConnection(port: port)
            try connection.write(
              "POST /api2/json/nodes/pve1/qemu/100/status/stop HTTP/1.1\r\nHost: x\r\n"
                + "\(token.lines)Content-Length: 0\r\n\r\n")
            return connection.readToEnd(seconds: 10)
          }
        }
        #expect(try await stop() == [])
        #expect(await pve.runningTasks().isEmpty)
        #expect(pve.journal.entries.last?.reason == "request dropped (fault)")
        let before = try await pve.call("GET", "/nodes/pve1/qemu/100/status/current", as: token)
        #expect(before.data["status"] == "running")
        #expect(try await stop() == [])
        #expect(pve.journal.entries.contains { $0.reason == "answer dropped (fault)" })
        var status: JSON?
        for _ in 0..<100 where status != "stopped" {
          status =
            try await pve.call("GET", "/nodes/pve1/qemu/100/status/current", as: token)
            .data["status"]
          try await Task.sleep(for: .milliseconds(20))
        }
        #expect(status == "stopped")
      }
    }

    @Test("an answer that is wrong about what was done")
    func carriedOut() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        try await pve.inject("status=596,message=Broken pipe,carried-out,path=*/stop")
        let answer = try await pve.call(
          "POST", "/nodes/pve1/qemu/100/status/stop", as: token)
        #expect(answer.status == 596 && answer.reason == "Broken pipe" && answer.body.isEmpty)
        #expect(try await pve.call("GET", "/nodes/pve1/tasks", as: token).data.items.count <= 1)
        let tasks = try await pve.call("GET", "/nodes/pve1/tasks?source=all", as: token)
        #expect(tasks.data.items.count == 1)
      }
    }

    @Test("what goes wrong at another node is a 59x of the one that was asked")
    func behindProxy() async throws {
      try await withNode(twoNodes) { pve in
        let token = TestCredential.token(pve)
        try await pve.inject("drop,node=pve2,times=1")
        let cut = try await pve.call("GET", "/nodes/pve2/status", as: token)
        #expect(cut.status == 596 && cut.reason == "Broken pipe")
        #expect(pve.journal.entries.last?.forwardedTo == "pve2")
        try await pve.inject("status=500,message=no,node=pve2")
        #expect(try await pve.call("GET", "/nodes/pve2/status", as: token).reason == "no")
        #expect(try await pve.call("GET", "/nodes/pve1/status", as: token).status == 200)
      }
    }

    @Test("a slow agent is slow, others are not")
    func agentDelay() async throws {
      try await withNode(twoNodes) { pve in
        let token = TestCredential.token(pve)
        try await pve.inject("agent-delay=300ms,vmid=100")
        let clock = ContinuousClock()
        func duration(_ path: String) async throws -> Duration {
          try await clock.measure { _ = try await pve.call("GET", path, as: token) }
        }
        #expect(try await duration("/nodes/pve1/qemu/100/agent/get-osinfo") >= .milliseconds(300))
        #expect(pve.journal.entries.last.map { $0.duration >= .milliseconds(300) } == true)
        _ = try await duration("/nodes/pve1/qemu/100/config")
        #expect(pve.journal.entries.last?.faults == [])
      }
    }

    @Test("an agent that is silent, until it isn't")
    func agentState() async throws {
      try await withNode({
        $0.guests = [.vm(100, name: "a", agent: true)]
        $0.timings.agentPing = .seconds(1)
      }) { pve in
        let token = TestCredential.token(pve)
        let ping = "/nodes/pve1/qemu/100/agent/ping"
        #expect(try await pve.call("POST", ping, as: token).status == 200)
        let id = try await pve.inject("agent=silent,vmid=100")
        let silent = try await pve.call("POST", ping, as: token)
        #expect(silent.status == 500 && silent.reason == "QEMU guest agent is not running")
        await pve.removeFault(id)
        #expect(try await pve.call("POST", ping, as: token).status == 200)
      }
    }

    @Test("tasks take longer while they are to be slow")
    func slowTasks() async throws {
      try await withNode(twoNodes) { pve in
        let token = TestCredential.token(pve)
        try await pve.inject("slow-tasks=1000")
        let stop = try await pve.call("POST", "/nodes/pve1/qemu/100/status/stop", as: token)
        #expect(stop.status == 200)
        try await Task.sleep(for: .milliseconds(300))
        #expect(await pve.runningTasks() == [stop.data.asText])
      }
    }

    @Test("a guest crashes, and one moves away under its console")
    func guests() async throws {
      try await withNode(twoNodes) { pve in
        let token = TestCredential.token(pve)
        try await pve.inject("crash=100")
        let current = try await pve.call("GET", "/nodes/pve1/qemu/100/status/current", as: token)
        #expect(current.data["status"] == "stopped")
        let mint = try await pve.mint("/lxc/200", "termproxy", as: token)
        let socket = try await blocking {
          let socket = try TestWebsocket(pve, mint, as: token)
          try socket.open()
          return UncheckedBox(socket)
        }
        try await pve.inject("migrate=200,to=pve2")
        #expect(try await blocking { socket.value.ends(seconds: 10) })
        var node: JSON?
        for _ in 0..<100 where node != "pve2" {
          let rows = try await pve.call("GET", "/cluster/resources?type=vm", as: token)
          node = rows.data.items.first { $0["vmid"] == 200 }?["node"]
          try await Task.sleep(for: .milliseconds(30))
        }
        #expect(node == "pve2")
      }
    }

    @Test("answers cut after n bytes, garbage, and none at all")
    func cuts() async throws {
      try await withNode { pve in
        try await pve.inject("truncate=20,path=/version")
        #expect(try await bytes(pve, "/version") == Array("HTTP/1.1 200 OK\r\nCac".utf8))
        await pve.clearFaults()
        try await pve.inject("garbage=30")
        #expect(try await bytes(pve, "/version")?.count == 30)
        await pve.clearFaults()
        try await pve.inject("hang")
        #expect(try await bytes(pve, "/version", seconds: 0.5) == nil)
      }
    }

    @Test("the same seed and the same requests meet the same faults")
    func repeatable() async throws {
      func run(seed: UInt64) async throws -> [Int] {
        try await withNode({
          $0.faultSeed = seed
          $0.faults = ["status=500,probability=0.4", "status=503,probability=0.3"]
        }) { pve in
          var statuses: [Int] = []
          for _ in 0..<25 {
            statuses.append(try await pve.call("GET", "/version", as: .token(pve)).status)
          }
          return statuses
        }
      }
      let first = try await run(seed: 4)
      #expect(Set(first) == [200, 500, 503])
      #expect(try await run(seed: 4) == first)
      #expect(try await run(seed: 5) != first)
    }

    // MARK: tickets and clocks

    @Test("expired and revoked tickets are refused; new ones and tokens are not")
    func tickets() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        let alice = try await pve.login("alice@pve")
        try await pve.inject("expired-ticket,user=alice@pve,times=1")
        #expect(try await pve.call("GET", "/version", as: root).status == 200)
        #expect(try await pve.call("GET", "/version", as: .token(pve)).status == 200)
        let refused = try await pve.call("GET", "/version", as: alice)
        #expect(refused.status == 401 && refused.body.isEmpty)
        #expect(try await pve.call("GET", "/version", as: alice).status == 200)
        try await pve.inject("revoke-tickets=alice@pve")
        #expect(try await pve.call("GET", "/version", as: alice).status == 401)
        #expect(try await pve.call("GET", "/version", as: root).status == 200)
        let again = try await pve.login("alice@pve")
        #expect(try await pve.call("GET", "/version", as: again).status == 200)
        try await pve.inject("revoke-tickets")
        #expect(try await pve.call("GET", "/version", as: again).status == 401)
        #expect(try await pve.call("GET", "/version", as: root).status == 401)
        #expect(try await pve.call("GET", "/version", as: .token(pve)).status == 200)
      }
    }

    @Test("a skewed clock makes tickets of the right time bad, until it is right again")
    func skew() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        let id = try await pve.inject("clock-skew=-1000")
        #expect(try await pve.call("GET", "/version", as: root).status == 401)
        await pve.removeFault(id)
        #expect(try await pve.call("GET", "/version", as: root).status == 200)
        try await pve.inject("clock-skew=8000,for=2s")
        #expect(try await pve.call("GET", "/version", as: root).status == 401)
        try await Task.sleep(for: .milliseconds(2200))
        #expect(try await pve.call("GET", "/version", as: root).status == 200)
      }
    }

    // MARK: nodes

    @Test("another certificate, and the old one again")
    func certificate() async throws {
      try await withNode(twoNodes) { pve in
        func seen() async throws -> String {
          let port = pve.port
          return try await blocking { try TestConnection(port: port).peerFingerprint }
        }
        let first = try await seen()
        #expect(first == "\(pve.fingerprint)")
        let id = try await pve.inject("new-certificate=pve1")
        #expect(try await seen() != first)
        #expect(try await pve.call("GET", "/version", as: .token(pve)).status == 200)
        await pve.removeFault(id)
        #expect(try await seen() == first)
      }
    }

    @Test("a node that is down refuses connections and is a 595 for the others, until it is up")
    func nodeDown() async throws {
      try await withNode(twoNodes) { pve in
        let token = TestCredential.token(pve)
        let second = pve.nodes[1].port
        #expect(try await bytes(pve, port: second, "/version", seconds: 6) != nil)
        let id = try await pve.inject("node-down=pve2")
        await #expect(throws: ClientFailure.self) {
          try await bytes(pve, port: second, "/version")
        }
        let forwarded = try await pve.call("GET", "/nodes/pve2/status", as: token)
        #expect(forwarded.status == 595 && forwarded.reason == "Connection refused")
        #expect(forwarded.body.isEmpty)
        await pve.removeFault(id)
        #expect(try await bytes(pve, port: second, "/version", seconds: 6) != nil)
        #expect(try await pve.call("GET", "/nodes/pve2/status", as: token).status == 200)
      }
    }

    @Test("a node goes down at a request, and comes up by itself")
    func nodeDownAtRequest() async throws {
      try await withNode(twoNodes) { pve in
        let token = TestCredential.token(pve)
        try await pve.inject("node-down=pve2,for=2s,path=/version,nth=2")
        #expect(try await pve.call("GET", "/version", as: token).status == 200)
        #expect(try await pve.call("GET", "/nodes/pve2/status", as: token).status == 200)
        #expect(try await pve.call("GET", "/version", as: token).status == 200)
        #expect(try await pve.call("GET", "/nodes/pve2/status", as: token).status == 595)
        try await Task.sleep(for: .milliseconds(2200))
        #expect(try await pve.call("GET", "/nodes/pve2/status", as: token).status == 200)
        #expect(await pve.faults.first?.holds == false)
      }
    }

    @Test("a node that goes down takes its own request with it")
    func ownNodeDown() async throws {
      try await withNode { pve in
        try await pve.inject("node-down,for=2s,nth=1")
        #expect(try await bytes(pve, "/version") == [])
        await #expect(throws: ClientFailure.self) { try await bytes(pve, "/version") }
        try await Task.sleep(for: .milliseconds(2200))
        #expect(try await pve.call("GET", "/version", as: .token(pve)).status == 200)
      }
    }

    @Test("one of three workers dies: a third of the connections end, the others live")
    func workerDeath() async throws {
      try await withNode { pve in
        let port = pve.port
        let connections = try await blocking {
          try (0..<6).map { _ in try UncheckedBox(TestConnection(port: port)) }
        }
        // The last of them has been accepted when it is answered.
        let lines = TestCredential.token(pve).lines
        func alive(_ box: UncheckedBox<TestConnection>) async throws -> Bool {
          try await blocking {
            try? box.value.write("GET /api2/json/version HTTP/1.1\r\nHost: x\r\n\(lines)\r\n")
            return (try? box.value.read(upTo: "}}", seconds: 5)) != nil
          }
        }
        for connection in connections { #expect(try await alive(connection)) }
        try await pve.inject("kill-worker=pve1,worker=1")
        var left = 0
        for connection in connections where try await alive(connection) { left += 1 }
        #expect(left == 4)
      }
    }

    @Test(
      "a restart of pveproxy ends every connection, refuses for a moment, and tickets stay good")
    func restart() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        let port = pve.port
        let open = try await blocking { try UncheckedBox(TestConnection(port: port)) }
        try await pve.inject("restart-proxy,for=2s")
        #expect(try await blocking { open.value.readToEnd(seconds: 5) } == [])
        await #expect(throws: ClientFailure.self) { try await bytes(pve, "/version") }
        try await Task.sleep(for: .milliseconds(2200))
        #expect(try await pve.call("GET", "/version", as: root).status == 200)
      }
    }

    @Test("full ports are full on the node that is meant")
    func fullPorts() async throws {
      try await withNode(twoNodes) { pve in
        let token = TestCredential.token(pve)
        try await pve.inject("full-ports=pve2")
        _ = try await pve.mint("", "termproxy", as: token)
        try await pve.inject("full-ports=pve1")
        let full = try await pve.call("POST", "/nodes/pve1/termproxy", as: token)
        #expect(full.status == 500 && full.reason.hasPrefix("unable to find free port"))
        await pve.clearFaults()
        _ = try await pve.mint("", "termproxy", as: token)
      }
    }

    @Test("what doesn't exist can't go wrong")
    func refusals() async throws {
      try await withNode { pve in
        await #expect(throws: FaultError("there is no node 'pve9'")) {
          try await pve.inject("node-down=pve9")
        }
        await #expect(throws: FaultError("there is no guest 999")) {
          try await pve.inject("crash=999")
        }
        #expect(await pve.faults.isEmpty)
      }
    }

    // MARK: consoles

    private func echoed(_ pve: Simulator, _ messages: [String], seconds: Double = 1) async throws
      -> String
    {
      try await pve.terminal("/qemu/100", as: .token(pve)) { terminal in
        _ = try terminal.read(upTo: "serial0\r\n")
        for message in messages {
          try terminal.type(message)
          // Each is a piece of its own.
          terminal.pause(seconds: 0.15)
        }
        return terminal.everything(seconds: seconds)
      }
    }

    @Test("console bytes cut, lost, repeated and swapped, by the seed")
    func spoiledConsoles() async throws {
      let words = ["aa ", "bb ", "cc ", "dd ", "ee ", "ff "]
      func run(_ fault: Fault, seed: UInt64 = 2) async throws -> String {
        try await withNode({
          twoNodes(&$0)
          $0.faultSeed = seed
        }) { pve in
          try await pve.inject(fault)
          return try await echoed(pve, words)
        }
      }
      // `OK` and the banner count too, and come first.
      let whole = try await run("cut-console=1000000")
      #expect(whole == words.joined())
      let lost = try await run("lose-console=0.5")
      #expect(lost.count < whole.count)
      #expect(lost.split(separator: " ").allSatisfy { whole.contains($0) })
      #expect(try await run("lose-console=0.5") == lost)
      let repeated = try await run("repeat-console=1")
      #expect(repeated.hasSuffix(words.map { $0 + $0 }.joined()))
      let swapped = try await run("reorder-console=0.6")
      #expect(swapped != whole)
      #expect(Set(swapped.split(separator: " ")) == Set(whole.split(separator: " ")))
    }

    @Test("a console ends after so many bytes, and the journal knows how")
    func cutConsole() async throws {
      try await withNode(twoNodes) { pve in
        let token = TestCredential.token(pve)
        try await pve.inject("cut-console=10")
        let mint = try await pve.mint("/qemu/100", "termproxy", as: token)
        let text = try await blocking {
          let socket = try TestWebsocket(pve, mint, as: token)
          try socket.open()
          try socket.send("\(mint.user):\(mint.ticket)\n")
          var all: [UInt8] = []
          while let frame = try socket.frame(seconds: 5) { all += frame.payload }
          return String(decoding: all, as: UTF8.self)
        }
        #expect(text == "OKstarting")
        let session = try #require(pve.journal.entries.first { $0.status == 101 }?.websocket)
        #expect(session.ending == "fault" && session.bytesOut == 10 && session.duration != nil)
      }
    }

    @Test("a slow console keeps its rate")
    func rate() async throws {
      try await withNode({
        twoNodes(&$0)
        $0.guests = [.vm(100, name: "s", serial: [0: .source(bytes: 4000)])]
      }) { pve in
        try await pve.inject("console-rate=4000")
        let clock = ContinuousClock()
        let began = clock.now
        let count = try await pve.terminal("/qemu/100", as: .token(pve)) { terminal in
          _ = try terminal.read(upTo: "serial0\r\n")
          return try terminal.readCount(4000)
        }
        #expect(count == 4000)
        #expect(clock.now - began >= .milliseconds(700))
      }
    }

    @Test("manners of one console differ from the node's")
    func manners() async throws {
      try await withNode(twoNodes) { pve in
        let token = TestCredential.token(pve)
        try await pve.inject("dial=closesMidHandshake,times=1")
        try await pve.inject("bad-frame=killWorker")
        let mint = try await pve.mint("/qemu/100", "termproxy", as: token)
        let half = try await blocking {
          try TestWebsocket(pve, mint, as: token).connection.readToEnd(seconds: 5)
        }
        #expect(half?.count == 48)
        try await pve.terminal("/qemu/100", as: token) { terminal in
          _ = try terminal.read(upTo: "serial0\r\n")
          try terminal.connection.write(clientFrame(mask: nil, [1]))
          guard terminal.ends() else { throw ClientFailure(description: "alive") }
        }
      }
    }

    // MARK: reset

    @Test("a reset brings everything back, ends consoles and leaves credentials")
    func reset() async throws {
      try await withNode({
        twoNodes(&$0)
        $0.faults = ["latency=1ms,path=/version"]
      }) { pve in
        let root = try await pve.login()
        await pve.stopGuest(100)
        pve.clock.advance(seconds: 60)
        await pve.change { $0.portsExhausted = true }
        try await pve.inject("status=500,path=/nodes")
        await #expect(throws: ClientFailure.self) {
          try await pve.mint("/lxc/200", "termproxy", as: root)
        }
        await pve.change { $0.portsExhausted = false }
        try await pve.terminal("/lxc/200", as: root) { terminal in
          try terminal.type("\n")
          Task { await pve.reset() }
          guard terminal.ends(seconds: 10) else { throw ClientFailure(description: "alive") }
        }
        #expect(await pve.faults.map(\.fault) == ["latency=1ms,path=/version"])
        #expect(pve.clock.offset == 0)
        #expect(await pve.runningTasks().isEmpty)
        #expect(try await pve.call("GET", "/nodes", as: root).status == 200)
        let guest = try await pve.call("GET", "/nodes/pve1/qemu/100/status/current", as: root)
        #expect(guest.data["status"] == "running")
        #expect(pve.journal.entries.count == 2)
      }
    }
  }
}
