import ConsoleProtocol

/// From a login shell that may be anything (its prompt, its colours, its banner, its speed, its echo) to a runner of ours.
/// No I/O: it is told what came and what time it is, and says what to type.
///
/// One line is typed, which replaces the shell by `/bin/sh`, switches echo and every translation of the terminal off,
/// and prints a mark. The mark is put together by that shell, with control characters around it, so no echo of the typed
/// line can hold it, however it is wrapped, coloured or traced. What was typed twice, because a slow login had thrown
/// the first away or only seemed to, is skipped by the loader up to a random word.
struct ShellBootstrap: Sendable {
  /// What to do.
  enum Step: Sendable, Equatable {
    /// Type this.
    case type([UInt8])
    /// Nothing before this time.
    case wait(until: Duration)
    /// The loader reads now; whether there is Perl.
    case ready(perl: Bool)
    /// It asks who we are.
    case loginPrompt(String)
    /// It can't be done: why.
    case failed(Failure)
  }

  /// Why there is no runner.
  enum Failure: Sendable, Equatable {
    /// It took too long; the last lines that the terminal showed.
    case silent(String)
    /// `stty` is missing or refused.
    case noTerminalSettings
    /// The API host's ssh to the node failed, in its words.
    case ssh(String)
  }

  /// The random words of one session.
  struct Marks: Sendable, Equatable {
    var first: String
    var second: String
    var sync: String

    init(using generator: inout some RandomNumberGenerator) {
      func word() -> String {
        let digits = Array("0123456789abcdef")
        return String((0..<16).map { _ in digits.randomElement(using: &generator) ?? "0" })
      }
      first = word()
      second = word()
      sync = word()
    }
  }

  /// How the terminal is left.
  enum Manner: Sendable, Equatable {
    /// The shell is replaced: it ends with the runner.
    case replace
    /// The shell is somebody's: it goes on when the runner has ended, with its terminal as it was.
    case keep
  }

  /// Who logs in, where a terminal asks.
  struct Credentials: Sendable {
    var user: String
    var password: Secret
  }

  /// Between the tries, the last one repeated.
  private static let patience: [Duration] = [
    .milliseconds(1500), .seconds(3), .seconds(5), .seconds(10),
  ]
  /// How long the terminal has to be quiet before something that doesn't look like a prompt is taken for the end of a
  /// banner.
  private static let quiet: Duration = .milliseconds(250)
  /// How long nothing may come before we type all the same.
  private static let silence: Duration = .milliseconds(1000)

  private let marks: Marks
  private let mark: [UInt8]
  private let manner: Manner
  private let deadline: Duration
  private var nextTry: Duration
  private var tries = 0
  private var lastOutput: Duration?
  private var seen: [UInt8] = []
  private var verdict: Step?
  private let credentials: Credentials?
  private var nudged = false
  private var leftPassword = false
  private var gaveUser = false
  private var gavePassword = false

  /// Whether the shell is there because of us.
  var hasLoggedIn: Bool { gavePassword }

  init(
    marks: Marks, manner: Manner = .replace, at now: Duration, timeout: Duration,
    credentials: Credentials? = nil
  ) {
    self.marks = marks
    self.credentials = credentials
    self.manner = manner
    mark = [1] + Array("\(marks.first)-\(marks.second)".utf8)
    deadline = now + timeout
    nextTry = now + (manner == .keep ? Self.quiet : Self.silence)
  }

  /// The line that is typed. It has no tabs (completion), no `!` (history), and is shorter than what the simplest line
  /// editor (1,023 bytes in busybox) and a terminal's line (4,095) hold. `HISTFILE` goes since bash writes its history
  /// when it is replaced.
  var line: [UInt8] {
    let mark = #"printf "\001$t-\#(marks.second)"#
    let setUp =
      "set +x;s=$(stty -g);t=\(marks.first);stty raw -echo -iexten||{ \(mark):stty\\002\";exit 1;};"
    let read =
      "\(mark):%s\\002\" \"$(command -v perl)\";"
      + "while IFS= read -r l;do case $l in \(marks.sync):*)break;;esac;done;"
      + "eval \"$(dd bs=1 count=${l#*:} 2>/dev/null)\""
    switch manner {
    case .replace: return Array(" unset HISTFILE;exec /bin/sh -c '\(setUp)\(read)'\r".utf8)
    case .keep: return Array(" /bin/sh -c '\(setUp)\(read);stty \"$s\"'\r".utf8)
    }
  }

  /// What the loader is given: its word, the length, a text for the shell, and what that reads.
  func load(script: [UInt8], rest: [UInt8]) -> [UInt8] {
    Array("\n\(marks.sync):\(script.count)\n".utf8) + script + rest
  }

  /// Takes what the terminal showed.
  /// - Returns: how many bytes belong to the login; what follows is the runner's.
  mutating func feed(_ bytes: UnsafeRawBufferPointer, at now: Duration) -> Int {
    guard verdict == nil else { return 0 }
    lastOutput = now
    if tries == 0 { nextTry = now + Self.quiet }
    let before = seen.count
    seen.append(contentsOf: bytes)
    if let end = findMark() {
      let used = max(0, end - before)
      seen = []
      return used
    }
    if tries == 0, Self.looksLikePrompt(lastLine) { nextTry = now }
    // Enough for a mark that is not whole, and for a person to see what it was.
    if seen.count > 8192 { seen.removeFirst(seen.count - 2048) }
    return bytes.count
  }

