import ConsoleProtocol
import Foundation
import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("The node's terminals, through TLS and websockets")
  struct NodeConsoleTests {
    @Test("root's ticket gets a root shell at once; a size set before is the program's size")
    func rootShell() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        let text = try await pve.terminal("", as: root) { terminal in
          _ = try terminal.read(upTo: "root@pve1:")
          try terminal.send("1:132:43:")
          try terminal.type("stty size; echo h\u{e9}\u{20ac} $((40+2))\n")
          return try terminal.read(upTo: " 42\r\n")
        }
        #expect(text.contains("43 132\r\n"))
        #expect(text.contains("hé€ 42\r\n"))
      }
    }

    @Test("a token gets a login prompt that knows users and turns away the rest")
    func loginPrompt() async throws {
      try await withNode { pve in
        let password = pve.rootPassword.reveal()
        let text = try await pve.terminal("", as: .token(pve)) { terminal in
          _ = try terminal.read(upTo: "pve1 login: ")
          try terminal.type("root\rwrong\r")
          let refused = try terminal.read(upTo: "Login incorrect")
          _ = try terminal.read(upTo: "pve1 login: ")
          try terminal.type("root\r\(password)\r")
          return refused + (try terminal.read(upTo: "root@pve1:"))
        }
        #expect(text.contains("root\r\nPassword: "))
        #expect(!text.contains("wrong"))
        #expect(!text.contains(password))
      }
    }

    @Test("a container's console is shared, survives its clients, and Ctrl-\\ leaves it")
    func container() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        let first = try await pve.terminal("/lxc/200", as: token) { terminal in
          let text = try terminal.read(upTo: "root@ct200:")
          try terminal.type("marker=left-behind\n")
          _ = try terminal.read(upTo: "root@ct200:")
          return text
        }
        #expect(first.hasPrefix("\u{1B}[H\u{1B}[J"))
        let mint = try await pve.mint("/lxc/200", "termproxy", as: token)
        try await pve.terminal("/lxc/200", as: token) { terminal in
          try terminal.type("echo it-was-$marker\n")
          _ = try terminal.read(upTo: "it-was-left-behind")
          // A second client sees what the first one types.
          let other = try TestWebsocket(pve, mint, as: token)
          try other.open()
          try other.send("\(mint.user):\(mint.ticket)\n")
          _ = try other.read(upTo: "OK")
          try terminal.type("echo mirror-$((1+1))\n")
          _ = try terminal.read(upTo: "mirror-2")
          _ = try other.read(upTo: "mirror-2")
          try other.type("\u{1C}")
          _ = try other.read(upTo: "[detached]")
          try terminal.type("echo still-$((2+1))\n")
          _ = try terminal.read(upTo: "still-3")
        }
      }
    }

    @Test("a serial port: its banner, no size, and the texts for what isn't there")
    func serial() async throws {
      // One of three endings would lose the texts.
      try await withNode({ $0.behaviour.terminalEnding = .clean }) { pve in
        let token = TestCredential.token(pve)
        let text = try await pve.terminal("/qemu/100", as: token) { terminal in
          let banner = try terminal.read(upTo: "\r\n")
          try terminal.send("1:200:50:")
          try terminal.type("stty size; echo $((3*7))\n")
          return banner + (try terminal.read(upTo: "21\r\n"))
        }
        #expect(text.hasPrefix("starting serial terminal on interface serial0\r\n"))
        #expect(text.contains("20 80\r\n"))
        let texts: [(String, [String: String], String)] = [
          ("/qemu/101", [:], "unable to find a serial interface"),
          ("/qemu/100", ["serial": "serial1"], "serial interface 'serial1' is not configured"),
          ("/qemu/102", [:], "VM 102 not running"), ("/lxc/201", [:], "201 is not running"),
        ]
        for (place, form, expected) in texts {
          try await pve.terminal(place, form, as: token) { _ = try $0.read(upTo: expected) }
        }
      }
    }

    @Test("a wrong line closes the socket without a byte, and the task says why")
    func wrongLine() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        for line in ["nobody@pam:wrong\n", "no colon\n", String(repeating: "x", count: 5000)] {
          let mint = try await pve.mint("/lxc/200", "termproxy", as: token)
          let ended = try await blocking {
            let socket = try TestWebsocket(pve, mint, as: token)
            try socket.open()
            try socket.send(line)
            return socket.ends()
          }
          #expect(ended)
          let exit = try await pve.exitStatus(mint.upid, as: token)
          #expect(
            exit?.hasPrefix("command '/usr/bin/termproxy \(mint.port) --path /vms/200") == true)
          #expect(exit?.hasSuffix("failed: exit code 1") == true)
        }
      }
    }

    @Test("the ticket line may come in pieces, with frames right behind it")
    func linePieces() async throws {
      try await withNode({ $0.guests = [.vm(100, name: "e", serial: [0: .echo])] }) { pve in
        let token = TestCredential.token(pve)
        let mint = try await pve.mint("/qemu/100", "termproxy", as: token)
        let echoed = try await blocking {
          let socket = try TestWebsocket(pve, mint, as: token)
          try socket.open()
          let line = "\(mint.user):\(mint.ticket)\n0:5:hello"
          for piece in stride(from: 0, to: line.utf8.count, by: 50) {
            try socket.send(Array(Array(line.utf8)[piece..<min(piece + 50, line.utf8.count)]))
          }
          _ = try socket.read(upTo: "serial0\r\n")
          return try socket.read(upTo: "hello")
        }
        #expect(echoed == "hello")
      }
    }

    @Test("endings: PVE 9 stays open or loses the tail, PVE 8 ends cleanly")
    func endings() async throws {
      for ending in TerminalEnding.allCases where ending != .mixed {
        try await withNode({
          $0.behaviour.terminalEnding = ending
          $0.nodeShell = .command(["/bin/sh", "-c", "read x; echo LASTWORD"])
        }) { pve in
          let root = try await pve.login()
          let (text, ended) = try await pve.terminal("", as: root) { terminal in
            try terminal.type("go\n")
            var all: [UInt8] = []
            while let frame = try terminal.frame(seconds: 2) { all += frame.payload }
            return (String(decoding: all, as: UTF8.self), terminal.ends(seconds: 1))
          }
          switch ending {
          case .staysOpen, .mixed: #expect(text.contains("LASTWORD") && !ended)
          case .losesTail: #expect(!text.contains("LASTWORD") && ended)
          case .clean: #expect(text.contains("LASTWORD") && ended)
          }
        }
      }
    }

    @Test("64 MiB down, byte for byte, in natural and in random frames")
    func source() async throws {
      let total = 64 << 20
      for cuts in [Behaviour.FrameCuts.natural, .random(seed: 3, maximum: 60_000)] {
        try await withNode({
          $0.guests = [.vm(100, name: "s", serial: [0: .source(bytes: total)])]
          $0.behaviour.frameCuts = cuts
        }) { pve in
          try await pve.terminal("/qemu/100", as: .token(pve)) { terminal in
            _ = try terminal.read(upTo: "serial0\r\n")
            let got = try terminal.read(total)
            let isRight = got == SimulatedTerminal.pattern(from: 0, count: total)
            if !isRight { throw ClientFailure(description: "other bytes") }
          }
        }
      }
    }

    @Test("64 MiB up are counted and summed")
    func sink() async throws {
      try await withNode({ $0.guests = [.vm(100, name: "s", serial: [0: .sink])] }) { pve in
        let chunk = SimulatedTerminal.pattern(from: 77, count: 131_000)
        let count = 512
        try await pve.terminal("/qemu/100", as: .token(pve)) { terminal in
          // One message: the headers of many, sent without a pause, would meet the reader's buffer edge.
          try terminal.send("0:\(chunk.count * count):")
          let frame = clientFrame(mask: [0, 0, 0, 0], chunk)
          for _ in 0..<count { try terminal.connection.write(frame) }
          try terminal.send([7], opcode: 9)
          while let frame = try terminal.frame(), frame.opcode != 10 {}
        }
        var report = await pve.sinkReport(vmid: 100)
        for _ in 0..<500 where report.bytes < chunk.count * count {
          try await Task.sleep(for: .milliseconds(10))
          report = await pve.sinkReport(vmid: 100)
        }
        #expect(report.bytes == chunk.count * count)
        let all = (0..<count).reduce(into: [UInt8]()) { all, _ in all += chunk }
        #expect(report.sha256 == lowerHex(sha256(all)))
      }
    }

    @Test("processes end with their console, also those in the background")
    func processesEnd() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        try await pve.terminal("", as: root) { terminal in
          try terminal.type(
            "sleep 4711.\(ProcessInfo.processInfo.processIdentifier) & setsid sleep 4712.\(ProcessInfo.processInfo.processIdentifier) & echo up-$((1+1))\n"
          )
          _ = try terminal.read(upTo: "up-2")
        }
        var children = await pve.counts().children
        for _ in 0..<200 where children > 0 {
          try await Task.sleep(for: .milliseconds(20))
          children = await pve.counts().children
        }
        #expect(children == 0)
        let left = try FileManager.default.contentsOfDirectory(atPath: "/proc").filter {
          guard let line = FileManager.default.contents(atPath: "/proc/\($0)/cmdline") else {
            return false
          }
          let text = String(decoding: line, as: UTF8.self)
          return text.hasPrefix("sleep\0471")
            && text.contains(".\(ProcessInfo.processInfo.processIdentifier)")
        }
        #expect(left == [])
      }
    }
  }
}
