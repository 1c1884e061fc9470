import ConsoleProtocol
import ProxmoxClient
import Synchronization

/// The way to one guest's agent, which follows the guest when it migrates.
final class AgentLink: Sendable {
  /// How the calls are made.
  enum Way: Sendable {
    /// PVE's API.
    case api(ProxmoxClient)
    /// `qm guest` on the guest's own node. It has no files.
    case tool(MachineTool)
  }
  private let way: Way
  let options: AgentOptions
  private let gate: AgentGate
  private let current: Mutex<Place>

  init(_ way: Way, options: AgentOptions, place: Place, gate: AgentGate) {
    self.way = way
    self.options = options
    self.gate = gate
    current = Mutex(place)
  }

  /// Where the guest is, as far as is known.
  var place: Place { current.withLock { $0 } }

  /// Which transport it is that goes this way.
  var transport: TransportName {
    switch way {
    case .api: .agent
    case .tool: .local
    }
  }

  /// How often to look: a call is a process where it is made by a tool.
  var pace: AgentPace {
    switch way {
    case .api: AgentPace()
    case .tool: AgentPace(least: .milliseconds(250), most: .seconds(2))
    }
  }

  private func client() throws(PVEError) -> ProxmoxClient {
    switch way {
    case .api(let client): return client
    case .tool:
      throw PVEError(
        kind: .notImplemented, message: "qm has no call for a guest's files", method: .post,
        path: "/nodes/\(place.node)/qemu")
    }
  }

  func exec(_ command: [String], input: String? = nil) async throws(PVEError) -> Int {
    let place = place
    return try await gate.run { [way] () async throws(PVEError) in
      switch way {
      case .api(let client): try await client.agentExec(place, command, input: input)
      case .tool(let tool): try await tool.exec(place, command, input: input)
      }
    }
  }

  func status(_ pid: Int) async throws(PVEError) -> AgentExecStatus {
    let place = place
    return try await gate.run { [way] () async throws(PVEError) in
      switch way {
      case .api(let client): try await client.agentExecStatus(place, pid: pid)
      case .tool(let tool): try await tool.status(place, pid: pid)
      }
    }
  }

  func write(_ file: String, _ bytes: [UInt8]) async throws(PVEError) {
    let place = place
    let client = try client()
    return try await gate.run { () async throws(PVEError) in
      try await client.agentFileWrite(place, file: file, bytes: bytes)
    }
  }

  func read(
    _ file: String, offset: Int, count: Int
  ) async throws(PVEError) -> (bytes: [UInt8], isCut: Bool) {
    let place = place
    let client = try client()
    return try await gate.run { () async throws(PVEError) in
      try await client.agentFileRead(place, file: file, offset: offset, count: count)
    }
  }

  /// Looks where the guest has gone. - Returns: whether it is somewhere else now.
  func follow() async -> Bool {
    let old = place
    guard case .qemu(let vmid) = old.kind, let client = try? client(),
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
    var pace = pace
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
  /// The shortest pause.
  let least: Duration
  /// The longest pause.
  let most: Duration

  init(least: Duration = .milliseconds(4), most: Duration = .seconds(1)) {
    self.least = least
    self.most = most
  }

  mutating func next() -> Duration {
    let elapsed = ContinuousClock.now - begun
    last = max(least, min(most, elapsed / 10))
    return last
  }
}
