import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("A cluster of several nodes")
  struct ForwardingTests {
    /// Two nodes; VM 300 is on the second.
    private func withTwo(
      forwarding: Duration = .seconds(2), _ body: (Simulator) async throws -> Void
    ) async throws {
      var configuration = SimulatorConfiguration()
      configuration.clusterName = "two"
      configuration.otherNodes = ["pve2"]
      configuration.timings = .impatient
      configuration.timings.forwarding = forwarding
      var away = SimulatedGuest.vm(300, name: "away", serial: [0: .echo])
      away.node = "pve2"
      configuration.guests.append(away)
      let pve = try await PVESimulator.start(configuration)
      try await body(pve)
      await pve.shutdown()
    }

    @Test("each node has a port and a certificate of its own, and the same logins and tokens")
    func nodes() async throws {
      try await withTwo { pve in
        #expect(pve.nodes.map(\.name) == ["pve1", "pve2"])
        #expect(Set(pve.nodes.map(\.port)).count == 2)
        #expect(Set(pve.nodes.map(\.fingerprint)).count == 2)
        let ticket = try await pve.login()
        for node in pve.nodes {
          let answer = try await pve.call("GET", "/version", as: ticket, port: node.port)
          #expect(answer.status == 200)
        }
      }
    }

    @Test("a call for the other node is passed on, whichever node was asked")
    func passedOn() async throws {
      try await withTwo { pve in
        let token = TestCredential.token(pve)
        for node in pve.nodes {
          let answer = try await pve.call(
            "GET", "/nodes/pve2/qemu/300/config", as: token, port: node.port)
          #expect(answer.status == 200)
          #expect(answer.data["name"]?.asText == "away")
        }
        let wrong = try await pve.call("GET", "/nodes/pve1/qemu/300/config", as: token)
        #expect(wrong.status == 500)
        #expect(
          wrong.reason == "Configuration file 'nodes/pve1/qemu-server/300.conf' does not exist")
        let unknown = try await pve.call("GET", "/nodes/pve9/qemu/300/config", as: token)
        #expect(unknown.status == 500)
        #expect(unknown.reason.hasPrefix("hostname lookup 'pve9' failed"))
      }
    }

    @Test("a call that was passed on already is not passed on again")
    func loop() async throws {
      try await withTwo { pve in
        let answer = try await pve.call(
          "GET", "/nodes/pve2/qemu/300/config", as: .token(pve),
          headers: "PVEDisableProxy: true\r\n")
        #expect(answer.status == 500)
        #expect(answer.reason == "proxy loop detected")
      }
    }

    @Test(
      "a node that is down is a 595 without a body, one that never answers a 596",
      arguments: [
        (Reachability.refused, 595, "Connection refused"),
        (.unreachable, 595, "No route to host"), (.hanging, 596, "Connection timed out"),
      ])
    func down(how: Reachability, status: Int, reason: String) async throws {
      try await withTwo { pve in
        let token = TestCredential.token(pve)
        await pve.set(how, ofNode: "pve2")
        let answer = try await pve.call("GET", "/nodes/pve2/qemu/300/config", as: token)
        #expect(answer.status == status)
        #expect(answer.reason == reason)
        #expect(answer.body.isEmpty)
        let other = pve.nodes[1].port
        await #expect(throws: (any Error).self) {
          _ = try await pve.call("GET", "/version", as: token, port: other, seconds: 1)
        }
        await pve.set(.up, ofNode: "pve2")
        let again = try await pve.call("GET", "/nodes/pve2/qemu/300/config", as: token)
        #expect(again.status == 200)
      }
    }

    @Test("a console is open on the node that was asked, wherever its guest is, and nowhere else")
    func consolesAreNotPassedOn() async throws {
      try await withTwo { pve in
        let token = TestCredential.token(pve)
        let elsewhere = try await pve.mint(
          "/qemu/300", "termproxy", as: token, node: "pve2", port: pve.port)
        #expect(elsewhere.upid.hasPrefix("UPID:pve1:"))
        let echoed = try await blocking { [first = pve.port] in
          let terminal = try TestWebsocket(port: first, node: "pve2", elsewhere, as: token)
          try terminal.open()
          try terminal.send("\(elsewhere.user):\(elsewhere.ticket)\n")
          _ = try terminal.read(upTo: "OK")
          try terminal.type("over-the-river")
          return try terminal.read(upTo: "over-the-river")
        }
        #expect(echoed.contains("over-the-river"))
        let second = try await pve.mint(
          "/qemu/300", "termproxy", as: token, node: "pve2", port: pve.port)
        let answered = try await blocking { [other = pve.nodes[1].port] in
          let terminal = try TestWebsocket(port: other, node: "pve2", second, as: token)
          return terminal.connection.readSome(seconds: 1)
        }
        #expect(answered?.isEmpty == true, "the port is open on the other node only")
      }
    }
  }
}
