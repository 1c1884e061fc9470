import Testing

@testable import ConsoleProtocol

@Suite struct ViewerMessagesTests {
  static func parse(_ text: String) throws(ViewerMessage.Malformed) -> ViewerMessage {
    try ViewerMessage.parse(Array(text.utf8))
  }

  /// The error of a text; nil when there is none.
  static func error(_ text: String) -> ViewerMessage.Malformed? {
    do {
      _ = try parse(text)
      return nil
    } catch { return error }
  }

  @Test("the four messages are read")
  func read() throws {
    #expect(
      try Self.parse(
        #"{"type":"open","token":"abc","columns":120,"rows":40,"acks":true,"notices":true}"#)
        == .open(
          .init(
            token: Secret("abc"), size: TerminalSize(columns: 120, rows: 40), acks: true,
            notices: true)))
    #expect(
      try Self.parse(#" { "token" : "a\u00e9\ud83d\ude00\n\/" , "type" : "open" } "#)
        == .open(.init(token: Secret("aé😀\n/"), size: nil, acks: false, notices: false)))
    #expect(
      try Self.parse(#"{"type":"resize","columns":90,"rows":30}"#)
        == .resize(try #require(TerminalSize(columns: 90, rows: 30))))
    #expect(try Self.parse(#"{"type":"ack","bytes":9007199254740991}"#) == .ack(bytes: 1 << 53 - 1))
    #expect(try Self.parse(#"{"type":"ping","id":-7}"#) == .ping(id: -7))
    #expect(
      try Self.parse(#"{"type":"open","token":"x","acks":null,"columns":80,"rows":24}"#)
        == .open(
          .init(
            token: Secret("x"), size: TerminalSize(columns: 80, rows: 24), acks: false,
            notices: false)))
  }

  @Test("sizes are brought into PVE's bounds, and refused where they can't be meant")
  func sizes() {
    #expect(TerminalSize(columns: 5, rows: 1).map { [$0.columns, $0.rows] } == [16, 2])
    #expect(
      TerminalSize(columns: 65535, rows: 65535).map { [$0.columns, $0.rows] } == [4096, 2160])
    #expect(TerminalSize(columns: 0, rows: 24) == nil)
    #expect(TerminalSize(columns: 80, rows: 65536) == nil)
    #expect(Self.error(#"{"type":"resize","columns":0,"rows":24}"#)?.field == "columns")
    #expect(Self.error(#"{"type":"resize","columns":80,"rows":-1}"#)?.field == "rows")
    #expect(Self.error(#"{"type":"resize","columns":80,"rows":70000}"#)?.field == "rows")
  }

  @Test(
    "an error names its field",
    arguments: [
      (#"{"token":"x"}"#, "type"), (#"{"type":"close"}"#, "type"), (#"{"type":1}"#, "type"),
      (#"{"type":"open"}"#, "token"), (#"{"type":"open","token":""}"#, "token"),
      (#"{"type":"open","token":7}"#, "token"), (#"{"type":"open","token":null}"#, "token"),
      (#"{"type":"open","token":"x","columns":80}"#, "rows"),
      (#"{"type":"open","token":"x","rows":80}"#, "columns"),
      (#"{"type":"open","token":"x","acks":1}"#, "acks"),
      (#"{"type":"open","token":"x","admin":true}"#, "admin"),
      (#"{"type":"resize"}"#, "columns"),
      (#"{"type":"resize","columns":"80","rows":24}"#, "columns"),
      (#"{"type":"ack"}"#, "bytes"), (#"{"type":"ack","bytes":-1}"#, "bytes"),
      (#"{"type":"ping"}"#, "id"), (#"{"type":"ping","id":true}"#, "id"),
      (#"{"type":"ping","id":1,"__proto__":1}"#, "__proto__"),
    ])
  func fields(_ text: String, _ field: String) {
    #expect(Self.error(text)?.field == field)
    #expect(Self.error(text)?.description.contains("'\(field)'") == true)
  }

  @Test(
    "what is no flat JSON object is refused",
    arguments: [
      "", " ", "null", "[]", "{", "}", "{}x", #"{"type":"ping","id":1}}"#,
      #"{"type":"ping","id":1,}"#,
      #"{"type":"ping" "id":1}"#, #"{"type":"ping","id":1.5}"#, #"{"type":"ping","id":1e3}"#,
      #"{"type":"ping","id":01}"#, #"{"type":"ping","id":-}"#,
      #"{"type":"ping","id":99999999999999999999}"#,
      #"{"type":"ping","id":{"a":1}}"#, #"{"type":"ping","id":[1]}"#,
      #"{"type":"ping","id":1,"id":2}"#,
      #"{type:"ping"}"#, "{'type':'ping'}", #"{"type":"pi"#, #"{"type":"\x"}"#, #"{"type":"\u12"}"#,
      #"{"type":"\ud800"}"#, #"{"type":"\ud800\u0041"}"#, "{\"type\":\"a\nb\"}", #"{"type":tru}"#,
      #"{"type":"ping","id":NaN}"#, "\u{feff}{}",
    ])
  func malformed(_ text: String) {
    #expect(Self.error(text) != nil)
    #expect(Self.error(text)?.field == nil)
  }

  @Test("bytes that are not UTF-8, messages over 4 KiB and objects of many fields are refused")
  func bounds() {
    #expect(throws: ViewerMessage.Malformed.self) {
      try ViewerMessage.parse(
        Array(#"{"type":"ping","id":1,"x":""#.utf8) + [0xff] + Array("\"}".utf8))
    }
    #expect(
      Self.error(#"{"type":"open","token":""# + String(repeating: "x", count: 4090) + #""}"#) != nil
    )
    let many = (0..<40).map { "\"f\($0)\":1" }.joined(separator: ",")
    #expect(Self.error("{\(many)}")?.description.contains("too many fields") == true)
  }

  @Test("a token in an error would be a leak: no error quotes a value")
  func noLeak() {
    for text in [
      #"{"type":"open","token":"sesame","x":1}"#, #"{"type":"open","token":"sesame""#,
      #"{"type":"sesame"}"#, #"{"type":"open","token":"sesame","token":"sesame"}"#,
    ] {
      #expect(Self.error(text)?.description.contains("sesame") == false)
    }
  }

  @Test("truncated and mutated messages never trap")
  func fuzz() {
    var random = Random(seed: 13)
    let good = Array(
      #"{"type":"open","token":"a\u00e9b","columns":120,"rows":40,"acks":true,"notices":null}"#.utf8
    )
    for end in 0..<good.count { #expect((try? ViewerMessage.parse(Array(good[..<end]))) == nil) }
    for _ in 0..<5000 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] =
          Bool.random(using: &random)
          ? UInt8.random(in: 0...255, using: &random)
          : Array("{}[]\",:\\u0-.".utf8).randomElement(using: &random) ?? 0
      }
      _ = try? ViewerMessage.parse(bytes)
    }
  }

  @Test("the gateway's messages are what the viewer expects, letter by letter")
  func written() {
    #expect(
      GatewayMessage.ready(
        session: "s1", target: "qemu/100", node: "pve1", name: "web1", console: .vnc,
        readOnly: false
      ).json
        == #"{"type":"ready","session":"s1","target":"qemu/100","node":"pve1","name":"web1","console":"vnc","readOnly":false}"#
    )
    #expect(
      GatewayMessage.ready(
        session: "s1", target: "node/pve1", node: "pve1", name: nil, console: .serial0,
        readOnly: true
      ).json
        == #"{"type":"ready","session":"s1","target":"node/pve1","node":"pve1","console":"serial0","readOnly":true}"#
    )
    #expect(GatewayMessage.stage(.dialling).json == #"{"type":"stage","stage":"dialling"}"#)
    #expect(GatewayMessage.pong(id: 7).json == #"{"type":"pong","id":7}"#)
    #expect(
      GatewayMessage.notice(.idleWarning, seconds: 60).json
        == #"{"type":"notice","kind":"idle-warning","seconds":60}"#)
    let ending = Ending(
      hop: .guest, kind: .guestNotRunning, sentence: "The guest \"web1\" is off.",
      remedy: "Start it.\u{1}", details: ["a\\b", "line\n"])
    #expect(
      GatewayMessage.ended(ending).json
        == #"{"type":"ended","hop":"guest","kind":"guest-not-running","sentence":"The guest \"web1\" is off.","remedy":"Start it.\u0001","details":["a\\b","line\n"],"code":4100}"#
    )
  }
}
