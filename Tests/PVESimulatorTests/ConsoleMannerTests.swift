import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("Manners of consoles")
  struct ConsoleMannerTests {
    @Test("vncterm takes several viewers of one terminal and waits a while for the next")
    func severalViewers() async throws {
      try await withNode({ $0.timings.listenerLife = .seconds(3) }) { pve in
        let root = try await pve.login()
        let mint = try await pve.mint("/lxc/200", "vncproxy", ["websocket": "1"], as: root)
        let lit = try await blocking {
          func look() throws -> TestViewer {
            let viewer = try TestViewer(pve, mint, as: root)
            guard try viewer.login(mint.password) == [0, 0, 0, 0] else {
              throw ClientFailure(description: "refused")
            }
            _ = try viewer.start()
            try viewer.socket.send([0, 0, 0, 0] + PixelFormat.qemu.bytes)
            return viewer
          }
          do {
            let first = try look()
            let second = try look()
            for key in "echo hello hello hello".unicodeScalars { try first.press(key.value) }
            try first.press(0xFF0D)
            var lit = 0
            for _ in 0..<50 where lit < 500 {
              try second.request(incremental: false)
              lit = max(lit, try second.update())
            }
          }
          // Both are gone; the screen is there a while longer, as it was.
          let third = try look()
          try third.request(incremental: false)
          return try third.update()
        }
        #expect(lit >= 500)
        #expect(try await pve.exitStatus(mint.upid, as: root) == "OK")
        let late = try await blocking {
          try TestWebsocket(pve, mint, as: root).isSilent(seconds: 0.3)
        }
        #expect(late)
      }
    }

    @Test("vncterm ends when nobody types for long, and when nobody ever comes")
    func keyboardSilence() async throws {
      try await withNode({
        $0.timings.keyboardSilence = .seconds(2)
        $0.timings.listenerLife = .seconds(2)
      }) { pve in
        let root = try await pve.login()
        let nobody = try await pve.mint("", "vncshell", ["websocket": "1"], as: root)
        #expect(try await pve.exitStatus(nobody.upid, as: root) == "OK")
        let mint = try await pve.mint("", "vncshell", ["websocket": "1"], as: root)
        let ended = try await blocking {
          let viewer = try TestViewer(pve, mint, as: root)
          _ = try viewer.login(mint.password)
          _ = try viewer.start()
          return viewer.socket.ends()
        }
        #expect(ended)
      }
    }

    @Test("root may choose what the node's shell runs, others get the login prompt or a refusal")
    func commands() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        let alice = try await pve.login("alice@pve")
        let text = try await pve.terminal("", ["cmd": "upgrade"], as: root) {
          try $0.read(upTo: "root@pve1:")
        }
        #expect(text.hasPrefix("Starting system upgrade: apt-get dist-upgrade\r\n"))
        #expect(text.contains("Your System is up-to-date\r\n"))
        try await pve.terminal("", ["cmd": "upgrade"], as: alice) {
          _ = try $0.read(upTo: "pve1 login: ")
        }
        let refused = try await pve.call(
          "POST", "/nodes/pve1/vncshell", ["cmd": "upgrade"], as: alice)
        #expect(refused.reason == "Permission check failed (user != root@pam)")
        let alone = try await pve.call(
          "POST", "/nodes/pve1/termproxy", ["cmd-opts": "x"], as: root)
        #expect(alone.status == 400)
        let mint = try await pve.mint("", "termproxy", ["cmd": "ceph_install"], as: root)
        let killed = await pve.killTask(mint.upid)
        #expect(killed)
      }
    }

    @Test("SPICE: what remote-viewer reads, with a ticket of the era's form")
    func spice() async throws {
      for era in [Era.v9_1, .v9_2] {
        try await withNode({ $0.era = era }) { pve in
          let root = try await pve.login()
          let shell = try await pve.call("POST", "/nodes/pve1/spiceshell", as: root)
          #expect(shell.data["type"] == "spice")
          #expect(shell.data["title"] == "Shell on 'pve1'")
          #expect(shell.data["proxy"] == "http://pve1.simulated:3128")
          #expect(shell.data["tls-port"] == 61_000)
          let host = shell.data["host"]?.asText ?? ""
          let port = era.isHardened ? ":61000" : ""
          let pattern = try Regex("pvespiceproxy:[0-9a-f]{8}:0:pve1\(port)::[0-9a-f]{40}")
          #expect(host.wholeMatch(of: pattern) != nil, "\(host)")
          let container = try await pve.call(
            "POST", "/nodes/pve1/lxc/200/spiceproxy", ["proxy": "::1"], as: root)
          #expect(container.data["title"] == "CT 200 - ct200")
          #expect(container.data["proxy"] == "http://[::1]:3128")
          #expect(container.data["tls-port"] == 61_001)
          let none = try await pve.call("POST", "/nodes/pve1/qemu/100/spiceproxy", as: root)
          #expect(none.reason == "no spice port")
          let token = try await pve.call("POST", "/nodes/pve1/spiceshell", as: .token(pve))
          #expect(token.status == 500)
        }
      }
    }

    @Test("a guest on another node: the port is here, ssh reaches it, and says so when it can't")
    func otherNode() async throws {
      try await withNode({
        $0.otherNodes = ["pve2"]
        var guest = SimulatedGuest.vm(300, name: "far", serial: [0: .shell])
        guest.node = "pve2"
        $0.guests.append(guest)
      }) { pve in
        let root = try await pve.login()
        func read(_ mint: TestWebsocket.Mint, _ marker: String) async throws {
          try await blocking {
            let socket = try TestWebsocket(port: pve.port, node: "pve2", mint, as: root)
            try socket.open()
            try socket.send("\(mint.user):\(mint.ticket)\n")
            _ = try socket.read(upTo: "OK")
            _ = try socket.read(upTo: marker)
          }
        }
        func mint(_ place: String) async throws -> TestWebsocket.Mint {
          try await pve.mint(place, "termproxy", as: root, node: "pve2")
        }
        let far = try await mint("/qemu/300")
        #expect(far.upid.hasPrefix("UPID:pve1:"))
        try await read(far, "starting serial terminal on interface serial0")
        try await read(try await mint(""), "root@pve2:")
        await pve.set(.unreachable, ofNode: "pve2")
        try await read(
          try await mint("/qemu/300"), "ssh: connect to host pve2 port 22: No route to host")
      }
    }

    @Test("a program that runs when the listener waits in vain: the task says what termproxy says")
    func taskTexts() async throws {
      try await withNode({
        $0.timings.listenerLife = .seconds(2)
        $0.timings.loginLine = .milliseconds(200)
      }) { pve in
        let root = try await pve.login()
        func log(_ upid: String) async throws -> [String] {
          _ = try await pve.exitStatus(upid, as: root)
          let answer = try await pve.call(
            "GET", "/nodes/pve1/tasks/\(TestWebsocket.encoded(upid))/log", as: root)
          return answer.data.items.compactMap { $0["t"]?.asText }
        }
        let unused = try await pve.mint("", "termproxy", as: root)
        let lines = try await log(unused.upid)
        #expect(lines.first == "failed waiting for client: timed out")
        #expect(
          lines.last
            == "TASK ERROR: command '/usr/bin/termproxy \(unused.port) --path /nodes/pve1 --perm "
            + "Sys.Console --vncticket-endpoint --verify-port --ticket-fd 6 -- /bin/login -f root' "
            + "failed: exit code 1")
        let silent = try await pve.mint("/lxc/200", "termproxy", as: root)
        try await blocking {
          let socket = try TestWebsocket(pve, silent, as: root)
          try socket.open()
          guard socket.ends() else { throw ClientFailure(description: "open") }
        }
        #expect(try await log(silent.upid).first == "failed reading ticket: timed out")
      }
    }

    @Test("a terminal begins with 80 by 20 and xterm-256color, and OK comes with the first output")
    func beginning() async throws {
      try await withNode({ $0.guests = [.vm(100, name: "e", serial: [0: .echo])] }) { pve in
        let root = try await pve.login()
        let text = try await pve.terminal("", as: root) { terminal in
          _ = try terminal.read(upTo: "root@pve1:")
          try terminal.type("stty size; echo $TERM $((40+2))\n")
          return try terminal.read(upTo: " 42\r\n")
        }
        #expect(text.contains("20 80\r\n"))
        #expect(text.hasSuffix("xterm-256color 42\r\n"))
        let mint = try await pve.mint("/qemu/100", "termproxy", as: root)
        let first = try await blocking {
          let socket = try TestWebsocket(pve, mint, as: root)
          try socket.open()
          try socket.send("\(mint.user):\(mint.ticket)\n")
          return String(decoding: try socket.frame()?.payload ?? [], as: UTF8.self)
        }
        #expect(first == "OKstarting serial terminal on interface serial0\r\n")
      }
    }

    @Test("a container's session tells everybody its end, and the next one begins anew")
    func containerEnds() async throws {
      try await withNode({ $0.era = .v8_4 }) { pve in
        let root = try await pve.login()
        let mint = try await pve.mint("/lxc/200", "termproxy", as: root)
        try await pve.terminal("/lxc/200", as: root) { first in
          _ = try first.read(upTo: "root@ct200:")
          let second = try TestWebsocket(pve, mint, as: root)
          try second.open()
          try second.send("\(mint.user):\(mint.ticket)\n")
          _ = try second.read(upTo: "\u{1B}[H\u{1B}[J")
          try second.type("left=behind; exit\n")
          for client in [first, second] {
            _ = try client.read(upTo: "[EOF - dtach terminating]\r\n")
            guard client.ends() else { throw ClientFailure(description: "open") }
          }
        }
        try await pve.terminal("/lxc/200", as: root) { terminal in
          _ = try terminal.read(upTo: "root@ct200:")
          try terminal.type("echo it-is-${left:-gone}\n")
          _ = try terminal.read(upTo: "it-is-gone")
        }
      }
    }
  }
}
