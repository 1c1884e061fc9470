/// A pattern of the schema, matched as PVE's Perl does: between a `^` and a `$` that are simply put around it, so that
/// in `a|b` each sticks to one side only.
///
/// A text is run through all paths of the pattern at once, so no text takes longer than its length times the
/// pattern's, whatever a client sends.
struct Pattern: Sendable {
  /// What is repeated, chosen from, and so on.
  indirect enum Node: Sendable {
    case set(CharacterSet)
    case sequence([Node])
    case choice([Node])
    /// No `most` is no limit.
    case repetition(Node, least: Int, most: Int?)
    case start, end
    /// `(?!\n)`: no line break follows.
    case noLineBreak
  }

  /// The characters that one place of a text may have.
  struct CharacterSet: Sendable {
    var ranges: [ClosedRange<UInt32>] = []
    var isInverted = false
    /// Whether letters and digits beyond ASCII count, as they do for Perl's `\w`.
    var hasForeignLetters = false

    func contains(_ scalar: Unicode.Scalar) -> Bool {
      var isIn = ranges.contains { $0.contains(scalar.value) }
      if !isIn, hasForeignLetters, scalar.value > 127 {
        isIn = scalar.properties.isAlphabetic || scalar.properties.numericType != nil
      }
      return isIn != isInverted
    }
  }

  private enum Step: Sendable {
    case set(CharacterSet)
    case fork(Int, Int)
    case jump(Int)
    case start, end, noLineBreak
    case match
  }

  /// As the schema has it.
  let text: String
  /// Its structure, with the `^` and `$`.
  let root: Node
  private var steps: [Step] = []
  /// The set and limits of a pattern like `[a-z]{0,4096}`, which needs no paths.
  private var single: (set: CharacterSet, least: Int, most: Int)?

  /// - Throws: ``PatternParser/Malformed`` for what is no pattern, or one of a kind that the schema doesn't use.
  init(_ text: String) throws(PatternParser.Malformed) {
    self.text = text
    root = try PatternParser.parse("^" + text + "$")
    if case .sequence(let parts) = root, parts.count == 3, case .start = parts[0],
      case .end = parts[2], case .repetition(.set(let set), let least, let most) = parts[1]
    {
      single = (set, least, most ?? .max)
    } else {
      compile(root)
      steps.append(.match)
    }
  }

  /// Whether the text fits.
  func matches(_ text: String) -> Bool {
    let scalars = Array(text.unicodeScalars)
    if let single {
      func fits(_ scalars: ArraySlice<Unicode.Scalar>) -> Bool {
        scalars.count >= single.least && scalars.count <= single.most
          && scalars.allSatisfy(single.set.contains)
      }
      return fits(scalars[...]) || scalars.last == "\n" && fits(scalars.dropLast())
    }
    var active = StepSet(count: steps.count)
    var next = StepSet(count: steps.count)
    for place in 0...scalars.count {
      // Without its `^` the pattern may begin anywhere.
      if follow(0, place, scalars, &active) { return true }
      guard place < scalars.count else { break }
      for step in active.members {
        guard case .set(let set) = steps[step], set.contains(scalars[place]) else { continue }
        if follow(step + 1, place + 1, scalars, &next) { return true }
      }
      swap(&active, &next)
      next.removeAll()
    }
    return false
  }

  /// The steps that are reached at a place.
  private struct StepSet {
    private(set) var members: [Int] = []
    private var flags: [Bool]

    init(count: Int) { flags = [Bool](repeating: false, count: count) }

    mutating func insert(_ step: Int) -> Bool {
      guard !flags[step] else { return false }
      flags[step] = true
      members.append(step)
      return true
    }

    mutating func removeAll() {
      for step in members { flags[step] = false }
      members.removeAll(keepingCapacity: true)
    }
  }

  /// Adds a step and all that follow it without taking a character; true where the pattern ends.
  private func follow(_ first: Int, _ place: Int, _ text: [Unicode.Scalar], _ into: inout StepSet)
    -> Bool
  {
    var open = [first]
    while let step = open.popLast() {
      guard into.insert(step) else { continue }
      switch steps[step] {
      case .set: break
      case .fork(let a, let b):
        open.append(b)
        open.append(a)
      case .jump(let target): open.append(target)
      case .start: if place == 0 { open.append(step + 1) }
      case .end:
        let isBeforeLast = place == text.count - 1 && text[place] == "\n"
        if place == text.count || isBeforeLast { open.append(step + 1) }
      case .noLineBreak:
        if place == text.count || text[place] != "\n" { open.append(step + 1) }
      case .match: return true
      }
    }
    return false
  }

  private mutating func compile(_ node: Node) {
    switch node {
    case .set(let set): steps.append(.set(set))
    case .start: steps.append(.start)
    case .end: steps.append(.end)
    case .noLineBreak: steps.append(.noLineBreak)
    case .sequence(let parts): for part in parts { compile(part) }
    case .choice(let branches):
      var jumps: [Int] = []
      for (i, branch) in branches.enumerated() {
        guard i < branches.count - 1 else {
          compile(branch)
          break
        }
        let fork = steps.count
        steps.append(.match)
        compile(branch)
        jumps.append(steps.count)
        steps.append(.match)
        steps[fork] = .fork(fork + 1, steps.count)
      }
      for jump in jumps { steps[jump] = .jump(steps.count) }
    case .repetition(let inner, let least, let most):
      for _ in 0..<least { compile(inner) }
      guard let most else {
        let fork = steps.count
        steps.append(.match)
        compile(inner)
        steps.append(.jump(fork))
        steps[fork] = .fork(fork + 1, steps.count)
        return
      }
      var forks: [Int] = []
      for _ in least..<max(least, most) {
        forks.append(steps.count)
        steps.append(.match)
        compile(inner)
      }
      for fork in forks { steps[fork] = .fork(fork + 1, steps.count) }
    }
  }
}
