/// A text with `*` in it, which stands for any run of characters, also none.
struct Glob: Sendable, Hashable {
  private let parts: [[UInt8]]

  init(_ text: String) {
    parts = text.utf8.split(separator: UInt8(ascii: "*"), omittingEmptySubsequences: false)
      .map { Array($0) }
  }

  /// Whether all of the text fits.
  func matches(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    guard let first = parts.first, let last = parts.last, bytes.starts(with: first) else {
      return false
    }
    guard parts.count > 1 else { return bytes.count == first.count }
    var at = first.count
    // The leftmost place is always good enough for what stands between two stars.
    for part in parts.dropFirst().dropLast() where !part.isEmpty {
      guard let found = bytes[at...].firstRange(of: part) else { return false }
      at = found.upperBound
    }
    return bytes.count - at >= last.count && bytes.suffix(last.count).elementsEqual(last)
  }
}
