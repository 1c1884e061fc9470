import ConsoleDial
import ConsoleProtocol
import EventLoop
import ProxmoxClient
import TestSupport
import Testing

@testable import Gateway
@testable import PVESimulator

/// Our client and relay against every era of PVE that the simulator knows.
@Suite("Through every era", .serialized)
struct EraRunTests {
  private static let consoles: [(target: String, console: Console)] = [
    ("qemu/100", .vnc), ("qemu/100", .serial0), ("lxc/200", .terminal), ("lxc/200", .vnc),
    ("node/pve1", .terminal), ("node/pve1", .vnc),
  ]

  private func root(_ pve: Simulator) -> Credential {
    .password(user: "root@pam", password: pve.rootPassword, secondFactor: nil)
  }

  /// Says something and hears it back, or logs in to a screen up to its name.
  private func exchange(_ viewer: RawViewer, _ console: Console, hears: String) async throws {
    var heard: [UInt8] = []
    func bytes(_ count: Int) async throws -> [UInt8] {
      while heard.count < count {
        if case .binary(let more) = try await viewer.next() { heard += more }
      }
      defer { heard.removeFirst(count) }
      return Array(heard.prefix(count))
    }
    guard console == .vnc else {
      try await viewer.send(binary: Array("hello".utf8))
      while !String(decoding: heard, as: UTF8.self).contains(hears) {
        if case .binary(let more) = try await viewer.next() { heard += more }
      }
      return
    }
    #expect(try await bytes(12) == Array("RFB 003.008\n".utf8))
    try await viewer.send(binary: Array("RFB 003.008\n".utf8))
    #expect(try await bytes(2) == [1, 1])
    try await viewer.send(binary: [1])
    #expect(try await bytes(4) == [0, 0, 0, 0])
    try await viewer.send(binary: [1])
    let head = try await bytes(24)
    let name = String(decoding: try await bytes(Int(head[23])), as: UTF8.self)
    #expect(name == hears)
  }

  private func screenName(_ target: String) -> String {
    target == "qemu/100" ? "QEMU (web1)" : "VNC Command Terminal"
  }

  @Test(
    "with a user's login every console opens, carries bytes, and tells its end",
    arguments: Era.allCases)
  func byTicket(era: Era) async throws {
    try await SimulatedBed.with(credential: root, simulator: { $0.era = era }) { gateway, pve in
      for (target, console) in Self.consoles {
        let viewer = try await gateway.viewer(target, console)
        let ready = try await viewer.message()
        #expect(ready["type"].string == "ready", "\(era) \(target) \(console): \(ready)")
        guard ready["type"].string == "ready" else { continue }
        try await exchange(
          viewer, console, hears: console == .vnc ? screenName(target) : "hello")
        for task in await pve.runningTasks() { _ = await pve.killTask(task) }
        let ended = try await viewer.message()
        #expect(ended["kind"].string == "worker-exited", "\(era) \(target) \(console): \(ended)")
      }
    }
  }

  @Test(
    "with a token what the era opens opens, and the rest is explained before PVE is asked",
    arguments: Era.allCases)
  func byToken(era: Era) async throws {
    try await SimulatedBed.with(simulator: { $0.era = era }) { gateway, pve in
      for (target, console) in Self.consoles {
        let opens =
          switch (target, console) {
          case ("node/pve1", .vnc): false
          case ("node/pve1", _): era.tokensOpenNodeTerminals
          case (_, .vnc): true
          default: era.tokensOpenGuestTerminals
          }
        let viewer = try await gateway.viewer(target, console)
        let first = try await viewer.message()
        guard opens else {
          #expect(first["kind"].string == "token-unsupported", "\(era) \(target): \(first)")
          #expect(first["remedy"].string?.contains("consoleUser") == true)
          continue
        }
        #expect(first["type"].string == "ready", "\(era) \(target) \(console): \(first)")
        guard first["type"].string == "ready" else { continue }
        try await exchange(
          viewer, console, hears: console == .vnc ? screenName(target) : "hello")
      }
      // What was refused was refused here: no mint was wasted on it.
      let mints = pve.journal.entries.filter { $0.path.hasSuffix("/vncshell") }
      #expect(mints.isEmpty)
    }
  }

  @Test(
    "with a token and a second credential every console opens", arguments: [Era.v7_4, .v8_4, .v9_0])
  func byBoth(era: Era) async throws {
    try await SimulatedBed.with(simulator: { $0.era = era }) { configuration, pve in
      configuration.clusters[0].consoleCredential = root(pve)
    } _: { gateway, _ in
      for (target, console) in Self.consoles {
        let viewer = try await gateway.viewer(target, console)
        #expect(try await viewer.message()["type"].string == "ready", "\(era) \(target) \(console)")
      }
    }
  }

