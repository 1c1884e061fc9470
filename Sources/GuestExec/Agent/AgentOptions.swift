/// How commands go through the guest agent.
public struct AgentOptions: Sendable, Hashable {
  /// How a command is run.
  public enum Mode: String, Sendable, Hashable, CaseIterable, Codable {
    /// Streaming where the guest has a POSIX shell, plain on Windows.
    case automatic
    /// The agent's own calls, nothing else in the guest: output comes at the end and is cut at 16 MiB, input is at most
    /// 64 KiB, and a child in the background that keeps a stream open holds up the end.
    case plain
    /// A small runner in the guest, whose files are followed: needs a POSIX shell.
    case streaming
  }

  /// How a command is run.
  public var mode = Mode.automatic
  /// How long a guest that has just been started is waited for until its agent answers.
  public var bootWait = Duration.seconds(120)
  /// For how long a guest counts as just started.
  public var bootTime = Duration.seconds(300)
  /// How long an agent that stops answering is waited for before a command counts as lost.
  public var patience = Duration.seconds(60)
  /// How long what is known of a guest (its system, its agent's version) is believed.
  public var factsAge = Duration.seconds(180)
  /// The most calls to one guest's agent at a time. It serves one; the others wait in PVE, which is quicker than
  /// waiting here, and fail there after five seconds if they are too many.
  public var callsPerGuest = 4
  /// How long a command has between TERM and KILL.
  public var grace = Duration.seconds(5)
  /// How long the guest keeps an ended command's files when nobody reads them (streaming).
  public var keepInGuest = Duration.seconds(86_400)

  /// The defaults; see the properties.
  public init() {}
}
