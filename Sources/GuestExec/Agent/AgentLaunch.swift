/// The shell text that becomes a command: directory, environment and user are set, and the last line
/// calls `launch`.
///
/// It calls `refuse TEXT` where the command can't be run; who uses the text defines both functions. All ASCII.
struct AgentLaunch {
  var request: ExecRequest

  /// What the shell can't do, whatever the guest.
  func check() throws(ExecFailure) {
    guard case .argv(let argv) = request.command, !strange.isEmpty,
      argv.first?.contains(UInt8(ascii: "=")) == true
    else { return }
    throw ExecFailure(
      .unsupported,
      "A program with '=' in its name can't be run with variables that no shell takes as names.",
      remedy: "Leave out the variables whose names aren't letters, digits and underscores.")
  }

  /// Variables that go through `env`, because a shell would drop them.
  private var strange: [ExecRequest.Variable] {
    request.environment.filter { !ShellQuoting.isVariableName($0.name) }
  }

  var text: String {
    let equals = UInt8(ascii: "=")
    var words: [[UInt8]]
    switch request.command {
    case .argv(let argv): words = argv
    case .shell(let line): words = [Array("/bin/sh".utf8), Array("-c".utf8), line]
    }
    if !strange.isEmpty {
      words = [Array("env".utf8)] + strange.map { $0.name + [equals] + $0.value } + words
    }
    let normal = request.environment.filter { ShellQuoting.isVariableName($0.name) }
    let directory = request.directory.map { [$0] } ?? []
    let (setup, all) = ASCIIWords.expressions(words + normal.map(\.value) + directory)
    var text = setup
    if directory.count == 1, let folder = all.last {
      text +=
        "cd \(folder) 2>/dev/null || refuse 'directory The directory is not there, or may not be entered'\n"
    }
    if let user = request.user { text += identity(user) }
    for (variable, value) in zip(normal, all[words.count...]) {
      let name = String(decoding: variable.name, as: UTF8.self)
      text += "export \(name)=\(value)\n"
    }
    text += "set -- \(all[..<words.count].joined(separator: " "))\n"
    if let user = request.user { text += become(user) }
    return text + "launch \"$@\"\n"
  }

  /// Finds the user; its name is letters, digits, '-', '_' and '.': ``ExecRequest/check()``.
  private func identity(_ user: String) -> String {
    """
    sallyport_u=$(id -u \(user) 2>/dev/null) || refuse "user The guest has no user '\(user)'"
    sallyport_g=$(id -g \(user))
    if [ "$sallyport_u" != "$(id -u)" ]; then export HOME=~\(user) USER=\(user) LOGNAME=\(user); fi

    """
  }

  /// Puts what changes the user before the command. setpriv becomes the command; runuser and su stay and pass signals
  /// on.
  private func become(_ user: String) -> String {
    """
    if [ "$sallyport_u" = "$(id -u)" ]; then :
    elif setpriv --reuid="$sallyport_u" --regid="$sallyport_g" --init-groups true 2>/dev/null; then
      set -- setpriv --reuid="$sallyport_u" --regid="$sallyport_g" --init-groups "$@"
    elif runuser -u \(user) -- true 2>/dev/null; then
      set -- runuser -u \(user) -- "$@"
    elif command -v su >/dev/null 2>&1; then
      set -- env POSIXLY_CORRECT=1 su -s /bin/sh -c 'unset POSIXLY_CORRECT; exec "$@"' \(user) sh "$@"
    else
      refuse "user The guest has no setpriv, runuser or su"
    fi

    """
  }
}
