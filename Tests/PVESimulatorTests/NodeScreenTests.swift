import ConsoleProtocol
import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("The node's screens, through TLS and websockets")
  struct NodeScreenTests {
    @Test("a VM's screen shows what is typed, and draws what is dragged, for all who look")
    func screen() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        let one = try await pve.mint("/qemu/100", "vncproxy", ["websocket": "1"], as: token)
        #expect(one.password.utf8.count == 8)
        #expect(one.ticket.hasPrefix(one.password + ":PVEVNC:"))
        let (title, sizes, lit) = try await blocking {
          let viewer = try TestViewer(pve, one, as: token)
          _ = try viewer.login(one.password)
          let title = try viewer.start()
          try viewer.request(incremental: false)
          let first = try viewer.update()
          for key in "hello".unicodeScalars { try viewer.press(key.value) }
          try viewer.press(0xFF0D)
          try viewer.request(incremental: true)
          let second = try viewer.update()
          try viewer.socket.send([5, 0, 0, 100, 1, 0])
          try viewer.socket.send([5, 1, 2, 100, 1, 50])
          try viewer.request(incremental: true)
          return (title, [viewer.width, viewer.height], [first, second, try viewer.update()])
        }
        #expect(title == "QEMU (web1)")
        #expect(sizes == [800, 600])
        #expect(lit.allSatisfy { $0 > 0 })
        #expect(await pve.screenText(vmid: 100).contains("5 characters: hello"))
        #expect(await pve.screenText(vmid: 101) == [])
      }
    }

    @Test("one password a VM: the second connection's replaces the first's, and sessions go on")
    func onePassword() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        var mints: [TestWebsocket.Mint] = []
        for _ in 0..<3 {
          mints.append(try await pve.mint("/qemu/100", "vncproxy", ["websocket": "1"], as: token))
        }
        let all = mints
        let results = try await blocking {
          let old = try TestViewer(pve, all[0], as: token)
          let before = try old.login(all[0].password)
          _ = try old.start()
          let first = try TestViewer(pve, all[1], as: token)
          let second = try TestViewer(pve, all[2], as: token)
          let good = try second.login(all[2].password)
          let bad = try first.login(all[1].password)
          let length = Int(try first.socket.read(4)[3])
          let reason = String(decoding: try first.socket.read(length), as: UTF8.self)
          let ends = first.socket.ends()
          _ = try second.start()
          try old.request(incremental: false)
          return (before, good, bad, reason, ends, try old.update())
        }
        #expect(results.0 == [0, 0, 0, 0])
        #expect(results.1 == [0, 0, 0, 0])
        #expect(results.2 == [0, 0, 0, 1])
        #expect(results.3 == "Authentication failed")
        #expect(results.4)
        #expect(results.5 > 0)
      }
    }

    @Test(
      "a stopped VM: mint and upgrade succeed, then the end without a banner, and the task says why"
    )
    func stopped() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        let mint = try await pve.mint("/qemu/102", "vncproxy", ["websocket": "1"], as: token)
        let ended = try await blocking {
          let socket = try TestWebsocket(pve, mint, as: token)
          try socket.open()
          return socket.ends()
        }
        #expect(ended)
        #expect(try await pve.exitStatus(mint.upid, as: token) == "Failed to run vncproxy.")
        let log = try await pve.call(
          "GET", "/nodes/pve1/tasks/\(TestWebsocket.encoded(mint.upid))/log", as: token)
        #expect(
          log.data.items.first?["t"]
            == "VM 102 qmp command 'set_password' failed - VM 102 not running")
      }
    }

    @Test("a guest that stops ends its screens and terminals")
    func stopping() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        let mint = try await pve.mint("/qemu/100", "vncproxy", ["websocket": "1"], as: token)
        let viewer = try await blocking {
          let viewer = try TestViewer(pve, mint, as: token)
          _ = try viewer.login(mint.password)
          _ = try viewer.start()
          return UncheckedBox(viewer)
        }
        let answer = try await pve.call("POST", "/nodes/pve1/qemu/100/status/stop", as: token)
        #expect(answer.status == 200)
        #expect(try await blocking { viewer.value.socket.ends() })
        #expect(try await pve.exitStatus(answer.data.asText ?? "", as: token) == "OK")
        let status = try await pve.call("GET", "/nodes/pve1/qemu/100/status/current", as: token)
        #expect(status.data["status"] == "stopped")
      }
    }

    @Test("silence ends a screen; a message that isn't RFB ends it at once")
    func silence() async throws {
      try await withNode({ $0.timings.screenSilence = .seconds(2) }) { pve in
        let token = TestCredential.token(pve)
        for message: [UInt8] in [[], [99], [255, 7]] {
          let mint = try await pve.mint("/qemu/101", "vncproxy", ["websocket": "1"], as: token)
          let ended = try await blocking {
            let viewer = try TestViewer(pve, mint, as: token)
            _ = try viewer.login(mint.password)
            _ = try viewer.start()
            if !message.isEmpty { try viewer.socket.send(message) }
            return viewer.socket.ends()
          }
          #expect(ended)
        }
      }
    }

    @Test("a container's and the node's shell are pictures of terminals")
    func textScreens() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        for (place, kind) in [("/lxc/200", "vncproxy"), ("", "vncshell")] {
          let mint = try await pve.mint(
            place, kind, ["websocket": "1", "width": "800", "height": "480"], as: root)
          let (title, size, lit) = try await blocking {
            let viewer = try TestViewer(pve, mint, as: root)
            _ = try viewer.login(mint.password)
            let title = try viewer.start()
            // vncterm's own format has a byte a pixel; viewers ask for another.
            try viewer.socket.send([0, 0, 0, 0] + PixelFormat.qemu.bytes)
            for key in "echo hi".unicodeScalars { try viewer.press(key.value) }
            try viewer.press(0xFF0D)
            var lit = 0
            for _ in 0..<50 where lit < 500 {
              try viewer.request(incremental: false)
              lit = max(lit, try viewer.update())
            }
            return (title, [viewer.width, viewer.height], lit)
          }
          #expect(title == "VNC Command Terminal")
          #expect(size == [800, 480])
          #expect(lit >= 500)
        }
      }
    }
  }
}

