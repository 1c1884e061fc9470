import ConsoleProtocol
import EventLoop
import Foundation
import TestSupport
import Testing

@testable import Gateway

@Suite("The relay, through real sockets, against a node that does as it is told", .serialized)
struct RelayTests {
  /// A termproxy that says OK and then runs `then` on each message.
  static func termproxy(
    greeting: String = "OK",
    _ then: @escaping @Sendable (ScriptedNode.Connection, [UInt8]) -> Void = { _, _ in }
  ) -> ScriptedNode.Script {
    var script = ScriptedNode.Script()
    script.onData = { c, bytes in
      if c.note == 0 {
        c.note = 1
        c.send(Array(greeting.utf8))
      } else {
        then(c, bytes)
      }
    }
    return script
  }

  /// A termproxy whose program writes `block` over and over as fast as it is taken, `total` bytes at least.
  static func source(
    of block: [UInt8], total: Int, counting sent: Shared<StreamHash>
  ) -> ScriptedNode.Script {
    @Sendable func more(_ c: ScriptedNode.Connection) {
      while c.pendingBytes == 0, sent.now.count < total {
        sent.withLock { sum in block.withUnsafeBytes { sum.add($0) } }
        c.send(block)
      }
    }
    var script = termproxy()
    let login = script.onData
    script.onData = { c, bytes in
      login?(c, bytes)
      if c.note == 1 { more(c) }
    }
    script.onDrained = { more($0) }
    return script
  }

  /// An RFB 3.8 server without a password; after ClientInit and a small ServerInit, `then` gets the bytes.
  static func rfb(
    _ then: @escaping @Sendable (ScriptedNode.Connection, [UInt8]) -> Void = { _, _ in }
  ) -> ScriptedNode.Script {
    var script = ScriptedNode.Script()
    script.onUpgrade = { $0.send(Array("RFB 003.008\n".utf8)) }
    script.onData = { c, bytes in
      switch c.note {
      case 0: c.send([1, 1])
      case 1: c.send([0, 0, 0, 0])
      default: then(c, bytes)
      }
      c.note += 1
    }
    return script
  }

  /// What a viewer says in RFB up to ClientInit.
  static let viewerLogin = Array("RFB 003.008\n".utf8) + [1, 0]

