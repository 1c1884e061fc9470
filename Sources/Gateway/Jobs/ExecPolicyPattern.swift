/// A regular expression that a whole text must match, in time that grows with the text and never explodes: what it
/// judges comes from whoever is to be kept in.
///
/// It knows literals, `.`, `[a-z]`, `[^a-z]`, `\d \w \s \D \W \S` (ASCII), `\n \r \t \xHH`, groups `(…)` and `(?:…)`,
/// `|`, `* + ? {n} {n,} {n,m}`, and `^ $` for the text's two ends. Nothing that excludes (`.`, `[^…]`, `\D` …) matches a
/// control character: those must be named. Bytes that are no UTF-8 match nothing.
struct ExecPolicyPattern: Sendable, Hashable, CustomStringConvertible {
  /// Why a text is no pattern.
  struct Malformed: Error, Hashable, CustomStringConvertible {
    /// Which character, from 1.
    var position: Int
    var problem: String
    var description: String { "at character \(position): \(problem)" }
  }

  fileprivate enum Step: Sendable, Hashable {
    case one(Characters)
    case either(Int, Int)
    case go(Int)
    case start
    case end
    case found
  }

  fileprivate struct Characters: Sendable, Hashable {
    var ranges: [ClosedRange<UInt32>]
    var isNegated = false

    func contains(_ c: UInt32) -> Bool {
      let isIn = ranges.contains { $0.contains(c) }
      guard isNegated else { return isIn }
      return !isIn && c >= 32 && !(127...159).contains(c)
    }
  }

  fileprivate indirect enum Tree {
    case nothing
    case one(Characters)
    case start
    case end
    case sequence([Tree])
    case either([Tree])
    case several(Tree, from: Int, to: Int?)
  }

  /// The most steps that a pattern may have.
  static let maximumSteps = 2000
  /// The longest pattern, in bytes.
  static let maximumLength = 4096

  /// As it was written.
  let description: String
  private let steps: [Step]

  /// Reads a pattern.
  init(_ text: String) throws(Malformed) {
    guard text.utf8.count <= Self.maximumLength else {
      throw Malformed(position: 1, problem: "it is over \(Self.maximumLength) bytes long")
    }
    description = text
    var parser = Parser(text: Array(text.unicodeScalars))
    let tree = try parser.parse()
    var out: [Step] = []
    try Self.emit(tree, &out)
    out.append(.found)
    steps = out
  }

  /// Whether the whole text matches. Takes at most the product of both lengths.
  func matches(_ bytes: [UInt8]) -> Bool {
    guard let text = String(validating: bytes, as: UTF8.self) else { return false }
    let scalars = Array(text.unicodeScalars)
    var now = Threads(count: steps.count)
    var next = Threads(count: steps.count)
    now.begin()
    add(0, at: 0, of: scalars.count, to: &now)
    for (i, c) in scalars.enumerated() {
      guard !now.list.isEmpty else { return false }
      next.begin()
      for step in now.list {
        if case .one(let set) = steps[step], set.contains(c.value) {
          add(step + 1, at: i + 1, of: scalars.count, to: &next)
        }
      }
      swap(&now, &next)
    }
    return now.list.contains { steps[$0] == .found }
  }

  /// The steps that a text has got to. Marked by generation, so that clearing costs nothing.
  private struct Threads {
    var list: [Int] = []
    private var marks: [Int]
    private var generation = 0

    init(count: Int) { marks = Array(repeating: 0, count: count) }

    mutating func begin() {
      list.removeAll(keepingCapacity: true)
      generation += 1
    }

    /// Whether it is new.
    mutating func mark(_ step: Int) -> Bool {
      guard marks.indices.contains(step), marks[step] != generation else { return false }
      marks[step] = generation
      return true
    }
  }

  private func add(_ first: Int, at position: Int, of length: Int, to threads: inout Threads) {
    var open = [first]
    while let step = open.popLast() {
      guard threads.mark(step) else { continue }
      switch steps[step] {
      case .one, .found: threads.list.append(step)
      case .either(let a, let b):
        open.append(b)
        open.append(a)
      case .go(let to): open.append(to)
      case .start: if position == 0 { open.append(step + 1) }
      case .end: if position == length { open.append(step + 1) }
      }
    }
  }

