import ConsoleProtocol
import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("The consoles of every era")
  struct EraConsoleTests {
    private func withEra<R: Sendable>(
      _ era: Era, _ change: (inout SimulatorConfiguration) -> Void = { _ in },
      _ body: (Simulator) async throws -> R
    ) async throws -> R {
      try await withNode(
        {
          $0.era = era
          change(&$0)
        }, body)
    }

    private func taskLog(_ pve: Simulator, _ upid: String) async throws -> [String] {
      let answer = try await pve.call(
        "GET", "/nodes/pve1/tasks/\(TestWebsocket.encoded(upid))/log", as: .token(pve))
      return answer.data.items.compactMap { $0["t"]?.asText }
    }

    @Test("versions", arguments: Era.allCases)
    func versions(_ era: Era) async throws {
      try await withEra(era) { pve in
        let answer = try await pve.call("GET", "/version", as: .token(pve))
        #expect(answer.data["version"]?.asText == era.version)
        #expect(answer.data["release"]?.asText == era.release)
        let missing = try await pve.call("GET", "/nodes/pve1/qemu/999/config", as: .token(pve))
        #expect(missing.status == 500)
        #expect((missing.json["message"] != nil) == era.errorBodiesHaveMessages)
      }
    }

    @Test("screens: who is told a password, what the ticket looks like, what logs in")
    func passwords() async throws {
      for era in Era.allCases {
        try await withEra(era) { pve in
          let root = try await pve.login()
          let always = era.isHardened
          let cases: [(place: String, kind: String, form: [String: String], told: Bool)] = [
            ("/qemu/100", "vncproxy", ["websocket": "1"], always),
            ("/qemu/100", "vncproxy", [:], always),
            ("/qemu/100", "vncproxy", ["websocket": "1", "generate-password": "1"], true),
            ("/lxc/200", "vncproxy", ["websocket": "1"], always),
            ("", "vncshell", ["websocket": "1"], always), ("/lxc/200", "vncproxy", [:], false),
            ("", "vncshell", [:], false),
          ]
          for (place, kind, form, told) in cases {
            let mint = try await pve.mint(place, kind, form, as: root)
            #expect(mint.password.utf8.count == (told ? 8 : 0), "\(era) \(place) \(form)")
            let bare = mint.ticket.hasPrefix("PVEVNC:")
            #expect(bare == !(always && told), "\(era) \(place) \(form)")
            // Without websocket=1 vncterm doesn't ask for a password.
            guard kind != "vncshell" && !place.hasPrefix("/lxc") || form["websocket"] == "1" else {
              continue
            }
            let password = told ? mint.password : String(mint.ticket.prefix(8))
            let result = try await blocking {
              try TestViewer(pve, mint, as: root).login(password)
            }
            #expect(result == [0, 0, 0, 0], "\(era) \(place) \(form)")
          }
          // The whole ticket is as good as its first eight characters.
          let mint = try await pve.mint("/qemu/101", "vncproxy", ["websocket": "1"], as: root)
          #expect(
            try await blocking { try TestViewer(pve, mint, as: root).login(mint.ticket) }
              == [0, 0, 0, 0])
        }
      }
    }

    @Test("tickets are bound to their port since April 2026")
    func ports() async throws {
      for era in Era.allCases {
        try await withEra(era) { pve in
          let token = TestCredential.token(pve)
          let mint = try await pve.mint("/qemu/100", "vncproxy", ["websocket": "1"], as: token)
          let path = "/nodes/pve1/qemu/100/vncwebsocket?vncticket="
          let other = try await pve.call(
            "GET", path + TestWebsocket.encoded(mint.ticket) + "&port=5950", as: token)
          #expect(other.status == (era.isHardened ? 401 : 200), "\(era)")
          let right = try await pve.call(
            "GET", path + TestWebsocket.encoded(mint.ticket) + "&port=\(mint.port)", as: token)
          #expect(right.body == "{\"data\":{\"port\":\"\(mint.port)\"}}")
        }
      }
    }

    @Test(
      "terminals by ticket open in every era; by token they open, close silently, or are no mint")
    func terminals() async throws {
      for era in Era.allCases {
        try await withEra(era) { pve in
          let root = try await pve.login()
          let token = TestCredential.token(pve)
          let places = [
            ("/qemu/100", "serial0\r\n"), ("/lxc/200", "root@ct200:"), ("", "root@pve1:"),
          ]
          for (place, marker) in places {
            try await pve.terminal(place, as: root) { _ = try $0.read(upTo: marker) }
          }
          if era.tokensOpenNodeTerminals {
            try await pve.terminal("", as: token) { _ = try $0.read(upTo: "pve1 login: ") }
          } else {
            for call in [
              try await pve.call("POST", "/nodes/pve1/termproxy", as: token),
              try await pve.call(
                "GET", "/nodes/pve1/vncwebsocket?port=5900&vncticket=x", as: token),
            ] {
              #expect(call.status == 500)
              #expect(
                call.reason
                  == "value 'root@pam!sallyport' does not look like a valid user name")
            }
          }
          let shell = try await pve.call("POST", "/nodes/pve1/vncshell", as: token)
          #expect(shell.status == 500)
          for (place, marker) in places where !place.isEmpty {
            if era.tokensOpenGuestTerminals {
              try await pve.terminal(place, as: token) {
                // A shell draws its prompt again only when its window changed.
                try $0.type("\n")
                _ = try $0.read(upTo: marker)
              }
              continue
            }
            let mint = try await pve.mint(place, "termproxy", as: token)
            #expect(mint.user == "root@pam!sallyport")
            let bytes = try await blocking {
              let socket = try TestWebsocket(pve, mint, as: token)
              try socket.open()
              try socket.send("\(mint.user):\(mint.ticket)\n")
              return socket.connection.readToEnd(seconds: 5)
            }
            #expect(bytes == [], "\(era) \(place)")
            let exit = try await pve.exitStatus(mint.upid, as: token)
            #expect(exit?.contains("--vncticket-endpoint") == false)
            #expect(try await taskLog(pve, mint.upid).first == "authentication request failed")
          }
        }
      }
    }

    @Test("before April 2026 any ticket of the user opens a terminal, after it only the minted one")
    func pinning() async throws {
      for era in [Era.v8_4, .v8_4_2026, .v9_1, .v9_2] {
        try await withEra(era) { pve in
          let root = try await pve.login()
          let mints = [
            try await pve.mint("/lxc/200", "termproxy", as: root),
            try await pve.mint("/lxc/200", "termproxy", as: root),
          ]
          let answer = try await blocking {
            let socket = try TestWebsocket(pve, mints[0], as: root)
            try socket.open()
            // The other mint's ticket: the same user and path, another port.
            try socket.send("\(mints[1].user):\(mints[1].ticket)\n")
            return try socket.frame()?.payload.prefix(2)
          }
          #expect(answer == (era.isHardened ? nil : Array("OK".utf8)[...]), "\(era)")
        }
      }
    }

    @Test("the node's shell is pam's users' only in PVE 7; others get a login prompt")
    func realms() async throws {
      for era in [Era.v7_4, .v8_4, .v9_2] {
        try await withEra(era) { pve in
          let alice = try await pve.login("alice@pve")
          if era == .v7_4 {
            for step in ["termproxy", "vncshell"] {
              let refused = try await pve.call("POST", "/nodes/pve1/\(step)", as: alice)
              #expect(refused.status == 403)
              #expect(refused.reason == "Permission check failed (realm pve != pam)")
            }
          } else {
            try await pve.terminal("", as: alice) { _ = try $0.read(upTo: "pve1 login: ") }
          }
        }
      }
    }

    @Test("a terminal's end: clean on 7 and 8; on 9 two of three stay open and one loses its tail")
    func endings() async throws {
      for era in Era.allCases {
        try await withEra(
          era, { $0.nodeShell = .command(["/bin/sh", "-c", "read x; sleep 0.1; echo LASTWORD"]) }
        ) { pve in
          let root = try await pve.login()
          var clean = 0
          var open = 0
          var lost = 0
          for _ in 0..<3 {
            let (text, ended) = try await pve.terminal("", as: root) { terminal in
              try terminal.type("go\n")
              var all: [UInt8] = []
              while let frame = try terminal.frame(seconds: 2) { all += frame.payload }
              return (String(decoding: all, as: UTF8.self), terminal.ends(seconds: 1))
            }
            switch (text.contains("LASTWORD"), ended) {
            case (true, true): clean += 1
            case (true, false): open += 1
            case (false, true): lost += 1
            case (false, false): break
            }
          }
          #expect([clean, open, lost] == (era.major < 9 ? [3, 0, 0] : [0, 2, 1]), "\(era)")
        }
      }
    }

    @Test("PVE 7 gives up on a frame of more than 64 KiB; later ones take 128 KiB")
    func frames() async throws {
      for era in [Era.v7_4, .v9_2] {
        try await withEra(era, { $0.guests = [.vm(100, name: "e", serial: [0: .echo])] }) { pve in
          let root = try await pve.login()
          let ended = try await pve.terminal("/qemu/100", as: root) { terminal in
            _ = try terminal.read(upTo: "serial0\r\n")
            try terminal.send(Array("0:60000:".utf8) + [UInt8](repeating: 97, count: 60_000))
            _ = try terminal.read(60_000)
            let large = Array("0:131063:".utf8) + [UInt8](repeating: 98, count: 131_063)
            if era == .v7_4 {
              // The connection may be gone before all of it is written.
              try? terminal.send(large)
              return terminal.ends()
            }
            try terminal.send(large)
            _ = try terminal.read(131_063)
            return false
          }
          #expect(ended == (era == .v7_4))
        }
      }
    }
  }
}
