import ConsoleProtocol
import EventLoop
import ProxmoxClient

/// How commands are run on containers' consoles.
public struct ConsoleExecOptions: Sendable {
  /// Who logs in where the console asks, and logs out afterwards; nil to refuse then.
  public var user: String?
  /// The password for that.
  public var password: Secret?
  /// Times and runner, as for node shells.
  public var shell = ShellOptions()

  /// The defaults: no login.
  public init() {}
}

/// Commands on a container's own console, over termproxy. Only for who asks for it by name: the console is one
/// session that everybody shares and that goes on afterwards, so whoever looks at it sees the command's traffic, and
/// whatever stands in its foreground gets what is typed.
///
/// It needs a shell that is logged in (`cmode: shell`, or somebody's session) or a login of its own. Any credential with
/// `VM.Console` opens it. When the connection ends, the runner ends the command after a minute and a half.
public final class ConsoleTransport: ExecTransport {
  /// Its name.
  public let name = TransportName.console
  private let client: ProxmoxClient
  private let options: ConsoleExecOptions
  private let dialer: TerminalDialer
  /// One command at a time on each console.
  private let turns: ConsoleQueue

  /// - Parameter loops: where the terminals are served.
  public init(
    client: ProxmoxClient, loops: LoopGroup, options: ConsoleExecOptions = ConsoleExecOptions()
  ) {
    self.client = client
    self.options = options
    dialer = TerminalDialer(client: client, loops: loops)
    turns = ConsoleQueue(wait: options.shell.sessionWait)
  }

  /// Whether it would do; opens nothing.
  public func assess(_ request: ExecRequest, on place: Place) async -> TransportVerdict {
    do throws(ExecFailure) {
      _ = try await container(place)
      return .possible(
        "The console of \(place) can be opened; it is shared, and has to be logged in.")
    } catch {
      return .impossible(error)
    }
  }

  /// Sends the command, once.
  public func start(
    _ request: ExecRequest, on place: Place
  ) async throws(ExecFailure) -> any ExecProcess {
    try request.check()
    let vmid = try await container(place)
    var plan = ShellPlan()
    plan.manner = .keep
    plan.isTransparent = false
    if let user = options.user, let password = options.password {
      plan.credentials = .init(user: user, password: password)
    }
    plan.loginRemedy =
      plan.credentials == nil
      ? "Log in on the container's console, set `cmode: shell`, or configure a console login."
      : "Check the user and the password of the console login."
    let turn = try await turns.take(vmid)
    do throws(ExecFailure) {
      let line = try await dialer.open(
        .terminal, of: place, size: request.terminal, timeout: options.shell.dialTimeout)
      return try await ShellProcess.start(
        RunnerOrder(request), over: line, of: place, plan: plan, options: options.shell,
        outputLimit: request.outputLimit,
        onOver: {
          // The console is given back a moment after the end.
          Task {
            try? await Task.sleep(for: .milliseconds(700))
            turn.end()
          }
        })
    } catch {
      turn.end()
      throw error
    }
  }

  /// Nothing: see the type.
  public func attach(_ handle: ExecHandle, from kept: ExecPosition) async -> any ExecProcess {
    LostProcess("A command on a console ends with its connection, and can't be taken up again.")
  }

  private func container(_ place: Place) async throws(ExecFailure) -> VMID {
    guard case .lxc(let vmid) = place.kind else {
      throw ExecFailure(
        .noTransport, "The transport 'console' is for containers.",
        remedy: "Use 'shell' for nodes, and 'agent' or 'serial' for VMs.")
    }
    do throws(PVEError) {
      let status = try await client.guestStatus(place)
      if status.isRunning { return vmid }
    } catch {
      if case .forbidden = error.kind { return vmid }
      throw ExecFailure(error)
    }
    throw ExecFailure(
      .guestNotRunning, "Container \(place) is not running.",
      remedy: "Start it, then run the command again.")
  }
}

/// Who has which container's console.
final class ConsoleQueue: Sendable {
  private let slots: SessionSlots

  init(wait: Duration) { slots = SessionSlots(maximum: 1, wait: wait) }

  func take(_ vmid: VMID) async throws(ExecFailure) -> SessionSlots.Slot {
    try await slots.take("ct\(vmid)", what: "the console of container \(vmid)")
  }
}
