import Testing

@testable import PVESimulator

@Suite("Requests are read as pveproxy reads them")
struct HTTPParsingTests {
  private func queue(_ text: String) -> ByteQueue {
    var queue = ByteQueue()
    queue.append(Array(text.utf8))
    return queue
  }

  private let request =
    "\r\nGET /api2/json/nodes?a=b HTTP/1.1\r\nHost: x\r\nCookie:  PVEAuthCookie=a%3Ab \r\nX: 1\r\n more\r\n\r\nREST"

  @Test("a request is read the same wherever it is split")
  func splits() throws {
    let bytes = Array(request.utf8)
    for cut in 0...bytes.count - 4 {
      var parser = RequestHeadParser()
      var waiting = ByteQueue()
      waiting.append(bytes[..<cut])
      var found: RequestHead?
      if case .complete(let head) = parser.parse(&waiting) { found = head }
      waiting.append(bytes[cut...])
      if found == nil, case .complete(let head) = parser.parse(&waiting) { found = head }
      let head = try #require(found, "cut at \(cut)")
      #expect(head.method == "GET")
      #expect(head.path == "/api2/json/nodes")
      #expect(head.query == "a=b")
      #expect(head.header("cookie") == "PVEAuthCookie=a%3Ab")
      #expect(head.header("x") == "1 more")
      #expect(Array(waiting.bytes) == Array("REST".utf8))
    }
  }

  @Test("62 header lines are read, 63 are not, and nothing is said about it")
  func lineLimit() {
    for (count, isRead) in [(62, true), (63, false)] {
      let lines = (0..<count).map { "X-\($0): 1\r\n" }.joined()
      var parser = RequestHeadParser()
      var waiting = queue("GET / HTTP/1.1\r\n" + lines + "\r\n")
      switch parser.parse(&waiting) {
      case .complete: #expect(isRead)
      case .stuck: #expect(!isRead)
      default: Issue.record("neither read nor stuck")
      }
    }
  }

  @Test("eight kilobytes of headers are too many, a long request line isn't")
  func byteLimit() {
    var parser = RequestHeadParser()
    var waiting = queue("GET / HTTP/1.1\r\nX: " + String(repeating: "a", count: 9000))
    if case .stuck = parser.parse(&waiting) {} else { Issue.record("not stuck") }
    parser = RequestHeadParser()
    waiting = queue("GET /" + String(repeating: "a", count: 20_000) + " HTTP/1.1\r\n\r\n")
    if case .complete = parser.parse(&waiting) {} else { Issue.record("not read") }
  }

  @Test(
    "what is no HTTP is refused",
    arguments: [
      "\u{16}\u{3}\u{1}\r\n", "GET /\r\n", "GET  / HTTP/1.1\r\n", "GET / HTTP/x.1\r\n",
      "nonsense\r\n",
      "GET / FTP/1.1\r\n", "GET / HTTP/2.0\r\n", "GET / HTTP/1.1\r\nno colon\r\n",
      "GET / HTTP/1.1\r\n: empty\r\n", "GET / HTTP/1.1\r\n folded\r\n",
    ])
  func garbage(_ text: String) {
    var parser = RequestHeadParser()
    var waiting = queue(text)
    guard case .refused(let status, _) = parser.parse(&waiting) else {
      Issue.record("not refused")
      return
    }
    #expect(status == 400 || status == 506)
  }

  @Test("forms: repeated keys make a list, plus is a space, broken escapes stay")
  func forms() {
    let form = Parameters(form: "a=1&b=x+y%2Bz&a=2&c&d=%zz;e=%C3%A9".utf8)
    #expect(form["a"] == .list([.text("1"), .text("2")]))
    #expect(form["b"] == .text("x y+z"))
    #expect(form["c"] == .text(""))
    #expect(form["d"] == .text("%zz"))
    #expect(form["e"] == .text("é"))
  }

  @Test("the query wins over the body, and _dc is dropped")
  func overriding() throws {
    let body = try Parameters(json: Array(#"{"a":1,"b":[true,null],"c":"x"}"#.utf8))
    let all = body.overridden(by: Parameters(form: "c=y&_dc=1234".utf8))
    #expect(all["a"] == .text("1"))
    #expect(all["b"] == .list([.text("1"), .null]))
    #expect(all["c"] == .text("y"))
    #expect(all["_dc"] == nil)
  }

  @Test("broken JSON is refused in the Perl reader's words")
  func brokenJSON() {
    let cases = [
      ("{", #"'"' expected, at character offset 1 (before "(end of string)")"#),
      (
        "",
        "malformed JSON string, neither tag, array, object, number, string or atom, at character "
          + #"offset 0 (before "(end of string)")"#
      ),
      (#"{"a":1}x"#, #"garbage after JSON object, at character offset 7 (before "x")"#),
    ]
    for (text, message) in cases {
      do {
        _ = try JSONReader.read(Array(text.utf8))
        Issue.record("\(text) was read")
      } catch {
        #expect(error.message == message)
      }
    }
    let deep = String(repeating: "[", count: 100_000)
    #expect(throws: JSONReader.Malformed.self) { try JSONReader.read(Array(deep.utf8)) }
  }

  @Test("JSON goes there and back")
  func json() throws {
    let text = #"{"a":[1,-2.5,true,false,null,"é\u20ac\ud83d\ude00\n\"\\"],"b":{}}"#
    let value = try JSONReader.read(Array(text.utf8))
    #expect(try JSONReader.read(value.bytes) == value)
    #expect(value["b"] == .object([]))
  }

  @Test("parameters are refused with PVE's texts")
  func schema() {
    let port = ParameterSchema.integer("port", 5900...5999)
    #expect(port.complaint(about: .text("80")) == "value must have a minimum value of 5900")
    #expect(port.complaint(about: .text("6000")) == "value must have a maximum value of 5999")
    #expect(port.complaint(about: .text("abc")) == "type check ('integer') failed - got 'abc'")
    #expect(port.complaint(about: .text("5900")) == nil)
    let flag = ParameterSchema.boolean("websocket")
    #expect(flag.complaint(about: .text("true")) == "type check ('boolean') failed - got 'true'")
    let serial = ParameterSchema.string("serial", choices: ["serial0", "serial1"])
    #expect(
      serial.complaint(about: .text("serial9"))
        == "value 'serial9' does not have a value in the enumeration 'serial0, serial1'")
  }
}
