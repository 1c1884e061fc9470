import ArgumentParser

/// The key that leaves a console: a control character, or none.
struct EscapeKey: ExpressibleByArgument, Equatable {
  /// The byte that the key sends; nil where no key leaves.
  let byte: UInt8?

  init(byte: UInt8?) { self.byte = byte }

  /// `Ctrl-]`, as telnet has it.
  static let standard = EscapeKey(byte: 0x1d)

  /// Reads `^]`, `ctrl-]`, `ctrl-a` or `none`.
  init?(argument: String) {
    let text = argument.lowercased()
    if text == "none" || text == "off" {
      self.init(byte: nil)
      return
    }
    let key =
      text.hasPrefix("ctrl-") ? text.dropFirst(5) : text.hasPrefix("^") ? text.dropFirst() : ""
    guard key.utf8.count == 1, let c = key.uppercased().utf8.first, (0x40...0x5f).contains(c) else {
      return nil
    }
    self.init(byte: c & 0x1f)
  }

  var defaultValueDescription: String { description }

  /// `Ctrl-]`
  var description: String {
    guard let byte else { return "none" }
    return "Ctrl-" + String(Character(Unicode.Scalar(byte | 0x40)))
  }
}

/// Finds the escape key in what is typed. Inside a bracketed paste (`ESC[200~` … `ESC[201~`) it is text.
struct EscapeScanner {
  private static let begin = Array("\u{1b}[200~".utf8)
  private static let end = Array("\u{1b}[201~".utf8)

  private let escape: UInt8?
  private var matched = 0
  private var isPasting = false

  init(_ key: EscapeKey) { escape = key.byte }

  /// The number of bytes before the escape key, or nil where it wasn't pressed.
  mutating func scan(_ bytes: UnsafeRawBufferPointer) -> Int? {
    guard let escape else { return nil }
    for (index, byte) in bytes.enumerated() {
      if byte == escape, !isPasting { return index }
      let wanted = isPasting ? EscapeScanner.end : EscapeScanner.begin
      if byte == wanted[matched] {
        matched += 1
        if matched == wanted.count {
          isPasting.toggle()
          matched = 0
        }
      } else {
        matched = byte == wanted[0] ? 1 : 0
      }
    }
    return nil
  }
}
