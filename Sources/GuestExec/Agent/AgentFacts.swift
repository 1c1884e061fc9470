import ConsoleProtocol
import ProxmoxClient
import Synchronization

/// What is known of a guest's agent.
struct AgentFacts: Sendable {
  /// The guest's system; nil where the agent doesn't tell.
  var system: AgentOSInfo?
  /// qemu-ga's version; nil where the agent doesn't tell.
  var agentVersion: String?
  /// Whether `guest-exec` is enabled; nil where the agent doesn't tell.
  var canExec: Bool?
  /// Whether PVE lets us; nil where it doesn't tell.
  var mayExec: Bool?
  /// PVE's version.
  var version: PVEVersion?

  var isWindows: Bool { system?.isWindows ?? false }

  /// "qemu-ga 7.2.22, Debian GNU/Linux 12 (bookworm)"
  var sentence: String {
    let parts = [agentVersion.map { "qemu-ga \($0)" }, system?.name ?? system?.id].compactMap { $0 }
    return parts.isEmpty ? "it doesn't tell more" : parts.joined(separator: ", ")
  }
}

/// Facts by guest, asked once and believed for some minutes.
final class AgentFactsCache: Sendable {
  private struct Entry {
    var facts: AgentFacts
    var at: ContinuousClock.Instant
  }
  private let entries = Mutex<[Int: Entry]>([:])
  private let client: ProxmoxClient
  private let maximumAge: Duration

  init(client: ProxmoxClient, maximumAge: Duration) {
    self.client = client
    self.maximumAge = maximumAge
  }

  /// - Returns: whether something was known.
  @discardableResult
  func forget(_ place: Place) -> Bool {
    guard let vmid = place.vmid?.value else { return false }
    return entries.withLock { $0.removeValue(forKey: vmid) != nil }
  }

  /// What is known, or found out now: three calls at a time, and none that changes anything.
  /// - Parameter alive: the agent is pinged where what is known is older than ten seconds.
  /// - Throws: why the agent can't be asked.
  func facts(_ place: Place, alive: Bool = false) async throws(PVEError) -> AgentFacts {
    let vmid = place.vmid?.value ?? 0
    let known = entries.withLock { entries in
      entries[vmid].flatMap { ContinuousClock.now - $0.at < maximumAge ? $0 : nil }
    }
    if let known {
      if alive, ContinuousClock.now - known.at > .seconds(10) {
        do throws(PVEError) {
          try await client.agentPing(place)
        } catch {
          forget(place)
          throw error
        }
      }
      return known.facts
    }
    let version = try? await client.version()
    async let info = outcome { [client] () async throws(PVEError) in
      try await client.agentInfo(place)
    }
    async let system = outcome { [client] () async throws(PVEError) in
      try await client.agentOSInfo(place)
    }
    async let may = mayExec(place, version)
    let found = await (info: info, system: system, may: may)
    var facts = AgentFacts(mayExec: found.may, version: version)
    switch found.info {
    case .success(let info):
      facts.agentVersion = info.version
      facts.canExec = info.commands["guest-exec"]
    case .failure(let error):
      // An agent that refuses one question still runs commands; PVE that refuses doesn't.
      guard error.message.hasPrefix("Agent error:") else { throw error }
    }
    switch found.system {
    case .success(let system): facts.system = system
    case .failure(let error):
      guard error.message.hasPrefix("Agent error:") else { throw error }
    }
    entries.withLock { entries in
      if entries.count > 4096 { entries = [:] }
      entries[vmid] = Entry(facts: facts, at: .now)
    }
    return facts
  }

  /// From PVE 9 on looking and running are different privileges; before, one call tells both.
  private func mayExec(_ place: Place, _ version: PVEVersion?) async -> Bool? {
    guard let version, version.capabilities.agentPrivileges, let vmid = place.vmid else {
      return nil
    }
    let path = "/vms/\(vmid)"
    guard
      let answer = try? await client.call(
        .get, "/access/permissions", [Parameter("path", path)]),
      let privileges = answer[path].object
    else { return nil }
    return privileges["VM.GuestAgent.Unrestricted"] != nil
  }

  private func outcome<Value: Sendable>(
    _ call: @Sendable () async throws(PVEError) -> Value
  ) async -> Result<Value, PVEError> {
    do throws(PVEError) {
      return .success(try await call())
    } catch {
      return .failure(error)
    }
  }
}
