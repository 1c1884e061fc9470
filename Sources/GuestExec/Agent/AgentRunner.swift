import ConsoleProtocol

#if canImport(Glibc)
  import Glibc
#endif

/// One command's runner: its name in the guest, its mark, and its shell text.
struct AgentRunner: Sendable {
  /// The folder's name: nobody can guess it.
  let name: String
  /// What stands behind the last byte of each stream.
  let mark: String

  init() {
    name = "sallyport-" + Self.random()
    mark = "sallyport-end-" + Self.random() + "\n"
  }

  /// Takes up what a handle noted; nil for what no runner was named.
  init?(_ notes: [String: String]) {
    func isFine(_ text: String, _ prefix: String) -> Bool {
      text.hasPrefix(prefix) && text.utf8.count == prefix.utf8.count + 32
        && text.utf8.dropFirst(prefix.utf8.count).allSatisfy {
          (48...57).contains($0) || (97...102).contains($0)
        }
    }
    guard let name = notes["folder"], let mark = notes["mark"], isFine(name, "sallyport-"),
      isFine(mark, "sallyport-end-")
    else { return nil }
    self.name = name
    self.mark = mark + "\n"
  }

  /// What a handle notes.
  var notes: [String: String] { ["folder": name, "mark": String(mark.dropLast())] }

