import ConsoleProtocol

/// How a command gets to its target.
public enum TransportName: String, Sendable, Hashable, CaseIterable, Codable {
  /// QEMU guest agent, through the API.
  case agent
  /// A shell of the node, over termproxy.
  case shell
  /// OpenSSH to the node.
  case ssh
  /// This machine is the node.
  case local
  /// A container's console, logged in or `cmode: shell`.
  case console
  /// A VM's serial port: a terminal only.
  case serial
}

/// A way to run commands.
///
/// What a caller may rely on: ``start(_:on:)`` sends a command at most once; what fails before it was sent throws, and
/// from then on everything is an event of the ``ExecProcess``, the end included.
public protocol ExecTransport: Sendable {
  /// Which one it is.
  var name: TransportName { get }

  /// Whether it can run such a request on such a place, as far as can be told: with one sentence why, or a failure
  /// with its remedy. Asks PVE where it must (versions, the guest's configuration, the agent); runs nothing.
  func assess(_ request: ExecRequest, on place: Place) async -> TransportVerdict

  /// Starts a command.
  func start(_ request: ExecRequest, on place: Place) async throws(ExecFailure) -> any ExecProcess

  /// Takes up a command again that another process of ours has started. Its events go on behind the bytes that were
  /// kept. Where that can't be, the process's only event is its end as ``ExecEnd/lost(_:)``.
  func attach(_ handle: ExecHandle, from kept: ExecPosition) async -> any ExecProcess
}

/// Whether a transport would do.
public enum TransportVerdict: Sendable, Hashable {
  /// It would; one sentence that says why, e.g. "The guest agent answers (qemu-ga 7.2, Linux)."
  case possible(String)
  /// It wouldn't.
  case impossible(ExecFailure)
}

/// All that is needed to find a running command again after a restart. It holds no secret.
public struct ExecHandle: Sendable, Hashable, Codable {
  /// The way it was started.
  public var transport: TransportName
  /// The node at that time.
  public var node: String
  /// `node`, `qemu` or `lxc`.
  public var type: String
  /// The guest's number.
  public var vmid: Int?
  /// What the transport noted: pids, folders, marks.
  public var notes: [String: String]

  /// Puts the parts together.
  public init(transport: TransportName, place: Place, notes: [String: String] = [:]) {
    self.transport = transport
    node = place.node.value
    vmid = place.vmid?.value
    type =
      switch place.kind {
      case .node: "node"
      case .qemu: "qemu"
      case .lxc: "lxc"
      }
    self.notes = notes
  }

  /// The place that it names; nil for a handle that was spoiled.
  public var place: Place? {
    guard let node = NodeName(node) else { return nil }
    switch (type, vmid.flatMap { VMID($0) }) {
    case ("node", _): return Place(node: node, kind: .node)
    case ("qemu", let id?): return Place(node: node, kind: .qemu(id))
    case ("lxc", let id?): return Place(node: node, kind: .lxc(id))
    default: return nil
    }
  }
}

/// How much of a command's streams has been dealt with.
public struct ExecPosition: Sendable, Hashable, Codable {
  /// Bytes of standard output that were kept.
  public var stdout: Int
  /// Bytes of standard error that were kept.
  public var stderr: Int
  /// Bytes of standard input that were taken.
  public var stdin: Int
  /// Puts the parts together.
  public init(stdout: Int = 0, stderr: Int = 0, stdin: Int = 0) {
    self.stdout = stdout
    self.stderr = stderr
    self.stdin = stdin
  }
}

/// A command that runs. May be used from any task.
///
/// Output is pulled: a transport keeps at most about a mebibyte that nobody has asked for and then holds its source
/// back.
public protocol ExecProcess: AnyObject, Sendable {
  /// What finds it again; nil where nothing would. It is settled when `start` returns.
  var handle: ExecHandle? { get }

  /// The next event; nil after the end, or when the calling task is cancelled (no event is lost by that). One caller at
  /// a time.
  func next() async -> ExecEvent?

  /// Gives bytes of standard input, and waits until the transport has room for more. After the end, or after
  /// ``closeInput()``, they are dropped.
  /// - Throws: what makes it impossible, e.g. input over what plain agent calls carry. The command goes on.
  func write(_ bytes: [UInt8]) async throws(ExecFailure)

  /// The end of standard input, once everything given has arrived.
  func closeInput() async

  /// The terminal has this size now. Nothing happens without a terminal.
  func resize(_ size: TerminalSize) async

  /// Sends a signal (2 for Ctrl-C) to the command.
  /// - Throws: ``ExecFailure/Kind/unsupported`` where the transport can't.
  func signal(_ number: Int) async throws(ExecFailure)

  /// Ends the command for good (TERM, then KILL); the end is ``ExecEnd/cancelled`` unless it ended by itself before.
  /// Where the command can't be reached the end is `lost` and says that it may still run.
  func cancel() async

  /// Lets go without ending the command: what runs goes on where the transport allows it, nothing more is told.
  func detach() async
}
