import ConsoleProtocol
import EventLoop
import GuestExec

/// The query of a command's websocket, read strictly.
struct CommandQuery {
  private let items: [(name: String, value: [UInt8])]

  /// - Parameter known: the names that mean something.
  /// - Throws: 400, also for an address that arrived incomplete.
  init(_ request: HTTPRequest, known: [String]) throws(Problem) {
    guard !request.isCut else {
      throw Problem(
        400, "bad-address",
        "The command holds a line break, which can't be sent in an address here.",
        remedy:
          "Send such a text through standard input (sh -s), or order the command with POST /v1/exec and attach to it."
      )
    }
    var items: [(name: String, value: [UInt8])] = []
    for (name, value) in request.rawQuery {
      let text = String(decoding: name, as: UTF8.self)
      if !known.contains(text) {
        throw Problem(
          400, "unknown-field", "The parameter '\(text.prefix(80))' is not known here.",
          field: String(text.prefix(80)),
          remedy:
            "Known: \(known.joined(separator: ", ")). Within a value, & and ; are %26 and %3B.")
      }
      items.append((text, value))
    }
    self.items = items
  }

  /// Every value of a name, in order, as bytes.
  func all(_ name: String) -> [[UInt8]] { items.filter { $0.name == name }.map(\.value) }

  /// The value of a name that may come once.
  func one(_ name: String) throws(Problem) -> String? {
    let values = all(name)
    guard let first = values.first else { return nil }
    guard values.count == 1, let text = String(validating: first, as: UTF8.self) else {
      throw Self.wrong(name, "one text")
    }
    return text
  }

  /// A truth value.
  func flag(_ name: String) throws(Problem) -> Bool? {
    switch try one(name) {
    case nil: return nil
    case "true", "1", "": return true
    case "false", "0": return false
    default: throw Self.wrong(name, "true or false")
    }
  }

  /// A whole number within bounds.
  func int(_ name: String, _ range: ClosedRange<Int>) throws(Problem) -> Int? {
    guard let text = try one(name) else { return nil }
    guard let number = Int(text), range.contains(number) else {
      throw Self.wrong(name, "a number from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  static func wrong(_ name: String, _ shape: String) -> Problem {
    Problem(
      400, "wrong-type", "'\(name)' is not \(shape).", field: name, remedy: "Send \(shape).")
  }
}

extension CommandStream.Wanted {
  /// Reads `stdin`, `stdout`, `stderr` and `tty`.
  init(_ query: CommandQuery, byDefault: Bool) throws(Problem) {
    terminal = try query.flag("tty") ?? false
    stdin = try query.flag("stdin") ?? false
    stdout = try query.flag("stdout") ?? byDefault
    stderr = try query.flag("stderr") ?? (byDefault && !terminal)
    guard stdin || stdout || stderr else {
      throw Problem(
        400, "missing-field", "None of stdin, stdout and stderr is wanted.", field: "stdout",
        remedy: "Ask for at least one of them, e.g. stdout=true.")
    }
    guard !(terminal && stderr) else {
      throw Problem(
        400, "conflict", "A terminal has no standard error of its own.", field: "stderr",
        remedy: "Leave out stderr or tty.")
    }
  }
}

extension JobOrder {
  /// The parameters of `GET /v1/exec/stream`.
  static let streamParameters = [
    "target", "cluster", "command", "shell", "stdin", "stdout", "stderr", "tty", "columns", "rows",
    "env", "directory", "user", "timeLimit", "outputLimit", "transport", "onDisconnect",
  ]

  /// Reads the query of `GET /v1/exec/stream`.
  init(
    _ query: CommandQuery, _ wanted: CommandStream.Wanted, _ configuration: ExecConfiguration
  ) throws(Problem) {
    guard let text = try query.one("target"), !text.isEmpty else {
      throw Problem(
        400, "missing-field", "The parameter 'target' is missing.", field: "target",
        remedy: "Send e.g. ?target=qemu/100&command=uname&command=-a.")
    }
    let (target, cluster) = try Self.target(text, cluster: try query.one("cluster"))
    let words = query.all("command")
    let shell = query.all("shell")
    guard words.isEmpty != shell.isEmpty, shell.count <= 1 else {
      throw Problem(
        400, words.isEmpty ? "missing-field" : "conflict",
        words.isEmpty
          ? "There is no command." : "There is both a command and a line for the shell.",
        field: "command",
        remedy: "Send 'command' once for every argument, or 'shell' once.")
    }
    var request = ExecRequest(shell.first.map { .shell($0) } ?? .argv(words))
    request.hasInput = wanted.stdin
    let columns = try query.int("columns", 1...65535)
    let rows = try query.int("rows", 1...65535)
    if wanted.terminal, columns != nil || rows != nil {
      request.terminal = TerminalSize(columns: columns ?? 80, rows: rows ?? 24)
    }
    for variable in query.all("env") {
      let parts = variable.split(
        separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2 else { throw CommandQuery.wrong("env", "NAME=VALUE") }
      request.environment.append(.init(name: Array(parts[0]), value: Array(parts[1])))
    }
    request.directory = query.all("directory").first
    request.user = try query.one("user")
    if let seconds = try query.one("timeLimit") {
      guard let number = Double(seconds), number > 0, number <= 366 * 86_400 else {
        throw CommandQuery.wrong("timeLimit", "a number of seconds")
      }
      request.timeLimit = .milliseconds(Int((number * 1000).rounded(.up)))
    }
    request.outputLimit =
      try query.int("outputLimit", 0...configuration.outputLimit) ?? configuration.outputLimit
    self.init(target: target, cluster: cluster, request: request)
    transport = try JobOrder.transport(try query.one("transport"))
    onDisconnect = try Self.disconnect(try query.one("onDisconnect"))
    try Self.check(request)
  }

  /// Whoever holds the stream is the caller: with it the command goes, unless it was asked otherwise.
  static func disconnect(_ word: String?) throws(Problem) -> DisconnectRule {
    switch word {
    case nil, "kill": return .kill
    case "keep": return .keep
    case let text?:
      guard text.hasPrefix("keep-for="), let seconds = Double(text.dropFirst(9)), seconds > 0,
        seconds <= 366 * 86_400
      else { throw CommandQuery.wrong("onDisconnect", "kill, keep or keep-for=SECONDS") }
      return .keepFor(.milliseconds(Int(seconds * 1000)))
    }
  }

  static func check(_ request: ExecRequest) throws(Problem) {
    do throws(ExecFailure) {
      try request.check()
    } catch {
      throw Problem(
        422, error.kind.rawValue, error.sentence, field: error.field, remedy: error.remedy)
    }
  }
}
