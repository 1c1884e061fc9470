/// A text with `*` (any characters, also none) and `?` (one character). It means a whole text, and letters' case counts.
package struct Glob: Sendable, Hashable, CustomStringConvertible {
  /// As it was written.
  package let text: String
  private let pattern: [UInt8]

  /// Any text will do: whether it is a good value for its field, the selector's parser says.
  package init(_ text: String) {
    self.text = text
    pattern = Array(text.utf8)
  }

  /// Whether it means one text only.
  package var isExact: Bool {
    !pattern.contains { $0 == UInt8(ascii: "*") || $0 == UInt8(ascii: "?") }
  }

  /// As it was written.
  package var description: String { text }

  /// Whether it means this text. Takes at most the product of both lengths.
  package func matches(_ other: String) -> Bool {
    let star = UInt8(ascii: "*")
    let one = UInt8(ascii: "?")
    let bytes = Array(other.utf8)
    var at = 0
    var p = 0
    // Where the last star was, and up to where it has eaten: the only place to come back to.
    var retry: (pattern: Int, text: Int)?
    while at < bytes.count {
      if p < pattern.count, pattern[p] == star {
        p += 1
        retry = (p, at)
      } else if p < pattern.count, pattern[p] == one {
        at = Self.next(bytes, at)
        p += 1
      } else if p < pattern.count, pattern[p] == bytes[at] {
        at += 1
        p += 1
      } else if let last = retry {
        p = last.pattern
        at = last.text + 1
        retry = (p, at)
      } else {
        return false
      }
    }
    while p < pattern.count, pattern[p] == star { p += 1 }
    return p == pattern.count
  }

  /// Behind the character that begins here.
  private static func next(_ bytes: [UInt8], _ at: Int) -> Int {
    var next = at + 1
    while next < bytes.count, bytes[next] & 0xC0 == 0x80 { next += 1 }
    return next
  }
}
