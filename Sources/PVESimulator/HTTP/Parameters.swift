/// A parameter as it arrived: a text, several (a repeated key or a JSON array), or what only JSON can say.
enum ParameterValue: Sendable, Equatable {
  case text(String)
  case list([ParameterValue])
  case object(JSON)
  /// There without a value: a form's key without `=`, or JSON's null.
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
  /// A name and its value.
  typealias Pair = (name: String, value: ParameterValue)

  private(set) var pairs: [Pair] = []
  /// Places by name, once there are so many that searching would take long: half a megabyte holds a hundred
  /// thousand names.
  private var places: [String: Int]?
  private static let searched = 16

  /// No parameters.
  init() {}

  /// A parameter's value.
  subscript(name: String) -> ParameterValue? { place(of: name).map { pairs[$0].value } }

  /// All names.
  var names: [String] { pairs.map(\.name) }

  /// Whether there is none.
  var isEmpty: Bool { pairs.isEmpty }

  private func place(of name: String) -> Int? {
    if let places { return places[name] }
    return pairs.firstIndex { $0.name == name }
  }

  private mutating func append(_ name: String, _ value: ParameterValue) {
    pairs.append((name, value))
    if places != nil {
      places?[name] = pairs.count - 1
    } else if pairs.count > Parameters.searched {
      places = Dictionary(
        pairs.indices.map { (pairs[$0].name, $0) }, uniquingKeysWith: { a, _ in a })
    }
  }

  /// Sets a value, in the place of one of the same name.
  mutating func set(_ name: String, _ value: ParameterValue) {
    if let i = place(of: name) {
      pairs[i].value = value
    } else {
      append(name, value)
    }
  }

  /// Takes a parameter away.
  mutating func remove(_ name: String) {
    guard place(of: name) != nil else { return }
    pairs.removeAll { $0.name == name }
    places = nil
  }

  /// What a name that comes again makes of the values.
  enum Repeats: Sendable {
    /// An array of them (PVE 8 and 9).
    case list
    /// One text, with NUL bytes between them (PVE 7).
    case joined
  }

  /// Reads a form or a query as pveproxy does: pairs split at `&` and `;`, the value goes up to a second `=`, `+` is
  /// a space, values are UTF-8 and names bytes; a pair of nothing has the empty name, except at the end.
  init(form: some Sequence<UInt8>, repeats: Repeats = .list) {
    let bytes = Array(form)
    var pieces = bytes.split(omittingEmptySubsequences: false) { $0 == 38 || $0 == 59 }
    while pieces.last?.isEmpty == true { pieces.removeLast() }
    // Each name's values since it last came without one.
    var values: [[String]] = []
    for piece in pieces {
      let name = piece.prefix { $0 != 61 }
      let key = latin1Decoded(name, plusIsSpace: true)
      let place: Int
      if let known = self.place(of: key) {
        place = known
      } else {
        place = pairs.count
        append(key, .null)
        values.append([])
      }
      if name.count < piece.count {
        let value = piece[name.endIndex...].dropFirst().prefix { $0 != 61 }
        values[place].append(percentDecoded(value, plusIsSpace: true))
      } else {
        values[place] = []
      }
    }
    for (place, texts) in values.enumerated() {
      guard let first = texts.first else { continue }
      if texts.count == 1 {
        pairs[place].value = .text(first)
      } else {
        pairs[place].value =
          repeats == .list ? .list(texts.map { .text($0) }) : .text(texts.joined(separator: "\0"))
      }
    }
  }

  /// Reads a JSON object; null counts as no parameters.
  init(json: [UInt8]) throws(JSONReader.Malformed) {
    switch try JSONReader.read(json) {
    case .null: break
    case .object(let members):
      for member in members { set(member.key, ParameterValue(member.value)) }
    case .array, .bool: throw JSONReader.Malformed(message: "Not a HASH reference")
    case let scalar:
      let shown = if case .string(let text) = scalar { text } else { scalar.text }
      throw JSONReader.Malformed(
        message:
          "Can't use string (\"\(shown.prefix(32))\") as a HASH ref while \"strict refs\" in use")
    }
  }

  /// The other's parameters win; `_dc`, the browser's cache buster, is dropped.
  func overridden(by other: Parameters) -> Parameters {
    var out = isEmpty ? other : self
    if !isEmpty { for pair in other.pairs { out.set(pair.name, pair.value) } }
    out.remove("_dc")
    return out
  }

  static func == (a: Parameters, b: Parameters) -> Bool {
    a.pairs.map(\.name) == b.pairs.map(\.name) && a.pairs.map(\.value) == b.pairs.map(\.value)
  }
}
