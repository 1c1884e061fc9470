/// Reads the table's lines: fields between tabs, a schema being one field a fact and ending with `;`.
///
/// | field | fact |
/// |---|---|
/// | `s` `i` `n` `b` `a` `x`, with `?` | the type, and whether the value may be absent; always first |
/// | `<1` `>9` `[2` `]64` | limits of the number, of the length |
/// | `~…` `\|a\|b` `%…` `=…` | pattern, choices, named format, default |
/// | `(` … `)` | the value is a property string with these keys |
/// | `*` schema | what an array's items are |
/// | `!…` `^…` `$` | the key stands for another, which takes its name, is the default key |
/// | `+…` | another parameter that must be there too |
/// | `&…`, `/` schema, `#a,b` | depends on a parameter, one variant, the kinds that it is for |
///
/// `@7` in a schema's place is the eighth of the shared ones.
struct SchemaReader {
  /// A table that this code doesn't understand.
  struct Malformed: Error, CustomStringConvertible {
    let description: String
  }

  private let fields: [Substring]
  private var at = 0
  private let table: SchemaTable

  init(_ line: some StringProtocol, table: SchemaTable) {
    fields = Substring(line).split(separator: "\t", omittingEmptySubsequences: false)
    self.table = table
  }

  private var next: Substring? { at < fields.count ? fields[at] : nil }

  private mutating func field() throws(Malformed) -> Substring {
    guard at < fields.count else { throw Malformed(description: "a line ends early") }
    at += 1
    return fields[at - 1]
  }

  /// A whole operation: method and path, eras, flags, permission, answer, parameters.
  mutating func operation() throws(Malformed) -> OperationSchema {
    let name = try field().split(separator: " ", maxSplits: 1)
    _ = try field()
    let flags = try field()
    let permission = try field()
    let returns = try field()
    guard name.count == 2, let type = ReturnType(returns) else {
      throw Malformed(description: "no operation: \(name)")
    }
    let parsed = try PermissionReader.read(permission)
    return OperationSchema(
      method: String(name[0]), path: String(name[1]),
      parameters: PropertySchemas(try properties(until: nil)),
      allowsUnknownParameters: flags.contains("a"), permission: parsed.permission,
      handlerChecksMore: parsed.hasExtra, isProtected: flags.contains("p"),
      forwarding: flags.contains("n") ? .toNode : flags.contains("c") ? .byCode : .never,
      allowsTokens: !flags.contains("t"), isDownload: flags.contains("d"), returns: type)
  }

  /// The keys of a property string, to the line's end.
  mutating func keys() throws(Malformed) -> PropertySchemas {
    PropertySchemas(try properties(until: nil))
  }

  private mutating func properties(until end: Substring?) throws(Malformed)
    -> [PropertySchemas.Property]
  {
    var out: [PropertySchemas.Property] = []
    while let name = next, name != end {
      at += 1
      out.append(.init(String(name), try schema()))
    }
    if end != nil { at += 1 }
    return out
  }

  /// One schema, with its end.
  mutating func schema() throws(Malformed) -> Schema {
    let type = try field()
    if type.hasPrefix("@") {
      guard let index = Int(type.dropFirst()) else {
        throw Malformed(description: "no reference: \(type)")
      }
      return try table.shared(index)
    }
    var facts = Schema.Facts()
    switch type.first {
    case "s": facts.kind = .string
    case "i": facts.kind = .integer
    case "n": facts.kind = .number
    case "b": facts.kind = .boolean
    case "a": facts.kind = .array
    case "x": facts.kind = .any
    default: throw Malformed(description: "no type: \(type)")
    }
    facts.isOptional = type.hasSuffix("?")
    while true {
      let fact = try field()
      let rest = String(fact.dropFirst())
      switch fact.first {
      case ";": return Schema(facts)
      case "<": facts.minimum = Schema.Bound(rest)
      case ">": facts.maximum = Schema.Bound(rest)
      case "[": facts.minimumLength = Int(rest)
      case "]": facts.maximumLength = Int(rest)
      case "~":
        do throws(PatternParser.Malformed) {
          facts.pattern = try Pattern(rest)
        } catch {
          throw Malformed(description: "\(error)")
        }
      case "|":
        facts.choices = rest.split(separator: "|", omittingEmptySubsequences: false)
          .map(String.init)
      case "%": facts.format = try table.format(rest)
      case "=": facts.defaultValue = rest
      case "(": facts.format = .properties(PropertySchemas(try properties(until: ")")))
      case "*": facts.items = try schema()
      case "!": facts.alias = rest
      case "^": facts.keyAlias = rest
      case "$": facts.isDefaultKey = true
      case "+": facts.needs = rest
      case "&": facts.typeProperty = rest
      case "/": facts.variants.append(try schema())
      case "#": facts.instanceTypes = rest.split(separator: ",").map(String.init)
      default: throw Malformed(description: "no fact: \(fact)")
      }
    }
  }
}
