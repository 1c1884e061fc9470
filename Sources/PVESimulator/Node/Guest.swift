import EventLoop

/// A VM or container while the node lives: its state, and what its consoles share.
final class Guest {
  var description: SimulatedGuest
  private(set) var isRunning: Bool
  private(set) var startedAt: Int
  /// Where it is; changes when it migrates.
  unowned var node: PVENode
  private var password: (bytes: [UInt8], until: Duration)?
  private var screenWorkers: [VNCProxyWorker] = []
  private var builtIn: GuestScreen?
  private var console: SharedTerminal?
  private var serial: [Int: SharedTerminal] = [:]

  init(_ description: SimulatedGuest, node: PVENode) {
    self.description = description
    self.node = node
    isRunning = description.running
    startedAt = node.clock.now - 2_673
  }

  /// Seconds since the start; 0 while stopped.
  var uptime: Int { isRunning ? max(0, node.clock.now - startedAt) : 0 }

  /// A process id to show.
  var pid: Int { isRunning ? 80 + description.vmid : 0 }

  // MARK: power

  func start() {
    guard !isRunning else { return }
    isRunning = true
    startedAt = node.clock.now
  }

  /// Stops the guest; what its consoles are connected to is gone.
  func stop() {
    guard isRunning else { return }
    isRunning = false
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

  /// What termproxy runs for a VM: `qm terminal`.
  func serialConsole(_ interface: String?) -> any TerminalProgram {
    guard isRunning else {
      return TextProgram("VM \(description.vmid) not running\r\n", loop: node.loop)
    }
    let wanted = interface.flatMap { Int($0.dropFirst(6)) } ?? description.serialPorts.keys.min()
    guard let number = wanted, let behind = description.serialPorts[number] else {
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
    case .shell, .command: false
    case .echo, .source, .sink: true
    }
  }
}
