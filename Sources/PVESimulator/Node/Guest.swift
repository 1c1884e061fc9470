import EventLoop

/// A VM or container: where it is, its configuration, its state, and what its consoles share.
///
/// A big cluster has thousands that nobody ever looks at: the configuration file of a guest that was in the
/// simulator's configuration is made when it is first asked for.
final class Guest {
  let vmid: Int
  let kind: SimulatedGuest.Kind
  /// Where it is; changes when it migrates.
  unowned var node: PVENode
  /// As the configuration file says; the back ends of consoles are the simulator's configuration's.
  private(set) var description: SimulatedGuest
  private(set) var isRunning: Bool
  /// A VM that is stopped in the middle of things, with its memory in place.
  var isPaused = false {
    didSet { if isPaused != oldValue { insidesIfMade?.pause(isPaused) } }
  }
  private(set) var startedAt: Int
  /// Bytes of the disk that lists show.
  private(set) var diskSize: Int
  /// What holds other tasks off, e.g. `backup`.
  private(set) var lock: String?
  /// Whether it was in the simulator's configuration, and has the disk that such guests have.
  let isSeeded: Bool
  private let seed: SimulatedGuest
  private var file: GuestConfig?
  private var password: (bytes: [UInt8], until: Duration)?
  private var screenWorkers: [VNCProxyWorker] = []
  private var builtIn: GuestScreen?
  private var console: SharedTerminal?
  private var serial: [Int: SharedTerminal] = [:]
  /// What is inside of it, once somebody looked.
  private(set) var insidesIfMade: GuestInsides?

  /// A guest of the simulator's configuration.
  init(_ seed: SimulatedGuest, node: PVENode) {
    vmid = seed.vmid
    kind = seed.kind
    self.seed = seed
    isSeeded = true
    description = seed
    self.node = node
    isRunning = seed.running && !seed.template
    startedAt = node.clock.now - seed.uptime
    diskSize = seed.disk
    // A real machine runs from the beginning; everything else is started when somebody needs it.
    if description.machine != nil, isRunning {
      node.loop.schedule(after: .zero) { [weak self] in self?.insides.started() }
    }
  }

  /// What is inside of it.
  var insides: GuestInsides {
    if let insidesIfMade { return insidesIfMade }
    let fresh = GuestInsides(self)
    insidesIfMade = fresh
    return fresh
  }

  /// A guest that the API made, or that an earlier life kept.
  init(_ seed: SimulatedGuest, config: GuestConfig, node: PVENode) {
    vmid = seed.vmid
    kind = seed.kind
    self.seed = seed
    isSeeded = false
    description = seed
    self.node = node
    isRunning = false
    startedAt = node.clock.now
    diskSize = 0
    self.config = config
  }

  // MARK: configuration

  /// The configuration file.
  var config: GuestConfig {
    get {
      if let file { return file }
      let fresh = GuestConfig(seed: seed, era: node.era)
      file = fresh
      return fresh
    }
    set {
      file = newValue
      description = newValue.description(of: seed)
      lock = newValue.lock
      diskSize = GuestConfig.mainDrive(newValue.options, kind)?.bytes ?? 0
    }
  }

  /// Whether anybody changed or asked for the configuration.
  var isUntouched: Bool { file == nil }

  /// `VM` or `CT`.
  var word: String { kind == .qemu ? "VM" : "CT" }

  /// Whether a VM has an `agent` line, whatever it says.
  var hasAgentLine: Bool { file.map { $0.options["agent"] != nil } ?? seed.agent }

  /// Keeps the guest's state; to be called after every change of it.
  func save() {
    guard node.cluster.store != nil else { return }
    node.cluster.save(.guest, String(vmid), document)
  }

  // MARK: power

  /// Seconds since the start; 0 while stopped.
  var uptime: Int { isRunning ? max(0, node.clock.now - startedAt) : 0 }

  /// A process id to show.
  var pid: Int { isRunning ? 80 + vmid : 0 }

  /// `running`, `paused` or `stopped`, as QEMU's monitor says it.
  var qmpStatus: String { isRunning ? (isPaused ? "paused" : "running") : "stopped" }

  /// Starts the guest, with what was pending in its configuration.
  func start() {
    guard !isRunning else { return }
    applyPending()
    isRunning = true
    isPaused = false
    startedAt = node.clock.now
    if description.machine != nil || insidesIfMade != nil { insides.started() }
    save()
  }

  /// Stops the guest; what its consoles are connected to is gone.
  func stop() {
    guard isRunning else { return }
    isRunning = false
    isPaused = false
    endConsoles()
    insidesIfMade?.stopped()
    save()
  }

  /// Takes the guest to another node. A live one goes on there; consoles to the old node see the end.
  func move(to other: PVENode) {
    endConsoles()
    // A container is started anew over there.
    if kind == .lxc { insidesIfMade?.reset() }
    node = other
    startedAt = node.clock.now
    save()
  }

