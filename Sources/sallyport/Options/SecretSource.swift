import CSallyport
import ConsoleProtocol
import Glibc

/// Where secrets come from: a file, the environment, or the person at the terminal. Never the command line.
enum SecretSource {
  /// A file's first line, without its line end.
  static func file(_ path: String, what: String) throws(Failure) -> Secret {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw .configuration(
        "The \(what) can't be read from \(path): \(String(cString: strerror(errno))).",
        remedy: "Write it alone into that file, readable by you only (chmod 600).")
    }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 64 << 10)
    let count = read(descriptor, &bytes, bytes.count)
    guard count > 0 else { throw .configuration("The file \(path) for the \(what) is empty.") }
    let line = bytes.prefix(count).prefix { $0 != 10 && $0 != 13 }
    guard let text = String(validating: line, as: UTF8.self), !text.isEmpty else {
      throw .configuration("The file \(path) for the \(what) has no text in its first line.")
    }
    return Secret(text)
  }

  /// A whole file of a mebibyte at most.
  static func whole(_ path: String, what: String) throws(Failure) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw .configuration(
        "The \(what) can't be read from \(path): \(String(cString: strerror(errno))).")
    }
    defer { close(descriptor) }
    var out: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let n = read(descriptor, &chunk, chunk.count)
      if n < 0, errno == EINTR { continue }
      guard n >= 0, out.count + max(n, 0) <= 1 << 20 else {
        throw .configuration("The \(what) \(path) can't be read, or has more than 1 MiB.")
      }
      if n == 0 { return out }
      out += chunk[..<n]
    }
  }

  /// A variable of the environment; nil where it is unset or empty.
  static func environment(_ name: String) -> Secret? { Environment[name].map { Secret($0) } }

  /// Asks at the terminal, without showing what is typed. Nil where there is no terminal.
  static func prompt(_ question: String) -> Secret? {
    let terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)
    guard terminal >= 0 else { return nil }
    defer { close(terminal) }
    var settings = termios()
    let isTerminal = tcgetattr(terminal, &settings) == 0
    let shown = settings
    if isTerminal {
      // Without ISIG: a Ctrl-C arrives as a byte, and the settings come back before the process ends.
      settings.c_lflag &= ~tcflag_t(ECHO | ICANON | ISIG)
      tcsetattr(terminal, TCSAFLUSH, &settings)
    }
    writeAll(terminal, Array(question.utf8))
    var line: [UInt8] = []
    var byte: UInt8 = 0
    while read(terminal, &byte, 1) == 1, byte != 10, byte != 13, byte != 4, byte != 3,
      line.count < 4096
    {
      switch byte {
      case 8, 127:
        // A whole character: its continuation bytes and its first.
        while let last = line.popLast(), last & 0xc0 == 0x80 {}
      case 21: line = []
      default: line.append(byte)
      }
    }
    if isTerminal {
      var back = shown
      tcsetattr(terminal, TCSAFLUSH, &back)
      writeAll(terminal, [10])
    }
    if byte == 3 { exit(130) }
    let text = String(decoding: line, as: UTF8.self)
    return text.isEmpty ? nil : Secret(text)
  }
}

/// The process's environment.
enum Environment {
  /// The variable's value; nil where it is unset or empty.
  static subscript(_ name: String) -> String? {
    guard let value = getenv(name) else { return nil }
    let text = String(cString: value)
    return text.isEmpty ? nil : text
  }
}
