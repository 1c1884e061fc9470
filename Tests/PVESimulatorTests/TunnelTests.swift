import Testing

@testable import PVESimulator

/// A tunnel's command channel by hand.
private final class Channel {
  let socket: TestWebsocket

  init(
    _ pve: Simulator, _ base: String, socket path: String, ticket: String, as who: TestCredential
  )
    throws
  {
    socket = try TestWebsocket(
      port: pve.port,
      target: "/api2/json/nodes/localhost\(base)/mtunnelwebsocket?socket="
        + "\(TestWebsocket.encoded(path))&ticket=\(TestWebsocket.encoded(ticket))", as: who)
    try socket.open()
  }

  /// Sends a line and reads the reply.
  func ask(_ line: String) throws -> JSON {
    try socket.send(line + "\n")
    return try JSONReader.read(Array(try socket.read(upTo: "\n").utf8))
  }
}

extension NodeTests {
  @Suite("Migration tunnels")
  struct TunnelTests {
    private struct Opened: Sendable {
      var socket: String
      var ticket: String
      var upid: String
    }

    private func open(_ pve: Simulator, _ base: String) async throws -> Opened {
      let mint = try await pve.call("POST", "/nodes/localhost\(base)/mtunnel", as: .token(pve))
      guard mint.status == 200, let socket = mint.data["socket"]?.asText,
        let ticket = mint.data["ticket"]?.asText, let upid = mint.data["upid"]?.asText
      else { throw ClientFailure(description: "no tunnel: \(mint.status) \(mint.reason)") }
      return Opened(socket: socket, ticket: ticket, upid: upid)
    }

    /// Talks over a tunnel: the lines, and what came back.
    private func talk(_ pve: Simulator, _ base: String, _ opened: Opened, _ lines: [String])
      async throws -> [JSON]
    {
      try await blocking {
        let channel = try Channel(
          pve, base, socket: opened.socket, ticket: opened.ticket, as: .token(pve))
        return try lines.map { try channel.ask($0) }
      }
    }

    private func text(_ reply: JSON) -> String { reply["msg"]?.asText ?? reply.text }

