/// The client's half of the RFC 6455 opening handshake: the request's bytes, and a strict reading of the answer.
///
/// Feed it what the socket gives, call ``next(_:_:)`` until it says something other than `needMore`. After
/// `upgraded` the bytes from the position on are the first frames.
package struct WebSocketUpgrade: Sendable {
  /// What the answer turned out to be. Everything but `needMore` is final and is repeated when asked again.
  package enum Event: Sendable, Equatable {
    /// Nothing yet; all given bytes were taken.
    case needMore
    /// 101 with everything in order. The next byte belongs to the frame decoder.
    case upgraded
    /// An ordinary HTTP answer instead. PVE says why in the reason phrase, newer nodes in the body as well.
    case refused(status: Int, reason: String, body: String)
    /// An answer that no websocket server may give.
    case violation(String)
  }

  /// The largest answer header that is read, in bytes.
  package static let maximumHeader = 16 << 10
  /// The most of a refusal's body that is kept, in bytes.
  package static let maximumBody = 64 << 10

  private enum State: Sendable {
    case header([UInt8])
    case body(status: Int, reason: String, expected: Int?, bytes: [UInt8])
    case ended(Event)
  }

  private let requestTarget: Secret
  private let hostHeader: String
  private let credential: (name: String, value: Secret)?
  private let subprotocol: String?
  private let key: String
  private let expectedAccept: String
  private var state = State.header([])

  /// Prepares one handshake.
  /// - Parameters:
  ///   - requestTarget: path and query, percent-encoded.
  ///   - hostHeader: `name:port`.
  ///   - credential: the header that proves who asks, or nil.
  ///   - subprotocol: offered alone; PVE echoes the offer letter by letter, so a list would come back whole.
  ///   - key: 16 random bytes in base64.
  ///   - expectedAccept: base64 of SHA-1 of the key and RFC 6455's GUID.
  package init(
    requestTarget: Secret, hostHeader: String, credential: (name: String, value: Secret)?,
    subprotocol: String?, key: String, expectedAccept: String
  ) {
    self.requestTarget = requestTarget
    self.hostHeader = hostHeader
    self.credential = credential
    self.subprotocol = subprotocol
    self.key = key
    self.expectedAccept = expectedAccept
  }

  /// The request. Control characters (and spaces in the target) are left out of the values, so that none of them
  /// can begin a header of its own. No `Origin` (PVE looks at none) and no extension is sent.
  package func request() -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(1024)
    func append(_ text: String, above limit: UInt8 = 0x1f) {
      for byte in text.utf8 where byte > limit && byte != 0x7f { out.append(byte) }
    }
    func header(_ name: String, _ value: String) {
      append(name, above: 0x20)
      out.append(contentsOf: [58, 32])
      append(value)
      out.append(contentsOf: [13, 10])
    }
    append("GET ")
    append(requestTarget.reveal(), above: 0x20)
    append(" HTTP/1.1")
    out.append(contentsOf: [13, 10])
    header("Host", hostHeader)
    header("Upgrade", "websocket")
    header("Connection", "Upgrade")
    header("Sec-WebSocket-Version", "13")
    header("Sec-WebSocket-Key", key)
    if let subprotocol { header("Sec-WebSocket-Protocol", subprotocol) }
    if let credential { header(credential.name, credential.value.reveal()) }
    out.append(contentsOf: [13, 10])
    return out
  }

  /// Reads on from `position`, which moves behind what was taken.
  package mutating func next(
    _ bytes: UnsafeMutableRawBufferPointer, _ position: inout Int
  ) -> Event {
    switch state {
    case .ended(let event): return event
    case .header(var header):
      state = .header([])
      while position < bytes.count {
        let byte = bytes[position]
        position += 1
        header.append(byte)
        if byte == 10, header.count >= 4, header.suffix(4) == [13, 10, 13, 10] {
          let event = judge(header)
          return event == .needMore ? next(bytes, &position) : end(event)
        }
        if let wanted = Self.start(at: header.count - 1), wanted != byte {
          return end(.violation("the answer is not HTTP/1"))
        }
        if header.count >= Self.maximumHeader {
          return end(.violation("the answer's header is longer than \(Self.maximumHeader) bytes"))
        }
      }
      state = .header(header)
      return .needMore
    case .body(let status, let reason, let expected, var body):
      state = .header([])
      let wanted = min(expected ?? Self.maximumBody, Self.maximumBody) - body.count
      let taken = min(max(wanted, 0), bytes.count - position)
      body.append(contentsOf: bytes[position..<position + taken])
      position += taken
      if taken == wanted { return end(Self.refusal(status, reason, body)) }
      state = .body(status: status, reason: reason, expected: expected, bytes: body)
      return .needMore
    }
  }

  /// To be called when the peer closed: gives the end that follows from it.
  package mutating func closed() -> Event {
    switch state {
    case .ended(let event): return event
    case .header(let header):
      return end(
        .violation(
          header.isEmpty
            ? "the connection closed without an answer" : "the connection closed within the header")
      )
    case .body(let status, let reason, _, let body):
      return end(Self.refusal(status, reason, body))
    }
  }

  private mutating func end(_ event: Event) -> Event {
    state = .ended(event)
    return event
  }

  private static func refusal(_ status: Int, _ reason: String, _ body: [UInt8]) -> Event {
    .refused(status: status, reason: reason, body: String(decoding: body, as: UTF8.self))
  }

  private static func start(at index: Int) -> UInt8? {
    let text: StaticString = "HTTP/1."
    return index < text.utf8CodeUnitCount ? text.utf8Start[index] : nil
  }

  /// Reads a whole header. `needMore` means: a refusal, whose body follows.
  private mutating func judge(_ header: [UInt8]) -> Event {
    let answer: HTTPAnswerHeader
    switch HTTPAnswerHeader.parse(header) {
    case .success(let parsed): answer = parsed
    case .failure(let malformed): return .violation(malformed.sentence)
    }
    guard answer.status == 101 else {
      guard answer.status >= 200 else {
        return .violation("unexpected interim status \(answer.status)")
      }
      // A chunked body is not worth a decoder: status and reason say enough, and PVE sends none.
      if answer.values("transfer-encoding").isEmpty == false {
        return Self.refusal(answer.status, answer.reason, [])
      }
      var expected: Int?
      if let length = answer.values("content-length").first {
        guard let n = Int(length), n >= 0 else { return .violation("malformed Content-Length") }
        expected = n
      }
      state = .body(status: answer.status, reason: answer.reason, expected: expected, bytes: [])
      return .needMore
    }
    guard answer.values("upgrade").map({ $0.lowercased() }) == ["websocket"] else {
      return .violation("101 without 'Upgrade: websocket'")
    }
    guard answer.tokens("connection").contains("upgrade") else {
      return .violation("101 without 'Connection: Upgrade'")
    }
    guard answer.values("sec-websocket-accept") == [expectedAccept] else {
      return .violation("Sec-WebSocket-Accept does not fit the key")
    }
    guard answer.values("sec-websocket-extensions").isEmpty else {
      return .violation("an extension was accepted that was not offered")
    }
    let chosen = answer.values("sec-websocket-protocol")
    guard chosen.isEmpty || chosen == [subprotocol ?? ""] && subprotocol != nil else {
      return .violation("a subprotocol was chosen that was not offered")
    }
    return .upgraded
  }
}

