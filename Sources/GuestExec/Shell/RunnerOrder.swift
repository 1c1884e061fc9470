import ConsoleProtocol

/// What a runner is told to run.
struct RunnerOrder: Sendable {
  /// Exactly these arguments; the first is looked up in `PATH`.
  var argv: [[UInt8]]
  /// Set on top of the login's.
  var environment: [ExecRequest.Variable] = []
  var directory: [UInt8]?
  var user: String?
  var terminal: TerminalSize?
  var hasInput = false
  /// In milliseconds.
  var timeLimit: Int?

  /// The request as it is, on the node itself.
  init(_ request: ExecRequest) {
    argv = request.argv
    environment = request.environment
    directory = request.directory
    user = request.user
    terminal = request.terminal
    hasInput = request.hasInput
    timeLimit = request.timeLimit.map { Int(max(1, $0.milliseconds)) }
  }

  /// The same for a runner that knows arguments and plain variables only.
  var simplified: RunnerOrder {
    let isPlain = { (variable: ExecRequest.Variable) in
      ShellQuoting.isVariableName(variable.name)
    }
    var request = ExecRequest(.argv(argv), environment: environment.filter { !isPlain($0) })
    request.directory = directory
    request.user = user
    let wrapped = WrappedCommand(request)
    var out = self
    out.argv = wrapped.argv
    out.environment = environment.filter(isPlain) + wrapped.environment
    out.directory = nil
    out.user = nil
    return out
  }

  /// As messages of the first batch.
  var messages: [RunnerMessage] {
    var out = argv.map { RunnerMessage("a", $0) }
    out += environment.map { RunnerMessage("e", $0.name + [UInt8(ascii: "=")] + $0.value) }
    if let directory { out.append(RunnerMessage("d", directory)) }
    if let user { out.append(RunnerMessage("u", Array(user.utf8))) }
    if let terminal { out.append(RunnerMessage("t", RunnerMessage.size(terminal))) }
    if hasInput { out.append(RunnerMessage("i", [UInt8(ascii: "1")])) }
    if let timeLimit { out.append(RunnerMessage("l", Array("\(timeLimit)".utf8))) }
    out.append(RunnerMessage("G"))
    return out
  }
}

extension ExecRequest {
  /// The arguments, a text for the shell included.
  var argv: [[UInt8]] {
    switch command {
    case .argv(let argv): argv
    case .shell(let text): [Array("/bin/sh".utf8), Array("-c".utf8), text]
    }
  }
}

extension Duration {
  /// Whole milliseconds.
  var milliseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds.multipliedReportingOverflow(by: 1000).overflow
      ? .max / 4 : seconds * 1000 + attoseconds / 1_000_000_000_000_000
  }
}
