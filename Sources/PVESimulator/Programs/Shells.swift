import Glibc

/// Which real programs stand for what a PVE node would run.
extension PVENode {
  private static let shell = Glibc.access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh"

  private static func environment(home: String) -> [String: String] {
    var out = [
      "TERM": "xterm-256color", "HOME": home, "USER": "root", "LOGNAME": "root", "SHELL": shell,
      "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    for name in ["LANG", "LC_ALL", "LC_CTYPE"] {
      if let value = getenv(name) { out[name] = String(cString: value) }
    }
    if out["LANG"] == nil, out["LC_ALL"] == nil { out["LANG"] = "C.UTF-8" }
    return out
  }

  private static var home: String {
    guard let value = getenv("HOME") else { return "/" }
    return String(cString: value)
  }

  /// The shell that `login -f root` gives: a greeting, then a login shell with a root prompt.
  func loginShell() -> any TerminalProgram {
    program(configuration.nodeShell, place: 0) { self.promptShell(host: self.name, isLogin: true) }
  }

  /// A guest's shell.
  func guestShell(_ terminal: SimulatedTerminal, guest: Guest) -> any TerminalProgram {
    program(terminal, place: guest.description.vmid) {
      self.promptShell(host: guest.description.name, isLogin: false)
    }
  }

  private func program(
    _ terminal: SimulatedTerminal, place: Int, shell: () -> any TerminalProgram
  ) -> any TerminalProgram {
    switch terminal {
    case .shell: return shell()
    case .command(let words):
      return PTYProgram(
        node: self,
        command: .init(
          path: words.first ?? PVENode.shell, arguments: words.isEmpty ? [PVENode.shell] : words,
          environment: PVENode.environment(home: PVENode.home), directory: PVENode.home))
    case .echo: return EchoProgram()
    case .source(let bytes): return SourceProgram(loop: loop, total: bytes)
    case .sink:
      let counter = sinks[place] ?? SinkCounter()
      sinks[place] = counter
      return SinkProgram(counter)
    }
  }

  private func promptShell(host: String, isLogin: Bool) -> any TerminalProgram {
    var environment = PVENode.environment(home: PVENode.home)
    environment["PS1"] = "root@\(host):\\w# "
    environment["HOSTNAME"] = host
    environment["SALLYPORT_SIMULATED"] = host
    let isBash = PVENode.shell.hasSuffix("bash")
    if !isBash { environment["PS1"] = "root@\(host):# " }
    // The user's own start-up files would change the prompt that clients (and tests) wait for.
    var words = [isLogin ? "-bash" : "bash", "--norc", "--noprofile", "-i"]
    if !isBash { words = [isLogin ? "-sh" : "sh", "-i"] }
    if isLogin {
      environment["SP_MOTD"] =
        "Linux \(host) (simulated Proxmox VE \(era.rawValue); a real shell of this machine)"
      words = ["sh", "-c", "printf '%s\\n' \"$SP_MOTD\"; unset SP_MOTD; exec \(quoted(words))"]
      return PTYProgram(
        node: self,
        command: .init(
          path: "/bin/sh", arguments: words, environment: environment, directory: PVENode.home))
    }
    return PTYProgram(
      node: self,
      command: .init(
        path: PVENode.shell, arguments: words, environment: environment, directory: PVENode.home))
  }

  private func quoted(_ words: [String]) -> String {
    ([PVENode.shell] + words.dropFirst()).map { "'\($0)'" }.joined(separator: " ")
  }
}
