/// A parameter as it arrived: a text, several (a repeated key or a JSON array), or what only JSON can say.
enum ParameterValue: Sendable, Equatable {
  case text(String)
  case list([ParameterValue])
  case object(JSON)
  case null

  /// The text, where it is one.
  var text: String? {
    if case .text(let t) = self { t } else { nil }
  }

  init(_ json: JSON) {
    switch json {
    case .null: self = .null
    case .bool(let v): self = .text(v ? "1" : "0")
    case .int(let v): self = .text(String(v))
    case .double(let v): self = .text(String(v))
    case .string(let v): self = .text(v)
    case .array(let items): self = .list(items.map(ParameterValue.init))
    case .object, .raw: self = .object(json)
    }
  }
}

/// A request's parameters in order of arrival.
struct Parameters: Sendable, Equatable {
  private(set) var pairs: [(name: String, value: ParameterValue)] = []

  /// A parameter's value.
  subscript(name: String) -> ParameterValue? { pairs.first { $0.name == name }?.value }

  /// All names.
  var names: [String] { pairs.map(\.name) }

  /// Sets a value, in the place of one of the same name.
  mutating func set(_ name: String, _ value: ParameterValue) {
    if let i = pairs.firstIndex(where: { $0.name == name }) {
      pairs[i].value = value
    } else {
      pairs.append((name, value))
    }
  }

  /// Adds a value; the second of a name makes a list of both.
  mutating func add(_ name: String, _ value: String) {
    guard let i = pairs.firstIndex(where: { $0.name == name }) else {
      pairs.append((name, .text(value)))
      return
    }
    switch pairs[i].value {
    case .list(let items): pairs[i].value = .list(items + [.text(value)])
    case let first: pairs[i].value = .list([first, .text(value)])
    }
  }

  /// Reads a form or a query: pairs split at `&` and `;`, `+` is a space, UTF-8.
  init(form: some Sequence<UInt8>) {
    for pair in Array(form).split(whereSeparator: { $0 == 38 || $0 == 59 }) {
      let halves = pair.split(separator: 61, maxSplits: 1, omittingEmptySubsequences: false)
      guard let first = halves.first, !first.isEmpty else { continue }
      add(
        percentDecoded(first, plusIsSpace: true),
        halves.count > 1 ? percentDecoded(halves[1], plusIsSpace: true) : "")
    }
  }

  /// Reads a JSON object.
  init(json: [UInt8]) throws(JSONReader.Malformed) {
    guard case .object(let members) = try JSONReader.read(json) else {
      throw JSONReader.Malformed(message: "JSON body is not an object")
    }
    for member in members { set(member.key, ParameterValue(member.value)) }
  }

  /// No parameters.
  init() {}

  /// The other's parameters win; `_dc`, the browser's cache buster, is dropped.
  func overridden(by other: Parameters) -> Parameters {
    var out = self
    for pair in other.pairs { out.set(pair.name, pair.value) }
    out.pairs.removeAll { $0.name == "_dc" }
    return out
  }

  static func == (a: Parameters, b: Parameters) -> Bool {
    a.pairs.map(\.name) == b.pairs.map(\.name) && a.pairs.map(\.value) == b.pairs.map(\.value)
  }
}
