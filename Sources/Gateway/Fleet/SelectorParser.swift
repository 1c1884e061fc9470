import ConsoleProtocol

extension Selector {
  /// Reads the text form.
  /// - Throws: ``SelectorError``, with the place and what would do.
  package init(_ text: String) throws(SelectorError) {
    guard text.utf8.count <= Self.maximumLength else {
      throw SelectorError(
        position: nil, problem: "The selector has \(text.utf8.count) bytes",
        remedy: "At most \(Self.maximumLength) are read: use tags, pools or vmid ranges.")
    }
    var parser = SelectorParser(tokens: try SelectorLexer.tokens(of: text))
    self = try parser.parse()
  }
}

/// Cuts a selector into words and signs.
struct SelectorLexer {
  /// A sign or a word.
  enum Kind: Hashable {
    case open, close, comma, equal, notEqual, end
    case word(String)
    /// In quotes: never a keyword.
    case quoted(String)

    /// For an error.
    var text: String {
      switch self {
      case .open: "'('"
      case .close: "')'"
      case .comma: "','"
      case .equal: "'='"
      case .notEqual: "'!='"
      case .end: "the end"
      case .word(let word): "'\(word.prefix(40))'"
      case .quoted(let word): "\"\(word.prefix(40))\""
      }
    }
  }

  struct Token: Hashable {
    var kind: Kind
    /// From 1.
    var position: Int
  }

  /// Words that can't be values without quotes.
  static let keywords: Set<String> = ["and", "or", "not", "all"]

  /// What may stand in a word without quotes: all that names, tags, pools and targets of PVE consist of, and `*?`.
  static func isWordCharacter(_ c: Unicode.Scalar) -> Bool {
    switch c {
    case "a"..."z", "A"..."Z", "0"..."9", "-", "_", ".", "+", "*", "?", "/", ":": true
    default: false
    }
  }

  static func tokens(of text: String) throws(SelectorError) -> [Token] {
    let scalars = Array(text.unicodeScalars)
    var out: [Token] = []
    var i = 0
    while i < scalars.count {
      let c = scalars[i]
      let position = i + 1
      switch c {
      case " ", "\t", "\n", "\r": i += 1
      case "(": (out.append(Token(kind: .open, position: position)), i += 1).1
      case ")": (out.append(Token(kind: .close, position: position)), i += 1).1
      case ",": (out.append(Token(kind: .comma, position: position)), i += 1).1
      case "=":
        i += 1
        // `==` is meant as `=`, by whoever writes programs.
        guard i == scalars.count || scalars[i] != "=" else {
          throw SelectorError(
            position: position, problem: "'==' is no sign of a selector",
            remedy: "Write one '=', e.g. tag=web.")
        }
        out.append(Token(kind: .equal, position: position))
      case "!":
        guard i + 1 < scalars.count, scalars[i + 1] == "=" else {
          throw SelectorError(
            position: position, problem: "'!' stands alone",
            remedy: "Write 'not' in front of what must not be, or '!=' for another value.")
        }
        out.append(Token(kind: .notEqual, position: position))
        i += 2
      case "\"": out.append(Token(kind: try quoted(scalars, &i), position: position))
      case let c where isWordCharacter(c):
        var word = ""
        while i < scalars.count, isWordCharacter(scalars[i]) {
          word.unicodeScalars.append(scalars[i])
          i += 1
        }
        out.append(Token(kind: .word(word), position: position))
      case "&", "|":
        throw SelectorError(
          position: position, problem: "'\(c)' is no sign of a selector",
          remedy: "Write 'and' or 'or'.")
      case "'":
        throw SelectorError(
          position: position, problem: "a single quote is no sign of a selector",
          remedy: "Put values with unusual characters in double quotes.")
      default:
        throw SelectorError(
          position: position,
          problem: "the character \(shown(c)) is not possible here",
          remedy: "Put values with unusual characters in double quotes, e.g. name=\"a b\".")
      }
    }
    out.append(Token(kind: .end, position: scalars.count + 1))
    return out
  }

  /// A character for an error: itself where it can be seen.
  private static func shown(_ c: Unicode.Scalar) -> String {
    c.value > 32 && c.value < 127 ? "'\(c)'" : "U+" + hex(c.value)
  }

  private static func hex(_ value: UInt32) -> String {
    let digits = String(value, radix: 16, uppercase: true)
    return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
  }

  /// From an opening quote to behind the closing one.
  private static func quoted(
    _ scalars: [Unicode.Scalar], _ i: inout Int
  ) throws(SelectorError) -> Kind {
    let begin = i + 1
    var word = ""
    i += 1
    while i < scalars.count {
      let c = scalars[i]
      i += 1
      switch c {
      case "\"": return .quoted(word)
      case "\\":
        guard i < scalars.count, scalars[i] == "\"" || scalars[i] == "\\" else {
          throw SelectorError(
            position: i, problem: "a backslash escapes nothing here",
            remedy: "In quotes, write \\\" for a quote and \\\\ for a backslash.")
        }
        word.unicodeScalars.append(scalars[i])
        i += 1
      case let c where c.value < 32 || c.value == 127:
        throw SelectorError(
          position: i, problem: "there is a control character in the quotes",
          remedy: "No name in PVE has one: leave it out.")
      default: word.unicodeScalars.append(c)
      }
    }
    throw SelectorError(
      position: begin, problem: "the quote that begins here has no end",
      remedy: "Close it with \".")
  }
}

