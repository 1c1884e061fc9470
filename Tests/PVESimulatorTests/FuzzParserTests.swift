import Testing

@testable import PVESimulator

/// What comes from outside is read by these; none of them may crash, loop or depend on how the bytes are cut.
@Suite("Parsers and noise")
struct FuzzParserTests {
  private static let heads = [
    "GET /api2/json/version HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /api2/json/access/ticket?a=b HTTP/1.0\r\nCookie: PVEAuthCookie=a%3Ab\r\nX: 1\r\n more\r\nContent-Length: 3\r\n\r\n",
    "DELETE https://x:8006/api2/extjs/nodes HTTP/1.1\nConnection: close\n\n",
  ]
  private static let headWords = [
    "\r\n", "\n", "\r\n\r\n", " ", ":", "HTTP/1.1", "HTTP/9.9", "%", "%41", "?", "GET ", "\0", "@",
    "Content-Length: 99999999999999999999\r\n", "Transfer-Encoding: chunked\r\n",
  ]

  @Test("heads read the same however they are cut")
  func heads() {
    Noise.repeated("request heads") { noise in
      let sample = Array(noise.pick(Self.heads).utf8)
      let bytes = noise.spoiled(sample, words: Self.headWords)
      let whole = Self.steps([bytes])
      let cut = Self.steps(noise.pieces(of: bytes))
      #expect(whole == cut, "seed \(noise.seed): \(String(decoding: bytes, as: UTF8.self))")
    }
  }

  /// What a connection would see, up to the first end.
  private static func steps(_ pieces: [[UInt8]]) -> [String] {
    var parser = RequestHeadParser()
    var queue = ByteQueue()
    var seen: [String] = []
    for piece in pieces {
      queue.append(piece)
      reading: while true {
        switch parser.parse(&queue) {
        case .needsMore: break reading
        case .stuck: return seen + ["stuck"]
        case .refused(let status, let reason): return seen + ["\(status) \(reason)"]
        case .complete(let head):
          _ = head.header("cookie")
          _ = APIAddress(head.path)
          _ = ContentType(head.header("content-type") ?? "")
          seen.append("\(head.method) \(head.target) \(head.path) \(head.fieldCount)")
        }
      }
    }
    return seen + ["\(queue.count) left"]
  }