  private static func random() -> String {
    var generator = SystemRandomNumberGenerator()
    return (0..<2).map { _ in
      let digits = String(generator.next() as UInt64, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }

  /// The text for `/bin/sh`'s standard input. It is read whole before it runs anything: `run` is its last line but one.
  func text(_ request: ExecRequest, options: AgentOptions) -> String {
    let limit = request.timeLimit.map { max(1, Int($0.components.seconds)) } ?? 0
    let head =
      AgentScripts.runner + "name=\(name) mark='\(mark)' input=\(request.hasInput ? 1 : 0)"
      + " limit=\(limit) grace=\(options.grace.components.seconds)"
      + " keep_for=\(options.keepInGuest.components.seconds)\n"
    let launch = AgentLaunch(request: request).text
    let body =
      request.terminal.map { terminal(launch, $0, user: request.user) }
      ?? "cd /\numask \"$mask\"\n\(launch)"
    return "{\n\(head)launch_it() {\n\(body)}\nrun </dev/null\nexit\n}\n"
  }

  /// A command on a terminal that `script` makes. The inner shell notes the command's status, which `script` hides.
  private func terminal(_ launch: String, _ size: TerminalSize, user: String?) -> String {
    let end = "SALLYPORT_\(mark.dropFirst(14).dropLast())"
    let give = user.map { "chown \($0) \"$(cat \"$d/y\")\" 2>/dev/null\n" } ?? ""
    return """
      command -v script >/dev/null 2>&1 || refuse "terminal The guest has no program 'script', which makes terminals"
      echo "d='$d' mask=$mask" >"$d/t"
      cat >>"$d/t" <<'\(end)'
      sallyport_d=$d
      refuse() { echo "$1" >"$sallyport_d/r"; exit 125; }
      launch() { exec "$@"; }
      exec 9>&2 2>"$d/m"
      trap : HUP INT QUIT TERM
      tty >"$d/y"
      stty rows \(size.rows) cols \(size.columns)
      \(give)echo $$ >"$d/p"
      (
      umask "$mask"
      cd /
      export TERM=xterm-256color
      \(launch)) 2>&9 9>&-
      echo $? >"$d/k"
      \(end)
      set -- script -q -c "exec /bin/sh '$d/t'" /dev/null
      if command -v setsid >/dev/null 2>&1; then exec setsid "$@"; fi
      exec "$@"

      """
  }
}

/// Finds the mark behind a stream's last byte, however the bytes are cut.
struct AgentMark: Sendable {
  private let mark: [UInt8]
  private var held: [UInt8] = []
  /// Whether the mark came: the stream is over, whatever else may come.
  private(set) var isOver = false

  init(_ mark: String) { self.mark = Array(mark.utf8) }

  /// How many bytes came that may be the mark's beginning, and were not given on.
  var heldBytes: Int { held.count }

  /// The bytes that are the command's.
  mutating func take(_ bytes: [UInt8]) -> [UInt8] {
    guard !isOver, !bytes.isEmpty else { return [] }
    var all = held + bytes
    held = []
    if let at = Self.find(mark, in: all) {
      isOver = true
      all.removeSubrange(at...)
      return all
    }
    for count in stride(from: min(mark.count - 1, all.count), to: 0, by: -1)
    where all.suffix(count).elementsEqual(mark.prefix(count)) {
      held = Array(all.suffix(count))
      all.removeLast(count)
      break
    }
    return all
  }

  /// No mark will come: what was held back is the command's.
  mutating func giveUp() -> [UInt8] {
    defer { held = [] }
    return held
  }

  private static func find(_ mark: [UInt8], in bytes: [UInt8]) -> Int? {
    bytes.withUnsafeBytes { bytes in
      mark.withUnsafeBytes { mark in
        guard let base = bytes.baseAddress, let first = mark.first, let whole = mark.baseAddress
        else { return nil }
        var from = 0
        while bytes.count - from >= mark.count,
          let found = memchr(base + from, Int32(first), bytes.count - from - mark.count + 1)
        {
          let at = UnsafeRawPointer(found) - base
          if memcmp(base + at, whole, mark.count) == 0 { return at }
          from = at + 1
        }
        return nil
      }
    }
  }
}

/// What the guest says of a runner: the first line of ``AgentScripts/poll``'s output.
struct AgentPoll: Sendable, Equatable {
  /// How the command stands.
  enum State: Sendable, Equatable {
    /// There is no folder of that name.
    case none
    /// It runs.
    case runs
    /// The runner has gone without saying how the command ended.
    case dead
    /// The guest was restarted since.
    case rebooted
    /// It ended: why it was told to (`-`, `limit`, `cancel`), and how.
    case ended(why: String, how: String)
  }

  var state: State
  /// Where in the guest its folder is.
  var folder = ""
  /// Bytes of the two streams that follow, and where in the streams they begin.
  var out = 0
  var err = 0
  var outStart = 0
  var errStart = 0
  /// Input bytes that the command was given, and that the guest has without a gap.
  var consumed = 0
  var uploaded = 0
  /// Whether output could not be written in the guest.
  var outBroken = false
  var errBroken = false
  /// Whether nobody writes to the streams any more.
  var isAtEnd = false

  /// Reads the line, and gives what is behind it. - Returns: nil for what no poll says.
  static func read(_ bytes: [UInt8]) -> (poll: AgentPoll, rest: [UInt8])? {
    guard let end = bytes.firstIndex(of: 10), end < 4096 else { return nil }
    let rest = Array(bytes[(end + 1)...])
    let line = String(decoding: bytes[..<end], as: UTF8.self)
    if line == "none" { return (AgentPoll(state: .none), rest) }
    let words = line.split(separator: " ", maxSplits: 11, omittingEmptySubsequences: false)
    guard words.count == 12, words[0] == "sallyport", words[1].hasPrefix("/") else { return nil }
    let numbers = words[2...10].compactMap { Int($0) }
    guard numbers.count == 9, let state = State(words[11]) else { return nil }
    func offset(_ i: Int) -> Int { max(0, numbers[i] - AgentScripts.base) }
    return (
      AgentPoll(
        state: state, folder: String(words[1]), out: numbers[0], err: numbers[1],
        outStart: offset(2), errStart: offset(3), consumed: offset(4), uploaded: offset(5),
        outBroken: numbers[6] == 1, errBroken: numbers[7] == 1, isAtEnd: numbers[8] == 1),
      rest
    )
  }
}

extension AgentPoll.State {
  init?(_ text: Substring) {
    let words = text.split(separator: " ", maxSplits: 2)
    switch words.first {
    case "runs": self = .runs
    case "dead": self = .dead
    case "rebooted": self = .rebooted
    case "end" where words.count == 3: self = .ended(why: String(words[1]), how: String(words[2]))
    default: return nil
    }
  }

  /// Why the guest did not run it, where that is what it says: `no FIELD TEXT`.
  static func refusal(_ how: String) -> ExecFailure? {
    let words = how.split(separator: " ", maxSplits: 2)
    guard words.count == 3, words[0] == "no" else { return nil }
    let remedy =
      switch words[1] {
      case "user": "Give a user that the guest has."
      case "directory": "Give a directory that is in the guest."
      default: "Install it (package util-linux or bsdutils), or run the command without a terminal."
      }
    return ExecFailure(
      words[1] == "terminal" ? .unsupported : .startFailed, "\(words[2].prefix(200)).",
      remedy: remedy, field: String(words[1]))
  }

  /// The end that an ended command's state is.
  static func end(why: String, how: String) -> ExecEnd {
    let words = how.split(separator: " ", maxSplits: 1)
    let number = words.count == 2 ? Int(words[1]) : nil
    switch (words.first, number) {
    case ("no", _):
      return .lost("It was not run. \(refusal(how)?.sentence ?? "")")
    case _ where why == "limit": return .timedOut
    case _ where why == "cancel": return .cancelled
    case ("exit", let code?): return .exited(code)
    case ("signal", let signal?): return .signalled(signal)
    default: return .lost("The guest's note of its end can't be read.")
    }
  }
}
