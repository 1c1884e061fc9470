/// How commands are run over a node's shell.
public struct ShellOptions: Sendable, Hashable {
  /// What runs the commands on the node.
  public enum Runner: String, Sendable, Hashable, CaseIterable {
    /// Perl where there is one (every PVE node has it), else the POSIX shell's own means.
    case automatic
    /// Perl or nothing.
    case perl
    /// The POSIX shell, `dd` and `base64`: slower, and for terminals without signals.
    case posix
  }

  /// The most sessions on one node at a time. Each takes one of the node's hundred console ports, which all consoles of
  /// everybody share.
  public var maximumPerNode = 8
  /// How long a command waits for one of those sessions before it is refused as busy.
  public var sessionWait: Duration = .seconds(60)
  /// For everything from TCP to termproxy's `OK`.
  public var dialTimeout: Duration = .seconds(15)
  /// For the login shell to take its first line: start-up files can be slow.
  public var loginTimeout: Duration = .seconds(60)
  /// Between TERM and KILL where a command is cancelled or its time is over.
  public var killGrace: Duration = .seconds(5)
  /// How long output is read on after the command's end, where something that it left in the background keeps the
  /// streams open.
  public var linger: Duration = .milliseconds(250)
  /// What runs the commands.
  public var runner: Runner = .automatic

  /// The defaults.
  public init() {}
}
