/// A request's first line and headers.
struct RequestHead {
  /// `GET`, `POST` …, as sent.
  var method: String
  /// Path and query as sent.
  var target: String
  /// HTTP/1.1 is 1.
  var minorVersion: Int
  /// Names in lower case, values trimmed, in order.
  var headers: [(name: String, value: String)] = []

  /// A header's value; several of one name are joined with commas, as Perl's HTTP::Request does.
  func header(_ name: String) -> String? {
    let found = headers.filter { $0.name == name }
    return found.isEmpty ? nil : found.map(\.value).joined(separator: ", ")
  }

  /// The path as sent, without the query.
  var rawPath: Substring { target.prefix { $0 != "?" } }
  /// The query without its question mark.
  var query: Substring { target.drop { $0 != "?" }.dropFirst() }
  /// The path, percent-decoded.
  var path: String { percentDecoded(rawPath.utf8, plusIsSpace: false) }
}

/// Reads requests' heads line by line, with pveproxy's limits and answers.
struct RequestHeadParser {
  /// What came of the bytes so far.
  enum Step {
    /// The head isn't complete.
    case needsMore
    /// It is.
    case complete(RequestHead)
    /// It is no HTTP; answer this.
    case refused(status: Int, reason: String)
    /// Too many or too large header lines: pveproxy stops reading without a word, and its idle timer closes
    /// the connection.
    case stuck
  }

  /// More header lines than this, or more bytes in them, and the connection is dropped in silence. The request
  /// line doesn't count.
  static let maximumLines = 62
  static let maximumBytes = 8 * 1024
  /// The read buffer's size, which bounds the request line.
  static let maximumLine = 520 * 1024

  private var head: RequestHead?
  private var lines = 0
  private var bytes = 0
  private var scanned = 0
  private var isStuck = false

  /// Takes whole lines from the front of the queue.
  mutating func parse(_ queue: inout ByteQueue) -> Step {
    while !isStuck {
      guard let end = queue.firstIndex(of: 10, from: scanned) else {
        scanned = queue.count
        if head == nil
          ? queue.count > RequestHeadParser.maximumLine
          : bytes + queue.count >= RequestHeadParser.maximumBytes
        {
          break
        }
        return .needsMore
      }
      scanned = 0
      var line = queue.removeFirst(end + 1)
      line.removeLast()
      if line.last == 13 { line.removeLast() }
      if head == nil {
        // Empty lines before a request are skipped.
        if line.isEmpty { continue }
        if let refusal = begin(line) { return refusal }
        continue
      }
      if line.isEmpty, let done = head {
        self = RequestHeadParser()
        return .complete(done)
      }
      lines += 1
      bytes += end + 1
      if lines > RequestHeadParser.maximumLines || bytes >= RequestHeadParser.maximumBytes { break }
      if let refusal = add(line) { return refusal }
    }
    isStuck = true
    return .stuck
  }

  /// Whether a request has begun.
  var hasBegun: Bool { head != nil }

  private mutating func begin(_ line: [UInt8]) -> Step? {
    let parts = line.split(separator: 32, maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count == 3, !parts[0].isEmpty, !parts[1].isEmpty,
      parts[2].starts(with: "HTTP/".utf8),
      parts[0].allSatisfy({ $0 > 32 && $0 < 127 }), parts[1].allSatisfy({ $0 > 32 && $0 != 127 })
    else { return .refused(status: 400, reason: "bad request") }
    let version = String(decoding: parts[2].dropFirst(5), as: UTF8.self)
    let numbers = version.split(separator: ".", omittingEmptySubsequences: false)
    guard numbers.count == 2, let major = Int(numbers[0]), let minor = Int(numbers[1]) else {
      return .refused(status: 400, reason: "bad request")
    }
    guard major == 1 else {
      return .refused(
        status: 506, reason: "http protocol version \(major).\(minor) not supported")
    }
    head = RequestHead(
      method: String(decoding: parts[0], as: UTF8.self),
      target: String(decoding: parts[1], as: UTF8.self), minorVersion: minor)
    return nil
  }

  private mutating func add(_ line: [UInt8]) -> Step? {
    if line.first == 32 || line.first == 9 {
      guard let last = head?.headers.indices.last else {
        return .refused(status: 506, reason: "unable to parse request header")
      }
      head?.headers[last].value += " " + String(decoding: trimmed(line[...]), as: UTF8.self)
      return nil
    }
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > 0 else {
      return .refused(status: 506, reason: "unable to parse request header")
    }
    let name = trimmed(line[..<colon])
    guard !name.isEmpty, name.allSatisfy({ $0 > 32 && $0 < 127 }) else {
      return .refused(status: 506, reason: "unable to parse request header")
    }
    head?.headers.append(
      (
        String(decoding: name, as: UTF8.self).lowercased(),
        String(decoding: trimmed(line[(colon + 1)...]), as: UTF8.self)
      ))
    return nil
  }
}
