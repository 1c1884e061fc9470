/// What happens to a terminal's backlog when somebody presses Ctrl-C against a flood of output.
///
/// pveproxy buffers without bound: while a slow viewer holds the stream back, everything a program like `yes` writes
/// piles up there, and the prompt after Ctrl-C would come behind all of it. A kernel's terminal throws its output queue
/// away on an interrupt; so does this one. The rest of the flood is read as fast as it comes and dropped until it is
/// quiet, a line says how much that was, and the last lines (with the prompt) are shown.
package struct InterruptSkip: Sendable {
  /// Typed keys that make the kernel flush: Ctrl-C, Ctrl-Z, Ctrl-\.
  private static let keys: [UInt8] = [0x03, 0x1a, 0x1c]
  /// Longer input is a paste, in which such a byte means nothing.
  private static let longestKeyPress = 8
  /// So much of the end is shown.
  package static let keptTail = 4 << 10
  /// Silence that counts as the end of the flood.
  package static let quiet: Duration = .milliseconds(80)
  /// A program that ignores the interrupt goes on; after this long its output is shown again.
  package static let longest: Duration = .seconds(3)

  private var tail: [UInt8] = []
  private var count = 0
  private let start: Duration
  private var lastHeard: Duration

  /// Begins to skip.
  package init(at now: Duration) {
    start = now
    lastHeard = now
  }

  /// Whether a piece of input is a typed interrupt.
  package static func isInterrupt(_ input: UnsafeRawBufferPointer) -> Bool {
    input.count <= longestKeyPress && input.contains { keys.contains($0) }
  }

  /// Takes output that is not shown now.
  package mutating func take(_ bytes: UnsafeRawBufferPointer, at now: Duration) {
    count += bytes.count
    lastHeard = now
    if bytes.count >= Self.keptTail {
      tail = Array(bytes.suffix(Self.keptTail))
    } else {
      tail.append(contentsOf: bytes)
      if tail.count > 2 * Self.keptTail { tail.removeFirst(tail.count - Self.keptTail) }
    }
  }

  /// When to ask ``isOver(at:)`` next.
  package var deadline: Duration { min(lastHeard + Self.quiet, start + Self.longest) }

  /// Whether the flood is over, or has had its time.
  package func isOver(at now: Duration) -> Bool { now >= deadline }

  /// What to show: everything if it was little, else a line that says how much is left out, and the last lines.
  package func shown() -> [UInt8] {
    guard count > tail.count || tail.count > Self.keptTail else { return tail }
    var end = tail.suffix(Self.keptTail)
    // From the beginning of a line, so that no character and no escape sequence begins in its middle.
    if let newline = end.firstIndex(of: 0x0a) { end = end[(newline + 1)...] }
    // CAN ends an escape sequence that the viewer may stand in.
    let note =
      "\u{18}\r\n\u{1b}[0;2m[sallyport: \(Self.size(count - end.count)) of output skipped]\u{1b}[0m\r\n"
    return Array(note.utf8) + end
  }

  private static func size(_ bytes: Int) -> String {
    switch bytes {
    case ..<(10 << 10): "\(bytes) bytes"
    case ..<(10 << 20): "\(bytes >> 10) KiB"
    default: "\(bytes >> 20) MiB"
    }
  }
}
