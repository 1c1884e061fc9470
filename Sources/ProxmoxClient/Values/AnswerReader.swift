import ConsoleProtocol

/// Reads the fields of one answer; a missing one's error says which, of which call.
struct AnswerReader: Sendable {
  let value: JSONValue
  let request: APIRequest
  let host: APIHost?
  /// Where in the answer this is, e.g. `[3].`.
  var prefix = ""

  func error(_ field: String, _ reason: String) -> PVEError {
    request.error(
      .malformedAnswer(field: prefix + field), "the answer's field '\(prefix + field)' \(reason)",
      host: host)
  }

  /// A field that has to be there.
  func required<T>(_ field: String, _ read: (JSONValue) -> T?) throws(PVEError) -> T {
    let found = value[field]
    guard !found.isNull else { throw error(field, "is missing") }
    guard let typed = read(found) else { throw error(field, "is of another kind") }
    return typed
  }

  func string(_ field: String) throws(PVEError) -> String {
    try required(field) { (v: JSONValue) -> String? in
      guard let s = v.string, !s.isEmpty else { return nil }
      return s
    }
  }

  func int(_ field: String) throws(PVEError) -> Int { try required(field) { $0.int } }

  /// The elements of an array answer, each with its place.
  func elements() throws(PVEError) -> [AnswerReader] {
    guard let items = value.array else {
      throw request.error(.malformedAnswer(field: "data"), "the answer is no list", host: host)
    }
    return items.enumerated().map {
      AnswerReader(value: $1, request: request, host: host, prefix: "[\($0)].")
    }
  }
}