  /// What to do now.
  mutating func step(at now: Duration) -> Step {
    if let verdict { return verdict }
    let text = Self.plain(seen)
    if let words = Self.sshFailure(text) { return end(.failed(.ssh(words))) }
    if let lastOutput, now >= lastOutput + Self.quiet, Self.isLoginPrompt(lastLine) {
      return answerLogin(at: now)
    }
    if now >= deadline { return end(.failed(.silent(String(text.suffix(200))))) }
    guard now >= nextTry else { return .wait(until: min(nextTry, deadline)) }
    // A console that was open already shows nothing by itself. A bare return is harmless at a prompt of any kind.
    if manner == .keep, !nudged, text.allSatisfy(\.isWhitespace) {
      nudged = true
      nextTry = now + Self.silence * 2
      return .type([13])
    }
    if Self.isLoginPrompt(lastLine), let lastOutput {
      nextTry = lastOutput + Self.quiet
      if now < nextTry { return .wait(until: nextTry) }
    }
    nextTry = now + Self.patience[min(tries, Self.patience.count - 1)]
    tries += 1
    return .type(line)
  }

  private mutating func answerLogin(at now: Duration) -> Step {
    let asksPassword = Self.plain(lastLine).lowercased().contains("password:")
    let text = String(Self.plain(lastLine).suffix(80))
    if credentials != nil, asksPassword, !gaveUser, !leftPassword {
      // Somebody's half login (or the one that a bare return began) is ended first: without a password it is refused.
      leftPassword = true
      seen = []
      lastOutput = now
      nextTry = now + .seconds(5)
      return .type([13])
    }
    guard let credentials, asksPassword ? gaveUser && !gavePassword : !gaveUser else {
      return end(.loginPrompt(text))
    }
    seen = []
    tries = 0
    lastOutput = now
    nextTry = now + .seconds(5)
    if asksPassword {
      gavePassword = true
      return .type(Array((credentials.password.reveal() + "\r").utf8))
    }
    gaveUser = true
    return .type(Array((credentials.user + "\r").utf8))
  }

  private mutating func end(_ step: Step) -> Step {
    verdict = step
    return step
  }

  private mutating func findMark() -> Int? {
    guard seen.count > mark.count else { return nil }
    var at = 0
    while let i = seen[at...].firstIndex(of: 1) {
      at = i + 1
      guard seen[i...].starts(with: mark) else { continue }
      let rest = seen[(i + mark.count)...]
      guard let stop = rest.firstIndex(of: 2) else { return nil }
      switch String(decoding: rest[..<stop], as: UTF8.self) {
      case ":stty": verdict = .failed(.noTerminalSettings)
      case let words: verdict = .ready(perl: words.count > 1)
      }
      return stop + 1
    }
    return nil
  }

  private var lastLine: [UInt8] {
    let start = seen.lastIndex { $0 == 10 || $0 == 13 }.map { $0 + 1 } ?? 0
    return Array(seen[start...].suffix(512))
  }

  static func looksLikePrompt(_ line: [UInt8]) -> Bool {
    let text = plain(line)
    let bare = text.reversed().drop { $0 == " " }
    guard let last = bare.first else { return false }
    return "#$%>❯".contains(last) && text.count < 256
  }

  static func isLoginPrompt(_ line: [UInt8]) -> Bool {
    let text = plain(line).lowercased()
    let bare = String(text.reversed().drop { $0 == " " }.reversed())
    return bare.hasSuffix(" login:") && !bare.hasSuffix("last login:") || bare == "login:"
      || bare.hasSuffix("password:")
  }

  private static func sshFailure(_ text: String) -> String? {
    for line in text.split(whereSeparator: \.isNewline) {
      for words in ["ssh: connect to host ", "Host key verification failed", "ssh: Could not"]
      where line.hasPrefix(words) {
        return String(line.prefix(160))
      }
      if line.contains("Permission denied (publickey") { return String(line.prefix(160)) }
    }
    return nil
  }

  /// Text without escape sequences and other control characters but line ends.
  static func plain(_ bytes: [UInt8]) -> String {
    var out: [UInt8] = []
    var i = 0
    while i < bytes.count {
      let byte = bytes[i]
      i += 1
      if byte == 0x1B, i < bytes.count {
        let kind = bytes[i]
        i += 1
        if kind == UInt8(ascii: "[") {
          while i < bytes.count, !(0x40...0x7E).contains(bytes[i]) { i += 1 }
          i += 1
        } else if kind == UInt8(ascii: "]") {
          while i < bytes.count, bytes[i] != 7, bytes[i] != 0x1B { i += 1 }
          i += i < bytes.count && bytes[i] == 0x1B ? 2 : 1
        } else if "()*+".utf8.contains(kind) {
          i += 1
        }
      } else if byte >= 32 && byte != 127 || byte == 10 {
        out.append(byte)
      }
    }
    return String(decoding: out, as: UTF8.self)
  }
}
