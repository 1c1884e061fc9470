import ConsoleProtocol
import EventLoop
import ProxmoxClient

/// A VM's serial terminal, as it is: for looking and typing, not for exit statuses.
///
/// The request's arguments are typed on it as one quoted line when it opens, so whatever reads there (a shell that is
/// logged in, as a rule) gets them once; the single argument `login` types nothing. What comes back is everything that
/// the port shows. There is no end but the caller's: ``ExecEnd/cancelled`` when we leave, ``ExecEnd/lost(_:)`` when the
/// terminal's connection ends by itself.
public final class SerialTransport: ExecTransport {
  /// Its name.
  public let name = TransportName.serial
  private let client: ProxmoxClient
  private let dialer: TerminalDialer

  /// - Parameter loops: where the terminals are served.
  public init(client: ProxmoxClient, loops: LoopGroup) {
    self.client = client
    dialer = TerminalDialer(client: client, loops: loops)
  }

  /// Whether it would do; opens nothing.
  public func assess(_ request: ExecRequest, on place: Place) async -> TransportVerdict {
    do throws(ExecFailure) {
      try await check(request, place)
      return .possible("\(place) has a serial port; it is a terminal without an exit status.")
    } catch {
      return .impossible(error)
    }
  }

  /// Sends the command, once.
  public func start(
    _ request: ExecRequest, on place: Place
  ) async throws(ExecFailure) -> any ExecProcess {
    try request.check()
    try await check(request, place)
    let line = try await dialer.open(
      .terminal, of: place, size: request.terminal, timeout: .seconds(15))
    return SerialProcess(line, typing: Self.typed(request), outputLimit: request.outputLimit)
  }

  /// Nothing: see the type.
  public func attach(_ handle: ExecHandle, from kept: ExecPosition) async -> any ExecProcess {
    LostProcess("A serial terminal keeps nothing to take up again.")
  }

  /// What is typed first.
  static func typed(_ request: ExecRequest) -> [UInt8] {
    switch request.command {
    case .argv(let argv):
      if argv == [Array("login".utf8)] { return [] }
      return ShellQuoting.line(argv) + [13]
    case .shell(let text): return text + [13]
    }
  }

  private func check(_ request: ExecRequest, _ place: Place) async throws(ExecFailure) {
    guard place.isVirtualMachine else {
      throw ExecFailure(
        .noTransport, "The transport 'serial' is for VMs.",
        remedy: "Use 'shell' or 'ssh' for nodes and containers.")
    }
    guard request.terminal != nil else {
      throw ExecFailure(
        .unsupported, "A serial port is a terminal: it has no separate streams and no exit status.",
        remedy: "Ask for a terminal (-t), or use the guest agent.", field: "terminal")
    }
    if request.user != nil || request.directory != nil || !request.environment.isEmpty {
      throw ExecFailure(
        .unsupported, "A serial port takes no user, directory or environment.",
        remedy: "Set them in the command, or use the guest agent.")
    }
    if request.timeLimit != nil {
      throw ExecFailure(
        .unsupported, "A serial port's command can't be ended by a time limit.",
        remedy: "Use `timeout` in the command, or the guest agent.", field: "timeLimit")
    }
    let ports: [Int]?
    let isRunning: Bool
    do throws(PVEError) {
      isRunning = try await client.guestStatus(place).isRunning
      ports = try await client.guestConfiguration(place).serialPorts
    } catch {
      // Who may not look at a guest may still open its terminal.
      if case .forbidden = error.kind { return }
      throw ExecFailure(error)
    }
    guard isRunning else {
      throw ExecFailure(
        .guestNotRunning, "\(place) is not running.", remedy: "Start it, then open it again.")
    }
    if ports?.isEmpty == true {
      throw ExecFailure(
        .unsupported, "\(place) has no serial port.",
        remedy: "Add one (`qm set VMID -serial0 socket`), restart the VM, and run a login on it.")
    }
  }
}