  @Test(
    "a shell's end: told on 7 and 8; on 9 the connection stays, or ends without the last words",
    arguments: Era.allCases)
  func endings(era: Era) async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    try await SimulatedBed.with(
      credential: root,
      simulator: {
        $0.era = era
        $0.nodeShell = .command(["/bin/sh", "-c", "read x; sleep 0.1; echo LASTWORD"])
      }
    ) { gateway, _ in
      var seen: [String: Int] = [:]
      for _ in 0..<3 {
        let link = try await gateway.link(
          ConsoleOrder(target: try Target("node/pve1"), console: .terminal))
        let viewer = ViewerClient(
          on: group.loops[0],
          first:
            "{\"type\":\"open\",\"token\":\"\(link.token.reveal())\",\"columns\":80,\"rows\":20}")
        try await viewer.connect(port: gateway.port)
        #expect(await happens { viewer.seen.now.isReady })
        viewer.send(Array("go\n".utf8))
        _ = await happens(within: .seconds(2)) { viewer.seen.now.ended != nil }
        let now = viewer.seen.now
        let spoke = String(decoding: now.data, as: UTF8.self).contains("LASTWORD")
        seen["\(spoke ? "spoke" : "silent"), \(now.ended == nil ? "open" : "ended")", default: 0] +=
          1
        if let ended = now.ended { #expect(ended.contains("\"worker-exited\""), "\(ended)") }
        viewer.close()
      }
      #expect(
        seen == (era.major < 9 ? ["spoke, ended": 3] : ["spoke, open": 2, "silent, ended": 1]),
        "\(era): \(seen)")
    }
  }

  /// A leg that collects.
  private final class Collector: UpstreamOwner, Sendable {
    let received = Shared<[UInt8]>([])
    let isOpen = Shared(false)
    let failure = Shared<UpstreamFailure?>(nil)
    func upstream(_ leg: UpstreamLeg, reached stage: ConsoleStage) {}
    func upstreamOpened(_ leg: UpstreamLeg) { isOpen.withLock { $0 = true } }
    func upstream(_ leg: UpstreamLeg, received bytes: UnsafeMutableRawBufferPointer) {
      received.withLock { $0 += Array(bytes) }
    }
    func upstreamAlive(_ leg: UpstreamLeg) {}
    func upstreamDrained(_ leg: UpstreamLeg) {}
    func upstreamEnded(_ leg: UpstreamLeg, _ failure: UpstreamFailure) {
      self.failure.withLock { $0 = failure }
    }
  }

  @Test("a migration tunnel's command channel and its further sockets", arguments: Era.allCases)
  func tunnel(era: Era) async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    let loop = group.loops[0]
    var node = SimulatorConfiguration()
    node.era = era
    node.timings = .impatient
    let pve = try await PVESimulator.start(node)
    var cluster = ClusterConfiguration(
      name: "demo", hosts: [APIHost(host: "127.0.0.1", port: pve.port)],
      credential: .token(id: pve.tokenID, secret: pve.tokenSecret))
    cluster.tls = TLSPolicy(trust: .fingerprint(pve.fingerprint))
    let client = ProxmoxClient(cluster)
    let tls = try TLSContext.client(try #require(cluster.tls))

    func dial(_ plan: UpstreamPlan) async throws -> (OnLoop<UpstreamLeg>, Collector) {
      let owner = Collector()
      let minted = MintedConsole(
        plan: plan, addresses: [.loopback(port: pve.port)], tls: tls,
        place: Place(node: try #require(NodeName("pve1")), kind: .node), loginOver: {})
      let leg: OnLoop<UpstreamLeg> = try await loop.result {
        let leg = UpstreamLeg(on: loop, to: minted, timeout: .seconds(10), owner: owner)
        leg.dial()
        return OnLoop(leg, loop: loop)
      }
      #expect(await happens { owner.isOpen.now })
      return (leg, owner)
    }
    func send(_ leg: OnLoop<UpstreamLeg>, _ bytes: [UInt8]) {
      leg.execute { leg in bytes.withUnsafeBytes { leg.send($0) } }
    }

    let tunnel = try await client.mintTunnel(.qemu(try #require(VMID(150))), storages: ["local"])
    let (channel, replies) = try await dial(tunnel.plan)
    var asked = 0
    func ask(_ line: String) async throws -> JSONValue {
      send(channel, Array((line + "\n").utf8))
      asked += 1
      let wanted = asked
      #expect(await happens { replies.received.now.count { $0 == 10 } >= wanted })
      let lines = replies.received.now.split(separator: 10)
      return try JSONParser.parse(Array(try #require(lines.last)))
    }
    #expect(try await ask(#"{"cmd":"version"}"#)["api"].int == 2)
    _ = try await ask(#"{"cmd":"config","conf":"name: moved"}"#)
    let opened = try await ask(
      #"{"cmd":"disk-import","volname":"vm-1-disk-0.raw","format":"raw","export_formats":"raw+size","storage":"local"}"#
    )
    let path = try #require(opened["socket"].string)
    let ticket = try #require(
      try await ask("{\"cmd\":\"ticket\",\"path\":\"\(path)\"}")["ticket"].string)
    let (disk, _) = try await dial(tunnel.plan(socket: path, ticket: Secret(ticket)))
    let piece = [UInt8](repeating: 0x77, count: 300_000)
    for _ in 0..<10 { send(disk, piece) }
    disk.execute { $0.close() }
    let done = try await ask(#"{"cmd":"query-disk-import"}"#)
    #expect(done["status"].string == "complete", "\(done)")
    _ = try await ask(#"{"cmd":"unlock"}"#)
    _ = try await ask(#"{"cmd":"quit"}"#)
    channel.execute { $0.close() }
    var exit: String?
    for _ in 0..<100 where exit == nil {
      exit = try await client.taskStatus(tunnel.upid).exitStatus
      try await Task.sleep(for: .milliseconds(20))
    }
    #expect(exit == "OK")
    let log = try await client.taskLogTail(tunnel.upid, lines: 50)
    #expect(log.contains { $0.contains("disk-import: 3000000 bytes copied") }, "\(log)")
    client.shutdown()
    await pve.shutdown()
  }
}