extension NodeTests {
  @Suite("The node as a whole")
  struct NodeLifeTests {
    @Test("it starts quickly, says what it is, and refuses nonsense")
    func starting() async throws {
      let first = try await PVESimulator.start(SimulatorConfiguration())
      let second = try await PVESimulator.start(SimulatorConfiguration())
      #expect(first.port != second.port)
      #expect(first.fingerprint == second.fingerprint)
      #expect(first.banner.contains("run real programs"))
      #expect(first.rootPassword != second.rootPassword)
      var taken = SimulatorConfiguration()
      taken.port = first.port
      await #expect(throws: SimulatorError.self) { try await PVESimulator.start(taken) }
      var fresh = SimulatorConfiguration()
      fresh.freshCertificate = true
      let third = try await PVESimulator.start(fresh)
      #expect(third.fingerprint != first.fingerprint)
      for pve in [first, second, third] { await pve.shutdown() }
      // Twice does no harm, and questions afterwards have answers.
      await first.shutdown()
      #expect(await first.runningTasks() == [])
      for bad in [
        SimulatedGuest.vm(5, name: "x"), .vm(100, name: "x", serial: [7: .echo]),
        .container(1_000_000_000, name: "y"),
      ] {
        var configuration = SimulatorConfiguration()
        configuration.guests = [bad]
        await #expect(throws: SimulatorError.self) { try await PVESimulator.start(configuration) }
      }
    }

    @Test("three hundred sessions leave no connection, task or process behind")
    func leaks() async throws {
      try await withNode({ $0.guests = [.vm(100, name: "e", serial: [0: .echo])] }) { pve in
        let token = TestCredential.token(pve)
        for _ in 0..<300 {
          try await pve.terminal("/qemu/100", as: token) { _ = try $0.read(upTo: "serial0\r\n") }
        }
        var counts = await pve.counts()
        for _ in 0..<200 where counts.connections > 0 {
          try await Task.sleep(for: .milliseconds(10))
          counts = await pve.counts()
        }
        #expect(counts == (0, 0))
        #expect(await pve.runningTasks() == [])
      }
    }
  }
}
