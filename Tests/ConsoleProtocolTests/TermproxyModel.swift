@testable import ConsoleProtocol

/// termproxy's parser as the protocol reference describes it (§4.2): a buffer of 4096 bytes, type prefixes taken
/// before the length is known. A header that meets the buffer's edge or comes in two pieces is lost here as it is
/// there; `isDamaged` tells.
struct TermproxyModel {
  private var buffer: [UInt8] = []
  private var dataLeft = 0
  private(set) var typed: [UInt8] = []
  private(set) var sizes: [[Int]] = []
  private(set) var isDamaged = false

  /// One read from the socket and all parsing that it allows. Returns the bytes taken.
  mutating func read(_ available: ArraySlice<UInt8>) -> Int {
    let taken = available.prefix(4096 - buffer.count)
    buffer.append(contentsOf: taken)
    parse()
    return taken.count
  }

  private mutating func parse() {
    var at = 0
    defer { buffer.removeFirst(at) }
    while at < buffer.count {
      if dataLeft > 0 {
        let count = min(dataLeft, buffer.count - at)
        typed.append(contentsOf: buffer[at..<at + count])
        at += count
        dataLeft -= count
        continue
      }
      // A lone type byte waits for its colon.
      guard at + 1 < buffer.count else { return }
      switch (buffer[at], buffer[at + 1]) {
      case (48, 58):
        guard let (length, end) = number(at + 2) else {
          isDamaged = true
          at += 2
          continue
        }
        at = end
        dataLeft = length
      case (49, 58):
        guard let (columns, middle) = number(at + 2), let (rows, end) = number(middle) else {
          isDamaged = true
          at += 2
          continue
        }
        at = end
        sizes.append([columns, rows])
      case (50, _): at += 1
      default:
        isDamaged = true
        at += 1
      }
    }
  }

  private func number(_ start: Int) -> (Int, Int)? {
    guard start < buffer.count, let colon = buffer[start...].firstIndex(of: 58), colon > start,
      let value = Int(String(decoding: buffer[start..<colon], as: UTF8.self))
    else { return nil }
    return (value, colon + 1)
  }
}
