import ConsoleProtocol

/// Reads answers of HTTP/1.1 as they come: a head, pieces of a body, an end. A machine without a socket.
struct HTTPAnswerReader {
  enum Event {
    case head(HTTPAnswerHeader)
    case body([UInt8])
    /// The answer is complete; whether the connection may be used again.
    case end(reusable: Bool)
    case malformed(String)
  }
  private enum State {
    case head
    case counted(Int)
    case chunkSize
    case chunk(Int)
    case chunkEnd
    case trailer
    case untilClose
    case over
  }

  private var state = State.head
  private var buffer: [UInt8] = []
  private var reusable = true

  /// More than this is no head and no chunk's line.
  private static let maximumHead = 64 << 10

  /// Whether an answer has begun.
  private(set) var hasBegun = false

  /// Takes bytes; gives what they came to.
  mutating func feed(_ bytes: UnsafeRawBufferPointer) -> [Event] {
    hasBegun = hasBegun || !bytes.isEmpty
    buffer.append(contentsOf: bytes)
    var events: [Event] = []
    while step(&events) {}
    return events
  }

  /// The connection was closed: nil where that leaves an answer incomplete.
  mutating func closed() -> Event? {
    if case .untilClose = state {
      state = .over
      return .end(reusable: false)
    }
    return nil
  }

  private mutating func step(_ events: inout [Event]) -> Bool {
    switch state {
    case .head:
      guard let end = buffer.firstRange(of: [13, 10, 13, 10]) else {
        if buffer.count > Self.maximumHead {
          return spoiled("its answer has no end of a head", &events)
        }
        return false
      }
      guard case .success(let head) = HTTPAnswerHeader.parse(Array(buffer[..<end.upperBound]))
      else {
        return spoiled("it doesn't speak HTTP", &events)
      }
      buffer.removeSubrange(..<end.upperBound)
      // Interim answers (100, 103) come before the one that counts.
      if (100..<200).contains(head.status) { return !buffer.isEmpty }
      events.append(.head(head))
      return body(of: head, &events)
    case .counted(let left):
      guard !buffer.isEmpty else { return false }
      let piece = Array(buffer.prefix(left))
      buffer.removeFirst(piece.count)
      events.append(.body(piece))
      if piece.count == left { return over(&events) }
      state = .counted(left - piece.count)
      return false
    case .chunkSize:
      guard let line = takeLine() else {
        return buffer.count > 1024 ? spoiled("a chunk is malformed", &events) : false
      }
      let digits = line.prefix { $0 != UInt8(ascii: ";") && $0 != 32 }
      guard let size = Int(String(decoding: digits, as: UTF8.self), radix: 16), size >= 0 else {
        return spoiled("a chunk is malformed", &events)
      }
      state = size == 0 ? .trailer : .chunk(size)
      return true
    case .chunk(let left):
      guard !buffer.isEmpty else { return false }
      let piece = Array(buffer.prefix(left))
      buffer.removeFirst(piece.count)
      events.append(.body(piece))
      state = piece.count == left ? .chunkEnd : .chunk(left - piece.count)
      return true
    case .chunkEnd:
      guard buffer.count >= 2 else { return false }
      buffer.removeFirst(2)
      state = .chunkSize
      return true
    case .trailer:
      guard let line = takeLine() else { return false }
      return line.isEmpty ? over(&events) : true
    case .untilClose:
      guard !buffer.isEmpty else { return false }
      events.append(.body(buffer))
      buffer = []
      return false
    case .over: return false
    }
  }

  private mutating func body(of head: HTTPAnswerHeader, _ events: inout [Event]) -> Bool {
    reusable = !head.values("connection").contains { $0.lowercased().contains("close") }
    if head.status == 204 || head.status == 304 { return over(&events) }
    if head.values("transfer-encoding").contains(where: { $0.lowercased().contains("chunked") }) {
      state = .chunkSize
      return true
    }
    if let text = head.values("content-length").first {
      guard let length = Int(text), length >= 0 else {
        return spoiled("its answer has no length", &events)
      }
      if length == 0 { return over(&events) }
      state = .counted(length)
      return true
    }
    state = .untilClose
    return true
  }

  private mutating func takeLine() -> [UInt8]? {
    guard let end = buffer.firstRange(of: [13, 10]) else { return nil }
    let line = Array(buffer[..<end.lowerBound])
    buffer.removeSubrange(..<end.upperBound)
    return line
  }

  private mutating func over(_ events: inout [Event]) -> Bool {
    state = .head
    events.append(.end(reusable: reusable && buffer.isEmpty))
    hasBegun = false
    return false
  }

  private mutating func spoiled(_ why: String, _ events: inout [Event]) -> Bool {
    state = .over
    buffer = []
    events.append(.malformed(why))
    return false
  }
}

/// Reads server-sent events.
struct ServerSentEvents {
  /// One event.
  struct Event: Sendable {
    /// `message` where none is named.
    var name: String
    var data: String
    /// Of this event, or the last one before it that had one.
    var id: String
  }

  private var line: [UInt8] = []
  private var name = ""
  private var data: [String] = []
  private var id = ""
  private var lastWasReturn = false

  /// Takes bytes; gives the events that they complete.
  mutating func feed(_ bytes: [UInt8]) -> [Event] {
    var events: [Event] = []
    for byte in bytes {
      if byte == 10, lastWasReturn {
        lastWasReturn = false
        continue
      }
      lastWasReturn = byte == 13
      if byte != 10, byte != 13 {
        line.append(byte)
        continue
      }
      if let event = endLine() { events.append(event) }
    }
    return events
  }

  private mutating func endLine() -> Event? {
    defer { line.removeAll(keepingCapacity: true) }
    if line.isEmpty {
      defer {
        name = ""
        data = []
      }
      return data.isEmpty
        ? nil
        : Event(
          name: name.isEmpty ? "message" : name, data: data.joined(separator: "\n"), id: id)
    }
    guard line.first != UInt8(ascii: ":") else { return nil }
    let colon = line.firstIndex(of: UInt8(ascii: ":")) ?? line.endIndex
    let field = String(decoding: line[..<colon], as: UTF8.self)
    var value = line[min(colon + 1, line.endIndex)...]
    if value.first == 32 { value = value.dropFirst() }
    let text = String(decoding: value, as: UTF8.self)
    switch field {
    case "event": name = text
    case "data": data.append(text)
    case "id": id = text
    default: break
    }
    return nil
  }
}
