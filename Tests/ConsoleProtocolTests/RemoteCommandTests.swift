import Testing

@testable import ConsoleProtocol

@Suite struct RemoteCommandTests {
  /// What a message says that comes in the given pieces: standard input joined, the other events in order.
  static func read(
    _ reader: inout RemoteCommandReader, _ pieces: [[UInt8]]
  ) -> (stdin: [UInt8], events: [RemoteCommandReader.Event]) {
    var stdin: [UInt8] = []
    var events: [RemoteCommandReader.Event] = []
    for (i, piece) in pieces.enumerated() {
      let event = piece.withUnsafeBytes { reader.take($0, isFinal: i == pieces.count - 1) }
      if case .stdin(let range) = event {
        stdin += piece[range]
      } else if let event {
        events.append(event)
      }
    }
    return (stdin, events)
  }

  static func cuts(_ message: [UInt8]) -> [[[UInt8]]] {
    var out = [[message], [[], message, []], message.map { [$0] }]
    for at in 0...message.count { out.append([Array(message[..<at]), Array(message[at...])]) }
    return out
  }

  @Test("input is the same however its message was cut")
  func stdin() {
    let message: [UInt8] = [0, 0, 255, 1, 4, 0, 200]
    for pieces in Self.cuts(message) {
      var reader = RemoteCommandReader(.v5)
      for _ in 0..<2 {
        let got = Self.read(&reader, pieces)
        #expect(got.stdin == Array(message.dropFirst()), "\(pieces)")
        #expect(got.events.isEmpty)
      }
    }
  }

  @Test("a size is read however its message was cut, in any case and order of the names")
  func sizes() throws {
    let size = try #require(TerminalSize(columns: 132, rows: 43))
    for text in [
      #"{"Width":132,"Height":43}"#, #"{ "height" : 43, "width" : 132 }"#,
      #"{"Width":132,"Height":43,"X":null}"#,
    ] {
      for pieces in Self.cuts([4] + Array(text.utf8)) {
        var reader = RemoteCommandReader(.v4)
        #expect(Self.read(&reader, pieces).events == [.resize(size)])
        #expect(Self.read(&reader, [[0, 65]]).stdin == [65])
      }
    }
  }

