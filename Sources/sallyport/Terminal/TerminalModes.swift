/// Remembers which modes a console's output has switched on in the local terminal, so that they can be switched off when
/// the console is left in the middle of a full-screen program: mouse reports, bracketed paste, the other screen.
struct TerminalModes {
  private enum State { case text, escape, bracket, numbers }

  private var state = State.text
  private var number = 0
  private var numbers: [Int] = []
  private var on: Set<Int> = []
  private var cursorHidden = false
  private var keypad = false

  /// Modes that are off in a terminal at rest.
  private static let watched: Set<Int> = [
    1, 9, 47, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1047, 1049, 2004,
  ]

  /// Reads on.
  mutating func note(_ bytes: UnsafeRawBufferPointer) {
    for byte in bytes {
      switch state {
      case .text:
        if byte == 0x1b { state = .escape }
      case .escape:
        switch byte {
        case UInt8(ascii: "["): state = .bracket
        case UInt8(ascii: "="), UInt8(ascii: ">"):
          keypad = byte == UInt8(ascii: "=")
          state = .text
        case UInt8(ascii: "c"): self = TerminalModes()
        case 0x1b: break
        default: state = .text
        }
      case .bracket:
        state = byte == UInt8(ascii: "?") ? .numbers : byte == 0x1b ? .escape : .text
        number = 0
        numbers = []
      case .numbers:
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
          number = min(number * 10 + Int(byte - UInt8(ascii: "0")), 99_999)
        case UInt8(ascii: ";"):
          if numbers.count < 32 { numbers.append(number) }
          number = 0
        case UInt8(ascii: "h"), UInt8(ascii: "l"):
          for mode in numbers + [number] { set(mode, byte == UInt8(ascii: "h")) }
          state = .text
        default: state = byte == 0x1b ? .escape : .text
        }
      }
    }
  }

  private mutating func set(_ mode: Int, _ value: Bool) {
    if mode == 25 { cursorHidden = !value }
    guard TerminalModes.watched.contains(mode) else { return }
    if value { on.insert(mode) } else { on.remove(mode) }
  }

  /// What switches everything off again; empty where nothing is on.
  var undo: String {
    var out = on.sorted().map { "\u{1b}[?\($0)l" }.joined()
    if cursorHidden { out += "\u{1b}[?25h" }
    if keypad { out += "\u{1b}>" }
    return out.isEmpty ? "" : out + "\u{1b}[0m"
  }
}
