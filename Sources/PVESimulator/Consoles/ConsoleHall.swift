/// What the consoles of one node share.
struct ConsoleHall {
  private var endings: UInt64 = 0
  /// SPICE ports that are taken.
  var spicePorts: Set<Int> = []
  private var lastProcessID = 20_000

  /// A process id to show.
  mutating func nextProcessID() -> Int {
    lastProcessID += 1
    return lastProcessID
  }

  /// What the next terminal does at its end: of each three ``TerminalEnding/mixed`` ones one loses its tail, and the
  /// seed says which.
  mutating func nextEnding(_ ending: TerminalEnding, seed: UInt64) -> TerminalEnding {
    guard ending == .mixed else { return ending }
    defer { endings += 1 }
    let loser = splitMix(seed &+ endings / 3) % 3
    return endings % 3 == loser ? .losesTail : .staysOpen
  }
}

/// splitmix64: a number that looks random and follows from another.
func splitMix(_ seed: UInt64) -> UInt64 {
  var z = seed &+ 0x9E37_79B9_7F4A_7C15
  z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
  z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
  return z ^ z >> 31
}
