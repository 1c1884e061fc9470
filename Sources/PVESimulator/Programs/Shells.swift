import Glibc

/// The shells and the environment that programs of this machine start with.
enum Shells {
  /// `/bin/bash` where there is one.
  static let shell = Glibc.access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh"
  /// Where root finds programs.
  static let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

  /// Our own home folder.
  static var home: String {
    guard let value = getenv("HOME") else { return "/" }
    return String(cString: value)
  }

  /// What a login as root sets.
  static func environment(home: String) -> [String: String] {
    var out = [
      "TERM": "xterm-256color", "HOME": home, "USER": "root", "LOGNAME": "root", "SHELL": shell,
      "PATH": path,
    ]
    for name in ["LANG", "LC_ALL", "LC_CTYPE"] {
      if let value = getenv(name) { out[name] = String(cString: value) }
    }
    if out["LANG"] == nil, out["LC_ALL"] == nil { out["LANG"] = "C.UTF-8" }
    return out
  }

  /// An interactive shell with a root prompt that says where it is.
  ///
  /// The user's own start-up files would change the prompt that clients (and tests) wait for, so they are left out.
  /// - Parameter greeting: printed first.
  static func interactive(host: String, home: String, greeting: String? = nil) -> Command {
    let isBash = shell.hasSuffix("bash")
    var environment = environment(home: home)
    environment["PS1"] = isBash ? "root@\(host):\\w# " : "root@\(host):# "
    environment["HOSTNAME"] = host
    let words = isBash ? ["--norc", "--noprofile", "-i"] : ["-i"]
    guard let greeting else {
      return Command(
        path: shell, arguments: [shell] + words, environment: environment, directory: home)
    }
    environment["SP_MOTD"] = greeting
    return Command(
      path: "/bin/sh",
      arguments: [
        "sh", "-c", "printf '%s\\n' \"$SP_MOTD\"; unset SP_MOTD; exec \"$@\"", "sh", shell,
      ] + words, environment: environment, directory: home)
  }
}

/// Which real programs stand for what a PVE node would run.
extension PVENode {
  /// The shell that `login -f root` gives: a greeting, then a login shell with a root prompt, and `pct` and `qm` on
  /// its path.
  func loginShell() -> any TerminalProgram {
    program(configuration.nodeShell, place: 0, room: { nil }) {
      var command = Shells.interactive(
        host: self.name, home: Shells.home,
        greeting: "Linux \(self.name) (simulated Proxmox VE \(self.era.rawValue); a real shell of "
          + "this machine)")
      if let folder = self.tools?.folder {
        command.environment["PATH"] = "\(folder):\(Shells.path)"
      }
      return command
    }
  }

  /// A guest's shell.
  func guestShell(_ terminal: SimulatedTerminal, guest: Guest) -> any TerminalProgram {
    program(terminal, place: guest.description.vmid, room: { guest.insides.room }) {
      Shells.interactive(host: guest.description.name, home: guest.insides.room.home)
    }
  }

  private func program(
    _ terminal: SimulatedTerminal, place: Int, room: () -> Room?, shell: () -> Command
  ) -> any TerminalProgram {
    switch terminal {
    case .shell: return PTYProgram(node: self, command: shell(), room: room())
    case .command(let words):
      return PTYProgram(
        node: self,
        command: .init(
          path: words.first ?? Shells.shell, arguments: words.isEmpty ? [Shells.shell] : words,
          environment: Shells.environment(home: Shells.home), directory: Shells.home))
    case .socket(let path): return SocketProgram(path, loop: loop)
    case .echo: return EchoProgram()
    case .source(let bytes): return SourceProgram(loop: loop, total: bytes)
    case .sink:
      let counter = sinks[place] ?? SinkCounter()
      sinks[place] = counter
      return SinkProgram(counter)
    }
  }
}
