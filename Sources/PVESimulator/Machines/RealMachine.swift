import EventLoop
import Glibc

/// A VM's QEMU process: screen, serial port 0, guest agent and monitor are unix sockets in a folder of its own.
/// It starts with the guest, and dies with the simulator.
final class RealMachine {
  private let description: RealMachineDescription
  private let name: String
  private let megabytes: Int
  private let folder: String
  private let children: () -> ChildKeeper
  private let monitor: MachineMonitor
  private var pid: pid_t?
  /// Counts the processes, so that the end of an old one is not taken for the new one's.
  private var generation = 0
  /// Told when QEMU ended by itself: the guest powered off, or QEMU failed.
  var ended: (() -> Void)?

  init(
    _ description: RealMachineDescription, name: String, memory: Int, folder: String, loop: Loop,
    children: @escaping () -> ChildKeeper
  ) {
    self.description = description
    self.name = name
    megabytes = max(64, memory >> 20)
    self.folder = folder
    self.children = children
    monitor = MachineMonitor(path: folder + "/qmp", loop: loop)
  }

  /// The screen, for `qm vncproxy`; its monitor is a second one, because each serves one client.
  var display: ExternalDisplay {
    ExternalDisplay(.unix(folder + "/vnc"), qmpSocket: folder + "/qmp-screen")
  }
  /// The first serial port.
  var serialSocket: String { folder + "/serial0" }
  /// The guest agent's port.
  var agentSocket: String { folder + "/qga" }
  /// Where QEMU writes what it has to say.
  var log: String { folder + "/qemu.log" }

  /// What it is, for people.
  var sentence: String {
    "a real QEMU (\(description.accelerator == .kvm ? "KVM" : "TCG, without KVM")), "
      + "\(megabytes) MiB, its agent in the guest"
  }

  /// QEMU's process, while it runs.
  var process: pid_t? { pid }

  private var arguments: [String] {
    func socket(_ id: String, _ file: String) -> String {
      "socket,id=\(id),path=\(folder)/\(file),server=on,wait=off"
    }
    return [
      description.program, "-name", name, "-nodefaults", "-no-user-config",
      "-machine", "pc,accel=\(description.accelerator.rawValue)",
      "-cpu", description.accelerator == .kvm ? "host" : "qemu64", "-smp", "1",
      "-m", "\(megabytes)", "-vga", "std", "-usb", "-device", "usb-tablet",
      "-kernel", description.kernel, "-initrd", description.initialRAM,
      "-append", "console=ttyS0 console=tty0 quiet sallyport.name=\(name)",
      "-vnc", "unix:\(folder)/vnc,password=on",
      "-chardev", socket("qmp", "qmp"), "-mon", "chardev=qmp,mode=control",
      "-chardev", socket("qmp-screen", "qmp-screen"), "-mon", "chardev=qmp-screen,mode=control",
      "-chardev", socket("serial0", "serial0"), "-serial", "chardev:serial0",
      "-device", "virtio-serial-pci", "-chardev", socket("qga", "qga"),
      "-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0",
      "-device", "virtio-rng-pci",
    ]
  }

  /// Starts QEMU; ``ended`` tells where it doesn't stay.
  func start() {
    guard pid == nil else { return }
    mkdir(folder, 0o700)
    for file in ["vnc", "qmp", "qmp-screen", "serial0", "qga"] { unlink("\(folder)/\(file)") }
    let null = open("/dev/null", O_RDWR | O_CLOEXEC)
    let output = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    defer {
      if null >= 0 { close(null) }
      if output >= 0 { close(output) }
    }
    var command = Command(
      path: description.program, arguments: arguments,
      environment: ["PATH": Shells.path, "HOME": folder, "LANG": "C"])
    command.diesWithUs = true
    generation += 1
    let mine = generation
    switch command.spawn(in: null, out: output, err: output, terminal: false) {
    case .failure: ended?()
    case .success(let started):
      pid = started
      children().watch(started, mark: nil) { [weak self] _ in
        guard let self, self.generation == mine else { return }
        self.pid = nil
        self.monitor.disconnect()
        self.ended?()
      }
      monitor.connect()
    }
  }

  /// Ends QEMU at once, as `qm stop` does.
  func quit() {
    guard let pid else { return }
    generation += 1
    self.pid = nil
    monitor.disconnect()
    kill(pid, SIGKILL)
    children().reapSoon()
  }

  /// Presses the reset button.
  func reset() { monitor.send("system_reset") }

  /// Presses the power button; false where nothing runs.
  func powerDown() -> Bool {
    guard pid != nil else { return false }
    monitor.send("system_powerdown")
    return true
  }

  /// Stops the processor, or lets it go on.
  func pause(_ paused: Bool) { monitor.send(paused ? "stop" : "cont") }
}

/// QEMU's monitor: commands out, in order; answers are not waited for.
final class MachineMonitor: StreamHandler {
  private static let retry: Duration = .milliseconds(30)

  private let path: String
  private let loop: Loop
  private var stream: EventLoop.Stream?
  private var isReady = false
  private var isWanted = false
  private var waiting: [JSON] = []

  init(path: String, loop: Loop) {
    self.path = path
    self.loop = loop
  }

  func connect() {
    isWanted = true
    isReady = false
    do throws(LoopError) {
      stream = try Stream.connect(on: loop, to: .unix(path), handler: self)
    } catch {
      again()
    }
  }

  func disconnect() {
    isWanted = false
    isReady = false
    waiting = []
    stream?.close()
    stream = nil
  }

  /// Sends a command, as soon as the monitor takes it.
  func send(_ command: String) {
    guard isWanted else { return }
    waiting.append(["execute": .string(command)])
    flush()
  }

  private func flush() {
    guard isReady, let stream else { return }
    for command in waiting { stream.write(command.bytes + [10]) }
    waiting = []
  }

  private func again() {
    loop.schedule(after: MachineMonitor.retry) { [weak self] in
      guard let self, self.isWanted, self.stream == nil else { return }
      self.connect()
    }
  }

  func streamConnected(_ stream: EventLoop.Stream) {
    guard stream === self.stream else { return }
    stream.write((["execute": "qmp_capabilities"] as JSON).bytes + [10])
    isReady = true
    flush()
  }

  func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {}
  func streamDrained(_ stream: EventLoop.Stream) {}

  func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {
    guard stream === self.stream else { return }
    self.stream = nil
    isReady = false
    if isWanted { again() }
  }
}
