import ConsoleProtocol
import ProxmoxClient

/// Runs commands on virtual machines, containers and nodes of one cluster, by whatever way there is.
///
/// ```swift
/// let exec = GuestExec(client: client, transports: [AgentTransport(client: client)])
/// let running = try await exec.start(ExecRequest(["uname", "-a"]), on: Target("qemu/100"))
/// while let event = await running.process.next() { … }
/// ```
public final class GuestExec: Sendable {
  /// A started command, and how it got there.
  public struct Running: Sendable {
    /// The command.
    public var process: any ExecProcess
    /// Where it runs.
    public var place: Place
    /// How it got there.
    public var transport: TransportName
    /// One sentence: why this way.
    public var reason: String
  }

  /// What one transport says of a request.
  public struct Assessment: Sendable, Hashable {
    /// Which transport.
    public var transport: TransportName
    /// What it says.
    public var verdict: TransportVerdict
    /// Whether `auto` may take it; otherwise it has to be asked for by name.
    public var isAutomatic: Bool
    /// Whether it is the one that `auto` takes.
    public var isChosen: Bool
  }

  /// The cluster's client.
  public let client: ProxmoxClient
  private let transports: [any ExecTransport]

  /// - Parameter transports: those that the configuration allows, in any order.
  public init(client: ProxmoxClient, transports: [any ExecTransport]) {
    self.client = client
    self.transports = transports
  }

  /// The transports that there are.
  public var names: [TransportName] { transports.map(\.name) }

  /// The order in which `auto` tries the transports for a kind of place: the one that needs the fewest others first.
  /// What shares a session with people (`console`, `serial`) is never taken without having been asked for.
  public static func order(for kind: Place.Kind) -> [TransportName] {
    switch kind {
    // ssh and local reach a VM only through the agent, and with fewer means than the API's calls.
    case .qemu: [.agent, .local, .ssh]
    case .lxc, .node: [.local, .ssh, .shell]
    }
  }

  /// Those that are tried. Where PVE decides who may use a machine's agent, `qm`, which is root's and asks nobody, is no
  /// way around a refusal: then it is taken by its name only.
  private func automatic(for place: Place) -> [any ExecTransport] {
    let asksPVE = place.isVirtualMachine && transports.contains { $0.name == .agent }
    return Self.order(for: place.kind).filter { !asksPVE || $0 != .local }
      .compactMap { name in transports.first { $0.name == name } }
  }

  /// Where a target is.
  public func place(of target: Target) async throws(ExecFailure) -> Place {
    do throws(PVEError) {
      return try await client.resolve(target)
    } catch {
      throw ExecFailure(error)
    }
  }

  /// What each configured transport says of such a request on such a place: those of `auto` first, in the order in
  /// which it tries them. Runs nothing.
  public func explain(_ request: ExecRequest, on place: Place) async -> [Assessment] {
    let automatic = automatic(for: place)
    let others = transports.filter { other in !automatic.contains { $0.name == other.name } }
    let all = automatic + others
    let verdicts = await withTaskGroup(of: (Int, TransportVerdict).self) { group in
      for (i, transport) in all.enumerated() {
        group.addTask { (i, await transport.assess(request, on: place)) }
      }
      var verdicts: [Int: TransportVerdict] = [:]
      for await (i, verdict) in group { verdicts[i] = verdict }
      return verdicts
    }
    var isOpen = true
    return all.enumerated().compactMap { i, transport in
      verdicts[i].map { verdict in
        let isAutomatic = i < automatic.count
        var isChosen = false
        if isOpen, isAutomatic, case .possible = verdict {
          isChosen = true
          isOpen = false
        }
        return Assessment(
          transport: transport.name, verdict: verdict, isAutomatic: isAutomatic, isChosen: isChosen)
      }
    }
  }

  /// Starts a command.
  /// - Parameters:
  ///   - via: a transport by name, or nil for the first that would do.
  ///   - among: where none is named: those that may be taken; nil for all.
  /// - Throws: ``ExecFailure`` where nothing was started.
  public func start(
    _ request: ExecRequest, on target: Target, via: TransportName? = nil,
    among: Set<TransportName>? = nil
  ) async throws(ExecFailure) -> Running {
    try request.check()
    let place = try await place(of: target)
    return try await start(request, on: place, via: via, among: among)
  }

