import Testing

@testable import ProxmoxClient

@Suite("JSON as PVE writes it")
struct JSONTests {
  private func parse(_ text: String) throws -> JSONValue { try JSONParser.parse(Array(text.utf8)) }

  @Test("numbers come as numbers or as strings")
  func numbers() throws {
    let v = try parse(#"{"a":5900,"b":"5901","c":1.5,"d":"2.5","e":3.0,"f":1e3,"g":"x","h":-7}"#)
    #expect(v["a"].int == 5900)
    #expect(v["b"].int == 5901)
    #expect(v["c"].double == 1.5)
    #expect(v["c"].int == nil)
    #expect(v["d"].double == 2.5)
    #expect(v["e"].int == 3)
    #expect(v["f"].int == 1000)
    #expect(v["g"].int == nil)
    #expect(v["h"].int == -7)
    #expect(v["a"].string == "5900")
  }

  @Test("truth comes as 0, 1, their strings, true, false or nothing")
  func truth() throws {
    let v = try parse(
      #"{"a":0,"b":1,"c":"1","d":"0","e":true,"f":false,"g":"","h":null,"i":"perhaps"}"#)
    #expect(v["a"].bool == false && v["b"].bool == true && v["c"].bool == true)
    #expect(v["d"].bool == false && v["e"].bool == true && v["f"].bool == false)
    #expect(v["g"].bool == false && v["h"].bool == nil && v["i"].bool == nil)
    #expect(v["j"].isNull)
  }

  @Test("escapes, surrogate pairs and halves of them")
  func escapes() throws {
    #expect(try parse(#""\u00e4\n\"\\\/\ud83d\ude00""#).string == "ä\n\"\\/😀")
    #expect(try parse(#""\ud83dx""#).string == "\u{FFFD}x")
    #expect(try parse(#""\ud83d\u0041""#).string == "\u{FFFD}A")
    #expect(try parse(#""\u0000""#).string == "\u{0}")
  }

  @Test("of a key that comes twice the last one counts")
  func duplicates() throws { #expect(try parse(#"{"a":1,"a":2}"#)["a"].int == 2) }

  @Test("nesting without end is refused, not followed")
  func deep() {
    for open in ["[", #"{"a":"#] {
      #expect(throws: JSONParser.Failure.self) {
        try parse(String(repeating: open, count: 1_000_000))
      }
    }
    let fine = String(repeating: "[", count: 100) + String(repeating: "]", count: 100)
    #expect(throws: Never.self) { try parse(fine) }
  }

  @Test("numbers beyond any type are no trap")
  func huge() throws {
    #expect(try parse("100000000000000000000").double == 1e20)
    #expect(try parse("123456789012345678901234567890").int == nil)
    #expect(try parse(#""1e999""#).int == nil)
    #expect(throws: JSONParser.Failure.self) { try parse("1e999") }
  }

  @Test("half an answer is an error at every cut")
  func cuts() {
    let whole = Array(#"{"data":[{"a":"b\u00e4","c":[1,2.5,true,null]}],"total":1}"#.utf8)
    for n in 0..<whole.count {
      #expect(throws: JSONParser.Failure.self) { try JSONParser.parse(Array(whole.prefix(n))) }
    }
    #expect(throws: Never.self) { try JSONParser.parse(whole) }
  }

  @Test("random bytes never crash it")
  func noise() {
    var generator = SystemRandomNumberGenerator()
    let alphabet = Array(#"{}[]",:\u0123eE+-.truefalsn 😀"#.utf8)
    for _ in 0..<20_000 {
      let count = Int.random(in: 0..<40, using: &generator)
      let bytes = (0..<count).map { _ in alphabet.randomElement(using: &generator) ?? 0 }
      _ = try? JSONParser.parse(bytes)
    }
  }

  @Test("what is written reads back")
  func roundTrip() throws {
    let v = try parse(#"{"b":[1,"x\n\u0001",null,true,2.5,{}],"a":{}}"#)
    #expect(try parse(v.encoded(pretty: false)) == v)
    #expect(try parse(v.encoded(pretty: true)) == v)
    #expect(v.description == #"{"a":{},"b":[1,"x\n\u0001",null,true,2.5,{}]}"#)
  }
}

@Suite("Encoding")
struct EncodingTests {
  @Test("a ticket full of reserved characters survives the way into a URL and back")
  func ticket() {
    let ticket = "%)+J/=:&#?;`!: äPVEVNC:6B01E1B3::o/Jr+JG6=="
    let encoded = PercentEncoding.encode(ticket)
    #expect(encoded.utf8.allSatisfy { $0 < 127 && !"+/=:&#?; `!".utf8.contains($0) })
    #expect(encoded.hasPrefix("%25%29%2BJ%2F%3D%3A%26%23%3F%3B%60%21%3A%20%C3%A4PVEVNC"))
    #expect(PercentEncoding.decode(encoded) == ticket)
  }

  @Test("a cookie's value loses nothing that pveproxy would decode or cut")
  func cookie() {
    #expect(PercentEncoding.cookie("PVE:a@b:6B::x/y+z==") == "PVE:a@b:6B::x/y+z==")
    #expect(PercentEncoding.cookie("a%b;c,d\"e\\f g") == "a%25b%3Bc%2Cd%22e%5Cf%20g")
  }

  @Test("parameters become a form that PVE reads")
  func form() {
    let form = Parameter.encode([
      Parameter("command", ["/bin/sh", "-c", "a b&c=d+e"]), Parameter("websocket", true),
      Parameter("full", false), Parameter("port", 5900),
    ])
    #expect(
      form
        == "command=%2Fbin%2Fsh&command=-c&command=a%20b%26c%3Dd%2Be&websocket=1&full=0&port=5900")
  }

  @Test(
    "hosts in every form",
    arguments: [
      ("pve1.example", "pve1.example:8006"), ("pve1:443", "pve1:443"),
      ("192.0.2.1:8006", "192.0.2.1:8006"),
      ("[2001:db8::1]:8007", "[2001:db8::1]:8007"), ("2001:db8::1", "[2001:db8::1]:8006"),
      ("[::1]", "[::1]:8006"),
    ])
  func hosts(_ text: String, _ expected: String) { #expect(APIHost(text)?.description == expected) }

  @Test(
    "what is no host is refused",
    arguments: [
      "", "a b", "a/b", "a:0", "a:70000", "a:x", "[::1", "[::1]x", "http://a", "a@b",
    ])
  func noHosts(_ text: String) { #expect(APIHost(text) == nil) }
}