    @Test("version, nonsense, exit mode; without quit the task fails and the guest stays locked")
    func lines() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        for (base, socket) in [
          ("/qemu/150", "/run/qemu-server/150.mtunnel"), ("/lxc/250", "/run/pve/ct-250.mtunnel"),
        ] {
          let opened = try await open(pve, base)
          #expect(opened.socket == socket)
          #expect(opened.ticket.hasPrefix("PVETUNNEL:"))
          let replies = try await talk(
            pve, base, opened,
            [
              #"{"cmd":"version"}"#, "{", "[]", #"{"cmd":"dance"}"#, #"{"cmd":"config"}"#,
              #"{"cmd":"ticket","path":"/run/elsewhere"}"#, #"{"cmd":"query-disk-import"}"#,
              #"{"cmd":"quit"}"#, #"{"cmd":"version"}"#,
            ])
          #expect(replies[0].text == #"{"api":2,"age":0,"success":true}"#)
          #expect(text(replies[1]).hasPrefix("failed to parse command - "))
          #expect(text(replies[2]) == "'cmd' missing")
          #expect(text(replies[3]) == "unknown command 'dance' given")
          #expect(
            text(replies[4])
              == "failed to handle 'config' command - 400 Parameter verification failed.\n"
              + "conf: property is missing and it is not optional\n")
          #expect(
            text(replies[5])
              == "failed to handle 'ticket' command - Not allowed to generate ticket for unknown "
              + "socket '/run/elsewhere'\n")
          #expect(
            text(replies[6]) == "failed to handle 'query-disk-import' command - no disk import "
              + "running\n")
          #expect(replies[7].text == #"{"success":true}"#)
          #expect(
            text(replies[8]) == "tunnel is in exit-mode, processing 'version' cmd not possible")
          #expect(try await pve.exitStatus(opened.upid, as: token) == "OK")
          let again = try await pve.call("POST", "/nodes/localhost\(base)/mtunnel", as: token)
          #expect(again.status == 400)
          #expect(again.json["errors"]?["vmid"]?.asText?.contains("already exists on node") == true)
        }
        let left = try await open(pve, "/qemu/151")
        _ = try await talk(pve, "/qemu/151", left, [#"{"cmd":"version"}"#])
        #expect(
          try await pve.exitStatus(left.upid, as: token) == "mtunnel exited unexpectedly")
      }
    }

    @Test(
      "a VM comes over: disks by import, memory and NBD by further sockets, unlocked at the end")
    func machine() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        let opened = try await open(pve, "/qemu/150")
        let data = [UInt8](repeating: 0x5A, count: 3_000_000)
        let (replies, echoed) = try await blocking {
          let channel = try Channel(
            pve, "/qemu/150", socket: opened.socket, ticket: opened.ticket, as: token)
          func side(_ path: String) throws -> TestWebsocket {
            let answer = try channel.ask("{\"cmd\":\"ticket\",\"path\":\"\(path)\"}")
            guard let ticket = answer["ticket"]?.asText else {
              throw ClientFailure(description: answer.text)
            }
            return try Channel(pve, "/qemu/150", socket: path, ticket: ticket, as: token).socket
          }
          var replies = [
            try channel.ask(#"{"cmd":"bwlimit","storages":["local"],"bwlimit":2048}"#),
            try channel.ask(#"{"cmd":"config","conf":"name: moved\ncores: 3\nmemory: 1024\n"}"#),
            try channel.ask(
              #"{"cmd":"disk-import","volname":"vm-100-disk-0.raw","format":"raw","#
                + #""export_formats":"raw+size","storage":"local"}"#),
          ]
          let disk = try side("/run/qemu-server/150.storage")
          for start in stride(from: 0, to: data.count, by: 100_000) {
            try disk.send(Array(data[start..<start + 100_000]))
          }
          try disk.send([], opcode: 8)
          replies.append(try channel.ask(#"{"cmd":"query-disk-import"}"#))
          replies.append(
            try channel.ask(
              #"{"cmd":"start","start_params":{"statefile":"unix"},"migrate_opts":"#
                + #"{"type":"websocket","nbd":{"scsi0":{"drivestr":"local:150/x"}}}}"#))
          let memory = try side("/run/qemu-server/150.migrate")
          try memory.send(data.prefix(1000).map { $0 })
          let nbd = try side("/run/qemu-server/150_nbd.migrate")
          try nbd.send("hello")
          let echoed = try nbd.read(5)
          for command in ["nbdstop", "resume", "unlock", "quit"] {
            replies.append(try channel.ask("{\"cmd\":\"\(command)\"}"))
          }
          return (replies, String(decoding: echoed, as: UTF8.self))
        }
        #expect(replies[0]["bwlimit"] == 2048)
        #expect(replies[1].text == #"{"success":true}"#)
        #expect(replies[2]["socket"] == "/run/qemu-server/150.storage")
        #expect(replies[2]["format"] == "raw+size")
        #expect(replies[3]["status"] == "complete")
        #expect(replies[3]["volid"] == "local:150/vm-100-disk-0.raw")
        #expect(replies[4]["migrate"]?["addr"] == "/run/qemu-server/150.migrate")
        #expect(
          replies[4]["drives"]?["drive-scsi0"]?["nbd_uri"]
            == "nbd:unix:/run/qemu-server/150_nbd.migrate:exportname=drive-scsi0")
        #expect(replies[5...].allSatisfy { $0.text == #"{"success":true}"# })
        #expect(echoed == "hello")
        #expect(try await pve.exitStatus(opened.upid, as: token) == "OK")
        let log = try await pve.call(
          "GET", "/nodes/pve1/tasks/\(TestWebsocket.encoded(opened.upid))/log", as: token)
        let lines = log.data.items.compactMap { $0["t"]?.asText }
        #expect(lines.first == "mtunnel started")
        #expect(lines.contains("disk-import: 3000000 bytes copied"))
        let status = try await pve.call("GET", "/nodes/pve1/qemu/150/status/current", as: token)
        #expect(status.data["status"] == "running")
        #expect(status.data["name"] == "moved")
      }
    }

    @Test("quit with clean-up takes the guest away; a container has its own commands")
    func cleanup() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        let opened = try await open(pve, "/lxc/250")
        let replies = try await talk(
          pve, "/lxc/250", opened,
          [
            #"{"cmd":"config","conf":"hostname: moved","unknown":1}"#, #"{"cmd":"disk"}"#,
            #"{"cmd":"start"}"#, #"{"cmd":"stop"}"#, #"{"cmd":"quit","cleanup":true}"#,
          ])
        #expect(replies[0].text == #"{"success":true}"#)
        #expect(text(replies[1]) == "unknown command 'disk' given")
        #expect(replies[2...].allSatisfy { $0.text == #"{"success":true}"# })
        let gone = try await pve.call("GET", "/nodes/pve1/lxc/250/status/current", as: token)
        #expect(gone.reason == "Configuration file 'nodes/pve1/lxc/250.conf' does not exist")
      }
    }

    @Test("unknown parameters of a VM's commands are refused since 9.2 and 8.4.9")
    func unknown() async throws {
      for era in [Era.v8_4, .v8_4_2026, .v9_1, .v9_2] {
        try await withNode({ $0.era = era }) { pve in
          let opened = try await open(pve, "/qemu/150")
          let replies = try await talk(
            pve, "/qemu/150", opened,
            [#"{"cmd":"config","conf":"","nonsense":1}"#, #"{"cmd":"version","nonsense":1}"#])
          #expect((replies[0]["success"] == .bool(false)) == era.isHardened, "\(era)")
          #expect(replies[1]["success"] == .bool(true))
        }
      }
    }

    @Test("nobody comes: the guest goes again, and the task says so; refusals of the two calls")
    func refusals() async throws {
      try await withNode({ $0.timings.tunnelWait = .milliseconds(300) }) { pve in
        let token = TestCredential.token(pve)
        let opened = try await open(pve, "/qemu/150")
        #expect(try await pve.exitStatus(opened.upid, as: token) == "Exiting mtunnel")
        #expect(
          try await pve.call("GET", "/nodes/pve1/qemu/150/status/current", as: token).status == 500)
        let remote = try await pve.call("POST", "/nodes/other/qemu/150/mtunnel", as: token)
        #expect(remote.status == 400)
        #expect(
          remote.json["errors"]?["node"]
            == "node needs to be 'localhost' or local hostname 'pve1'")
        let storage = try await pve.call(
          "POST", "/nodes/pve1/qemu/150/mtunnel", ["storages": "local,nope"], as: token)
        #expect(storage.reason == "storage 'nope' does not exist")
        let bad = try await pve.call(
          "GET", "/nodes/pve1/qemu/150/mtunnelwebsocket?socket=/x&ticket=PVETUNNEL:1::x", as: token)
        #expect(bad.status == 401)
        #expect(bad.reason == "permission denied - invalid PVETUNNEL ticket")
      }
    }

    @Test("a remote migration: its parameters, and what comes of an endpoint that isn't there")
    func remoteMigrate() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        func migrate(_ guest: String, _ endpoint: String, _ more: [String: String] = [:])
          async throws -> TestAnswer
        {
          try await pve.call(
            "POST", "/nodes/pve1/\(guest)/remote_migrate",
            [
              "target-endpoint": endpoint, "target-storage": "local:local",
              "target-bridge": "vmbr0",
            ]
            .merging(more) { $1 }, as: token)
        }
        let incomplete = try await migrate("qemu/102", "host=127.0.0.1")
        #expect(incomplete.status == 400)
        #expect(
          incomplete.json["errors"]?["target-endpoint"]?.asText?.contains(
            "apitoken")
            == true)
        let there = "host=127.0.0.1,port=9,apitoken=PVEAPIToken=a@pve!b=c"
        let running = try await migrate("qemu/100", there)
        #expect(running.reason == "can't migrate running VM without --online")
        let blind = try await migrate("qemu/102", there)
        #expect(blind.status == 500)
        #expect(blind.reason == "500 Can't connect to 127.0.0.1:9 (Connection refused)")
        let task = try await migrate(
          "qemu/102",
          there + ",fingerprint=" + Array(repeating: "AB", count: 32).joined(separator: ":"))
        #expect(task.status == 200)
        let upid = task.data.asText ?? ""
        #expect(upid.contains(":qmigrate:102:"))
        #expect(try await pve.exitStatus(upid, as: token) == "migration aborted")
        let log = try await pve.call(
          "GET", "/nodes/pve1/tasks/\(TestWebsocket.encoded(upid))/log", as: token)
        #expect(
          log.data.items.first?["t"]?.asText?.hasSuffix(
            "ERROR: migration aborted (duration 00:00:00): "
              + "500 Can't connect to 127.0.0.1:9 (Connection refused)") == true)
        let far = try await migrate(
          "lxc/201", "host=192.0.2.1,apitoken=PVEAPIToken=a@pve!b=c", ["restart": "1"])
        #expect(far.reason == "500 Can't connect to 192.0.2.1:8006 (No route to host)")
      }
    }
  }
}