/// Reads the words and signs.
struct SelectorParser {
  private let tokens: [SelectorLexer.Token]
  private var at = 0
  private var values = 0

  init(tokens: [SelectorLexer.Token]) { self.tokens = tokens }

  private var token: SelectorLexer.Token {
    at < tokens.count ? tokens[at] : SelectorLexer.Token(kind: .end, position: 1)
  }

  mutating func parse() throws(SelectorError) -> Selector {
    guard token.kind != .end else {
      throw SelectorError(
        position: 1, problem: "the selector is empty",
        remedy: "Write e.g. tag=web, name=web-*, qemu/100 or, for every running guest, all.")
    }
    let selector = try disjunction(depth: 0)
    guard token.kind == .end else {
      throw failure(
        "\(token.kind.text) can't follow here", "Join conditions with 'and' or 'or'.")
    }
    return selector
  }

  private func failure(_ problem: String, _ remedy: String) -> SelectorError {
    SelectorError(position: token.position, problem: problem, remedy: remedy)
  }

  private mutating func disjunction(depth: Int) throws(SelectorError) -> Selector {
    var parts = [try conjunction(depth: depth)]
    while token.kind == .word("or") {
      at += 1
      parts.append(try conjunction(depth: depth))
    }
    return parts.count == 1 ? parts[0] : .or(parts)
  }

  private mutating func conjunction(depth: Int) throws(SelectorError) -> Selector {
    var parts = [try factor(depth: depth)]
    while token.kind == .word("and") {
      at += 1
      parts.append(try factor(depth: depth))
    }
    return parts.count == 1 ? parts[0] : .and(parts)
  }

  private mutating func factor(depth: Int) throws(SelectorError) -> Selector {
    guard depth < Selector.maximumDepth else {
      throw failure(
        "it is nested over \(Selector.maximumDepth) deep", "Write it with fewer brackets.")
    }
    switch token.kind {
    case .word("not"):
      at += 1
      return .not(try factor(depth: depth + 1))
    case .open:
      let begin = token.position
      at += 1
      let inner = try disjunction(depth: depth + 1)
      guard token.kind == .close else {
        throw failure(
          "\(token.kind.text) stands where the bracket of character \(begin) should be closed",
          "Write ')', or join conditions with 'and' or 'or'.")
      }
      at += 1
      return inner
    case .word("all"):
      at += 1
      return .all
    case .word(let word):
      if at + 1 < tokens.count,
        tokens[at + 1].kind == .equal || tokens[at + 1].kind == .notEqual
      {
        return try condition(word)
      }
      if word == "and" || word == "or" {
        throw failure(
          "'\(word)' joins two conditions, and one is missing",
          "Write a condition on both sides, e.g. tag=web \(word) node=pve1.")
      }
      if Selector.Field(rawValue: word) != nil || word == "vmid" {
        throw failure(
          "'\(word)' has no value",
          "Write e.g. \(word)=VALUE; a guest of that name is name=\(word).")
      }
      return .target(
        try list { parser throws(SelectorError) in try parser.targetPattern() })
    case .quoted:
      return .target(
        try list { parser throws(SelectorError) in try parser.targetPattern() })
    default:
      throw failure(
        "there is \(token.kind.text) where a condition should be",
        "Write e.g. tag=web, not node=pve1, qemu/100 or all.")
    }
  }

  /// `FIELD=values`
  private mutating func condition(_ word: String) throws(SelectorError) -> Selector {
    let field = Selector.Field(rawValue: word)
    guard field != nil || word == "vmid" else {
      let known = Selector.Field.allCases.map(\.rawValue) + ["vmid"]
      throw failure(
        "there is no field '\(word.prefix(40))'", "There are: \(known.joined(separator: ", ")).")
    }
    at += 1
    let negated = token.kind == .notEqual
    at += 1
    let selector: Selector
    if let field {
      selector = .field(
        field,
        try list { parser throws(SelectorError) in
          let (word, position) = try parser.value()
          return try Selector.value(word, of: field, position: position)
        })
    } else {
      selector = .vmid(
        try list { parser throws(SelectorError) in
          let (word, position) = try parser.value()
          return try Selector.range(word, position: position)
        })
    }
    return negated ? .not(selector) : selector
  }

  private mutating func list<T>(
    _ one: (inout SelectorParser) throws(SelectorError) -> T
  ) throws(SelectorError) -> [T] {
    var out = [try one(&self)]
    while token.kind == .comma {
      at += 1
      out.append(try one(&self))
    }
    return out
  }

  private mutating func value() throws(SelectorError) -> (String, Int) {
    let position = token.position
    let text: String
    switch token.kind {
    case .word(let word) where SelectorLexer.keywords.contains(word):
      throw failure(
        "'\(word)' stands where a value should be",
        "Give the value, or put it in quotes if \"\(word)\" is the value.")
    case .word(let word), .quoted(let word): text = word
    default:
      throw failure(
        "there is \(token.kind.text) where a value should be", "Give a value, e.g. tag=web.")
    }
    values += 1
    guard values <= Selector.maximumValues else {
      throw failure(
        "there are over \(Selector.maximumValues) values",
        "Use tags, pools or vmid ranges.")
    }
    at += 1
    return (text, position)
  }

  private mutating func targetPattern() throws(SelectorError) -> Selector.TargetPattern {
    let (word, position) = try value()
    return try Selector.targetPattern(word, position: position)
  }
}
