/// A virtual machine or container of the simulated cluster.
public struct SimulatedGuest: Sendable {
  /// Virtual machine or container.
  public enum Kind: String, Sendable, Hashable {
    /// A virtual machine.
    case qemu
    /// A container.
    case lxc
  }

  /// VM or container.
  public var kind: Kind
  /// The name of the node that it is on; nil for the first.
  public var node: String?
  /// Its number, 100 to 999,999,999.
  public var vmid: Int
  /// Its name, a DNS name.
  public var name: String
  /// Whether it runs when the node starts.
  public var running: Bool
  /// Tags.
  public var tags: [String]
  /// Whether it is a template.
  public var template = false
  /// Cores.
  public var cores = 2
  /// Memory in bytes.
  public var memory = 2 << 30
  /// A VM's display.
  public var display: SimulatedDisplay = .builtIn
  /// What is behind a VM's serial ports, by number 0 to 3.
  public var serialPorts: [Int: SimulatedTerminal] = [:]
  /// What a container's console shows.
  public var terminal: SimulatedTerminal = .shell
  /// Whether a VM has the guest agent configured.
  public var agent = false
  /// The pool that it is in.
  public var pool: String?
  /// The size of its first disk in bytes.
  public var disk = 32 << 30
  /// For how many seconds it has been running when the node starts.
  public var uptime = 2_673
  /// Who answers as its guest agent.
  public var agentBackEnd: AgentBackEnd = .automatic
  /// A VM that is a real QEMU; its screen, serial port 0 and agent are QEMU's then.
  public var machine: RealMachineDescription?

  /// A virtual machine.
  public static func vm(
    _ vmid: Int, name: String, running: Bool = true, tags: [String] = [],
    display: SimulatedDisplay = .builtIn, serial: [Int: SimulatedTerminal] = [:],
    agent: Bool = false
  ) -> SimulatedGuest {
    var guest = SimulatedGuest(kind: .qemu, vmid: vmid, name: name, running: running, tags: tags)
    guest.display = display
    guest.serialPorts = serial
    guest.agent = agent
    return guest
  }

  /// A container.
  public static func container(
    _ vmid: Int, name: String, running: Bool = true, tags: [String] = [],
    terminal: SimulatedTerminal = .shell
  ) -> SimulatedGuest {
    var guest = SimulatedGuest(kind: .lxc, vmid: vmid, name: name, running: running, tags: tags)
    guest.terminal = terminal
    guest.memory = 512 << 20
    guest.disk = 8 << 30
    guest.cores = 1
    return guest
  }

  /// Puts the parts together.
  public init(kind: Kind, vmid: Int, name: String, running: Bool = true, tags: [String] = []) {
    self.kind = kind
    self.vmid = vmid
    self.name = name
    self.running = running
    self.tags = tags
  }

  /// VM 100 `web1` (screen, serial port 0, agent), VM 101 `db1` (no serial port), VM 102 `win-test` (stopped),
  /// container 200 `ct200`, container 201 `ct201` (stopped).
  public static var demo: [SimulatedGuest] {
    [
      .vm(100, name: "web1", tags: ["prod", "web"], serial: [0: .shell], agent: true),
      .vm(101, name: "db1", tags: ["prod", "db"]),
      .vm(102, name: "win-test", running: false, tags: ["test"]),
      .container(200, name: "ct200", tags: ["prod"]),
      .container(201, name: "ct201", running: false, tags: ["test"]),
    ]
  }
}

/// What is behind a terminal.
public enum SimulatedTerminal: Sendable, Hashable {
  /// A real shell on a pseudo terminal: the node's runs on this machine as it is, a guest's in the guest's own
  /// namespaces and root file system, where the kernel lets us.
  case shell
  /// A real program of this machine on a pseudo terminal: its path and arguments.
  case command([String])
  /// Whatever is behind a unix socket, e.g. a real QEMU's serial port.
  case socket(String)
  /// Whatever is typed comes back, byte for byte, without a pseudo terminal between.
  case echo
  /// So many bytes of ``SimulatedTerminal/patternByte(at:)``, as fast as they are taken, then nothing.
  case source(bytes: Int)
  /// Takes everything and counts it (``Simulator/sinkReport(vmid:)``).
  case sink

  /// The byte at a place of ``source(bytes:)``. All 256 values occur, with no short period.
  public static func patternByte(at offset: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: offset &* 167 &+ (offset >> 8) &* 13 &+ (offset >> 16) &* 59)
  }

  /// The bytes of ``source(bytes:)`` from a place on.
  public static func pattern(from offset: Int, count: Int) -> [UInt8] {
    // Within a row of 256 the bytes differ from the first row's by one number.
    [UInt8](unsafeUninitializedCapacity: count) { out, written in
      var i = 0
      while i < count {
        let at = offset + i
        let inRow = at & 255
        let n = min(256 - inRow, count - i)
        let shift = SIMD32<UInt8>(
          repeating: UInt8(truncatingIfNeeded: (at >> 8) &* (13 &+ 256 &* 167) &+ (at >> 16) &* 59))
        let row = UnsafeMutableRawBufferPointer(
          rebasing: UnsafeMutableRawBufferPointer(out)[i..<i + n])
        firstRow.withUnsafeBytes { first in
          var k = 0
          while n - k >= 32 {
            let base = first.loadUnaligned(fromByteOffset: inRow + k, as: SIMD32<UInt8>.self)
            row.storeBytes(of: base &+ shift, toByteOffset: k, as: SIMD32<UInt8>.self)
            k += 32
          }
          while k < n {
            row[k] = first[inRow + k] &+ shift[0]
            k += 1
          }
        }
        i += n
      }
      written = count
    }
  }

  private static let firstRow: [UInt8] = (0..<256).map { UInt8(truncatingIfNeeded: $0 &* 167) }
}

/// What a VM's screen is.
public enum SimulatedDisplay: Sendable, Hashable {
  /// A small screen of our own, on which keys and pointer visibly do something.
  case builtIn
  /// A VNC server of somebody else's, e.g. a real QEMU's.
  case external(ExternalDisplay)
}

/// A VNC server behind a VM of the simulated cluster.
public struct ExternalDisplay: Sendable, Hashable {
  /// Where a VNC server listens.
  public enum Address: Sendable, Hashable {
    /// A TCP port of this machine.
    case tcp(port: Int)
    /// A unix socket's path.
    case unix(String)
  }
  /// Where it listens.
  public var address: Address
  /// A QMP socket's path: the node sets the password there, as `qm vncproxy` does, and relays the bytes untouched.
  /// Without one the VNC server must offer security type None, and the node asks the viewer for the password.
  public var qmpSocket: String?

  /// A VNC server, and where it has one its QMP socket.
  public init(_ address: Address, qmpSocket: String? = nil) {
    self.address = address
    self.qmpSocket = qmpSocket
  }
}