  private static func emit(_ tree: Tree, _ out: inout [Step]) throws(Malformed) {
    guard out.count < maximumSteps else {
      throw Malformed(
        position: 1,
        problem: "it has over \(maximumSteps) steps once its repetitions are written out"
      )
    }
    switch tree {
    case .nothing: break
    case .one(let set): out.append(.one(set))
    case .start: out.append(.start)
    case .end: out.append(.end)
    case .sequence(let parts): for part in parts { try emit(part, &out) }
    case .either(let parts):
      var jumps: [Int] = []
      for (i, part) in parts.enumerated() {
        guard i < parts.count - 1 else {
          try emit(part, &out)
          break
        }
        let fork = out.count
        out.append(.go(0))
        try emit(part, &out)
        jumps.append(out.count)
        out.append(.go(0))
        out[fork] = .either(fork + 1, out.count)
      }
      for jump in jumps { out[jump] = .go(out.count) }
    case .several(let part, let from, let to):
      for _ in 0..<from { try emit(part, &out) }
      guard let to else {
        let fork = out.count
        out.append(.go(0))
        try emit(part, &out)
        out.append(.go(fork))
        out[fork] = .either(fork + 1, out.count)
        return
      }
      var forks: [Int] = []
      for _ in from..<max(from, to) {
        forks.append(out.count)
        out.append(.go(0))
        try emit(part, &out)
      }
      for fork in forks { out[fork] = .either(fork + 1, out.count) }
    }
  }

  private struct Parser {
    private let text: [Unicode.Scalar]
    private var at = 0

    init(text: [Unicode.Scalar]) { self.text = text }

    private var peek: Unicode.Scalar? { at < text.count ? text[at] : nil }

    private func failure(_ problem: String) -> Malformed {
      Malformed(position: at + 1, problem: problem)
    }

    mutating func parse() throws(Malformed) -> Tree {
      let tree = try alternatives(depth: 0)
      guard peek == nil else { throw failure("a ')' that closes nothing; write \\) for the sign") }
      return tree
    }

    private mutating func alternatives(depth: Int) throws(Malformed) -> Tree {
      guard depth < 32 else { throw failure("it is nested over 32 deep") }
      var parts = [try sequence(depth: depth)]
      while peek == "|" {
        at += 1
        parts.append(try sequence(depth: depth))
      }
      return parts.count == 1 ? parts[0] : .either(parts)
    }

    private mutating func sequence(depth: Int) throws(Malformed) -> Tree {
      var parts: [Tree] = []
      while let c = peek, c != "|", c != ")" {
        let atom = try atom(c, depth: depth)
        parts.append(try repeated(atom))
      }
      return parts.isEmpty ? .nothing : .sequence(parts)
    }

    private mutating func repeated(_ atom: Tree) throws(Malformed) -> Tree {
      let tree: Tree
      switch peek {
      case "*": tree = .several(atom, from: 0, to: nil)
      case "+": tree = .several(atom, from: 1, to: nil)
      case "?": tree = .several(atom, from: 0, to: 1)
      case "{": return try counted(atom)
      default: return atom
      }
      at += 1
      try noSecond()
      return tree
    }

    private func noSecond() throws(Malformed) {
      if let c = peek, c == "*" || c == "+" || c == "?" || c == "{" {
        throw failure("a repetition of a repetition; a whole match has no greed to change")
      }
    }

    private mutating func counted(_ atom: Tree) throws(Malformed) -> Tree {
      let begin = at
      at += 1
      let wrong = Malformed(
        position: begin + 1, problem: "no count such as {3}, {1,5} or {2,}; write \\{ for the sign")
      guard let from = number() else { throw wrong }
      var to: Int? = from
      if peek == "," {
        at += 1
        to = number()
        if to == nil, peek != "}" { throw wrong }
      }
      guard peek == "}" else { throw wrong }
      at += 1
      guard from <= 1000, to.map({ $0 <= 1000 && $0 >= from }) ?? true else {
        throw Malformed(position: begin + 1, problem: "a count that is upside down or over 1000")
      }
      try noSecond()
      return .several(atom, from: from, to: to)
    }

