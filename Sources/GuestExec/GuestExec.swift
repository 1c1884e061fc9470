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
  }

  /// The cluster's client.
  public let client: ProxmoxClient
  private let transports: [any ExecTransport]

  /// - Parameter transports: those that the configuration allows, the best first. `auto` takes the first that would do.
  public init(client: ProxmoxClient, transports: [any ExecTransport]) {
    self.client = client
    self.transports = transports
  }

  /// The transports that there are, in the order in which `auto` tries them.
  public var names: [TransportName] { transports.map(\.name) }

  /// Where a target is.
  public func place(of target: Target) async throws(ExecFailure) -> Place {
    do throws(PVEError) {
      return try await client.resolve(target)
    } catch {
      throw ExecFailure(error)
    }
  }

  /// What each transport says of such a request on such a place, in the order in which `auto` tries them. `auto` takes
  /// the first that is possible.
  public func explain(_ request: ExecRequest, on place: Place) async -> [Assessment] {
    await withTaskGroup(of: (Int, TransportVerdict).self) { group in
      for (i, transport) in transports.enumerated() {
        group.addTask { (i, await transport.assess(request, on: place)) }
      }
      var verdicts: [Int: TransportVerdict] = [:]
      for await (i, verdict) in group { verdicts[i] = verdict }
      return transports.indices.compactMap { i in
        verdicts[i].map { Assessment(transport: transports[i].name, verdict: $0) }
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
          remedy: "There is: \(names.map(\.rawValue).joined(separator: ", ")).")
      }
      return Running(
        process: try await transport.start(request, on: place), place: place, transport: via,
        reason: "It was asked for by name.")
    }
    var refusals: [(TransportName, ExecFailure)] = []
    for transport in transports where among?.contains(transport.name) ?? true {
      switch await transport.assess(request, on: place) {
      case .possible(let reason):
        return Running(
          process: try await transport.start(request, on: place), place: place,
          transport: transport.name, reason: reason)
      case .impossible(let failure): refusals.append((transport.name, failure))
      }
    }
    throw Self.refusal(refusals, place: place)
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
  private static func refusal(
    _ refusals: [(TransportName, ExecFailure)], place: Place
  ) -> ExecFailure {
    let fitting = refusals.filter { $0.1.kind != .noTransport }
    if let only = fitting.first, fitting.count == 1 { return only.1 }
    guard let first = fitting.first else {
      return ExecFailure(
        .noTransport, "No configured transport reaches \(place).",
        remedy: refusals.map { "\($0.0.rawValue): \($0.1.sentence)" }.joined(separator: " "))
    }
    var out = first.1
    out.remedy =
      ([out.remedy]
      + fitting.dropFirst().map { "Not by \($0.0.rawValue) either: \($0.1.sentence)" })
      .filter { !$0.isEmpty }.joined(separator: " ")
    return out
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
