import ConsoleProtocol
import ProxmoxClient
import Synchronization

/// The way to one guest's agent, which follows the guest when it migrates.
final class AgentLink: Sendable {
  let client: ProxmoxClient
  let options: AgentOptions
  private let gate: AgentGate
  private let current: Mutex<Place>

  init(client: ProxmoxClient, options: AgentOptions, place: Place, gate: AgentGate) {
    self.client = client
    self.options = options
    self.gate = gate
    current = Mutex(place)
  }

  /// Where the guest is, as far as is known.
  var place: Place { current.withLock { $0 } }

  func exec(_ command: [String], input: String? = nil) async throws(PVEError) -> Int {
    let place = place
    return try await gate.run { [client] () async throws(PVEError) in
      try await client.agentExec(place, command, input: input)
    }
  }

  func status(_ pid: Int) async throws(PVEError) -> AgentExecStatus {
    let place = place
    return try await gate.run { [client] () async throws(PVEError) in
      try await client.agentExecStatus(place, pid: pid)
    }
  }

  func write(_ file: String, _ bytes: [UInt8]) async throws(PVEError) {
    let place = place
    return try await gate.run { [client] () async throws(PVEError) in
      try await client.agentFileWrite(place, file: file, bytes: bytes)
    }
  }

  func read(
    _ file: String, offset: Int, count: Int
  ) async throws(PVEError) -> (bytes: [UInt8], isCut: Bool) {
    let place = place
    return try await gate.run { [client] () async throws(PVEError) in
      try await client.agentFileRead(place, file: file, offset: offset, count: count)
    }
  }

  /// Looks where the guest has gone. - Returns: whether it is somewhere else now.
  func follow() async -> Bool {
    let old = place
    guard case .qemu(let vmid) = old.kind,
      let inventory = try? await client.inventory(),
      let found = inventory.guests.first(where: { $0.place.kind == .qemu(vmid) })?.place,
      found.node != old.node
    else { return false }
    current.withLock { $0 = found }
    return true
  }

  /// Runs a small program to its end and gives what it said. For helpers that may run twice without harm.
  func run(
    _ command: [String], input: String? = nil, within limit: Duration = .seconds(15)
  ) async throws(PVEError) -> AgentExecStatus {
    let pid = try await exec(command, input: input)
    var pace = AgentPace()
    let begun = ContinuousClock.now
    while true {
      let status = try await status(pid)
      if status.exited { return status }
      guard ContinuousClock.now - begun < limit else {
        throw PVEError(
          kind: .timedOut(.total), message: "a helper in the guest doesn't end", method: .get,
          path: "/nodes/\(place.node)/qemu")
      }
      _ = try? await Task.sleep(for: pace.next())
      if Task.isCancelled {
        throw PVEError(kind: .cancelled, message: "cancelled", method: .get, path: "/nodes")
      }
    }
  }
}

/// How long to wait between two looks at a program: a tenth of the time that it has been running. What is lost by
/// looking too late is never more than that.
struct AgentPace {
  private let begun = ContinuousClock.now
  private var last: Duration = .zero
  /// The longest pause.
  var most = Duration.seconds(1)

  mutating func next() -> Duration {
    let elapsed = ContinuousClock.now - begun
    last = max(.milliseconds(4), min(most, elapsed / 10))
    return last
  }
}
