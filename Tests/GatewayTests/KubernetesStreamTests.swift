import ConsoleProtocol
import Foundation
import ProxmoxClient
import Testing

@testable import Gateway
@testable import GuestExec

@Suite("Streams of commands") struct KubernetesStreamTests {
  @Test("an exit status is told, and the websocket closes in good order")
  func exits() async throws {
    try await CommandBed.with { bed in
      let zero = try await bed.stream("exit", "0").seen()
      #expect(zero.status["status"].string == "Success")
      #expect(zero.exit == nil && zero.code == 1000)
      for status in ["1", "3", "127", "255"] {
        let seen = try await bed.stream("exit", status).seen()
        #expect(seen.status["status"].string == "Failure")
        #expect(seen.status["reason"].string == "NonZeroExitCode")
        #expect(seen.exit == status && seen.code == 1000)
      }
      let wide = try await bed.stream("exit", "256").seen()
      #expect(wide.exit == "255" && wide.message.contains("256"))
    }
  }

  @Test("ends that are no exit status are never given as one, a signal is 128 and its number")
  func ends() async throws {
    try await CommandBed.with { bed in
      #expect(try await bed.stream("signal", "9").seen().exit == "137")
      for (word, kind) in [("timeout", "timed-out"), ("lose", "lost")] {
        let seen = try await bed.stream(word).seen()
        #expect(seen.status["status"].string == "Failure")
        #expect(seen.exit == nil, "\(word)")
        let causes = seen.status["details"]["causes"].array ?? []
        #expect(
          causes.contains { $0["reason"].string == "ExecEnd" && $0["message"].string == kind })
      }
      #expect(try await bed.stream("lose").seen().message.contains("the node went away"))
    }
  }

  @Test("both streams come on their channels; those not wanted don't")
  func streams() async throws {
    try await CommandBed.with { bed in
      let both = try await bed.stream("both").seen()
      #expect(both.outText == "out" && both.errText == "err" && both.exit == "1")
      let one = try await bed.stream("both", more: "&stderr=false").seen()
      #expect(one.outText == "out" && one.err.isEmpty && one.exit == "1")
    }
  }

  @Test("output that was cut is said to be")
  func truncated() async throws {
    try await CommandBed.with { bed in
      let seen = try await bed.stream("cut").seen()
      #expect(seen.outText == "half" && seen.errText.contains("not whole"))
      let causes = seen.status["details"]["causes"].array ?? []
      #expect(
        causes.contains { $0["reason"].string == "Truncated" && $0["message"].string == "stdout" })
    }
  }

  @Test("arguments arrive as they were sent: spaces, quotes, any byte, empty ones")
  func arguments() async throws {
    try await CommandBed.with { bed in
      _ = try await bed.open(
        "/v1/exec/stream?target=qemu/100&command=exit&command=0&command=a+b%20c&command=&command=%27%22%24%28x%29&command=%FF%C3&command=%2B%26%3D%3B%25%09"
      ).seen()
      let words: [[UInt8]] = [
        Array("exit".utf8), Array("0".utf8), Array("a b c".utf8), [], Array("'\"$(x)".utf8),
        [255, 0xC3], Array("+&=;%\t".utf8),
      ]
      #expect(bed.transport.started.withLock { $0.last?.command } == .argv(words))
    }
  }

  @Test("a command that can't be carried whole is refused, and nothing runs")
  func lineBreak() async throws {
    try await CommandBed.with { bed in
      for path in [
        "/v1/exec/stream?target=qemu/100&command=exit&command=0%0Arm",
        "/k8s/api/v1/namespaces/home/pods/qemu-100/exec?stdout=1&command=exit&command=0%0Drm",
      ] {
        guard case .refused(let answer) = try await bed.attempt(path) else {
          Issue.record("it was taken: \(path)")
          continue
        }
        #expect(answer.status == 400 && answer.text.contains("line break"))
      }
      // Semicolons separate parameters, as ampersands do: what stands behind one must not get lost.
      for path in [
        "/v1/exec/stream?target=qemu/100&command=exit&command=0;rm",
        "/k8s/api/v1/namespaces/home/pods/qemu-100/exec?stdout=1&command=exit&command=0;rm",
      ] {
        #expect(try await bed.status(path) == 400)
      }
      #expect(bed.transport.started.withLock { $0.isEmpty })
    }
  }

  @Test("input goes in and comes to its end by half-close")
  func input() async throws {
    try await CommandBed.with { bed in
      let viewer = try await bed.stream("cat", more: "&stdin=true")
      let sent = (0..<40_000).map { UInt8(truncatingIfNeeded: ($0 &* 40503) >> 7) }
      async let seen = viewer.seen()
      for start in stride(from: 0, to: sent.count, by: 10_000) {
        try await viewer.input(Array(sent[start..<start + 10_000]))
      }
      try await viewer.closeInput()
      let got = try await seen
      #expect((got.out == sent) == true)
      #expect(got.status["status"].string == "Success")
    }
  }

  @Test("a command that takes its input slowly gets all of it")
  func slowCommand() async throws {
    try await CommandBed.with { bed in
      let viewer = try await bed.stream("slow", more: "&stdin=true")
      async let seen = viewer.seen()
      for _ in 0..<128 { try await viewer.input([UInt8](repeating: 7, count: 60_000)) }
      try await viewer.closeInput()
      #expect(try await seen.outText == "\(128 * 60_000)")
    }
  }

  @Test("a command that ends without reading its input ends well")
  func unread() async throws {
    try await CommandBed.with { bed in
      let viewer = try await bed.stream("head", more: "&stdin=true")
      async let seen = viewer.seen()
      for _ in 0..<64 { try? await viewer.input([UInt8](repeating: 7, count: 60_000)) }
      let got = try await seen
      #expect(got.status["status"].string == "Success" && got.code == 1000)
    }
  }

  @Test("input that can't be delivered is no success, and its command is cancelled")
  func refusedInput() async throws {
    try await CommandBed.with { bed in
      let viewer = try await bed.stream("picky", more: "&stdin=true")
      try await viewer.input([1])
      let seen = try await viewer.seen()
      #expect(seen.status["status"].string == "Failure" && seen.exit == nil)
      #expect(seen.message.contains("It takes no such input. Send less."))
      #expect(try await bed.job { $0.state.isOver }.end == .cancelled)
    }
  }

  @Test("a slow client gets everything in the end")
  func slowClient() async throws {
    try await CommandBed.with { bed in
      let viewer = try await bed.stream("flood", "16")
      try await Task.sleep(for: .milliseconds(700))
      let seen = try await viewer.seen()
      #expect(seen.out.count == 16 << 20)
      #expect(seen.status["status"].string == "Success")
    }
  }

  @Test("the terminal's first size is the command's, later ones arrive")
  func sizes() async throws {
    // Long enough for the size to come on the busiest machine.
    var patient = CommandStream.Timings()
    patient.firstSize = .seconds(20)
    try await CommandBed.with(patient) { bed in
      let viewer = try await bed.stream("cat", more: "&tty=true&stdin=true")
      try await viewer.send(binary: [4] + Array(#"{"Width":132,"Height":43}"#.utf8))
      _ = try await bed.job { $0.state == .running }
      #expect(
        bed.transport.started.withLock { $0.last?.terminal }
          == TerminalSize(columns: 132, rows: 43))
      try await viewer.send(binary: [4] + Array(#"{"Width":99,"Height":33}"#.utf8))
      guard case .binary(let bytes) = try await viewer.next() else {
        Issue.record("no output")
        return
      }
      #expect(String(decoding: bytes.dropFirst(), as: UTF8.self) == "99x33;")
      try await viewer.closeInput()
      #expect(try await viewer.seen().status["status"].string == "Success")
    }
    try await CommandBed.with { bed in
      let silent = try await bed.stream("exit", "0", more: "&tty=true").seen()
      #expect(silent.status["status"].string == "Success")
      #expect(
        bed.transport.started.withLock { $0.last?.terminal } == TerminalSize(columns: 80, rows: 24))
      _ = try await bed.stream("exit", "0", more: "&tty=true&columns=100").seen()
      #expect(
        bed.transport.started.withLock { $0.last?.terminal }
          == TerminalSize(columns: 100, rows: 24))
    }
  }

  @Test("with its client a command goes, unless it was asked to stay")
  func disconnects() async throws {
    try await CommandBed.with { bed in
      var viewer: RawViewer? = try await bed.stream("sleep")
      _ = try await bed.job { $0.state == .running }
      withExtendedLifetime(viewer) {}
      viewer = nil
      #expect(try await bed.job { $0.state.isOver }.end == .cancelled)
      viewer = try await bed.stream("sleep", more: "&onDisconnect=keep")
      let kept = try await bed.job { $0.state == .running }
      withExtendedLifetime(viewer) {}
      viewer = nil
      try await Task.sleep(for: .milliseconds(500))
      #expect(try await bed.engine.summary(kept.id).state == .running)
      try await bed.engine.cancel(kept.id)
    }
  }

  @Test("a job can be attached to, from an offset on, by its own key only")
  func attaches() async throws {
    try await CommandBed.with { bed in
      let answer = try await http(
        bed.port, "POST", "/v1/exec",
        headers: [
          "Authorization": "Bearer \(CommandBed.key)", "Content-Type": "application/json",
        ], body: Array(#"{"target":"qemu/100","argv":["show","abc","def"]}"#.utf8))
      let id = try #require(try JSONParser.parse(answer.body)["id"].string)
      let all = try await bed.open("/v1/exec/\(id)/stream").seen()
      #expect(all.outText == "<abc><def>" && all.status["status"].string == "Success")
      let rest = try await bed.open("/v1/exec/\(id)/stream?stdoutOffset=5").seen()
      #expect(rest.outText == "<def>")
      let theirs = try await bed.open("/v1/exec/\(id)/stream", key: CommandBed.otherKey).seen()
      #expect(theirs.status["reason"].string == "NotFound" && theirs.out.isEmpty)
      let unread = try await bed.open("/v1/exec/\(id)/stream?stdin=true").seen()
      #expect(unread.outText == "<abc><def>")
    }
  }

  @Test("what was not started says why and what to do")
  func failures() async throws {
    try await CommandBed.with { bed in
      let seen = try await bed.stream("unstartable").seen()
      #expect(seen.status["status"].string == "Failure" && seen.exit == nil)
      #expect(seen.message == "The guest agent does not answer. Install qemu-guest-agent.")
      // kubectl shows a status only where the websocket closes like this.
      #expect(seen.code == 1000)
      let nowhere = try await bed.open("/v1/exec/stream?target=qemu/999&command=true").seen()
      #expect(nowhere.status["reason"].string == "NotFound")
    }
  }

  @Test("a client that breaks the protocol hears what it did")
  func violations() async throws {
    try await CommandBed.with { bed in
      let viewer = try await bed.stream("sleep")
      try await viewer.send(binary: [1, 65])
      let seen = try await viewer.seen()
      #expect(seen.code == 1002 && seen.message.contains("channel 1"))
      #expect(try await bed.job { $0.state.isOver }.end == .cancelled)
      let old = try await bed.open(
        "/v1/exec/stream?target=qemu/100&command=cat&stdin=true", subprotocol: "v4.channel.k8s.io")
      try await old.closeInput()
      #expect(try await old.seen().message.contains("v5.channel.k8s.io"))
    }
  }

  static func status(_ attempt: RawViewer.Attempt) -> Int {
    switch attempt {
    case .open: 101
    case .refused(let answer): answer.status
    }
  }

  @Test(
    "who has no right to run commands gets no websocket, and nothing runs",
    arguments: [
      "/v1/exec/stream?target=qemu/100&command=exit&command=0", "/v1/exec/j-x/stream",
      "/k8s/api/v1/namespaces/home/pods/qemu-100/exec?command=exit&command=0&stdout=1",
    ])
  func rights(_ path: String) async throws {
    try await CommandBed.with { bed in
      let none = try await bed.status(path, key: nil)
      #expect(none == 401)
      #expect(try await bed.status(path, key: "not-a-key-at-all") == 401)
      #expect(try await bed.status(path, key: CommandBed.readKey) == 403)
      #expect(try await bed.status(path, origin: "https://evil.example") == 403)
      #expect(try await bed.status(path, origin: "null") == 403)
      for offer in [nil, "binary", "sallyport.v1", "sallyport.v1, v5.channel.k8s.io"] as [String?] {
        #expect(try await bed.status(path, subprotocol: offer) == 400)
      }
      #expect(bed.transport.started.withLock { $0.isEmpty })
    }
  }

  @Test("a key may come as a subprotocol, from a page of ours only")
  func bearer() async throws {
    try await CommandBed.with { bed in
      let path = "/v1/exec/stream?target=qemu/100&command=exit&command=0"
      func offer(_ key: String) -> String {
        "v5.channel.k8s.io, \(RemoteCommand.bearerPrefix)\(Random.base64url(Array(key.utf8)))"
      }
      let seen = try await bed.open(path, subprotocol: offer(CommandBed.key), key: nil).seen()
      #expect(seen.status["status"].string == "Success")
      let refused: [(String, String?)] = [
        (offer("not-a-key-at-all"), nil), (offer(CommandBed.readKey), nil),
        (offer(CommandBed.key), "https://evil.example"),
      ]
      for (subprotocol, origin) in refused {
        let attempt = try await bed.attempt(
          path, subprotocol: subprotocol, key: nil, origin: origin)
        #expect([401, 403].contains(Self.status(attempt)))
      }
      // Offers that libwebsockets would hang up on are answered.
      for long in [
        "\(RemoteCommand.bearerPrefix)\(Random.base64url(Array(CommandBed.key.utf8))), v5.channel.k8s.io",
        offer(CommandBed.key) + String(repeating: ", another", count: 9),
      ] {
        #expect(try await bed.status(path, subprotocol: long, key: nil) == 400)
      }
      let own = try await bed.attempt(
        path, subprotocol: offer(CommandBed.key), key: nil, origin: "http://127.0.0.1:\(bed.port)")
      #expect(Self.status(own) == 101)
    }
  }

  @Test(
    "Python's client names our own address as its origin, which is enough with a key in a header")
  func ownOrigin() async throws {
    try await CommandBed.with { bed in
      let path = "/v1/exec/stream?target=qemu/100&command=exit&command=0"
      let host = "gateway.example:\(bed.port)"
      let good = try await bed.attempt(
        path, origin: "http://\(host)", headers: ["Host": host])
      #expect(Self.status(good) == 101)
      let page = try await bed.attempt(
        path,
        subprotocol:
          "v5.channel.k8s.io, \(RemoteCommand.bearerPrefix)\(Random.base64url(Array(CommandBed.key.utf8)))",
        key: nil, origin: "http://\(host)", headers: ["Host": host])
      #expect(Self.status(page) == 403)
    }
  }

  @Test(
    "parameters that can't be meant are refused by name",
    arguments: [
      "", "target=qemu/100", "command=true", "target=qemu/100&command=true&shell=true",
      "target=qemu/100&command=true&tty=true&stderr=true", "target=qemu/100&command=true&tty=maybe",
      "target=qemu/100&command=true&stdout=false&stderr=false", "target=x/y&command=true",
      "target=qemu/100&command=true&colour=red", "target=qemu/100&command=true&transport=pigeon",
      "target=qemu/100&command=true&onDisconnect=cry", "target=qemu/100&command=true&timeLimit=-1",
      "target=qemu/100&command=true&env=A", "target=qemu/100&command=true&directory=tmp",
    ])
  func parameters(_ query: String) async throws {
    try await CommandBed.with { bed in
      let status = Self.status(try await bed.attempt("/v1/exec/stream?\(query)"))
      #expect(status == 400 || status == 422)
    }
  }
}

@Suite struct CommandStreamInputTests {
  @Test("a client is held back at the bound, and let go on when what it sent was taken")
  func bound() async {
    let room = LogCounter()
    let input = CommandStreamInput { room.add() }
    #expect(input.put([UInt8](repeating: 1, count: CommandStreamInput.bound - 1)))
    #expect(!input.put([1]))
    #expect(room.count == 0)
    guard case .bytes(let bytes) = await input.next() else {
      Issue.record("no bytes")
      return
    }
    #expect(bytes.count == CommandStreamInput.bound)
    #expect(room.count == 1)
    input.close()
    guard case .end = await input.next() else {
      Issue.record("no end")
      return
    }
    #expect(await input.isDry())
  }

  @Test("when it is over the client may go on, and what it sends is dropped")
  func finish() async {
    let room = LogCounter()
    let input = CommandStreamInput { room.add() }
    _ = input.put([UInt8](repeating: 1, count: CommandStreamInput.bound))
    async let item = input.next()
    _ = await item
    _ = input.put([UInt8](repeating: 1, count: CommandStreamInput.bound))
    input.finish()
    #expect(room.count == 2)
    #expect(input.put([1]))
    #expect(await input.isDry())
  }
}

extension CommandStreamInput {
  /// Whether nothing follows.
  fileprivate func isDry() async -> Bool {
    if case nil = await next() { true } else { false }
  }
}
