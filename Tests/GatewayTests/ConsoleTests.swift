import ConsoleProtocol
import EventLoop
import ProxmoxClient
import Testing

@testable import Gateway

@Suite("Consoles from link to ending", .serialized)
struct ConsoleTests {
  @Test("a terminal opens, echoes, counts its bytes and ends as viewer-left")
  func terminal() async throws {
    try await TestBed.with { bed in
      let (id, token) = try await bed.link("lxc/200")
      do {
        let viewer = try await RawViewer.open(bed.port, token: token)
        let ready = try await viewer.message()
        #expect(ready["type"].string == "ready")
        #expect(ready["session"].string == id)
        #expect(ready["name"].string == "ct1")
        #expect(try await viewer.next() == .binary(Array("welcome".utf8)))
        try await viewer.send(binary: Array("ls\n".utf8))
        #expect(try await viewer.next() == .binary(Array("ls\n".utf8)))
        let open = try await bed.session(id, in: "open")
        #expect(open["node"].string == "pve1")
        #expect(open["bytesToViewer"] == .int(10))
        #expect(open["bytesFromViewer"] == .int(3))
      }
      let ended = try await bed.session(id, in: "ended")
      #expect(ended["ending"]["kind"].string == "viewer-left")
      #expect(ended["ending"]["code"] == .int(4000))
      #expect(bed.lines.all.contains { $0.contains("console ended") && $0.contains("viewer-left") })
    }
  }

  @Test("a used, an unknown and an expired link each say so")
  func links() async throws {
    try await TestBed.with { bed in
      let (_, token) = try await bed.link("lxc/200")
      let first = try await RawViewer.open(bed.port, token: token)
      #expect(try await first.message()["type"].string == "ready")
      let second = try await RawViewer.open(bed.port, token: token)
      let message = try await second.message()
      #expect(message["kind"].string == "link-used")
      #expect(try await second.closed().code == 4701)
      let forged = try await RawViewer.open(bed.port, token: String(repeating: "A", count: 43))
      #expect(try await forged.message()["kind"].string == "link-unknown")
      let (id, late) = try await bed.link("lxc/200", more: ",\"ttl\":0.05")
      try await Task.sleep(for: .milliseconds(120))
      let expired = try await RawViewer.open(bed.port, token: late)
      #expect(try await expired.message()["kind"].string == "link-expired")
      let shown = try await bed.session(id, in: "ended")
      #expect(shown["ending"]["kind"].string == "link-expired")
      withExtendedLifetime(first) {}
    }
  }

  @Test(
    "what can't be opened is said before anything is minted",
    arguments: [
      ("qemu/101", "vnc", "guest-not-running", "guest"),
      ("qemu/101", "terminal", "guest-not-running", "guest"),
      ("qemu/102", "terminal", "no-serial-port", "guest"),
      ("qemu/100", "serial2", "no-serial-port", "guest"),
    ])
  func checks(target: String, console: String, kind: String, hop: String) async throws {
    try await TestBed.with { bed in
      let (id, token) = try await bed.link(target, console: console)
      let viewer = try await RawViewer.open(bed.port, token: token)
      let message = try await viewer.message()
      #expect(message["type"].string == "ended")
      #expect(message["kind"].string == kind)
      #expect(message["hop"].string == hop)
      #expect(message["remedy"].string?.isEmpty == false)
      let (code, reason) = try await viewer.closed()
      #expect((4100...4103).contains(code))
      #expect(reason.hasPrefix("\(kind): "))
      let ended = try await bed.session(id, in: "ended")
      #expect(ended["ending"]["kind"].string == kind)
      let asked = bed.pve.state.withLock { $0.asked }
      #expect(!asked.contains { $0.hasPrefix("POST") })
    }
  }

  @Test("who may not look at a guest may still open its console")
  func noAudit() async throws {
    try await TestBed.with { bed in
      bed.pve.change { $0.lookFails = (403, "Permission check failed (/vms/100, VM.Audit)") }
      let (_, token) = try await bed.link("qemu/100", console: "terminal")
      let viewer = try await RawViewer.open(bed.port, token: token)
      #expect(try await viewer.message()["type"].string == "ready")
    }
  }

  @Test(
    "what PVE says to the mint becomes the ending",
    arguments: [
      (403, "Permission check failed (/vms/200, VM.Console)", "permission-denied", "VM.Console"),
      (500, "unable to find free port (5900-6000)", "ports-exhausted", "100 console ports"),
      (500, "Timeout while waiting for port '5900' to get ready!", "worker-timeout", ""),
      (595, "Connection refused", "node-unreachable", ""),
      (401, "No ticket", "ticket-rejected", ""),
      (500, "some new failure", "api-error", ""),
    ])
  func mintFails(status: Int, message: String, kind: String, remedy: String) async throws {
    try await TestBed.with { bed in
      bed.pve.change { $0.mintFails = (status, message) }
      let (_, token) = try await bed.link("lxc/200")
      let viewer = try await RawViewer.open(bed.port, token: token)
      let ended = try await viewer.message()
      #expect(ended["kind"].string == kind)
      #expect(remedy.isEmpty || ended["remedy"].string?.contains(remedy) == true)
    }
  }

