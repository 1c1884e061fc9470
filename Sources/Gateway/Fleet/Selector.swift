import ConsoleProtocol

/// Which guests and nodes are meant, as a person writes it: `tag=web and not node=pve3`, `name=web-* or pool=prod`,
/// `qemu/100,lxc/200`.
///
/// ```
/// selector = conjunction { "or" conjunction }
/// conjunction = factor { "and" factor }
/// factor   = "not" factor | "(" selector ")" | "all" | FIELD ("=" | "!=") values | values
/// values   = value { "," value }          any of them
/// ```
/// Values without a field are targets: `qemu/100`, `lxc/*`, `node/pve1`, `home:qemu/100`, a guest's name or number.
/// Whatever ``description`` writes, ``init(_:)`` reads back as the same value.
package indirect enum Selector: Sendable, Hashable {
  /// What can be asked of a guest or node.
  package enum Field: String, Sendable, Hashable, CaseIterable {
    /// A guest's or node's name.
    case name
    /// One of a guest's tags.
    case tag
    /// A guest's pool.
    case pool
    /// The node that it is, or is on.
    case node
    /// `qemu`, `lxc` or `node`.
    case type
    /// `running`, `stopped` …; a node that is online is running.
    case state
    /// The cluster's name in the configuration.
    case cluster
  }

  /// A target, or several of one kind.
  package struct TargetPattern: Sendable, Hashable {
    /// `home` of `home:qemu/100`.
    package var cluster: Glob?
    /// What it is; nil where only a name (or a guest's number) was given.
    package var kind: Kind?
    /// The number or name.
    package var id: Glob

    /// Whether it means one target only.
    package var isExact: Bool { id.isExact && (cluster?.isExact ?? true) }
  }

  /// What a target is.
  package enum Kind: String, Sendable, Hashable, CaseIterable {
    /// A virtual machine.
    case qemu
    /// A container.
    case lxc
    /// A node itself.
    case node
  }

  /// Every guest. A node is meant only where a selector speaks of nodes: `type=node`, `node/pve1`.
  case all
  /// A field has one of these values.
  case field(Field, [Glob])
  /// The guest's number is in one of these ranges.
  case vmid([ClosedRange<Int>])
  /// It is one of these.
  case target([TargetPattern])
  /// It isn't.
  case not(Selector)
  /// All of them; at least two.
  case and([Selector])
  /// One of them; at least two.
  case or([Selector])

  /// The longest text that is read, in bytes.
  package static let maximumLength = 128 << 10
  /// The most values that are read.
  package static let maximumValues = 10_000
  /// The deepest nesting that is read.
  package static let maximumDepth = 32
}

/// Why a text is no selector.
package struct SelectorError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Which character is wrong, from 1; nil where it isn't one place's fault (the JSON form).
  package var position: Int?
  /// Half a sentence: what is wrong.
  package var problem: String
  /// What would do.
  package var remedy: String

  /// One sentence, with the place.
  package var description: String {
    position.map { "At character \($0): \(problem)." } ?? "\(problem)."
  }
}

extension Selector: CustomStringConvertible {
  /// The text form.
  package var description: String { written(inside: .or) }

  private enum Level: Int {
    case or
    case and
    case not
  }

  private func written(inside level: Level) -> String {
    func bracketed(_ text: String, _ own: Level) -> String {
      own.rawValue < level.rawValue ? "(\(text))" : text
    }
    switch self {
    case .all: return "all"
    case .field(let field, let values):
      return "\(field.rawValue)=" + values.map { Self.word($0.text) }.joined(separator: ",")
    case .vmid(let ranges):
      return "vmid="
        + ranges.map {
          $0.lowerBound == $0.upperBound ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)"
        }.joined(separator: ",")
    case .target(let patterns):
      return patterns.map(\.description).joined(separator: ",")
    case .not(let inner): return "not \(inner.written(inside: .not))"
    case .and(let parts):
      return bracketed(
        parts.map { part in
          // An `and` in an `and` keeps its brackets, so that the same value comes back.
          if case .and = part { return part.written(inside: .not) }
          return part.written(inside: .and)
        }.joined(separator: " and "), .and)
    case .or(let parts):
      return bracketed(
        parts.map { part in
          if case .or = part { return part.written(inside: .and) }
          return part.written(inside: .or)
        }.joined(separator: " or "), .or)
    }
  }

  /// A value as one word, quoted where it would mean something else.
  static func word(_ text: String) -> String {
    let plain = text.unicodeScalars.allSatisfy(SelectorLexer.isWordCharacter)
    if plain, !text.isEmpty, !SelectorLexer.keywords.contains(text), text != "vmid",
      Selector.Field(rawValue: text) == nil
    {
      return text
    }
    var out = "\""
    for scalar in text.unicodeScalars {
      if scalar == "\"" || scalar == "\\" { out += "\\" }
      out.unicodeScalars.append(scalar)
    }
    return out + "\""
  }
}

extension Selector.TargetPattern: CustomStringConvertible {
  /// `home:qemu/100`
  package var description: String {
    var out = ""
    if let cluster { out += cluster.text + ":" }
    if let kind { out += kind.rawValue + "/" }
    return Selector.word(out + id.text)
  }
}
