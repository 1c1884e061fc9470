import ConsoleProtocol

/// What to run, and how. It means the same on every transport.
public struct ExecRequest: Sendable, Hashable {
  /// The program and its arguments.
  public enum Command: Sendable, Hashable {
    /// Exactly these arguments, as bytes, to a program: nothing is joined, split or expanded. At least one; the
    /// first is the program, looked up in the target's `PATH` where it has no slash. No argument may hold a NUL.
    case argv([[UInt8]])
    /// A text for the target's shell: `/bin/sh -c TEXT`, or `cmd /c TEXT` on Windows.
    case shell([UInt8])
  }

  /// One environment variable. The name has no `=` and no NUL, the value no NUL.
  public struct Variable: Sendable, Hashable {
    /// Its name.
    public var name: [UInt8]
    /// Its value; a secret until it is in the target.
    public var value: [UInt8]
    /// Puts the parts together.
    public init(name: [UInt8], value: [UInt8]) {
      self.name = name
      self.value = value
    }
  }

  /// Program and arguments.
  public var command: Command
  /// Set on top of the target's environment; a later one of the same name wins.
  public var environment: [Variable]
  /// The working directory, absolute; nil for the transport's (`/` or the user's home).
  public var directory: [UInt8]?
  /// The user to run as, by name; nil for the transport's (mostly root).
  public var user: String?
  /// A terminal of this size in place of three streams: everything comes as ``ExecEvent/stdout(_:)``.
  public var terminal: TerminalSize?
  /// Whether standard input will be given. Without it the command reads an end of file at once.
  public var hasInput: Bool
  /// Ends the command with ``ExecEnd/timedOut`` after this long.
  public var timeLimit: Duration?
  /// The most bytes of one output stream that are carried; what is over is read and dropped, and the stream is marked
  /// as truncated. Nil for no limit of ours.
  public var outputLimit: Int?

  /// Puts the parts together.
  public init(
    _ command: Command, environment: [Variable] = [], directory: [UInt8]? = nil,
    user: String? = nil, terminal: TerminalSize? = nil, hasInput: Bool = false,
    timeLimit: Duration? = nil, outputLimit: Int? = nil
  ) {
    self.command = command
    self.environment = environment
    self.directory = directory
    self.user = user
    self.terminal = terminal
    self.hasInput = hasInput
    self.timeLimit = timeLimit
    self.outputLimit = outputLimit
  }

  /// A command of texts.
  public init(_ argv: [String], hasInput: Bool = false) {
    self.init(.argv(argv.map { Array($0.utf8) }), hasInput: hasInput)
  }

  /// The longest argument list, environment included, that is taken: Linux's own limit of one argument.
  public static let maximumBytes = 128 << 10

  /// Checks what no transport could carry.
  /// - Throws: ``ExecFailure`` of the kind ``ExecFailure/Kind/badRequest``, naming the field.
  public func check() throws(ExecFailure) {
    var total = 0
    switch command {
    case .argv(let argv):
      guard let program = argv.first, !program.isEmpty else {
        throw .bad("argv", "is empty", "Name a program, e.g. [\"true\"].")
      }
      for (i, argument) in argv.enumerated() {
        guard !argument.contains(0) else {
          throw .bad(
            "argv[\(i)]", "holds a NUL byte, which no program can be given",
            "Send such data through standard input.")
        }
        total += argument.count + 1
      }
    case .shell(let text):
      guard !text.isEmpty, !text.contains(0) else {
        throw .bad("shell", "is empty or holds a NUL byte", "Give a line for the shell.")
      }
      total += text.count
    }
    for variable in environment {
      let name = String(decoding: variable.name.prefix(80), as: UTF8.self)
      guard !variable.name.isEmpty, !variable.name.contains(0),
        !variable.name.contains(UInt8(ascii: "="))
      else {
        throw .bad(
          "environment", "has a variable with the name '\(name)'",
          "A name has at least one character, and no '=' and no NUL.")
      }
      guard !variable.value.contains(0) else {
        throw .bad(
          "environment.\(name)", "holds a NUL byte", "Send such data through standard input.")
      }
      total += variable.name.count + variable.value.count + 2
    }
    guard total <= Self.maximumBytes else {
      throw .bad(
        "argv",
        "has \(total) bytes together with the environment, and \(Self.maximumBytes) are possible",
        "Send large data through standard input.")
    }
    if let directory {
      guard
        directory.first == UInt8(ascii: "/") || directory.dropFirst().first == UInt8(ascii: ":"),
        !directory.contains(0)
      else {
        throw .bad("directory", "is not an absolute path", "Give one such as \"/var/tmp\".")
      }
    }
    if let user {
      let plain = user.utf8.allSatisfy {
        (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
          || "-_.".utf8.contains($0)
      }
      guard (1...64).contains(user.utf8.count), plain, !user.hasPrefix("-") else {
        throw .bad("user", "is no user's name", "Give a name such as \"postgres\".")
      }
    }
    if let timeLimit, timeLimit <= .zero {
      throw .bad("timeLimit", "is not above zero", "Give a time such as 60 s.")
    }
    if let outputLimit, outputLimit < 0 {
      throw .bad("outputLimit", "is below zero", "Give a number of bytes.")
    }
  }
}