  @Test("forms and JSON are read or refused, and JSON goes there and back")
  func parameters() {
    let forms = ["a=1&b=x+y%2Bz&a=2&c&d=%zz;e=%C3%A9", "vmid=100&net0=virtio%3D,bridge=vmbr0"]
    let documents = [
      #"{"a":[1,-2.5,true,false,null,"é\u20ac\ud83d\ude00\n\"\\"],"b":{"c":{}}}"#,
      #"{"command":["/bin/sh","-c","x"],"input-data":"\u0000"}"#,
    ]
    let words = [
      "&", "=", ";", "%", "%00", "{", "}", "[", "]", "\"", "\\u", "\\ud800", "1e999", "-", ",", ":",
      "null", "[[[[[[[[", "\\", "0.1", "\u{FFFD}",
    ]
    Noise.repeated("forms and JSON") { noise in
      let form = noise.spoiled(Array(noise.pick(forms).utf8), words: words)
      for repeats in [Parameters.Repeats.list, .joined] {
        let read = Parameters(form: form, repeats: repeats)
        for pair in read.pairs { #expect(read[pair.name] != nil) }
      }
      let text = noise.spoiled(Array(noise.pick(documents).utf8), words: words)
      guard let value = try? JSONReader.read(text) else { return }
      let again = try? JSONReader.read(value.bytes)
      let isSame = again == value
      #expect(isSame, "seed \(noise.seed): \(String(decoding: text, as: UTF8.self))")
      _ = try? Parameters(json: text)
    }
  }

  @Test(
    "numbers that JSON does not have are refused",
    arguments: ["-", "1.", "-2.e1", "01", "-00", "1e", "1e+", "1.5.5", "1-2", "+1", ".5", "1e999"])
  func numbers(_ text: String) {
    #expect(throws: JSONReader.Malformed.self) { try JSONReader.read(Array("[\(text)]".utf8)) }
  }

  @Test("deep JSON is refused, not recursed into", arguments: ["[", #"{"a":"#, "[{\"b\":["])
  func depth(_ opening: String) {
    for count in [600, 100_000] {
      let text = Array(String(repeating: opening, count: count).utf8)
      #expect(throws: JSONReader.Malformed.self) { try JSONReader.read(text) }
    }
  }

  @Test("websocket frames read the same however they are cut, none larger than allowed")
  func frames() {
    Noise.repeated("websocket frames") { noise in
      var bytes: [UInt8] = []
      for _ in 0..<1 + noise.below(5) { bytes += Self.frame(&noise) }
      if noise.once(in: 3) { bytes = noise.spoiled(bytes, words: ["\u{81}", "\u{88}", "\0"]) }
      let whole = Self.events([bytes])
      let cut = Self.events(noise.pieces(of: bytes))
      #expect(whole == cut, "seed \(noise.seed)")
      #expect(whole.largest <= FrameReader.maximumPayload)
    }
  }

  /// A frame, mostly as it should be.
  static func frame(_ noise: inout Noise, payload: [UInt8]? = nil) -> [UInt8] {
    let payload = payload ?? noise.bytes(noise.length(noise.once(in: 50) ? 131_080 : 5000))
    let opcode: UInt8 = noise.once(in: 10) ? UInt8(noise.below(256)) : noise.pick([1, 2, 2, 9, 10])
    var out = [(noise.once(in: 20) ? 0 : 0x80) | opcode]
    let mask: UInt8 = noise.once(in: 30) ? 0 : 0x80
    let claimed = noise.once(in: 40) ? Int(truncatingIfNeeded: noise.next() >> 1) : payload.count
    if claimed < 126 {
      out.append(mask | UInt8(claimed))
    } else if claimed < 65_536, !noise.once(in: 10) {
      out += [mask | 126, UInt8(claimed >> 8), UInt8(claimed & 255)]
    } else {
      out.append(mask | 127)
      for shift in stride(from: 56, through: 0, by: -8) {
        out.append(UInt8(truncatingIfNeeded: claimed >> shift))
      }
    }
    let key = noise.once(in: 4) ? [0, 0, 0, 0] : noise.bytes(4)
    if mask != 0 { out += key }
    return out + payload.enumerated().map { $1 ^ key[$0 & 3] }
  }

  private struct Events: Equatable {
    var payload: [UInt8] = []
    var others: [String] = []
    var largest = 0
  }

  private static func events(_ pieces: [[UInt8]]) -> Events {
    var reader = FrameReader()
    var events = Events()
    for piece in pieces {
      var piece = piece
      piece.withUnsafeMutableBytes { bytes in
        reader.feed(bytes) { event in
          switch event {
          case .payload(let payload):
            events.payload += payload
            events.largest = max(events.largest, payload.count)
          case .ping(let payload): events.others.append("ping \(payload.count)")
          case .close: events.others.append("close")
          case .malformed(let text): events.others.append(text)
          case .overflow: events.others.append("overflow")
          }
        }
      }
    }
    return events
  }

  @Test("uploads never make more of a file than came")
  func uploads() {
    let sample =
      "--B\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\niso\r\n"
      + "--B\r\nContent-Disposition: form-data; name=\"checksum-algorithm\"\r\n\r\nmd5\r\n"
      + "--B\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"a.iso\"\r\n"
      + "Content-Type: x/y\r\n\r\nsome bytes of a file\r\n--B--\r\n"
    let words = [
      "--B", "--B--", "\r\n", "\r\n\r\n", "\"", "Content-Disposition: ", "form-data", "; name=\"",
      "; filename=\"", "--",
    ]
    Noise.repeated("uploads") { noise in
      let bytes = noise.spoiled(Array(sample.utf8), words: words)
      let length = noise.once(in: 5) ? noise.below(1000) : bytes.count
      let reader = UploadReader(boundary: "B", length: length, limit: 4096, query: Parameters())
      for piece in noise.pieces(of: bytes) {
        switch piece.withUnsafeBytes({ reader.feed($0) }) {
        case .needsMore: continue
        case .complete(let file, _):
          #expect(file.size <= min(length, bytes.count), "seed \(noise.seed)")
          return
        case .refused, .overfull: return
        }
      }
    }
  }

  @Test("termproxy's reader takes anything")
  func terminal() {
    let samples = ["0:3:abc1:80:24:2", "0:0:0:5:12345", "1:99999999999999999999:1:"]
    Noise.repeated("termproxy's messages") { noise in
      var parser = TermproxyParser()
      let bytes = noise.spoiled(
        Array(noise.pick(samples).utf8),
        words: ["0:", "1:", "2", ":", "9999999999999999999:", "-1:"])
      var got = 0
      for piece in noise.pieces(of: bytes) {
        piece.withUnsafeBytes {
          parser.feed($0) { if case .input(let data) = $0 { got += data.count } }
        }
      }
      #expect(got <= bytes.count, "seed \(noise.seed)")
    }
  }

  @Test("nobody gets into a screen with noise")
  func screenLogin() {
    Noise.repeated("RFB logins") { noise in
      let sample = Array("RFB 003.00\(noise.pick([3, 7, 8]))\n".utf8) + [2] + noise.bytes(16)
      let bytes = noise.spoiled(sample, words: ["RFB 003.008\n", "\u{2}"])
      var handshake = RFBHandshake()
      var queue = ByteQueue()
      var out: [UInt8] = []
      for piece in noise.pieces(of: bytes) {
        queue.append(piece)
        let outcome = handshake.advance(&queue, into: &out) { Array("password".utf8) }
        #expect(outcome != .accepted, "seed \(noise.seed)")
        #expect(out.count < 100)
        if outcome == .refused { return }
      }
    }
  }

  @Test("tickets of noise open nothing")
  func tickets() {
    let office = TicketOffice(clock: SimulatorClock())
    let good = office.login(user: "root@pam")
    let words = ["PVE:", "PVEVNC:", ":", "::", "%3A", "!tfa!", "=", "\0", "root@pam"]
    Noise.repeated("tickets") { noise in
      let bytes = noise.spoiled(Array(good.utf8), words: words)
      let text = String(decoding: bytes, as: UTF8.self)
      // The last character of base64 has bits that mean nothing: such a text is the same ticket to PVE too.
      guard Self.meaning(of: text) != Self.meaning(of: good) else { return }
      #expect(office.user(ofLogin: text) == nil, "seed \(noise.seed): \(text)")
      _ = office.isCSRF(text, user: "root@pam")
      _ = office.isConsole(text, authID: "root@pam", path: "/vms/100", port: 5900)
      _ = base32Decoded(text)
      _ = base64Decoded(text)
    }
  }

  /// What a ticket says and how it is signed.
  private static func meaning(of ticket: String) -> [[UInt8]] {
    guard let middle = ticket.firstRange(of: "::") else { return [Array(ticket.utf8)] }
    let signature = String(ticket[middle.upperBound...])
    return [
      Array(ticket[..<middle.lowerBound].utf8), base64Decoded(signature) ?? Array(signature.utf8),
    ]
  }
}