/// Status line and fields of an HTTP/1 answer, read strictly.
package struct HTTPAnswerHeader {
  /// Why it can't be read.
  package struct Malformed: Error {
    package let sentence: String
  }

  /// 100 to 999.
  package var status: Int
  /// The reason phrase; may be empty.
  package var reason: String
  private var fields: [(name: String, value: String)] = []

  /// All values of a field, its name in lower case, white space around them removed.
  package func values(_ name: String) -> [String] {
    fields.filter { $0.name == name }.map(\.value)
  }

  /// The comma-separated words of a field, in lower case.
  func tokens(_ name: String) -> [String] {
    values(name).flatMap { $0.split(separator: ",") }.map {
      String($0.filter { $0 != " " && $0 != "\t" }).lowercased()
    }
  }

  /// Reads a whole header, the empty line included.
  package static func parse(_ header: [UInt8]) -> Result<HTTPAnswerHeader, Malformed> {
    func malformed(_ sentence: String) -> Result<HTTPAnswerHeader, Malformed> {
      .failure(Malformed(sentence: sentence))
    }
    var lines: [ArraySlice<UInt8>] = []
    var rest = header[...]
    while let end = rest.firstIndex(of: 10) {
      guard end > rest.startIndex, rest[end - 1] == 13 else {
        return malformed("a header line ends without CR")
      }
      lines.append(rest[rest.startIndex..<end - 1])
      rest = rest[(end + 1)...]
    }
    guard let first = lines.first else { return malformed("no status line") }
    // HTTP/1.x SP 3 digits, then nothing or SP and a phrase.
    let line = Array(first)
    guard line.count >= 12, line[7] == 48 || line[7] == 49, line[8] == 32,
      line[9...11].allSatisfy({ (48...57).contains($0) }), line.count == 12 || line[12] == 32
    else { return malformed("malformed status line") }
    let status = line[9...11].reduce(0) { $0 * 10 + Int($1 - 48) }
    guard status >= 100 else { return malformed("malformed status line") }
    var out = HTTPAnswerHeader(
      status: status, reason: String(decoding: line.dropFirst(13), as: UTF8.self))
    for line in lines.dropFirst() where !line.isEmpty {
      guard let colon = line.firstIndex(of: 58), colon > line.startIndex,
        line[..<colon].allSatisfy({ $0 > 32 && $0 < 127 })
      else { return malformed("malformed header line") }
      var value = line[(colon + 1)...]
      while let c = value.first, c == 32 || c == 9 { value = value.dropFirst() }
      while let c = value.last, c == 32 || c == 9 { value = value.dropLast() }
      out.fields.append(
        (
          String(decoding: line[..<colon], as: UTF8.self).lowercased(),
          String(decoding: value, as: UTF8.self)
        ))
    }
    return .success(out)
  }
}
