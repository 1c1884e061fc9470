import EventLoop
import Glibc

/// What is inside of a guest: its room or its real machine, and its agent. Everything is made when it is first needed,
/// because a cluster may have twenty thousand guests.
final class GuestInsides {
  private unowned let guest: Guest
  private let loop: Loop
  private var openRoom: Room?
  private var agent: (any GuestAgent)?
  private let refusing = RefusingAgent()
  /// A real QEMU.
  let machine: RealMachine?
  private(set) lazy var line = AgentLine(
    loop: loop, latency: guest.node.timings.agentLatency
  ) { [unowned self] command in self.agent(for: command) }
  private var answersFrom: Duration = .zero

  init(_ guest: Guest) {
    self.guest = guest
    loop = guest.node.loop
    machine = guest.description.machine.flatMap { description in
      guest.node.cluster.rooms.place("\(guest.description.vmid)-machine").map { folder in
        RealMachine(
          description, name: guest.description.name, memory: guest.description.memory,
          folder: folder, loop: guest.node.loop
        ) { [unowned guest] in guest.node.children }
      }
    }
    machine?.ended = { [weak guest] in guest?.stop() }
  }

  private var cluster: Cluster { guest.node.cluster }
  private var vmid: Int { guest.description.vmid }

  /// Where the guest's programs run; opened now where it isn't yet.
  var room: Room {
    if let openRoom { return openRoom }
    let fresh = Room(
      folder: cluster.rooms.folder(of: vmid) ?? "/nonexistent", hostName: guest.description.name,
      children: guest.node.children)
    fresh.ended = { [weak self] in self?.guest.stop() }
    openRoom = fresh
    return fresh
  }

  /// Its room, if there is one at the moment.
  var roomIfOpen: Room? { openRoom }

  // MARK: power

  /// The guest starts.
  func started() {
    answersFrom = loop.now + guest.node.timings.agentBoot
    machine?.start()
  }

  /// The guest is off: everything that ran in it is gone, its files stay.
  func stopped() {
    line.hangUp()
    agent?.stop()
    agent = nil
    openRoom?.ended = nil
    openRoom?.close()
    openRoom = nil
    machine?.quit()
  }

  /// The guest begins anew.
  func reset() {
    answersFrom = loop.now + guest.node.timings.agentBoot
    if let machine {
      machine.reset()
      return
    }
    line.hangUp()
    agent?.stop()
    agent = nil
    openRoom?.ended = nil
    openRoom?.close()
    openRoom = nil
  }

  /// Asks the guest's system to power off. False where nothing in it could: then the caller just stops it. Otherwise
  /// the guest is stopped by itself when its system is down.
  func powerDown() -> Bool { machine?.powerDown() ?? false }

  /// Freezes or thaws a real machine's processors.
  func pause(_ paused: Bool) { machine?.pause(paused) }

  /// The guest is no more.
  func destroyed() {
    stopped()
    cluster.rooms.forget(vmid)
  }

  // MARK: agent

  /// Which agent the guest has.
  enum AgentKind: String {
    case none, own = "built-in", debian = "qemu-ga", machine = "the guest's own", socket, hanging
  }

  var agentKind: AgentKind {
    if machine != nil { return .machine }
    return switch guest.description.agentBackEnd {
    case .automatic: DebianAgent.path == nil ? .own : .debian
    case .builtIn: .own
    case .qemuGA: DebianAgent.path == nil ? .none : .debian
    case .socket: .socket
    case .absent: .none
    case .hangs: .hanging
    }
  }

  private func agent(for command: String) -> (any GuestAgent)? {
    guard guest.isRunning, !guest.isPaused, guest.isAgentEnabled, loop.now >= answersFrom else {
      return nil
    }
    switch guest.node.behaviour.agents[vmid] ?? .answers {
    case .answers: break
    case .booting, .silent: return nil
    case .execDisabled:
      if command == "guest-exec" || command == "guest-exec-status" { return refusing }
    }
    if let debian = agent as? DebianAgent, !debian.isAlive { agent = nil }
    if agent == nil { agent = makeAgent() }
    if command == "guest-info", guest.node.behaviour.agents[vmid] == .execDisabled {
      return agent.map { ExecDisabledInfo($0) }
    }
    return agent
  }

  private func makeAgent() -> (any GuestAgent)? {
    switch agentKind {
    case .none: return nil
    case .hanging: return HangingAgent()
    case .machine: return machine.map { SocketAgent($0.agentSocket, loop: loop) }
    case .socket:
      guard case .socket(let path) = guest.description.agentBackEnd else { return nil }
      return SocketAgent(path, loop: loop)
    case .own: return ownAgent
    case .debian:
      let folder = cluster.rooms.place("\(vmid)-agent") ?? "/nonexistent"
      return DebianAgent(
        room: room, folder: folder, children: guest.node.children, loop: loop, own: ownAgent)
    }
  }

  private var ownAgent: BuiltInAgent {
    BuiltInAgent(
      loop: loop, room: { [unowned self] in self.room },
      children: { [unowned self] in self.guest.node.children },
      facts: GuestFacts(cores: guest.description.cores, memory: guest.description.memory)
    ) { [weak guest] power in
      switch power {
      case .off: guest?.stop()
      case .reboot: guest?.insides.reset()
      }
    }
  }
}

extension Guest {
  /// Whether the configuration gives the guest the agent's port.
  var isAgentEnabled: Bool {
    guard !isUntouched else { return description.agent }
    guard let line = config.options["agent"] else { return false }
    // A property string whose first part may go without its name.
    let parts = line.split(separator: ",")
    return parts.contains { $0 == "1" || $0 == "enabled=1" }
  }
}