  /// What an earlier life left.
  func resume(running: Bool, paused: Bool, startedAt: Int) {
    isRunning = running
    isPaused = paused
    self.startedAt = startedAt
    if running, description.machine != nil {
      node.loop.schedule(after: .zero) { [weak self] in self?.insides.started() }
    }
  }

  /// Uses what was noted for the next start. Drives that go become unused volumes, or are destroyed.
  func applyPending() {
    guard let file, file.hasPendingChanges else { return }
    var config = file
    for (key, force) in config.pendingDeletes.sorted(by: { $0.key < $1.key }) {
      if let value = config.options[key] { config.drop(key, value, kind, force: force, of: self) }
      config.options[key] = nil
    }
    for option in config.pending.options {
      if let old = config.options[option.key] {
        config.replaceVolume(option.key, old, by: option.value, kind, of: self)
      }
      config.options[option.key] = option.value
    }
    config.pending = OptionList()
    config.pendingDeletes = [:]
    self.config = config
  }

  private func endConsoles() {
    for worker in screenWorkers { worker.finish() }
    screenWorkers = []
    console?.stop()
    console = nil
    for port in serial.values { port.stop() }
    serial = [:]
    builtIn = nil
    password = nil
  }

  // MARK: screen

  /// Where its screen comes from: of a real machine, from there.
  var display: SimulatedDisplay {
    description.machine == nil
      ? description.display
      : insides.machine.map { .external($0.display) } ?? description.display
  }

  /// The built-in screen.
  var screen: GuestScreen {
    if let builtIn { return builtIn }
    let fresh = GuestScreen(
      name: description.name, vmid: description.vmid, node: node.name, loop: node.loop)
    builtIn = fresh
    return fresh
  }

  /// What is written on it.
  var screenText: [String] { builtIn?.lines ?? [] }

  /// There is one VNC password a VM: the next connection's replaces it.
  func setPassword(_ bytes: [UInt8], life: Duration) { password = (bytes, node.loop.now + life) }

  /// The password, while it is good.
  var validPassword: [UInt8]? {
    password.flatMap { $0.until >= node.loop.now ? $0.bytes : nil }
  }

  func attached(_ worker: VNCProxyWorker) { screenWorkers.append(worker) }
  func detached(_ worker: VNCProxyWorker) { screenWorkers.removeAll { $0 === worker } }

  // MARK: terminals

  /// What termproxy runs for a container: a client of its one console.
  func containerConsole() -> any TerminalProgram {
    guard isRunning else {
      return TextProgram(
        "lxc-console: \(description.vmid): ../src/lxc/tools/lxc_console.c: main: 129 "
          + "\(description.vmid) is not running\r\n\r\n[EOF - dtach terminating]\r\n",
        loop: node.loop)
    }
    let terminal =
      console
      ?? SharedTerminal(loop: node.loop) { [unowned self] in
        self.node.guestShell(self.description.terminal, guest: self)
      }
    console = terminal
    return isBare(description.terminal)
      ? node.guestShell(description.terminal, guest: self)
      : SharedViewer(terminal, manner: .dtach, loop: node.loop)
  }

  /// What is behind a serial port: a real machine's first is QEMU's.
  private func serialPort(_ number: Int) -> SimulatedTerminal? {
    if number == 0, description.serialPorts[0] != nil, description.machine != nil,
      let machine = insides.machine
    {
      return .socket(machine.serialSocket)
    }
    return description.serialPorts[number]
  }

  /// What termproxy runs for a VM: `qm terminal`.
  func serialConsole(_ interface: String?) -> any TerminalProgram {
    guard isRunning else {
      return TextProgram("VM \(description.vmid) not running\r\n", loop: node.loop)
    }
    let wanted = interface.flatMap { Int($0.dropFirst(6)) } ?? description.serialPorts.keys.min()
    guard let number = wanted, let behind = serialPort(number) else {
      let text =
        interface.map { "serial interface '\($0)' is not configured" }
        ?? "unable to find a serial interface"
      return TextProgram("\(text)\r\n", loop: node.loop)
    }
    if isBare(behind) {
      return BannerProgram(
        "starting serial terminal on interface serial\(number)\r\n",
        then: node.guestShell(behind, guest: self))
    }
    let terminal =
      serial[number]
      ?? SharedTerminal(loop: node.loop) { [unowned self] in
        self.node.guestShell(behind, guest: self)
      }
    serial[number] = terminal
    return SharedViewer(terminal, manner: .serial(interface: "serial\(number)"), loop: node.loop)
  }

  /// Patterns for tests belong to the connection that asks for them, and are not shared.
  private func isBare(_ terminal: SimulatedTerminal) -> Bool {
    switch terminal {
    case .shell, .command, .socket: false
    case .echo, .source, .sink: true
    }
  }
}
