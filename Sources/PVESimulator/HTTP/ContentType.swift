/// A `Content-Type` as pveproxy reads it: what is before the first semicolon or comma, by the letter, and a
/// multipart body's boundary (quotes would be part of it).
struct ContentType: Sendable, Equatable {
  let name: String
  let boundary: String?

  init(_ header: String) {
    let parts = header.split(omittingEmptySubsequences: false) { $0 == ";" || $0 == "," }
      .map { String(decoding: trimmed(Array($0.utf8)[...]), as: UTF8.self) }
    name = parts.first ?? ""
    boundary = parts.dropFirst().lazy.compactMap(ContentType.boundary).first
  }

  private static func boundary(_ part: String) -> String? {
    let halves = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      .map { String(decoding: trimmed(Array($0.utf8)[...]), as: UTF8.self) }
    guard halves.count == 2, halves[0] == "boundary", !halves[1].isEmpty,
      !halves[1].contains(where: \.isWhitespace)
    else { return nil }
    return halves[1]
  }

  /// Whether the body is a multipart form that can be read.
  var isMultipart: Bool { name == "multipart/form-data" && boundary != nil }

  /// What request bodies that aren't uploads may be.
  enum Body { case form, json }

  /// Nil for what is not implemented.
  var body: Body? {
    switch name {
    case "application/x-www-form-urlencoded": .form
    case "application/json": .json
    default: nil
    }
  }
}
