import ConsoleProtocol

/// How OpenSSH gets to the nodes of a cluster. Nothing is read from `~/.ssh/config` or `/etc/ssh/ssh_config`.
public struct SSHOptions: Sendable, Hashable {
  /// Addresses of nodes: a name or an IP address. Others are reached by their name, with ``domain`` behind it.
  public var hosts: [NodeName: String]
  /// What stands behind the name of a node that has no entry in ``hosts``, e.g. `example.org`; nil for the bare name.
  public var domain: String?
  /// The user there; `pct` needs root, or ``sudo``.
  public var user: String
  /// The port of the nodes' sshd.
  public var port: Int
  /// The private key's file; nil for OpenSSH's own places. It has no passphrase: nobody is there to be asked.
  public var identityFile: String?
  /// The socket of an ssh agent that may be asked for keys (`$SSH_AUTH_SOCK`); nil for none. It isn't forwarded.
  public var agentSocket: String?
  /// A file in the format of `known_hosts`; nil for OpenSSH's own.
  public var knownHostsFile: String?
  /// Host keys that are expected, as in a `.pub` file (`ssh-ed25519 AAAA…`). A node with an entry here has these keys
  /// and no others.
  public var hostKeys: [NodeName: [String]]
  /// How long a connection may take to come about.
  public var connectTimeout: Duration
  /// The most commands at once on one node; further ones wait. OpenSSH's server takes ten sessions on a connection
  /// (`MaxSessions`), of which two are kept for ending commands.
  public var maximumPerNode: Int
  /// A connection that nobody uses is kept this long.
  public var keepConnection: Duration
  /// Where the sockets of shared connections are; nil for a private folder below `/tmp`. Made with mode 0700.
  public var controlDirectory: String?
  /// Puts `sudo -n` in front of what needs root.
  public var sudo: Bool
  /// OpenSSH's client: a path, or a name that is looked for in `PATH`.
  public var program: String

  /// Puts the parts together.
  public init(
    hosts: [NodeName: String] = [:], domain: String? = nil, user: String = "root", port: Int = 22,
    identityFile: String? = nil, agentSocket: String? = nil, knownHostsFile: String? = nil,
    hostKeys: [NodeName: [String]] = [:], connectTimeout: Duration = .seconds(10),
    maximumPerNode: Int = 8, keepConnection: Duration = .seconds(60),
    controlDirectory: String? = nil, sudo: Bool = false, program: String = "ssh"
  ) {
    self.hosts = hosts
    self.domain = domain
    self.user = user
    self.port = port
    self.identityFile = identityFile
    self.agentSocket = agentSocket
    self.knownHostsFile = knownHostsFile
    self.hostKeys = hostKeys
    self.connectTimeout = connectTimeout
    self.maximumPerNode = maximumPerNode
    self.keepConnection = keepConnection
    self.controlDirectory = controlDirectory
    self.sudo = sudo
    self.program = program
  }

  /// Where a node is.
  public func address(of node: NodeName) -> String {
    hosts[node] ?? node.value + (domain.map { "." + $0 } ?? "")
  }
}