  /// The same where the place is known.
  public func start(
    _ request: ExecRequest, on place: Place, via: TransportName? = nil,
    among: Set<TransportName>? = nil
  ) async throws(ExecFailure) -> Running {
    try request.check()
    if let via {
      guard let transport = transports.first(where: { $0.name == via }) else {
        throw ExecFailure(
          .noTransport, "The transport '\(via.rawValue)' is not configured.",
          remedy: names.isEmpty
            ? "No transport is." : "There is: \(names.map(\.rawValue).joined(separator: ", ")).")
      }
      return Running(
        process: try await transport.start(request, on: place), place: place, transport: via,
        reason: "It was asked for by name.")
    }
    var refusals: [(TransportName, ExecFailure)] = []
    for transport in automatic(for: place) where among?.contains(transport.name) ?? true {
      switch await transport.assess(request, on: place) {
      case .possible(let reason):
        do throws(ExecFailure) {
          let process = try await transport.start(request, on: place)
          let before = refusals.filter { $0.1.kind != .noTransport }
            .map { " Not by \($0.0.rawValue): \($0.1.sentence)" }.joined()
          return Running(
            process: process, place: place, transport: transport.name, reason: reason + before)
        } catch {
          // A failure means that nothing was sent, so another way may be tried; but only where the way was at fault.
          guard error.isOfTheWay else { throw error }
          refusals.append((transport.name, error))
        }
      case .impossible(let failure): refusals.append((transport.name, failure))
      }
    }
    throw Self.refusal(refusals, place: place, configured: names)
  }

  /// Takes up a command that another process of ours has started.
  public func attach(_ handle: ExecHandle, from kept: ExecPosition) async -> any ExecProcess {
    guard let transport = transports.first(where: { $0.name == handle.transport }) else {
      return LostProcess(
        "The transport '\(handle.transport.rawValue)' is no longer configured; the command may still run."
      )
    }
    return await transport.attach(handle, from: kept)
  }

  /// One reason is told as it is; of several, the first that fits the target's kind, and all in the remedy.
  static func refusal(
    _ refusals: [(TransportName, ExecFailure)], place: Place, configured: [TransportName]
  ) -> ExecFailure {
    let fitting = refusals.filter { $0.1.kind != .noTransport }
    guard let first = fitting.first else {
      let said = refusals.map { "\($0.0.rawValue): \($0.1.sentence)" }
      return ExecFailure(
        .noTransport, "No configured transport reaches \(place).",
        remedy: said.isEmpty
          ? missing(for: place, configured: configured) : said.joined(separator: " "))
    }
    var out = first.1
    out.remedy =
      ([out.remedy]
      + fitting.dropFirst().map { "Not by \($0.0.rawValue) either: \($0.1.sentence)" })
      .filter { !$0.isEmpty }.joined(separator: " ")
    return out
  }

  private static func missing(for place: Place, configured: [TransportName]) -> String {
    let wanted = order(for: place.kind).map(\.rawValue).joined(separator: ", ")
    let there =
      configured.isEmpty
      ? "none is configured"
      : "configured are \(configured.map(\.rawValue).joined(separator: ", "))"
    let kind =
      switch place.kind {
      case .qemu: "A virtual machine"
      case .lxc: "A container"
      case .node: "A node"
      }
    return "\(kind) is reached by \(wanted); \(there)."
  }
}

extension ExecFailure {
  /// Whether it says something of the way to the target, and nothing of the target or the command: another way may do.
  var isOfTheWay: Bool {
    switch kind {
    case .noTransport, .unreachable, .loginFailed, .permissionDenied, .unsupported,
      .unsupportedVersion, .busy:
      true
    default: false
    }
  }
}

/// A command that can't be taken up again: its only event is its end.
final class LostProcess: ExecProcess {
  private let events = EventQueue()
  let handle: ExecHandle? = nil

  init(_ why: String) { events.put(.ended(ExecResult(.lost(why)))) }

  func next() async -> ExecEvent? { await events.next() }
  func write(_ bytes: [UInt8]) async throws(ExecFailure) {}
  func closeInput() async {}
  func resize(_ size: TerminalSize) async {}
  func signal(_ number: Int) async throws(ExecFailure) {}
  func cancel() async {}
  func detach() async {}
}
