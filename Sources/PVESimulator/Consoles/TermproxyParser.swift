/// termproxy's reader of `0:LEN:DATA`, `1:COLUMNS:ROWS:` and `2`, with its buffer of 4096 bytes and what that buffer
/// loses.
///
/// A message's type is consumed before its number is known to be complete. So when the bytes at hand end inside a
/// header, be it because a frame was cut there or because the buffer was full there, the message is gone, and its
/// rest is skipped byte by byte.
struct TermproxyParser {
  /// What the client wants.
  enum Event: Equatable {
    case input([UInt8])
    case resize(columns: Int, rows: Int)
  }

  static let bufferSize = 4096

  private var buffer: [UInt8] = []
  /// Bytes of a `0:` message that are still to come.
  private var remaining = 0

  /// Takes what one read of the socket brought. Data events may come in pieces.
  mutating func feed(_ bytes: UnsafeRawBufferPointer, _ event: (Event) -> Void) {
    var at = 0
    while at < bytes.count {
      let n = min(TermproxyParser.bufferSize - buffer.count, bytes.count - at)
      buffer.append(contentsOf: bytes[at..<at + n])
      at += n
      process(event)
    }
  }

  private mutating func process(_ event: (Event) -> Void) {
    while true {
      if remaining > 0 {
        guard !buffer.isEmpty else { return }
        let n = min(remaining, buffer.count)
        event(.input(Array(buffer.prefix(n))))
        buffer.removeFirst(n)
        remaining -= n
        continue
      }
      // A lone byte waits for the next one, whatever it is.
      guard buffer.count >= 2 else { return }
      switch buffer[0] {
      case UInt8(ascii: "0"):
        buffer.removeFirst(2)
        if let length = number() { remaining = length }
      case UInt8(ascii: "1"):
        buffer.removeFirst(2)
        if let columns = number(), let rows = number() {
          event(.resize(columns: columns, rows: rows))
        }
      default:
        // `2` keeps alive; anything else is skipped.
        buffer.removeFirst()
      }
    }
  }

  /// A number and its colon; nil, with whatever was consumed lost, where they aren't both there.
  private mutating func number() -> Int? {
    guard let colon = buffer.firstIndex(of: UInt8(ascii: ":")) else { return nil }
    let digits = buffer[..<colon]
    defer { buffer.removeFirst(colon + 1) }
    guard !digits.isEmpty, digits.count <= 18, digits.allSatisfy({ (48...57).contains($0) }) else {
      return nil
    }
    return digits.reduce(0) { $0 * 10 + Int($1 - 48) }
  }
}