  @Test("a terminal: OK glued to output, input in one message, the size after OK, no bad frame")
  func terminal() async throws {
    let inputs = Shared<[String]>([])
    let bench = try await RelayBench(
      console: .terminal,
      script: Self.termproxy(greeting: "OKwelcome\r\n") { c, bytes in
        inputs.withLock { $0.append(String(decoding: bytes, as: UTF8.self)) }
        c.send(Array("echo".utf8))
      })
    defer { bench.stop() }
    let viewer = try await bench.viewer()
    #expect(await happens { viewer.seen.now.data.count >= 9 })
    #expect(viewer.seen.now.isReady)
    #expect(bench.services.logins.load(ordering: .relaxed) > 0, "the next mint for the VM waits")
    #expect(String(decoding: viewer.seen.now.data.prefix(9), as: UTF8.self) == "welcome\r\n")
    #expect(await happens { inputs.now.contains("1:100:30:") })
    viewer.send(Array("grüße\n".utf8))
    #expect(await happens { inputs.now.contains("0:8:grüße\n") })
    viewer.send(text: "{\"type\":\"resize\",\"columns\":120,\"rows\":40}")
    #expect(await happens { inputs.now.contains("1:120:40:") })
    viewer.send(text: "{\"type\":\"ping\",\"id\":7}")
    #expect(
      await happens {
        viewer.seen.now.texts.contains { $0.contains("\"pong\"") && $0.contains("7") }
      })
    #expect(bench.node.seen.now.badFrames.isEmpty)
    let request = try #require(bench.node.seen.now.requests.first)
    #expect(request.contains("Authorization: PVEAPIToken=a@pve!b=c\r\n"))
    #expect(request.contains("Sec-WebSocket-Protocol: binary\r\n"))
    #expect(!request.lowercased().contains("extensions"))
    viewer.close()
    #expect(await happens { bench.services.released.load(ordering: .relaxed) == 1 })
    #expect(await happens { bench.node.seen.now.ended == 1 })
    let ending = bench.services.records.withLock { $0.first?.snapshot.ending }
    #expect(ending?.kind == .viewerLeft)
  }

  @Test("64 MiB each way over a screen arrive whole, in frames of at most 32 KiB")
  func bothWays() async throws {
    let size = 64 << 20
    let piece = (0..<65_000).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 11) }
    var script = Self.rfb { c, _ in
      if c.note == 2 { c.send([9, 9]) }
    }
    let sent = Shared(StreamHash())
    script.onDrained = { c in
      // The stream down runs as the socket drains, beside the stream up.
      guard c.note >= 3 else { return }
      var left = size - sent.now.count
      while left > 0, c.pendingBytes == 0 {
        let part = left >= piece.count ? piece : Array(piece.prefix(left))
        sent.withLock { sum in part.withUnsafeBytes { sum.add($0) } }
        c.send(part)
        left -= part.count
      }
    }
    let drain = script.onDrained
    let plainOnData = script.onData
    script.onData = { c, bytes in
      plainOnData?(c, bytes)
      if c.note == 3 { drain?(c) }
    }
    let bench = try await RelayBench(console: .vnc, script: script)
    defer { bench.stop() }
    let viewer = try await bench.viewer(keeps: false)
    #expect(await happens { viewer.seen.now.isReady })
    viewer.send(Self.viewerLogin)
    #expect(await happens { viewer.seen.now.hash.count > 0 })
    // ClientCutText messages: they are RFB, and of any size.
    let text = (0..<65_528).map { UInt8(truncatingIfNeeded: ($0 &* 40_503) >> 5) }
    let message: [UInt8] = [6, 0, 0, 0, 0, 0, 0xff, 0xf8] + text
    let count = size / message.count
    let expected = count * message.count
    for _ in 0..<count { viewer.send(message) }
    #expect(
      await happens(within: .seconds(240)) {
        bench.node.seen.now.received.count >= expected + 14
      })
    #expect(
      await happens(within: .seconds(240)) { viewer.seen.now.hash.count == size + 12 + 2 + 4 + 2 })
    // The upstream login (banner, type, shared flag) is 12 + 1 + 1 bytes in front of the viewer's stream.
    var whole = StreamHash()
    let login: [UInt8] = Array("RFB 003.008\n".utf8) + [1, 1]
    login.withUnsafeBytes { whole.add($0) }
    for _ in 0..<count { message.withUnsafeBytes { whole.add($0) } }
    #expect(bench.node.seen.now.received == whole)
    #expect(sent.now.count == size)
    var down = StreamHash()
    (Array("RFB 003.008\n".utf8) + [1, 1, 0, 0, 0, 0, 9, 9]).withUnsafeBytes { down.add($0) }
    var left = size
    while left > 0 {
      let part = left >= piece.count ? piece : Array(piece.prefix(left))
      part.withUnsafeBytes { down.add($0) }
      left -= part.count
    }
    #expect(viewer.seen.now.hash == down)
    #expect(bench.node.seen.now.badFrames.isEmpty)
    #expect(bench.node.seen.now.largestFrame <= 32_768)
    #expect(viewer.seen.now.violation == nil)
  }

  @Test("a 1 MiB paste into a terminal arrives whole under few headers")
  func paste() async throws {
    let received = Shared<[UInt8]>([])
    let bench = try await RelayBench(
      console: .serial0, maximumFrame: 131_072,
      script: Self.termproxy { _, bytes in received.withLock { $0 += bytes } })
    defer { bench.stop() }
    let viewer = try await bench.viewer()
    #expect(await happens { viewer.seen.now.isReady })
    let paste = Array(String(repeating: "grüße, 世界! ", count: 60_000).utf8.prefix(1 << 20))
    for start in stride(from: 0, to: paste.count, by: 50_000) {
      viewer.send(Array(paste[start..<min(start + 50_000, paste.count)]))
    }
    @Sendable func data(_ bytes: [UInt8]) -> (data: [UInt8], headers: Int) {
      var out: [UInt8] = []
      var headers = 0
      var at = 0
      while at < bytes.count {
        guard bytes[at] == 0x30 else {
          at += 1
          while at < bytes.count, bytes[at] != 0x30 { at += 1 }
          continue
        }
        var length = 0
        var p = at + 2
        while p < bytes.count, bytes[p] != 0x3a {
          length = length * 10 + Int(bytes[p] - 48)
          p += 1
        }
        guard p < bytes.count else { break }
        headers += 1
        out += bytes[(p + 1)..<min(p + 1 + length, bytes.count)]
        at = p + 1 + length
      }
      return (out, headers)
    }
    // `1:100:30:` comes first and holds a `0`, so it is cut off before parsing.
    #expect(
      await happens(within: .seconds(60)) {
        let all = received.now
        guard let start = all.firstIndex(of: 0x30, after: Array("1:100:30:".utf8)) else {
          return false
        }
        return data(Array(all[start...])).data.count == paste.count
      })
    let all = received.now
    let start = try #require(all.firstIndex(of: 0x30, after: Array("1:100:30:".utf8)))
    let result = data(Array(all[start...]))
    let same = result.data == paste
    #expect(same)
    #expect(result.headers < 100)
  }

  @Test("an upstream that misbehaves has its kind, and a fresh mint for each dial")
  func hostile() async throws {
    func run(
      _ name: String, _ script: ScriptedNode.Script, console: Console = .terminal,
      kind: Ending.Kind,
      dials: Int
    ) async throws {
      let bench = try await RelayBench(console: console, script: script)
      defer { bench.stop() }
      let viewer = try await bench.viewer()
      #expect(await happens { viewer.seen.now.close != nil }, "\(name)")
      #expect(viewer.seen.now.close?.code == kind.closeCode, "\(name): \(viewer.seen.now.texts)")
      #expect(viewer.seen.now.ended?.contains(kind.rawValue) == true, "\(name)")
      #expect(bench.services.mints.load(ordering: .relaxed) == dials, "\(name)")
      #expect(bench.services.released.load(ordering: .relaxed) == dials, "\(name)")
      #expect(
        await happens { bench.node.seen.now.ended == bench.node.seen.now.connections }, "\(name)")
    }
    var silent = ScriptedNode.Script()
    silent.answer = nil
    try await run("never answers", silent, kind: .workerTimeout, dials: 3)
    var garbage = ScriptedNode.Script()
    garbage.answer = "SSH-2.0-OpenSSH_9.2\r\n\r\n"
    try await run("garbage", garbage, kind: .protocolViolation, dials: 1)
    var noise = ScriptedNode.Script()
    noise.greeting = (0..<20_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    try await run("noise", noise, kind: .protocolViolation, dials: 1)
    var unauthorised = ScriptedNode.Script()
    unauthorised.answer =
      "HTTP/1.1 401 permission denied - invalid PVEVNC ticket\r\nContent-Length: 0\r\n\r\n"
    try await run("401", unauthorised, kind: .ticketRejected, dials: 3)
    var forbidden = ScriptedNode.Script()
    forbidden.answer =
      "HTTP/1.1 403 Permission check failed (/vms/100, VM.Console)\r\nContent-Length: 0\r\n\r\n"
    try await run("403", forbidden, kind: .permissionDenied, dials: 1)
    var cut = ScriptedNode.Script()
    cut.cutsAfterAnswer = true
    try await run("closes after 101", cut, console: .vnc, kind: .workerExited, dials: 3)
    var half = ScriptedNode.Script()
    half.answer = "HTTP/1.1 101 Switching Pro"
    half.cutsAfterAnswer = true
    try await run("closes within the header", half, kind: .nodeUnreachable, dials: 3)
    var wrongAccept = ScriptedNode.Script()
    wrongAccept.answer =
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n"
    try await run("wrong accept", wrongAccept, kind: .protocolViolation, dials: 1)
    var masked = ScriptedNode.Script()
    masked.onUpgrade = { $0.send(raw: [0x82, 0x81, 1, 2, 3, 4, 5]) }
    try await run("masked frame", masked, kind: .protocolViolation, dials: 1)
    var notRFB = ScriptedNode.Script()
    notRFB.onUpgrade = { $0.send(Array("HTTP/1.0 400 Bad".utf8)) }
    try await run("no RFB", notRFB, console: .vnc, kind: .protocolViolation, dials: 1)
    var refuses = ScriptedNode.Script()
    refuses.onData = { c, _ in c.cut() }
    try await run("termproxy refuses", refuses, kind: .ticketRejected, dials: 1)
  }

  @Test(
    "another certificate than the pinned one ends as tls-untrusted before the credential is sent")
  func untrusted() async throws {
    let certificate = try TestCertificate()
    let wrong = try #require(Fingerprint(bytes: [UInt8](repeating: 1, count: 32)))
    let bench = try await RelayBench(
      console: .terminal,
      nodeTLS: TLSContext.server(certificatePEM: certificate.pem, keyPEM: Secret(certificate.key)),
      policy: TLSPolicy(trust: .fingerprint(wrong)), script: Self.termproxy())
    defer { bench.stop() }
    let viewer = try await bench.viewer()
    #expect(await happens { viewer.seen.now.close != nil })
    #expect(viewer.seen.now.close?.code == Ending.Kind.tlsUntrusted.closeCode)
    #expect(viewer.seen.now.ended?.contains("01:01:01") == true)
    #expect(bench.node.seen.now.requests.isEmpty)
  }

  @Test("over verified TLS the mask is zero, and bytes arrive as they are")
  func verified() async throws {
    let certificate = try TestCertificate()
    let inputs = Shared<[String]>([])
    let bench = try await RelayBench(
      console: .terminal,
      nodeTLS: TLSContext.server(certificatePEM: certificate.pem, keyPEM: Secret(certificate.key)),
      policy: TLSPolicy(trust: .caFile(certificate.certificateFile)),
      script: Self.termproxy { c, bytes in
        inputs.withLock { $0.append(String(decoding: bytes, as: UTF8.self)) }
        c.send(Array("seen".utf8))
      })
    defer { bench.stop() }
    let viewer = try await bench.viewer()
    #expect(await happens { viewer.seen.now.isReady })
    viewer.send(Array("ls\n".utf8))
    #expect(await happens { inputs.now.contains("0:3:ls\n") })
    #expect(
      await happens { String(decoding: viewer.seen.now.data, as: UTF8.self).contains("seen") })
  }

  @Test("a viewer that breaks the protocol is told so, and nothing is minted for it")
  func badViewers() async throws {
    func run(
      _ name: String, first: String?, kind: Ending.Kind, mints: Int,
      _ then: (ViewerClient) async throws -> Void = { _ in }
    )
      async throws
    {
      let bench = try await RelayBench(console: .terminal, script: Self.termproxy())
      defer { bench.stop() }
      let viewer = ViewerClient(on: bench.other.loops[0], first: first)
      try await viewer.connect(port: bench.server.port)
      #expect(await happens { viewer.seen.now.status.contains("101") })
      try await then(viewer)
      #expect(await happens { viewer.seen.now.close != nil }, "\(name)")
      #expect(viewer.seen.now.close?.code == kind.closeCode, "\(name): \(viewer.seen.now)")
      #expect(bench.services.mints.load(ordering: .relaxed) == mints, "\(name)")
    }
    try await run("says nothing", first: nil, kind: .viewerViolation, mints: 0)
    try await run("no JSON", first: "hello", kind: .viewerViolation, mints: 0)
    try await run(
      "unknown field", first: "{\"type\":\"open\",\"token\":\"good\",\"admin\":true}",
      kind: .viewerViolation, mints: 0)
    try await run(
      "forged token", first: "{\"type\":\"open\",\"token\":\"forged\"}", kind: .linkUnknown,
      mints: 0)
    try await run("binary first", first: nil, kind: .viewerViolation, mints: 0) {
      $0.send([1, 2, 3])
    }
    try await run(
      "oversize text", first: String(repeating: "x", count: 100_000), kind: .viewerViolation,
      mints: 0)
    try await run(
      "impossible acknowledgement",
      first: "{\"type\":\"open\",\"token\":\"good\",\"columns\":80,\"rows\":24,\"acks\":true}",
      kind: .viewerViolation, mints: 1
    ) { viewer in
      #expect(await happens { viewer.seen.now.isReady })
      viewer.send(text: "{\"type\":\"ack\",\"bytes\":999999}")
    }
  }

  @Test("fragmented messages of a viewer become whole frames upstream")
  func fragments() async throws {
    let received = Shared<[UInt8]>([])
    let bench = try await RelayBench(
      console: .vnc,
      script: Self.rfb { c, bytes in
        if c.note == 2 { c.send([9]) } else { received.withLock { $0 += bytes } }
      })
    defer { bench.stop() }
    let viewer = try await bench.viewer()
    #expect(await happens { viewer.seen.now.isReady })
    viewer.send(Self.viewerLogin)
    #expect(await happens { viewer.seen.now.data.last == 9 })
    // A key press in three fragments, an unmasked-looking payload, a ping in between.
    viewer.send(raw: [0x02, 0x83, 0, 0, 0, 0, 4, 1, 0])
    viewer.send(raw: [0x89, 0x80, 0, 0, 0, 0])
    viewer.send(raw: [0x00, 0x81, 0, 0, 0, 0, 0])
    viewer.send(raw: [0x80, 0x84, 0, 0, 0, 0, 0, 0, 0, 0x61])
    #expect(await happens { received.now == [4, 1, 0, 0, 0, 0, 0, 0x61] })
    #expect(bench.node.seen.now.badFrames.isEmpty)
  }

  @Test("a read-only link lets the screen be asked for and drops keys, pointer and clipboard")
  func readOnly() async throws {
    let received = Shared<[UInt8]>([])
    let bench = try await RelayBench(
      console: .vnc, readOnly: true,
      script: Self.rfb { c, bytes in
        if c.note == 2 { c.send([9]) } else { received.withLock { $0 += bytes } }
      })
    defer { bench.stop() }
    let viewer = try await bench.viewer()
    #expect(await happens { viewer.seen.now.isReady })
    viewer.send(Self.viewerLogin)
    #expect(await happens { viewer.seen.now.data.last == 9 })
    viewer.send([4, 1, 0, 0, 0, 0, 0, 0x61])
    viewer.send([5, 1, 0, 5, 0, 5])
    viewer.send([6, 0, 0, 0, 0, 0, 0, 2, 0x68, 0x69])
    viewer.send([3, 1, 0, 0, 0, 0, 0, 9, 0, 9])
    #expect(await happens { received.now == [3, 1, 0, 0, 0, 0, 0, 9, 0, 9] })
    let terminal = try await RelayBench(
      console: .terminal, readOnly: true,
      script: Self.termproxy { _, bytes in received.withLock { $0 += bytes } })
    defer { terminal.stop() }
    received.withLock { $0 = [] }
    let typist = try await terminal.viewer()
    #expect(await happens { typist.seen.now.isReady })
    typist.send(Array("rm -rf /\n".utf8))
    #expect(await happens { String(decoding: received.now, as: UTF8.self) == "1:100:30:" })
    try await Task.sleep(for: .milliseconds(100))
    #expect(String(decoding: received.now, as: UTF8.self) == "1:100:30:")
  }

  @Test(
    "a viewer that takes nothing stops the upstream read; after the limit it ends as slow-viewer")
  func slowViewer() async throws {
    var limits = RelayBench.fastLimits
    limits.slowViewer = .milliseconds(900)
    let sent = Shared(StreamHash())
    let block = [UInt8](repeating: 0x79, count: 32_000)
    let script = Self.source(of: block, total: 400 << 20, counting: sent)
    let bench = try await RelayBench(console: .terminal, limits: limits, script: script)
    defer { bench.stop() }
    let viewer = try await bench.viewer(keeps: false)
    #expect(await happens { viewer.seen.now.isReady })
    viewer.pause(true)
    let before = residentBytes()
    #expect(
      await happens {
        bench.services.records.withLock { $0.first?.snapshot.ending?.kind } == .slowViewer
      })
    // Two sockets' buffers in the kernel, and one chunk in the gateway.
    #expect(sent.now.count < 32 << 20, "the gateway read on: \(sent.now.count)")
    #expect(residentBytes() - before < 64 << 20)
  }

  @Test(
    "with acknowledgements the upstream rests at the high-water mark until the viewer has drawn")
  func credit() async throws {
    let sent = Shared(StreamHash())
    let block = [UInt8](repeating: 0x79, count: 16_000)
    let script = Self.source(of: block, total: 64 << 20, counting: sent)
    let bench = try await RelayBench(console: .terminal, script: script)
    defer { bench.stop() }
    let viewer = try await bench.viewer(acks: true, keeps: false)
    #expect(await happens { viewer.seen.now.hash.count >= 512 << 10 })
    try await Task.sleep(for: .milliseconds(200))
    let resting = viewer.seen.now.hash.count
    #expect(resting < 700 << 10)
    viewer.send(text: "{\"type\":\"ack\",\"bytes\":\(resting)}")
    #expect(await happens { viewer.seen.now.hash.count > resting + 400 << 10 })
  }

  @Test("Ctrl-C against a flood shows the prompt soon: what piled up upstream is skipped and said")
  func interrupt() async throws {
    let sent = Shared(0)
    let block = Array(String(repeating: "y\r\n", count: 10_000).utf8)
    // As pveproxy does: the node's side takes everything the program writes, whether it is read or not.
    @Sendable func flood(_ c: ScriptedNode.Connection) {
      for _ in 0..<1000 { c.send(block) }
      sent.withLock { $0 += 1000 * block.count }
    }
    var script = Self.termproxy { c, bytes in
      guard bytes.contains(3) else { return }
      c.send(Array("^C\r\nroot@pve1:~# ".utf8))
    }
    let first = script.onData
    script.onData = { c, bytes in
      first?(c, bytes)
      if c.note == 1, sent.now == 0 { flood(c) }
    }
    let bench = try await RelayBench(console: .terminal, script: script)
    defer { bench.stop() }
    let viewer = try await bench.viewer(acks: true)
    #expect(await happens { viewer.seen.now.data.count >= 512 << 10 })
    let before = viewer.seen.now.data.count
    viewer.send([3])
    #expect(
      await happens {
        String(decoding: viewer.seen.now.data.suffix(40), as: UTF8.self).hasSuffix("root@pve1:~# ")
      })
    // The flood was 30 MB; a few KiB of it came, and the word about the rest.
    let after = viewer.seen.now.data
    #expect(after.count - before < 256 << 10)
    #expect(String(decoding: after.suffix(6000), as: UTF8.self).contains("of output skipped"))
  }

  @Test(
    "pings, pongs and notices that are due while the viewer's socket is full don't break its frames"
  )
  func interleaved() async throws {
    var limits = RelayBench.fastLimits
    limits.pingInterval = .milliseconds(20)
    limits.deadAfter = .seconds(60)
    let total = 24 << 20
    let block = (0..<30_000).map { UInt8(truncatingIfNeeded: ($0 &* 40_503) >> 6) }
    let sent = Shared(StreamHash())
    let script = Self.source(of: block, total: total, counting: sent)
    let bench = try await RelayBench(console: .terminal, limits: limits, script: script)
    defer { bench.stop() }
    let viewer = try await bench.viewer(keeps: false)
    #expect(await happens { viewer.seen.now.isReady })
    // Stops and goes: every time the gateway's socket fills, and pings and pongs are due meanwhile.
    var id = 0
    while viewer.seen.now.hash.count < total, viewer.seen.now.violation == nil, id < 400 {
      viewer.pause(true)
      for _ in 0..<5 {
        id += 1
        viewer.send(text: "{\"type\":\"ping\",\"id\":\(id)}")
      }
      try await Task.sleep(for: .milliseconds(60))
      viewer.pause(false)
      try await Task.sleep(for: .milliseconds(3))
    }
    #expect(
      await happens { viewer.seen.now.hash.count >= total || viewer.seen.now.violation != nil })
    #expect(viewer.seen.now.violation == nil)
    #expect(viewer.seen.now.hash == sent.now)
    let asked = id
    #expect(await happens { viewer.seen.now.texts.filter { $0.contains("pong") }.count == asked })
    #expect(viewer.seen.now.pings > 10)
  }

  @Test(
    "idle limit, maximum duration, a dead viewer and an operator each end a session by their kind")
  func limits() async throws {
    var limits = RelayBench.fastLimits
    let idle = try await RelayBench(
      console: .terminal, idle: .milliseconds(300), script: Self.termproxy())
    defer { idle.stop() }
    let a = try await idle.viewer()
    #expect(await happens { a.seen.now.close?.code == Ending.Kind.idle.closeCode })
    let duration = try await RelayBench(
      console: .terminal, maxDuration: .milliseconds(300), script: Self.termproxy())
    defer { duration.stop() }
    let b = try await duration.viewer()
    #expect(await happens { b.seen.now.close?.code == Ending.Kind.maxDuration.closeCode })
    limits.pingInterval = .milliseconds(100)
    limits.deadAfter = .milliseconds(600)
    let dead = try await RelayBench(console: .terminal, limits: limits, script: Self.termproxy())
    defer { dead.stop() }
    let c = try await dead.viewer(answersPings: false)
    #expect(
      await happens {
        dead.services.records.withLock { $0.first?.snapshot.ending?.kind } == .viewerLost
      })
    #expect(c.seen.now.pings > 2)
    #expect(dead.node.seen.now.pings > 2)
    let operated = try await RelayBench(console: .terminal, script: Self.termproxy())
    defer { operated.stop() }
    let d = try await operated.viewer()
    #expect(await happens { d.seen.now.isReady })
    operated.services.records.withLock { $0.first }?.requestEnd(
      Ending(hop: .gateway, kind: .closedByOperator, sentence: "ended by an operator"))
    #expect(await happens { d.seen.now.close?.code == Ending.Kind.closedByOperator.closeCode })
    #expect(await happens { operated.node.seen.now.closes == 1 })
  }

  @Test("1,000 sessions leave no descriptor and no memory behind")
  func leaks() async throws {
    let bench = try await RelayBench(
      console: .terminal, script: Self.termproxy(greeting: "OK$ ") { c, b in c.send(b) })
    defer { bench.stop() }
    func round(_ count: Int) async throws {
      for start in stride(from: 0, to: count, by: 25) {
        let viewers = try await withThrowingTaskGroup(of: ViewerClient.self) { tasks in
          for _ in start..<min(start + 25, count) {
            tasks.addTask { try await bench.viewer() }
          }
          return try await tasks.reduce(into: []) { $0.append($1) }
        }
        for viewer in viewers {
          #expect(await happens { viewer.seen.now.isReady })
          viewer.send(Array("x".utf8))
          if viewer === viewers.last { viewer.cut() } else { viewer.close() }
        }
        for viewer in viewers { #expect(await happens { viewer.seen.now.isOver }) }
      }
      bench.services.records.withLock { $0 = [] }
      #expect(await happens { bench.node.seen.now.ended == bench.node.seen.now.connections })
    }
    try await round(100)
    try await Task.sleep(for: .milliseconds(200))
    let descriptors = openDescriptors()
    let memory = residentBytes()
    try await round(1000)
    #expect(await happens { openDescriptors() <= descriptors })
    #expect(residentBytes() - memory < 24 << 20)
    #expect(bench.services.mints.load(ordering: .relaxed) == 1100)
    #expect(bench.services.released.load(ordering: .relaxed) == 1100)
  }
}

/// Open descriptors of this process.
func openDescriptors() -> Int {
  ((try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []).count
}

/// Resident memory of this process in bytes.
func residentBytes() -> Int {
  let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
  let pages = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
  return pages * 4096
}

extension [UInt8] {
  /// The first position of a byte behind a prefix pattern.
  func firstIndex(of byte: UInt8, after pattern: [UInt8]) -> Int? {
    guard count >= pattern.count else { return nil }
    for i in 0...(count - pattern.count) where self[i..<i + pattern.count].elementsEqual(pattern) {
      return self[(i + pattern.count)...].firstIndex(of: byte)
    }
    return nil
  }
}
