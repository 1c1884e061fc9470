/// Reads requests' heads where they lie in the queue, with pveproxy's limits and answers.
struct RequestHeadParser {
  /// What came of the bytes so far.
  enum Step {
    /// The head isn't complete.
    case needsMore
    /// It is; its bytes are gone from the queue.
    case complete(RequestHead)
    /// It is no HTTP; answer this.
    case refused(status: Int, reason: String)
    /// Too many or too large header lines: pveproxy stops reading without a word, and its idle timer closes
    /// the connection.
    case stuck
  }

  /// More header lines than this, or more bytes in them, and the connection is dropped in silence. The request
  /// line doesn't count, nor do line ends.
  static let maximumLines = 62
  static let maximumBytes = 8 * 1024

  private struct RequestLine {
    var method: String
    var target: String
    var minorVersion: Int
  }

  private var line: RequestLine?
  private var fields: [RequestHead.Field] = []
  private var bytes = 0
  /// The beginning of the line that isn't complete, and how far it has been searched for its end.
  private var at = 0
  private var scanned = 0
  private var isStuck = false

  /// Whether a request line was read.
  var hasBegun: Bool { line != nil }

  /// Reads on. What is read stays in the queue until the head is complete.
  mutating func parse(_ queue: inout ByteQueue) -> Step {
    guard !isStuck else { return .stuck }
    let step = queue.withBytes { parse($0) }
    switch step {
    case .needsMore: break
    case .stuck: isStuck = true
    case .complete, .refused:
      queue.drop(at)
      self = RequestHeadParser()
    }
    return step
  }

  private mutating func parse(_ input: UnsafeRawBufferPointer) -> Step {
    while let end = lineEnd(input) {
      var content = at..<end
      if content.upperBound > content.lowerBound, input[end - 1] == 13 { content = at..<end - 1 }
      at = end + 1
      scanned = at
      if let line {
        if content.isEmpty {
          let block = Array(input[..<at])
          return .complete(
            RequestHead(
              method: line.method, target: line.target, minorVersion: line.minorVersion,
              block: block, fields: fields))
        }
        bytes += content.count
        if fields.count >= RequestHeadParser.maximumLines
          || bytes >= RequestHeadParser.maximumBytes
        {
          return .stuck
        }
        guard add(content, input) else {
          return .refused(status: 506, reason: "unable to parse request header")
        }
      } else if !content.isEmpty {  // empty lines before a request are skipped
        if let refusal = begin(UnsafeRawBufferPointer(rebasing: input[content])) { return refusal }
      }
    }
    return .needsMore
  }

  private mutating func lineEnd(_ input: UnsafeRawBufferPointer) -> Int? {
    let found = UnsafeRawBufferPointer(rebasing: input[scanned...]).firstIndex(of: 10)
    guard let found else {
      scanned = input.count
      return nil
    }
    return scanned + found
  }

  /// The request line may stand anywhere in its line: two words and `HTTP/x.y`, one space between them.
  private mutating func begin(_ text: UnsafeRawBufferPointer) -> Step? {
    let words = text.split(separator: 32, omittingEmptySubsequences: false)
    for i in words.indices.dropLast(2) {
      let target = words[i + 1]
      guard let method = words[i].split(whereSeparator: isSpace).last, !isSpace(words[i].last),
        !target.isEmpty, !target.contains(where: { isSpace($0) }),
        let version = httpVersion(words[i + 2])
      else { continue }
      guard version.major == 1 else {
        return .refused(
          status: 506,
          reason: "http protocol version \(version.major).\(version.minor) not supported")
      }
      // An `@` before the first slash could be taken for a host when the request is passed on.
      if target.prefix(while: { $0 != UInt8(ascii: "/") }).contains(UInt8(ascii: "@")) {
        return .refused(status: 400, reason: "invalid url")
      }
      line = RequestLine(
        method: String(decoding: method, as: UTF8.self),
        target: String(decoding: target, as: UTF8.self), minorVersion: version.minor)
      return nil
    }
    return .refused(status: 400, reason: "bad request")
  }

  private func httpVersion(_ word: Slice<UnsafeRawBufferPointer>) -> (major: Int, minor: Int)? {
    guard word.starts(with: "HTTP/".utf8) else { return nil }
    var rest = word.dropFirst(5)
    func number() -> Int? {
      let digits = rest.prefix { (48...57).contains($0) }
      rest = rest.dropFirst(digits.count)
      return Int(String(decoding: digits, as: UTF8.self))
    }
    guard let major = number(), rest.first == UInt8(ascii: ".") else { return nil }
    rest = rest.dropFirst()
    guard let minor = number() else { return nil }
    return (major, minor)
  }

  private mutating func add(_ content: Range<Int>, _ input: UnsafeRawBufferPointer) -> Bool {
    if isSpace(input[content.lowerBound]) {
      // A continuation; of nothing, when it is the first line, and then nobody minds.
      let more = trimmed(content, input)
      if let last = fields.indices.last {
        fields[last].continuation += [32] + input[more]
      }
      return true
    }
    guard
      let nameEnd = content.first(where: { input[$0] == UInt8(ascii: ":") || isSpace(input[$0]) }),
      nameEnd > content.lowerBound
    else { return false }
    var colon = nameEnd
    while colon < content.upperBound, isSpace(input[colon]) { colon += 1 }
    guard colon < content.upperBound, input[colon] == UInt8(ascii: ":") else { return false }
    fields.append(
      .init(
        name: content.lowerBound..<nameEnd, value: trimmed(colon + 1..<content.upperBound, input)))
    return true
  }

  private func trimmed(_ range: Range<Int>, _ input: UnsafeRawBufferPointer) -> Range<Int> {
    var from = range.lowerBound
    var to = range.upperBound
    while from < to, isSpace(input[from]) { from += 1 }
    while to > from, isSpace(input[to - 1]) { to -= 1 }
    return from..<to
  }

  private func isSpace(_ c: UInt8) -> Bool { c == 32 || (9...13).contains(c) }
  private func isSpace(_ c: UInt8?) -> Bool { c.map { isSpace($0) } ?? false }
}
