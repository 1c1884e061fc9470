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
    if case .needsMore = parser.parse(&waiting) {} else { Issue.record("didn't wait") }
    waiting.append(Array("\r\n".utf8))
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
      "GET / HTTP/1.1\r\n: empty\r\n", "GET a@b/ HTTP/1.1\r\n",
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

  @Test("header lines count without their ends, and a continuation of nothing is nothing")
  func headerSize() throws {
    // 8191 bytes of lines are read, one more isn't.
    for (size, isRead) in [(8191, true), (8192, false)] {
      var parser = RequestHeadParser()
      var waiting = queue(
        "GET / HTTP/1.1\r\n continued\r\nX: " + String(repeating: "a", count: size - 13)
          + "\r\n\r\n")
      let step = parser.parse(&waiting)
      if case .complete(let head) = step {
        #expect(isRead)
        #expect(head.fieldCount == 1)
      } else if case .stuck = step {
        #expect(!isRead)
      } else {
        Issue.record("neither read nor stuck")
      }
    }
  }

  @Test("the path is found behind scheme and host, its bytes are characters")
  func paths() {
    func path(_ target: String) -> String {
      RequestHead(method: "GET", target: target, minorVersion: 1).path
    }
    #expect(path("/api2/json/nodes?a=/b") == "/api2/json/nodes")
    #expect(path("https://pve1:8006/api2/json?x") == "/api2/json")
    #expect(path("//pve1/api2#y") == "/api2")
    #expect(path("/%C3%A9/a%20b+c%zz") == "/\u{C3}\u{A9}/a b+c%zz")
  }

  @Test("a request line may have words before and after it, one space between its own")
  func requestLine() throws {
    var parser = RequestHeadParser()
    var waiting = queue("junk GET /x HTTP/1.0junk\n\n")
    guard case .complete(let head) = parser.parse(&waiting) else {
      Issue.record("not read")
      return
    }
    #expect(head.method == "GET")
    #expect(head.target == "/x")
    #expect(head.minorVersion == 0)
  }

  @Test("headers of one name are joined; names don't care for case, and may stand before a space")
  func headerNames() {
    var parser = RequestHeadParser()
    var waiting = queue("GET / HTTP/1.1\r\nX-Some: a\r\nx-sOME : b\r\n\r\n")
    guard case .complete(let head) = parser.parse(&waiting) else {
      Issue.record("not read")
      return
    }
    #expect(head.header("x-some") == "a, b")
    #expect(head.header("x-other") == nil)
  }

  @Test("an address has a format of small letters and a path as it was sent")
  func addresses() {
    #expect(APIAddress("/api2/json")?.path == "/")
    #expect(APIAddress("/api2//json/nodes//x/")?.path == "/nodes//x/")
    #expect(APIAddress("/api2/json/nodes")?.format == "json")
    for bad in ["/api2", "/api2/", "/api2/JSON/x", "/api2x/json", "/api2/j/x", "/api2/1json"] {
      #expect(APIAddress(bad) == nil, "\(bad)")
    }
  }

  @Test("content types: by the letter up to the semicolon; quotes belong to a boundary")
  func contentTypes() {
    #expect(ContentType("application/json; charset=utf-8").body == .json)
    #expect(ContentType("Application/JSON").body == nil)
    #expect(ContentType("application/x-www-form-urlencoded,x").body == .form)
    #expect(ContentType("multipart/form-data; a=b ; boundary = x-y ").boundary == "x-y")
    #expect(ContentType("multipart/form-data; boundary=\"q\"").boundary == "\"q\"")
    #expect(!ContentType("multipart/form-data; boundary=").isMultipart)
    #expect(!ContentType("multipart/mixed; boundary=x").isMultipart)
  }

  @Test("forms: repeated keys make a list, plus is a space, broken escapes stay")
  func forms() {
    let form = Parameters(form: "a=1&b=x+y%2Bz&a=2&c&d=%zz;e=%C3%A9&f=&g=h=i&%C3%A9=j".utf8)
    #expect(form["a"] == .list([.text("1"), .text("2")]))
    #expect(form["b"] == .text("x y+z"))
    #expect(form["c"] == .null)
    #expect(form["d"] == .text("%zz"))
    #expect(form["e"] == .text("é"))
    #expect(form["f"] == .text(""))
    #expect(form["g"] == .text("h"))
    #expect(form["\u{C3}\u{A9}"] == .text("j"))
    #expect(Parameters(form: "a=1&&b=2&&".utf8).names == ["a", "", "b"])
  }

  @Test("PVE 7 joins repeated keys with NUL bytes")
  func joinedForms() {
    let form = Parameters(form: "a=1&a=2&b&b=3&a=&c=4&c".utf8, repeats: .joined)
    #expect(form["a"] == .text("1\02\0"))
    #expect(form["b"] == .text("3"))
    #expect(form["c"] == .null)
  }

  @Test("half a megabyte of keys is read in no time, alike or not", .timeLimit(.minutes(1)))
  func manyKeys() throws {
    let alike = Parameters(form: String(repeating: "a=b&", count: 130_000).utf8)
    if case .list(let items)? = alike["a"] { #expect(items.count == 130_000) }
    let different = (0..<70_000).map { "k\($0)&" }.joined()
    #expect(Parameters(form: different.utf8).pairs.count == 70_000)
    let members = (0..<60_000).map { "\"k\($0)\":1" }.joined(separator: ",")
    #expect(try Parameters(json: Array("{\(members)}".utf8)).pairs.count == 60_000)
  }

  @Test("a JSON body that is no object is Perl's error, null is nothing")
  func scalarJSON() throws {
    #expect(try Parameters(json: Array("null".utf8)).isEmpty)
    for (text, message) in [
      ("[1]", "Not a HASH reference"), ("true", "Not a HASH reference"),
      ("\"x\"", "Can't use string (\"x\") as a HASH ref while \"strict refs\" in use"),
    ] {
      do throws(JSONReader.Malformed) {
        _ = try Parameters(json: Array(text.utf8))
        Issue.record("\(text) was read")
      } catch {
        #expect(error.message == message)
      }
    }
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
