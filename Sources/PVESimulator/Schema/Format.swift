/// What a text has to look like.
enum Format: Sendable {
  /// A property string: `key=value,key=value`.
  case properties(PropertySchemas)
  /// A text with a format that has a name.
  case text(TextFormat)
}

/// A named format of a text, perhaps of every item of a list.
struct TextFormat: Sendable {
  /// PVE's text for what is wrong, or nil.
  typealias Check = @Sendable (String) -> String?

  enum Repetition: Sendable {
    case once
    /// `…-list`: items between commas, semicolons, spaces or NUL bytes; there may be none.
    case list
    /// `…-opt`: or nothing.
    case optional
  }

  /// Without `-list` and `-opt`.
  var name: String
  var repetition: Repetition
  /// Nil for formats that are known by name only: any text that fits the type is accepted.
  var check: Check?

  /// What is wrong with a text, or nil.
  func complaint(about text: String) -> String? {
    guard let check else { return nil }
    switch repetition {
    case .once: return check(text)
    case .optional: return text.isEmpty || text == "0" ? nil : check(text)
    case .list:
      for item in splitList(text) {
        if let complaint = check(item) { return complaint }
      }
      return nil
    }
  }
}

/// Splits a list as PVE does: at NUL bytes if it has any, else at commas, semicolons and white space.
func splitList(_ text: String) -> [String] {
  if text.utf8.contains(0) {
    return text.split(separator: "\0", omittingEmptySubsequences: false).map(String.init)
  }
  return text.split { $0 == "," || $0 == ";" || $0.isWhitespace }.map(String.init)
}
