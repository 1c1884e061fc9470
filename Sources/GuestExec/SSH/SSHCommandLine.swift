import ConsoleProtocol
import Glibc

/// The arguments of OpenSSH's client. Everything is said here; no configuration file is read, nothing is asked, and
/// nothing secret is among them.
struct SSHCommandLine: Sendable {
  var options: SSHOptions
  var node: NodeName
  /// The folder of sockets, logs and pinned keys.
  var folder: String

  /// The shared connection's socket.
  var socket: String { "\(folder)/\(node.value.prefix(40))" }
  /// Host keys that the options pin.
  var pinnedFile: String { "\(folder)/\(node.value.prefix(40)).keys" }
  /// The name under which the keys are in that file.
  private var alias: String { "sallyport-\(node)" }

  /// The content of ``pinnedFile``; nil where nothing is pinned.
  var pinnedKeys: String? {
    guard let keys = options.hostKeys[node] else { return nil }
    return keys.map { "\(alias) \($0)\n" }.joined()
  }

  private var address: String { options.address(of: node) }

  private var common: [String] {
    var out = [
      options.program, "-F", "none",
      "-o", "BatchMode=yes",
      "-o", "StrictHostKeyChecking=yes",
      "-o", "UpdateHostKeys=no",
      "-o", "CheckHostIP=no",
      "-o", "PreferredAuthentications=publickey",
      "-o", "IdentityAgent=\(options.agentSocket.map(Self.word) ?? "none")",
      "-o", "AddKeysToAgent=no",
      "-o", "ForwardAgent=no",
      "-o", "ForwardX11=no",
      "-o", "ClearAllForwardings=yes",
      "-o", "GSSAPIAuthentication=no",
      "-o", "EscapeChar=none",
      "-o", "LogLevel=ERROR",
      "-o", "ConnectTimeout=\(max(1, options.connectTimeout.components.seconds))",
      "-o", "ServerAliveInterval=5",
      "-o", "ServerAliveCountMax=3",
      "-o", "User=\(options.user)",
      "-o", "Port=\(options.port)",
      "-o", "ControlPath=\(socket)",
    ]
    if let file = options.identityFile {
      out += ["-o", "IdentitiesOnly=yes", "-o", "IdentityFile=\(Self.word(file))"]
    }
    if options.hostKeys[node] != nil {
      out += [
        "-o", "UserKnownHostsFile=\(Self.word(pinnedFile))", "-o", "GlobalKnownHostsFile=none",
        "-o", "HostKeyAlias=\(alias)",
      ]
    } else if let file = options.knownHostsFile {
      out += ["-o", "UserKnownHostsFile=\(Self.word(file))", "-o", "GlobalKnownHostsFile=none"]
    }
    return out
  }

  /// ssh reads an option's value as words and knows `%` sequences.
  private static func word(_ path: String) -> String {
    "\"" + path.replacing("%", with: "%%").replacing("\"", with: "\\\"") + "\""
  }

  /// The shared connection. It says `connected` on its standard output once others can use it.
  func master(log: String) -> [String] {
    common + [
      "-E", log, "-o", "ControlMaster=yes", "-o", "ControlPersist=no", "-N",
      "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo connected", "--", address,
    ]
  }

  /// A command over the shared connection; over one of its own where that has gone or is full.
  /// - Parameter line: for the login shell there, which parses it once.
  func session(_ line: [UInt8], terminal: Bool, log: String) -> [[UInt8]] {
    let words =
      common + ["-E", log, "-o", "ControlMaster=no", terminal ? "-tt" : "-T", "--", address]
    return words.map { Array($0.utf8) } + [line]
  }

  /// What ssh itself may know of our environment: where our keys are, and the terminal's type.
  static func environment(terminal: Bool) -> [ExecRequest.Variable] {
    LocalEnvironment.base(of: .current, terminal: terminal)
  }

  /// The line that runs such words on the node, or in one of its containers.
  static func line(_ words: [[UInt8]], kind: Place.Kind, sudo: Bool, missing: String) -> [UInt8] {
    let root = sudo ? "sudo -n " : ""
    switch kind {
    case .node:
      return Array("exec \(root)".utf8) + ShellQuoting.line(words)
    case .lxc(let id), .qemu(let id):
      // A login that isn't root's may have no sbin in its path.
      let text = """
        PATH=$PATH:/usr/sbin:/sbin
        command -v pct >/dev/null 2>&1 || { printf %s "\(missing)" >&2; exit 1; }
        exec \(root)pct exec "$0" -- "$@"
        """
      let outer = ["sh", "-c", text, "\(id)"].map { Array($0.utf8) }
      return Array("exec ".utf8) + ShellQuoting.line(outer + words)
    }
  }
}
