import ConsoleProtocol

/// What a call does. PVE knows these four and no other.
public enum HTTPMethod: String, Sendable, Hashable, CaseIterable {
  case get = "GET"
  case post = "POST"
  case put = "PUT"
  case delete = "DELETE"

  /// Whether a call can be made twice without harm.
  public var isIdempotent: Bool { self == .get }
  /// Whether its parameters travel in a body. PVE refuses a body on GET and DELETE.
  public var hasBody: Bool { self == .post || self == .put }
}

/// One parameter of a call, in the text form that PVE reads: truth values as 1 and 0, arrays as repeated keys.
public struct Parameter: Sendable, Hashable {
  /// Its name, e.g. `generate-password`.
  public let name: String
  let values: [Secret]

  /// A text.
  public init(_ name: String, _ value: String) { self.init(name, secrets: [Secret(value)]) }
  /// A number.
  public init(_ name: String, _ value: Int) { self.init(name, secrets: [Secret(String(value))]) }
  /// A truth value: PVE takes 1 and 0, and refuses `true`.
  public init(_ name: String, _ value: Bool) {
    self.init(name, secrets: [Secret(value ? "1" : "0")])
  }
  /// An array: the key repeats (PVE 8 on; PVE 7 joins with NUL bytes).
  public init(_ name: String, _ values: [String]) {
    self.init(name, secrets: values.map { Secret($0) })
  }
  /// A value that must not be seen.
  public init(_ name: String, _ value: Secret) { self.init(name, secrets: [value]) }

  private init(_ name: String, secrets: [Secret]) {
    self.name = name
    values = secrets
  }

  /// `a=1&b=x%2By`: the body of a form or the query of a URL.
  static func encode(_ parameters: [Parameter]) -> String {
    parameters.flatMap { p in
      p.values.map { PercentEncoding.encode(p.name) + "=" + PercentEncoding.encode($0.reveal()) }
    }.joined(separator: "&")
  }
}
