import ConsoleProtocol
import ProxmoxClient
import Synchronization

/// Commands on virtual machines through the QEMU guest agent.
///
/// - **Streaming**, where the guest has a POSIX shell: a small runner in the guest writes output to files that are
///   followed, and takes input, signals and a time limit. Starting it is one call, as in plain mode.
/// - **Plain**, on Windows or when asked for: `agent/exec` and `agent/exec-status`, with their limits.
public struct AgentTransport: ExecTransport {
  /// `agent`
  public let name = TransportName.agent
  private let client: ProxmoxClient
  private let options: AgentOptions
  private let facts: AgentFactsCache
  private let gates = AgentGates()

  /// A transport for one cluster. Nothing is sent yet.
  public init(client: ProxmoxClient, options: AgentOptions = AgentOptions()) {
    self.client = client
    self.options = options
    facts = AgentFactsCache(client: client, maximumAge: options.factsAge)
  }

  private func link(_ place: Place) -> AgentLink {
    AgentLink(
      .api(client), options: options, place: place,
      gate: gates.gate(place.vmid?.value ?? 0, width: options.callsPerGuest))
  }

  private static let noAgent = ExecFailure(
    .noTransport, "Only virtual machines have a guest agent.")

  // MARK: before

  /// Looks at the guest's agent with two or three calls, or with none where they were made a short time ago.
  public func assess(_ request: ExecRequest, on place: Place) async -> TransportVerdict {
    guard place.isVirtualMachine else { return .impossible(Self.noAgent) }
    do throws(PVEError) {
      let facts = try await self.facts.facts(place, alive: true)
      if let failure = refusal(facts, place) {
        // It may be remedied before the next time.
        self.facts.forget(place)
        return .impossible(failure)
      }
      do throws(ExecFailure) {
        try checkMode(request, facts)
      } catch {
        return .impossible(error)
      }
      return .possible("The guest agent answers (\(facts.sentence)).")
    } catch {
      let failure = ExecFailure.agent(error, place: place, version: try? await client.version())
      guard failure.kind == .agentNotRunning, options.bootWait > .zero,
        let uptime = await youth(place)
      else { return .impossible(failure) }
      return .possible(
        "The guest was started \(uptime) s ago; its agent will be waited for, up to "
          + "\(options.bootWait.components.seconds) s.")
    }
  }

  /// The guest's uptime in seconds, where it was started a short time ago.
  private func youth(_ place: Place) async -> Int? {
    guard let status = try? await client.guestStatus(place), status.isRunning,
      let uptime = status.uptime, .seconds(uptime) < options.bootTime
    else { return nil }
    return uptime
  }

  private func refusal(_ facts: AgentFacts, _ place: Place) -> ExecFailure? {
    if facts.canExec == false { return .execDisabled(place) }
    guard facts.mayExec == false, let vmid = place.vmid else { return nil }
    return ExecFailure(
      .permissionDenied, "Running commands through the agent of \(place) is not allowed.",
      remedy: "Give the user or token a role with \(ExecFailure.neededPrivilege(facts.version)) on"
        + " /vms/\(vmid) (a token with privilege separation needs it itself).")
  }

  /// Whether the mode that will be used can do what is asked.
  private func checkMode(_ request: ExecRequest, _ facts: AgentFacts) throws(ExecFailure) {
    guard usesPlain(facts) else { return try AgentLaunch(request: request).check() }
    guard options.mode != .streaming else {
      throw ExecFailure(
        .unsupported, "Streaming mode needs a POSIX shell, and the guest is Windows.",
        remedy: "Use the modes 'automatic' or 'plain'.")
    }
    _ = try AgentPlainCommand(request, isWindows: facts.isWindows, version: facts.version)
  }

  private func usesPlain(_ facts: AgentFacts) -> Bool {
    options.mode == .plain || facts.isWindows
  }

  // MARK: start

  /// Starts a command with one call; waits for the agent of a guest that was started a short time ago.
  public func start(
    _ request: ExecRequest, on place: Place
  ) async throws(ExecFailure) -> any ExecProcess {
    guard place.isVirtualMachine else { throw Self.noAgent }
    try request.check()
    guard !Task.isCancelled else {
      throw ExecFailure(.cancelled, "It was cancelled before the command was sent.")
    }
    do throws(ExecFailure) {
      return try await start(request, on: place, try await factsAfterBoot(place))
    } catch {
      // What was known of the guest is from before it was restarted: then it is booting, and nothing was run.
      guard error.kind == .agentNotRunning, facts.forget(place) else { throw error }
      return try await start(request, on: place, try await factsAfterBoot(place))
    }
  }

  private func start(
    _ request: ExecRequest, on place: Place, _ facts: AgentFacts
  ) async throws(ExecFailure) -> any ExecProcess {
    if let failure = refusal(facts, place) {
      self.facts.forget(place)
      throw failure
    }
    try checkMode(request, facts)
    let link = link(place)
    guard usesPlain(facts) else {
      return try await AgentStreamProcess.start(request, link: link, facts: facts)
    }
    let command = try AgentPlainCommand(
      request, isWindows: facts.isWindows, version: facts.version)
    return try await AgentPlainProcess.start(request, command: command, link: link, facts: facts)
  }

  /// What is known of the guest; of one that was just started, once its agent answers.
  private func factsAfterBoot(_ place: Place) async throws(ExecFailure) -> AgentFacts {
    let begun = ContinuousClock.now
    var isSecond = false
    while true {
      do throws(PVEError) {
        return try await facts.facts(place)
      } catch {
        let failure = ExecFailure.agent(
          error, place: place, version: try? await client.version())
        guard failure.kind == .agentNotRunning else { throw failure }
        let waited = ContinuousClock.now - begun
        guard let uptime = await youth(place) else {
          // A guest under load may miss PVE's three seconds once.
          guard !isSecond else { throw failure }
          isSecond = true
          continue
        }
        guard waited < options.bootWait else {
          throw ExecFailure(
            .agentBooting,
            "The guest was started \(uptime) s ago, and its agent didn't answer within "
              + "\(waited.components.seconds) s.",
            remedy: "Wait until it has booted, and check that qemu-guest-agent is installed in it.")
        }
        do {
          try await Task.sleep(for: min(.seconds(1), options.bootWait - waited))
        } catch {
          throw ExecFailure(.cancelled, "It was cancelled while the guest was booting.")
        }
      }
    }
  }

  // MARK: attach

  /// Takes a command up again by its process id, or by its folder in the guest.
  public func attach(_ handle: ExecHandle, from kept: ExecPosition) async -> any ExecProcess {
    guard let place = handle.place, place.isVirtualMachine else {
      return LostProcess("What was noted of the command can't be read.")
    }
    let link = link(place)
    _ = await link.follow()
    if handle.notes["mode"] == "plain", let pid = handle.notes["pid"].flatMap({ Int($0) }) {
      return AgentPlainProcess.attach(
        pid: pid, isWindows: handle.notes["windows"] == "1", link: link, from: kept)
    }
    if handle.notes["mode"] == "streaming", let runner = AgentRunner(handle.notes) {
      return AgentStreamProcess.attach(handle, runner: runner, link: link, from: kept)
    }
    return LostProcess("What was noted of the command can't be read.")
  }
}

/// The gates of a cluster's guests.
final class AgentGates: Sendable {
  private let gates = Mutex<[Int: AgentGate]>([:])

  func gate(_ vmid: Int, width: Int) -> AgentGate {
    gates.withLock { gates in
      if let gate = gates[vmid] { return gate }
      let gate = AgentGate(width: width)
      gates[vmid] = gate
      return gate
    }
  }
}
