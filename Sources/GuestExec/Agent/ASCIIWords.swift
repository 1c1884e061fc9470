/// Shell text in plain ASCII for bytes of any kind. What crosses PVE in ASCII crosses every version of it unchanged.
enum ASCIIWords {
  /// Whether PVE and qemu-ga carry the bytes as an argument without a shell's help. Above ASCII that is PVE's business
  /// on its way to QEMU, and qemu-ga's JSON reader refuses characters such as U+FFFE: those take the shell.
  static func isPlain(_ bytes: [UInt8]) -> Bool { bytes.allSatisfy { $0 < 0x80 && $0 != 0 } }

  /// The words as shell text: assignments that have to come first, and each word's expression.
  ///
  /// A word with bytes above ASCII is written by `printf` in octal into a variable; a character behind it keeps the
  /// command substitution from taking line ends away.
  static func expressions(
    _ words: [[UInt8]], variable: String = "sallyport_"
  ) -> (setup: String, words: [String]) {
    var setup = ""
    var out: [String] = []
    for (i, word) in words.enumerated() {
      if isPlain(word) {
        out.append(String(decoding: ShellQuoting.quoted(word), as: UTF8.self))
        continue
      }
      let name = "\(variable)\(i)"
      setup += "\(name)=$(printf '\(octal(word))_'); \(name)=${\(name)%_}\n"
      out.append("\"$\(name)\"")
    }
    return (setup, out)
  }

  /// A format for `printf` in single quotes.
  private static func octal(_ bytes: [UInt8]) -> String {
    var out = ""
    for byte in bytes {
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
        UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: " "), UInt8(ascii: "/"),
        UInt8(ascii: "."), UInt8(ascii: ","), UInt8(ascii: "="), UInt8(ascii: "_"),
        UInt8(ascii: ":"):
        out.unicodeScalars.append(Unicode.Scalar(byte))
      default:
        let digits = String(byte, radix: 8)
        out += "\\" + String(repeating: "0", count: 3 - digits.count) + digits
      }
    }
    return out
  }
}
