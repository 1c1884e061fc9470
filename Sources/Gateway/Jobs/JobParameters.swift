import ProxmoxClient

/// The parameters of a request's query, read strictly: an unknown one, one that comes twice or one of another kind is
/// refused by name.
struct QueryParameters {
  private var values: [String: String] = [:]

  init(
    _ call: Call, known: [String], repeated: String? = nil
  ) throws(Problem) {
    for (name, value) in call.request.query where name != repeated {
      guard known.contains(name) else {
        throw Problem(
          400, "unknown-field", "The parameter '\(name.prefix(80))' is not known here.",
          field: String(name.prefix(80)),
          remedy: "Known: \((known + (repeated.map { [$0] } ?? [])).joined(separator: ", ")).")
      }
      guard values.updateValue(value, forKey: name) == nil else {
        throw Problem(
          400, "conflict", "The parameter '\(name)' comes twice.", field: name,
          remedy: "Send it once.")
      }
    }
  }

  /// A text; nil where there is none.
  func text(_ name: String) -> String? { values[name] }

  /// A whole number within bounds; nil where there is none.
  func int(_ name: String, _ range: ClosedRange<Int>) throws(Problem) -> Int? {
    guard let text = values[name] else { return nil }
    guard let number = Int(text), range.contains(number) else {
      throw Problem(
        400, "bad-value", "'\(name)' is '\(text.prefix(40))'.", field: name,
        remedy: "It takes a whole number from \(range.lowerBound) to \(range.upperBound).")
    }
    return number
  }

  /// Seconds, from nothing to `most`; nil where there are none.
  func seconds(_ name: String, most: Double) throws(Problem) -> Duration? {
    guard let text = values[name] else { return nil }
    guard let number = Double(text), number >= 0, number <= most else {
      throw Problem(
        400, "bad-value", "'\(name)' is '\(text.prefix(40))'.", field: name,
        remedy: "It takes a number of seconds up to \(Int(most)).")
    }
    return .milliseconds(Int(number * 1000))
  }

  /// `1`, `true` or nothing behind the name, and `0` or `false`.
  func flag(_ name: String) throws(Problem) -> Bool {
    switch values[name] {
    case nil, "0", "false": return false
    case "1", "true", "": return true
    case let text?:
      throw Problem(
        400, "bad-value", "'\(name)' is '\(text.prefix(40))'.", field: name,
        remedy: "It takes 1 or 0.")
    }
  }
}
