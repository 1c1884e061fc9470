/// Writing for a POSIX shell.
enum ShellQuoting {
  /// The bytes as one word of a POSIX shell, whatever they are (NUL excepted, which no shell can hold).
  static func quoted(_ bytes: [UInt8]) -> [UInt8] {
    let quote = UInt8(ascii: "'")
    var out: [UInt8] = [quote]
    out.reserveCapacity(bytes.count + 2)
    for byte in bytes {
      if byte == quote {
        // Out of the quotes, one quote by itself, in again.
        out += [quote, UInt8(ascii: "\\"), quote, quote]
      } else {
        out.append(byte)
      }
    }
    out.append(quote)
    return out
  }

  /// Words as one command line.
  static func line(_ words: [[UInt8]]) -> [UInt8] {
    var out: [UInt8] = []
    for word in words {
      if !out.isEmpty { out.append(UInt8(ascii: " ")) }
      out += quoted(word)
    }
    return out
  }

  /// Whether a shell takes it as a variable's name: `export` refuses others, `env` takes them.
  static func isVariableName(_ name: [UInt8]) -> Bool {
    guard let first = name.first else { return false }
    func isLetter(_ c: UInt8) -> Bool {
      (65...90).contains(c) || (97...122).contains(c) || c == UInt8(ascii: "_")
    }
    return isLetter(first) && name.allSatisfy { isLetter($0) || (48...57).contains($0) }
  }
}
