import ConsoleProtocol

/// A command inside something that takes arguments and an environment and nothing else, such as `pct exec`: the
/// directory, the user and the variables become the work of a `/bin/sh` on the other side, which replaces itself by the
/// command.
struct WrappedCommand: Sendable, Equatable {
  /// Exactly these arguments.
  var argv: [[UInt8]]
  /// What has to be in the environment on this side; values are never arguments, which everybody on the node may read.
  var environment: [ExecRequest.Variable]

  /// The names under which values travel. They mean nothing to the programs on the way.
  private static let prefix = "SALLYPORT_ENV_"

  /// Wraps a request's command, where there is something to wrap.
  init(_ request: ExecRequest) {
    argv = request.argv
    environment = []
    guard !request.environment.isEmpty || request.directory != nil || request.user != nil else {
      return
    }
    var script: [UInt8] = []
    func add(_ text: String) { script += Array(text.utf8) }
    // Values that didn't come along would leave the command in another environment than it was ordered.
    if !request.environment.isEmpty {
      add("[ \"${\(Self.prefix)0+x}\" ]||{ echo 'the environment was not passed on'>&2;exit 126;};")
    }
    var odd: [[UInt8]] = []
    for (i, variable) in request.environment.enumerated() {
      let carrier = "\(Self.prefix)\(i)"
      environment.append(.init(name: Array(carrier.utf8), value: variable.value))
      if ShellQuoting.isVariableName(variable.name) {
        add("export ")
        script += variable.name
        add("=\"$\(carrier)\";")
      } else {
        // Only `env` sets those.
        odd.append(ShellQuoting.quoted(variable.name) + Array("=\"$\(carrier)\"".utf8))
      }
    }
    // What comes last: shells drop variables with such names, so nothing but `env` may stand behind this. It would take
    // a program's name with a `=` in it for another variable; such a program isn't run.
    var last: [UInt8] = []
    if let directory = request.directory {
      last += Array("cd -- ".utf8) + ShellQuoting.quoted(directory) + Array("||exit 126;".utf8)
    }
    if !odd.isEmpty, request.argv.first?.contains(UInt8(ascii: "=")) == true {
      last += Array("echo 'no shell can set such a variable for such a program'>&2;exit 126;".utf8)
    } else if !odd.isEmpty {
      last += Array("set -- env ".utf8)
      last += Array(odd.joined(separator: [UInt8(ascii: " ")])) + Array(" \"$@\";".utf8)
    }
    if !request.environment.isEmpty {
      let carriers = request.environment.indices.map { "\(Self.prefix)\($0)" }
      last += Array("unset \(carriers.joined(separator: " "));".utf8)
    }
    last += Array("exec \"$@\"".utf8)
    if let user = request.user {
      last =
        Array("exec su -s /bin/sh -c ".utf8) + ShellQuoting.quoted(last)
        + Array(" -- ".utf8) + ShellQuoting.quoted(Array(user.utf8)) + Array(" sh \"$@\"".utf8)
    }
    argv =
      [Array("/bin/sh".utf8), Array("-c".utf8), script + last, Array("sh".utf8)] + request.argv
  }
}

extension RunnerOrder {
  /// The request inside a container, by `pct exec` on its node.
  /// - Parameter keepsEnvironment: whether `pct` has to be told to pass the environment on: it does so of itself up to
  ///   PVE 9, and is announced to stop.
  init(_ request: ExecRequest, in container: VMID, keepsEnvironment: Bool) {
    let wrapped = WrappedCommand(request)
    var argv = ["pct", "exec", "\(container)"]
    if keepsEnvironment { argv += ["--keep-env", "1"] }
    self.init(request)
    self.argv = argv.map { Array($0.utf8) } + [Array("--".utf8)] + wrapped.argv
    environment = wrapped.environment
    directory = nil
    user = nil
  }
}