  @Test("a shell that ends, a guest that stops and a worker that fails are told apart")
  func endings() async throws {
    let cases: [(@Sendable (inout FakePVE.State) -> Void, String, String)] = [
      ({ _ in }, "worker-exited", "worker"),
      ({ $0.guests[200]?.status = "stopped" }, "guest-stopped", "guest"),
      ({ $0.guests[200] = nil }, "guest-not-found", "guest"),
      (
        {
          $0.exitStatus = "error reading from pty"
          $0.log = ["bad ticket PVEVNC:65000000::c2ln", "error reading from pty"]
        }, "worker-exited", "worker"
      ),
    ]
    for (change, kind, hop) in cases {
      try await TestBed.with { bed in
        bed.pve.change {
          $0.worker = .endsOnInput
          $0.onInput = change
        }
        let (_, token) = try await bed.link("lxc/200")
        let viewer = try await RawViewer.open(bed.port, token: token)
        #expect(try await viewer.message()["type"].string == "ready")
        try await viewer.send(binary: Array("exit\n".utf8))
        let ended = try await viewer.message()
        #expect(ended["kind"].string == kind)
        #expect(ended["hop"].string == hop)
        #expect(!ended.description.contains("c2ln"))
        if kind == "worker-exited", hop == "worker" {
          #expect(ended["details"].array?.isEmpty == false)
        }
      }
    }
  }

  @Test("a dial that PVE fails is tried on a fresh mint, then explained by the worker's log")
  func workerLog() async throws {
    try await TestBed.with({ configuration, _ in configuration.limits.relay.attempts = 2 }) { bed in
      bed.pve.change {
        $0.worker = .refuses(500)
        $0.log = ["connection timed out"]
        $0.exitStatus = "command failed"
      }
      let (_, token) = try await bed.link("lxc/200")
      let viewer = try await RawViewer.open(bed.port, token: token)
      let ended = try await viewer.message()
      #expect(ended["kind"].string == "worker-timeout")
      #expect(ended["details"].array == [.string("connection timed out")])
      let mints = bed.pve.state.withLock { $0.asked.filter { $0.hasPrefix("POST") }.count }
      #expect(mints == 2)
    }
  }

  @Test("a terminal's worker that closes without a word did not take the ticket")
  func refusedTicket() async throws {
    try await TestBed.with { bed in
      bed.pve.change {
        $0.worker = .closes
        $0.log = ["authentication request failed: 401"]
        $0.exitStatus = "command failed"
      }
      let (_, token) = try await bed.link("lxc/200")
      let viewer = try await RawViewer.open(bed.port, token: token)
      #expect(try await viewer.message()["kind"].string == "ticket-rejected")
      #expect(bed.pve.state.withLock { $0.asked.filter { $0.hasPrefix("POST") }.count } == 1)
    }
  }

  @Test("a worker that outlives its console is stopped")
  func reaped() async throws {
    try await TestBed.with { bed in
      bed.pve.change { $0.taskRuns = true }
      let (id, token) = try await bed.link("lxc/200")
      do {
        let viewer = try await RawViewer.open(bed.port, token: token)
        _ = try await viewer.message()
      }
      _ = try await bed.session(id, in: "ended")
      var stopped = false
      for _ in 0..<200 where !stopped {
        try await Task.sleep(for: .milliseconds(50))
        stopped = bed.pve.state.withLock { $0.asked.contains { $0.hasPrefix("DELETE") } }
      }
      #expect(stopped)
    }
  }

  @Test("an operator ends an open console")
  func operatorEnds() async throws {
    try await TestBed.with { bed in
      let (id, token) = try await bed.link("lxc/200")
      let viewer = try await RawViewer.open(bed.port, token: token)
      _ = try await viewer.message()
      #expect(try await bed.call("DELETE", "/v1/consoles/\(id)").status == 204)
      #expect(try await viewer.message()["kind"].string == "closed-by-operator")
      #expect(try await viewer.closed().code == 4604)
      #expect(try await bed.session(id, in: "ended")["state"].string == "ended")
    }
  }

  @Test("stopping ends every session as server-shutdown")
  func shutdown() async throws {
    try await TestBed.with { bed in
      let (_, token) = try await bed.link("lxc/200")
      let viewer = try await RawViewer.open(bed.port, token: token)
      _ = try await viewer.message()
      await bed.gateway.stop(grace: .seconds(5))
      #expect(try await viewer.message()["kind"].string == "server-shutdown")
      #expect(try await viewer.closed().code == 4603)
    }
  }

  @Test("ended sessions are forgotten when there are many, and nothing of a session stays behind")
  func history() async throws {
    try await TestBed.with({ configuration, _ in configuration.limits.history = 3 }) { bed in
      var ids: [String] = []
      for _ in 0..<6 {
        let (id, token) = try await bed.link("lxc/200")
        let viewer = try await RawViewer.open(bed.port, token: token)
        _ = try await viewer.message()
        #expect(try await bed.call("DELETE", "/v1/consoles/\(id)").status == 204)
        _ = try await viewer.closed()
        _ = try await bed.session(id, in: "ended")
        ids.append(id)
      }
      #expect(try await bed.call("GET", "/v1/consoles/\(ids[0])").status == 404)
      #expect(try await bed.call("GET", "/v1/consoles/\(ids[5])").status == 200)
      #expect(try await bed.call("GET", "/v1/consoles").json["consoles"].array?.count ?? 9 <= 3)
    }
  }

  @Test("sessions that ended leave their seats: with three, fifty come one after another")
  func seats() async throws {
    try await TestBed.with({ configuration, _ in configuration.limits.maximumSessions = 3 }) {
      bed in
      for i in 0..<50 {
        let (id, token) = try await bed.link("lxc/200")
        do {
          let viewer = try await RawViewer.open(bed.port, token: token)
          #expect(try await viewer.message()["type"].string == "ready", "\(i)")
        }
        _ = try await bed.session(id, in: "ended")
      }
    }
  }
}