  @Test("a size of zero is no size")
  func zero() {
    var reader = RemoteCommandReader(.v5)
    #expect(
      Self.read(&reader, [[4] + Array(#"{"Width":0,"Height":0}"#.utf8)]).events.isEmpty)
    #expect(Self.read(&reader, [[4]]).events.isEmpty)
  }

  @Test("input ends once, and what comes behind its end is dropped")
  func halfClose() {
    for pieces in Self.cuts([255, 0]) {
      var reader = RemoteCommandReader(.v5)
      #expect(Self.read(&reader, [[0, 1, 2]]).stdin == [1, 2])
      #expect(Self.read(&reader, pieces).events == [.stdinClosed])
      #expect(Self.read(&reader, pieces).events.isEmpty)
      #expect(Self.read(&reader, [[0, 9]]).stdin.isEmpty)
    }
  }

  @Test("closing another channel is not the end of input")
  func otherClose() {
    var reader = RemoteCommandReader(.v5)
    for channel: UInt8 in [1, 2, 3, 4, 255] {
      #expect(Self.read(&reader, [[255, channel]]).events.isEmpty)
    }
    #expect(Self.read(&reader, [[0, 7]]).stdin == [7])
  }

  @Test("empty messages mean nothing on any channel")
  func empty() {
    var reader = RemoteCommandReader(.v5)
    #expect(Self.read(&reader, [[]]).events.isEmpty)
    for channel: UInt8 in 0..<255 {
      #expect(Self.read(&reader, [[channel], []]).events.isEmpty, "\(channel)")
    }
    #expect(Self.read(&reader, [[0, 7]]).stdin == [7])
  }

  static let hostile: [[UInt8]] =
    [[1, 65], [2, 65], [3, 65], [5, 0], [254, 1], [255, 0, 0], [255]]
    + [
      "{", "[]", "80x24", #"{"Width":80}"#, #"{"Width":"80","Height":24}"#,
      #"{"Width":-1,"Height":24}"#, #"{"Width":80,"Height":70000}"#,
      #"{"Width":80,"Height":24}x"#, #"{"Width":80,"Height":24,"Width":81}"#,
      String(repeating: "[", count: 1000), String(repeating: " ", count: 2000),
    ].map { [4] + Array($0.utf8) }

  @Test("what can't be meant is a violation, and nothing behind it is read", arguments: hostile)
  func violations(_ message: [UInt8]) {
    for pieces in Self.cuts(message).prefix(8) {
      var reader = RemoteCommandReader(.v5)
      let got = Self.read(&reader, pieces)
      #expect(got.stdin.isEmpty)
      guard got.events.count == 1, case .violation = got.events.first else {
        Issue.record("\(got.events) for \(pieces)")
        continue
      }
      let after = Self.read(&reader, [[0, 65]])
      #expect(after.stdin.isEmpty && after.events.isEmpty)
    }
  }

  @Test("v4 has no closing, and says which version has")
  func v4() {
    var reader = RemoteCommandReader(.v4)
    guard case .violation(let what) = Self.read(&reader, [[255, 0]]).events.first else {
      Issue.record("no violation")
      return
    }
    #expect(what.contains("v5.channel.k8s.io"))
  }

  @Test("an endless control message is not collected")
  func bound() {
    var reader = RemoteCommandReader(.v5)
    var isOver = false
    for _ in 0..<100 where !isOver {
      let piece = [UInt8](repeating: 4, count: 64)
      if case .violation = piece.withUnsafeBytes({ reader.take($0, isFinal: false) }) {
        isOver = true
      }
    }
    #expect(isOver)
  }

  @Test("noise never traps, and nothing but input is input")
  func noise() {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<2000 {
      var reader = RemoteCommandReader(Bool.random(using: &random) ? .v5 : .v4)
      for _ in 0..<8 {
        let pieces = (0..<Int.random(in: 1...3, using: &random)).map { _ in
          (0..<Int.random(in: 0...6, using: &random)).map { _ -> UInt8 in
            Bool.random(using: &random)
              ? UInt8.random(in: 0...5, using: &random) : UInt8.random(in: 0...255, using: &random)
          }
        }
        let got = Self.read(&reader, pieces)
        if pieces.joined().first != 0 { #expect(got.stdin.isEmpty) }
      }
    }
  }

  @Test("messages to the client begin with their channel")
  func messages() {
    #expect(RemoteCommand.message(.stdout, [1, 2]) == [1, 1, 2])
    #expect(RemoteCommand.message(.status, []) == [3])
  }
}

@Suite struct RemoteCommandOfferTests {
  @Test("the client's order decides, among the versions that are known")
  func versions() {
    #expect(RemoteCommandOffer("v5.channel.k8s.io").version == .v5)
    #expect(RemoteCommandOffer("v4.channel.k8s.io,\tv5.channel.k8s.io ").version == .v4)
    #expect(RemoteCommandOffer("v9.channel.k8s.io, v5.channel.k8s.io").version == .v5)
    #expect(RemoteCommandOffer("channel.k8s.io, base64.channel.k8s.io").version == nil)
    #expect(RemoteCommandOffer("").version == nil)
  }

  @Test("a key may come as a subprotocol")
  func bearer() {
    func offer(_ letters: String) -> RemoteCommandOffer {
      RemoteCommandOffer(
        "base64url.bearer.authorization.k8s.io.\(letters), v5.channel.k8s.io")
    }
    #expect(offer("a2V5").bearer == Secret("key"))
    #expect(offer("a2V5").version == .v5)
    #expect(offer("w7x-Pz8").bearer == Secret("ü~??"))
    for bad in ["", "a", "a2V5=", "a2V5+", "a2V5/", "_w", "a2W", "a2V5 a"] {
      #expect(offer(bad).bearer == nil, "\(bad)")
      #expect(offer(bad).hasBadBearer, "\(bad)")
    }
    let twice = RemoteCommandOffer(
      "base64url.bearer.authorization.k8s.io.a2V5,base64url.bearer.authorization.k8s.io.a2V6")
    #expect(twice.hasBadBearer)
  }
}

@Suite struct RemoteCommandStatusTests {
  @Test("0 is success, and has no message")
  func success() {
    #expect(
      RemoteCommandStatus.exited(0).json
        == #"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}"#)
  }

  @Test("an exit status is in the causes, as kubectl and Python's client read it")
  func exit() {
    #expect(
      RemoteCommandStatus.exited(3).json
        == #"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"command terminated with exit code 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#
    )
  }

  @Test("numbers over 255 are never taken for 0", arguments: [256, 512, 3_221_225_786, -1, -256])
  func large(_ status: Int) {
    let out = RemoteCommandStatus.exited(status)
    #expect(!out.isSuccess)
    #expect(out.causes.first == .init("ExitCode", "255"))
    #expect(out.message.contains(String(status)))
  }

  @Test("signals are 128 and their number")
  func signals() {
    #expect(RemoteCommandStatus.signalled(9).causes.first == .init("ExitCode", "137"))
    #expect(RemoteCommandStatus.signalled(9).message.contains("signal 9"))
    #expect(RemoteCommandStatus.signalled(3_221_225_477).causes.first == .init("ExitCode", "255"))
  }

  @Test("an end without an exit status has none")
  func failed() {
    let out = RemoteCommandStatus.failed(
      "Timeout", "it said \"no\"\n", code: 504, causes: [.init("ExecEnd", "timed-out")])
    #expect(!out.causes.contains { $0.reason == "ExitCode" })
    #expect(
      out.json
        == #"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"it said \"no\"\n","reason":"Timeout","details":{"causes":[{"reason":"ExecEnd","message":"timed-out"}]},"code":504}"#
    )
  }
}
