/// Reads the part of Perl's patterns that PVE's schema uses.
struct PatternParser {
  /// What can't be read.
  struct Malformed: Error, CustomStringConvertible {
    let description: String
  }

  private let text: [Unicode.Scalar]
  private var at = 0
  private var ignoresCase = false

  private init(_ text: String) { self.text = Array(text.unicodeScalars) }

  static func parse(_ text: String) throws(Malformed) -> Pattern.Node {
    var parser = PatternParser(text)
    let node = try parser.choice()
    guard parser.at == parser.text.count else { throw parser.malformed("unexpected ')'") }
    return node
  }

  private func malformed(_ what: String) -> Malformed {
    Malformed(description: "\(what) at \(at) of \(String(String.UnicodeScalarView(text)))")
  }

  private var next: Unicode.Scalar? { at < text.count ? text[at] : nil }

  private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard next == scalar else { return false }
    at += 1
    return true
  }

  private mutating func choice() throws(Malformed) -> Pattern.Node {
    var branches = [try sequence()]
    while take("|") { branches.append(try sequence()) }
    return branches.count == 1 ? branches[0] : .choice(branches)
  }

  private mutating func sequence() throws(Malformed) -> Pattern.Node {
    var parts: [Pattern.Node] = []
    while let c = next, c != "|", c != ")" {
      let part = try atom(c)
      parts.append(try repeated(part))
    }
    return .sequence(parts)
  }

  private mutating func atom(_ c: Unicode.Scalar) throws(Malformed) -> Pattern.Node {
    at += 1
    switch c {
    case "^": return .start
    case "$": return .end
    case ".": return .set(.init(ranges: [10...10], isInverted: true))
    case "(": return try group()
    case "[": return .set(try characterClass())
    case "\\": return .set(try escape())
    default: return .set(literal(c))
    }
  }

  private func literal(_ c: Unicode.Scalar) -> Pattern.CharacterSet {
    var set = Pattern.CharacterSet(ranges: [c.value...c.value])
    addOtherCases(&set)
    return set
  }

  private func addOtherCases(_ set: inout Pattern.CharacterSet) {
    guard ignoresCase else { return }
    for range in set.ranges {
      for (letters, offset) in [(97...122, -32), (65...90, 32)] as [(ClosedRange<UInt32>, Int)] {
        let both = range.clamped(to: letters)
        guard range.overlaps(letters) else { continue }
        set.ranges.append(
          UInt32(Int(both.lowerBound) + offset)...UInt32(Int(both.upperBound) + offset))
      }
    }
  }

  private mutating func group() throws(Malformed) -> Pattern.Node {
    let outer = ignoresCase
    defer { ignoresCase = outer }
    if take("?") {
      if take("!") {
        guard take("\\"), take("n"), take(")") else { throw malformed("unknown look-ahead") }
        return .noLineBreak
      }
      while let flag = next, flag != ":" {
        at += 1
        switch flag {
        case "^": ignoresCase = false
        case "i": ignoresCase = true
        case "u", "a", "x": break
        default: throw malformed("unknown flag")
        }
      }
      guard take(":") else { throw malformed("missing ':'") }
    }
    let node = try choice()
    guard take(")") else { throw malformed("missing ')'") }
    return node
  }

  private mutating func repeated(_ node: Pattern.Node) throws(Malformed) -> Pattern.Node {
    var node = node
    while let c = next {
      let least: Int
      var most: Int?
      switch c {
      case "*": least = 0
      case "+": least = 1
      case "?": (least, most) = (0, 1)
      case "{":
        guard let limits = limits() else { return node }
        (least, most) = limits
      default: return node
      }
      if c != "{" { at += 1 }
      // A lazy repetition matches the same texts.
      if next == "?" { at += 1 }
      node = .repetition(node, least: least, most: most)
    }
    return node
  }

  /// `{2,8}`; a brace that is none of these is a character.
  private mutating func limits() -> (Int, Int?)? {
    guard let close = text[at...].firstIndex(of: "}") else { return nil }
    let inner = String(String.UnicodeScalarView(text[(at + 1)..<close]))
    let halves = inner.split(separator: ",", omittingEmptySubsequences: false)
    guard let first = halves.first, let least = Int(first), halves.count <= 2 else { return nil }
    var most: Int? = least
    if halves.count == 2 {
      guard halves[1].isEmpty || Int(halves[1]) != nil else { return nil }
      most = Int(halves[1])
    }
    at = close + 1
    return (least, most)
  }

  private mutating func characterClass() throws(Malformed) -> Pattern.CharacterSet {
    var set = Pattern.CharacterSet()
    set.isInverted = take("^")
    var isFirst = true
    while let c = next, c != "]" || isFirst {
      isFirst = false
      at += 1
      var low = Pattern.CharacterSet(ranges: [c.value...c.value])
      if c == "\\" { low = try escape() }
      let follows = at + 1 < text.count ? text[at + 1] : nil
      if low.ranges.count == 1, let from = low.ranges.first, from.count == 1, next == "-",
        let follows, follows != "]"
      {
        at += 2
        var high = Pattern.CharacterSet(ranges: [follows.value...follows.value])
        if follows == "\\" { high = try escape() }
        guard let to = high.ranges.first, high.ranges.count == 1, to.count == 1,
          to.lowerBound >= from.lowerBound
        else { throw malformed("bad range") }
        low.ranges = [from.lowerBound...to.lowerBound]
      }
      guard !low.isInverted else { throw malformed("inverted class in a class") }
      addOtherCases(&low)
      set.ranges += low.ranges
      if low.hasForeignLetters { set.hasForeignLetters = true }
    }
    guard take("]") else { throw malformed("missing ']'") }
    return set
  }

  private mutating func escape() throws(Malformed) -> Pattern.CharacterSet {
    guard let c = next else { throw malformed("missing escape") }
    at += 1
    let digits: ClosedRange<UInt32> = 48...57
    let spaces: [ClosedRange<UInt32>] = [9...13, 32...32]
    let letters: [ClosedRange<UInt32>] = [digits, 65...90, 97...122, 95...95]
    switch c {
    case "d": return .init(ranges: [digits])
    case "D": return .init(ranges: [digits], isInverted: true)
    case "s": return .init(ranges: spaces)
    case "S": return .init(ranges: spaces, isInverted: true)
    case "w": return .init(ranges: letters, hasForeignLetters: true)
    case "W": return .init(ranges: letters, isInverted: true, hasForeignLetters: true)
    case "n": return .init(ranges: [10...10])
    case "r": return .init(ranges: [13...13])
    case "t": return .init(ranges: [9...9])
    case "0": return .init(ranges: [0...0])
    case "x":
      let hex = text[at...].prefix { $0.properties.isASCIIHexDigit }.prefix(2)
      guard !hex.isEmpty, let value = UInt32(String(String.UnicodeScalarView(hex)), radix: 16)
      else { throw malformed("bad \\x") }
      at += hex.count
      return .init(ranges: [value...value])
    default:
      guard !c.properties.isAlphabetic || c.value > 127 else { throw malformed("unknown escape") }
      return literal(c)
    }
  }
}
