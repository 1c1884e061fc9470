import ProxmoxClient

extension Selector {
  /// Reads the JSON form: the text form as a text, a list of targets, or an object whose fields must all fit:
  ///
  /// ```
  /// {"tag": "web", "node": ["pve1", "pve2"], "vmid": [100, "200-299"], "targets": ["qemu/100"],
  ///  "and": [selectors], "or": [selectors], "not": selector}
  /// ```
  /// - Throws: ``SelectorError``
  package init(_ json: JSONValue) throws(SelectorError) {
    var reader = SelectorReader()
    self = try reader.selector(json, depth: 0)
  }
}

/// Reads a selector from JSON, and counts what it reads.
private struct SelectorReader {
  private var values = 0

  private static let known =
    Selector.Field.allCases.map(\.rawValue) + ["vmid", "targets", "and", "or", "not"]

  private func failure(_ problem: String, _ remedy: String) -> SelectorError {
    SelectorError(position: nil, problem: problem, remedy: remedy)
  }

  mutating func selector(_ json: JSONValue, depth: Int) throws(SelectorError) -> Selector {
    guard depth < Selector.maximumDepth else {
      throw failure(
        "The selector is nested over \(Selector.maximumDepth) deep", "Write it with fewer brackets."
      )
    }
    switch json {
    case .string(let text): return try Selector(text)
    case .array(let list): return try targets(list)
    case .object(let fields): return try object(fields, depth: depth)
    default:
      throw failure(
        "The selector is neither a text nor a list nor an object",
        "Send e.g. \"tag=web\", {\"tag\":\"web\"} or [\"qemu/100\"].")
    }
  }

  private mutating func object(
    _ fields: [String: JSONValue], depth: Int
  ) throws(SelectorError) -> Selector {
    if let unknown = fields.keys.sorted().first(where: { !Self.known.contains($0) }) {
      throw failure(
        "The selector has no field '\(unknown.prefix(40))'",
        "There are: \(Self.known.joined(separator: ", ")).")
    }
    var parts: [Selector] = []
    for field in Selector.Field.allCases {
      guard let value = fields[field.rawValue], !value.isNull else { continue }
      var globs: [Glob] = []
      for text in try texts(value, field.rawValue) {
        globs.append(try Selector.value(text, of: field, position: nil))
      }
      parts.append(.field(field, globs))
    }
    if let value = fields["vmid"], !value.isNull {
      var ranges: [ClosedRange<Int>] = []
      for text in try texts(value, "vmid") {
        ranges.append(try Selector.range(text, position: nil))
      }
      parts.append(.vmid(ranges))
    }
    if let value = fields["targets"], !value.isNull {
      guard let list = value.array else {
        throw failure("'targets' is no list", "Send e.g. [\"qemu/100\",\"lxc/200\"].")
      }
      parts.append(try targets(list))
    }
    for (name, isAnd) in [("and", true), ("or", false)] {
      guard let value = fields[name], !value.isNull else { continue }
      guard let list = value.array, let first = list.first else {
        throw failure("'\(name)' is no list of selectors", "Send e.g. [\"tag=web\",\"node=pve1\"].")
      }
      var inner = [try selector(first, depth: depth + 1)]
      for item in list.dropFirst() { inner.append(try selector(item, depth: depth + 1)) }
      parts.append(inner.count == 1 ? inner[0] : isAnd ? .and(inner) : .or(inner))
    }
    if let value = fields["not"], !value.isNull {
      parts.append(.not(try selector(value, depth: depth + 1)))
    }
    guard let first = parts.first else {
      throw failure(
        "The selector is empty",
        "Send e.g. {\"tag\":\"web\"}, or \"all\" for every running guest.")
    }
    return parts.count == 1 ? first : .and(parts)
  }

  private mutating func targets(_ list: [JSONValue]) throws(SelectorError) -> Selector {
    var patterns: [Selector.TargetPattern] = []
    for text in try texts(.array(list), "targets") {
      patterns.append(try Selector.targetPattern(text, position: nil))
    }
    return .target(patterns)
  }

  /// One text or number, or a list of them.
  private mutating func texts(
    _ value: JSONValue, _ name: String
  ) throws(SelectorError) -> [String] {
    let list = value.array ?? [value]
    guard !list.isEmpty else {
      throw failure("'\(name)' is an empty list", "Leave it out, or name something.")
    }
    values += list.count
    guard values <= Selector.maximumValues else {
      throw failure(
        "The selector has over \(Selector.maximumValues) values", "Use tags, pools or vmid ranges.")
    }
    var out: [String] = []
    for item in list {
      switch item {
      case .string(let text): out.append(text)
      case .int(let number): out.append(String(number))
      default:
        throw failure("'\(name)' has a value that is no text", "Send texts, e.g. \"web\".")
      }
    }
    return out
  }
}
