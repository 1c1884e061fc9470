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
    let isBash = PVENode.shell.hasSuffix("bash")
    var environment = PVENode.environment(home: PVENode.home)
    environment["PS1"] = isBash ? "root@\(host):\\w# " : "root@\(host):# "
    environment["HOSTNAME"] = host
    environment["SP_HOST"] = host
    environment["SP_SHELL"] = PVENode.shell
    // The user's own start-up files would change the prompt that clients (and tests) wait for.
    let start =
      "unset SP_HOST SP_SHELL SP_MOTD; exec \"$shell\" "
      + (isBash ? "--norc --noprofile -i" : "-i")
    var words: [String]
    if isLogin {
      environment["SP_MOTD"] =
        "Linux \(host) (simulated Proxmox VE \(era.rawValue); a real shell of this machine)"
      words = ["sh", "-c", "printf '%s\\n' \"$SP_MOTD\"; shell=$SP_SHELL; \(start)"]
    } else if PVENode.canUnshare {
      // A host name, processes and mounts of its own, as a container has.
      words = [
        "unshare", "--uts", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "sh",
        "-c",
        "echo \"$SP_HOST\" 2>/dev/null >/proc/sys/kernel/hostname; shell=$SP_SHELL; \(start)",
      ]
    } else {
      words = ["sh", "-c", "shell=$SP_SHELL; \(start)"]
    }
    return PTYProgram(
      node: self,
      command: .init(
        path: words.first ?? "sh", arguments: words, environment: environment,
        directory: PVENode.home))
  }

  /// Whether this machine and user may make namespaces; found out by trying, once a process.
  static let canUnshare: Bool = {
    let words = [
      "unshare", "--uts", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "true",
    ]
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
    arguments.append(nil)
    defer { for pointer in arguments { free(pointer) } }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for descriptor: Int32 in 0...2 {
      posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_RDWR, 0)
    }
    var pid: pid_t = 0
    var status: Int32 = -1
    guard posix_spawnp(&pid, "unshare", &actions, nil, arguments, environ) == 0 else {
      return false
    }
    return waitpid(pid, &status, 0) == pid && status == 0
  }()
}
