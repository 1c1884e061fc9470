/// A request's first line and headers.
///
/// The header block is kept as it came, with the places of names and values: of most headers nobody ever asks, and
/// only what is asked for becomes a text.
struct RequestHead: Sendable {
  /// Where a header lies in the block.
  struct Field: Sendable {
    var name: Range<Int>
    var value: Range<Int>
    /// Continuation lines, joined to the value with a space each.
    var continuation: [UInt8] = []
  }

  /// `GET`, `POST` …, as sent.
  let method: String
  /// Path and query as sent.
  let target: String
  /// HTTP/1.1 is 1.
  let minorVersion: Int
  /// The path without scheme, host, query and fragment, percent-decoded byte by byte: bytes are characters here,
  /// as they are in Perl, so `%C3%A9` is two of them.
  let path: String
  private let block: [UInt8]
  private let fields: [Field]

  init(
    method: String, target: String, minorVersion: Int, block: [UInt8] = [], fields: [Field] = []
  ) {
    self.method = method
    self.target = target
    self.minorVersion = minorVersion
    self.block = block
    self.fields = fields
    path = latin1Decoded(RequestHead.path(in: target).utf8)
  }

  /// How many headers there are.
  var fieldCount: Int { fields.count }

  /// A header's value; several of one name are joined with commas, as Perl's HTTP::Request does.
  /// - Parameter name: in lower case.
  func header(_ name: String) -> String? {
    var found: String?
    for field in fields where isNamed(field, name) {
      let value = text(of: field)
      found = found.map { "\($0), \(value)" } ?? value
    }
    return found
  }

  /// Whether there is such a header.
  func has(_ name: String) -> Bool { fields.contains { isNamed($0, name) } }

  /// The query without its question mark.
  var query: Substring {
    target.drop { $0 != "?" }.dropFirst().prefix { $0 != "#" }
  }

  private func text(of field: Field) -> String {
    String(decoding: block[field.value] + field.continuation, as: UTF8.self)
  }

  private func isNamed(_ field: Field, _ name: String) -> Bool {
    guard field.name.count == name.utf8.count else { return false }
    return zip(block[field.name], name.utf8).allSatisfy { sent, wanted in
      sent == wanted || (sent | 0x20 == wanted && (65...90).contains(sent))
    }
  }

  /// What Perl's URI takes for the path: after a scheme and a host, if there are any.
  private static func path(in target: String) -> Substring {
    var rest = target.prefix { $0 != "?" && $0 != "#" }
    if let scheme = rest.firstRange(of: "://"), rest[..<scheme.lowerBound].allSatisfy(\.isLetter),
      !rest.hasPrefix("/")
    {
      rest = rest[scheme.upperBound...].drop { $0 != "/" }
    } else if rest.hasPrefix("//") {
      rest = rest.dropFirst(2).drop { $0 != "/" }
    }
    return rest
  }
}