    private mutating func number() -> Int? {
      var digits = ""
      while let c = peek, ("0"..."9").contains(c), digits.count < 6 {
        digits.unicodeScalars.append(c)
        at += 1
      }
      return Int(digits)
    }

    private mutating func atom(_ c: Unicode.Scalar, depth: Int) throws(Malformed) -> Tree {
      switch c {
      case "(":
        let begin = at
        at += 1
        if peek == "?" {
          guard at + 1 < text.count, text[at + 1] == ":" else {
            throw failure("'(?' begins something that is not known here; only (?:…) is")
          }
          at += 2
        }
        let inner = try alternatives(depth: depth + 1)
        guard peek == ")" else {
          throw Malformed(position: begin + 1, problem: "a '(' that is never closed")
        }
        at += 1
        return inner
      case "[": return .one(try characters())
      case ".":
        at += 1
        return .one(Characters(ranges: [], isNegated: true))
      case "^":
        at += 1
        return .start
      case "$":
        at += 1
        return .end
      case "\\": return .one(try escape())
      case "*", "+", "?", "{":
        throw failure("'\(c)' repeats nothing; write \\\(c) for the sign")
      default:
        at += 1
        return .one(Characters(ranges: [c.value...c.value]))
      }
    }

    private mutating func escape() throws(Malformed) -> Characters {
      at += 1
      guard let c = peek else { throw failure("a backslash at the end") }
      at += 1
      let digit: [ClosedRange<UInt32>] = [48...57]
      let word: [ClosedRange<UInt32>] = [48...57, 65...90, 95...95, 97...122]
      let space: [ClosedRange<UInt32>] = [9...9, 32...32]
      switch c {
      case "d": return Characters(ranges: digit)
      case "D": return Characters(ranges: digit, isNegated: true)
      case "w": return Characters(ranges: word)
      case "W": return Characters(ranges: word, isNegated: true)
      case "s": return Characters(ranges: space)
      case "S": return Characters(ranges: space, isNegated: true)
      case "n": return Characters(ranges: [10...10])
      case "r": return Characters(ranges: [13...13])
      case "t": return Characters(ranges: [9...9])
      case "x":
        var value: UInt32 = 0
        for _ in 0..<2 {
          guard let c = peek, c.isASCII, let digit = UInt32(String(c), radix: 16) else {
            throw failure("\\x needs two hexadecimal digits")
          }
          value = value << 4 | digit
          at += 1
        }
        return Characters(ranges: [value...value])
      case let c
      where ("a"..."z").contains(c) || ("A"..."Z").contains(c) || ("0"..."9").contains(c):
        at -= 1
        throw failure("\\\(c) is not known here")
      default: return Characters(ranges: [c.value...c.value])
      }
    }

    private mutating func characters() throws(Malformed) -> Characters {
      let begin = at
      at += 1
      var set = Characters(ranges: [])
      if peek == "^" {
        set.isNegated = true
        at += 1
      }
      while let c = peek, c != "]" {
        var low = Characters(ranges: [c.value...c.value])
        if c == "\\" { low = try escape() } else { at += 1 }
        if c == "[", peek == ":" {
          throw failure("[:…:] is not known here; write \\d, \\w or ranges")
        }
        if low.isNegated { throw failure("\\D, \\W and \\S can't stand in brackets; use [^…]") }
        // A hyphen at the end is itself.
        guard peek == "-", at + 1 < text.count, text[at + 1] != "]" else {
          set.ranges += low.ranges
          continue
        }
        at += 1
        guard let c = peek else { break }
        var high = Characters(ranges: [c.value...c.value])
        if c == "\\" { high = try escape() } else { at += 1 }
        guard let from = low.ranges.first, let to = high.ranges.first, low.ranges.count == 1,
          high.ranges.count == 1, from.count == 1, to.count == 1, !high.isNegated,
          from.lowerBound <= to.lowerBound
        else { throw failure("no range of characters") }
        set.ranges.append(from.lowerBound...to.lowerBound)
      }
      guard peek == "]" else {
        throw Malformed(position: begin + 1, problem: "a '[' that is never closed")
      }
      at += 1
      guard !set.ranges.isEmpty else {
        throw Malformed(position: begin + 1, problem: "brackets with nothing in them")
      }
      return set
    }
  }
}
