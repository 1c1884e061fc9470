/// What a node's shell is for who asks for it.
struct NodeShell {
  /// For the task's log.
  let command: String
  let program: () -> any TerminalProgram
}

extension PVENode {
  /// A node's shell: root@pam is let in at once and may choose another command; everybody else, root@pam's tokens
  /// included, gets a login prompt. On another node it is ssh's.
  func shell(for arguments: Arguments) throws(APIError) -> NodeShell {
    guard let target = cluster.node(named: arguments.node) else {
      throw .died("no such cluster node '\(arguments.node)'")
    }
    let isRoot = arguments.authID == "root@pam"
    let command = isRoot ? arguments.text("cmd") ?? "login" : "login"
    let words: String
    let program: () -> any TerminalProgram
    switch command {
    case "upgrade":
      words = "/usr/bin/pveupgrade --shell"
      program = { BannerProgram(PVENode.upgradeText, then: target.loginShell()) }
    case "ceph_install":
      let options = (arguments.text("cmd-opts") ?? "").split(separator: "\0").joined(separator: " ")
      words = "/usr/bin/pveceph install" + (options.isEmpty ? "" : " " + options)
      program = { TextProgram(PVENode.cephText, loop: target.loop) }
    default:
      words = isRoot ? "/bin/login -f root" : "/bin/login"
      program = { isRoot ? target.loginShell() : LoginPrompt(node: target) }
    }
    return NodeShell(
      command: ssh(target, terminal: true) + words, program: tunnelled(target, program))
  }

  private static let upgradeText =
    "Starting system upgrade: apt-get dist-upgrade\r\nReading package lists... Done\r\n"
    + "Building dependency tree... Done\r\nReading state information... Done\r\n"
    + "Calculating upgrade... Done\r\n0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\r\n"
    + "\r\nYour System is up-to-date\r\n\r\nstarting shell\r\n"

  private static let cephText =
    "start installation\r\nReading package lists... Done\r\nBuilding dependency tree... Done\r\n"
    + "E: Unable to locate package ceph\r\n"

  // MARK: what is on another node

  /// The beginning of a command that runs on another node; empty on this one.
  func ssh(_ target: PVENode, terminal: Bool) -> String {
    target === self
      ? ""
      : "/usr/bin/ssh -e none -o BatchMode=yes -o HostKeyAlias=\(target.name) "
        + (terminal ? "-t" : "-T") + " root@\(target.name) -- "
  }

  /// The same for what belongs to a guest.
  func ssh(_ guest: Guest) -> String { ssh(guest.node, terminal: true) }

  /// A program on another node, reached by ssh when it starts; nothing is between where it is this node.
  func tunnelled(_ target: PVENode, _ program: @escaping () -> any TerminalProgram)
    -> () -> any TerminalProgram
  {
    guard target !== self else { return program }
    return { [loop] in
      guard let why = target.sshFailure else { return program() }
      return TextProgram(why + "\r\n", loop: loop)
    }
  }

  /// The same for what belongs to a guest, which may have moved since.
  func tunnelled(_ guest: Guest, _ program: @escaping () -> any TerminalProgram)
    -> () -> any TerminalProgram
  {
    tunnelled(guest.node, program)
  }

  /// What ssh says of a node that can't be reached.
  var sshFailure: String? {
    switch reachability {
    case .up: nil
    case .refused: "ssh: connect to host \(name) port 22: Connection refused"
    case .unreachable, .hanging: "ssh: connect to host \(name) port 22: No route to host"
    }
  }
}
