/// Which console of a place. Not every place has every console: see ``isAvailable(on:)``.
public enum Console: Sendable, Hashable, CustomStringConvertible, CaseIterable {
  /// The graphical screen (RFB): a VM's display, or a text screen drawn by `vncterm` for containers and nodes.
  case vnc
  /// A terminal (termproxy): a node's shell, a container's console, a VM's first serial port.
  case terminal
  /// A VM's serial port 0 to 3 by number.
  case serial0, serial1, serial2, serial3

  /// Reads `vnc`, `terminal`, `serial0` … `serial3`.
  public init?(_ text: some StringProtocol) {
    guard let found = Console.allCases.first(where: { $0.description == text }) else { return nil }
    self = found
  }

  /// The word that ``init(_:)`` reads.
  public var description: String {
    switch self {
    case .vnc: "vnc"
    case .terminal: "terminal"
    case .serial0: "serial0"
    case .serial1: "serial1"
    case .serial2: "serial2"
    case .serial3: "serial3"
    }
  }

  /// Whether the bytes are a terminal's (`true`) or RFB (`false`).
  public var isTerminal: Bool { self != .vnc }

  /// Whether such a place has this console: serial ports belong to VMs.
  public func isAvailable(on kind: Place.Kind) -> Bool {
    switch (self, kind) {
    case (.vnc, _), (.terminal, _): true
    case (_, .qemu): true
    default: false
    }
  }
}
