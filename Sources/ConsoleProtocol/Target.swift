/// A guest's number: 100 to 999,999,999.
public struct VMID: Sendable, Hashable, Comparable, CustomStringConvertible {
  /// The number.
  public let value: Int
  /// Nil outside of PVE's range.
  public init?(_ value: Int) {
    guard (100...999_999_999).contains(value) else { return nil }
    self.value = value
  }
  /// Nil unless the text is a decimal number within PVE's range.
  public init?(_ text: some StringProtocol) {
    guard text.utf8.allSatisfy({ (48...57).contains($0) }), let n = Int(text) else { return nil }
    self.init(n)
  }
  /// The decimal digits.
  public var description: String { String(value) }
  /// By number.
  public static func < (a: VMID, b: VMID) -> Bool { a.value < b.value }
}

/// A node's name: one DNS label, up to 63 letters, digits and hyphens.
public struct NodeName: Sendable, Hashable, Comparable, CustomStringConvertible {
  /// The name.
  public let value: String
  /// Nil unless the text is one DNS label (so it can stand in a URL path as it is).
  public init?(_ text: some StringProtocol) {
    let bytes = Array(text.utf8)
    guard (1...63).contains(bytes.count), bytes.first != 45, bytes.last != 45,
      bytes.allSatisfy({
        (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45
      })
    else { return nil }
    value = String(text)
  }
  /// The name.
  public var description: String { value }
  /// By name.
  public static func < (a: NodeName, b: NodeName) -> Bool { a.value < b.value }
}

/// What a console or a command is for, as a person names it.
public enum Target: Sendable, Hashable, CustomStringConvertible {
  /// `node/pve1`
  case node(NodeName)
  /// `qemu/100`
  case qemu(VMID)
  /// `lxc/200`
  case lxc(VMID)
  /// A guest's name (or a bare vmid), to be looked up in the cluster.
  case name(String)

  /// Why a text is no target.
  public struct Malformed: Error, Sendable, CustomStringConvertible {
    /// The text as given, cut to 80 characters.
    public let text: String
    /// A sentence that names the forms that would do.
    public var description: String {
      "target '\(text)' is not a target: use node/NAME, qemu/VMID, lxc/VMID or a guest's name"
    }
  }

  /// Reads `node/NAME`, `qemu/VMID`, `lxc/VMID`, a vmid or a guest's name (a DNS name, as PVE demands).
  /// - Throws: ``Malformed``.
  public init(_ text: String) throws(Malformed) {
    let malformed = Malformed(text: String(text.prefix(80)))
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    if parts.count == 2 {
      switch parts[0] {
      case "node":
        guard let n = NodeName(parts[1]) else { throw malformed }
        self = .node(n)
      case "qemu":
        guard let id = VMID(parts[1]) else { throw malformed }
        self = .qemu(id)
      case "lxc":
        guard let id = VMID(parts[1]) else { throw malformed }
        self = .lxc(id)
      default: throw malformed
      }
      return
    }
    guard parts.count == 1, (1...255).contains(text.utf8.count),
      text.utf8.allSatisfy({
        (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45
          || $0 == 46 || $0 == 95
      })
    else { throw malformed }
    self = .name(text)
  }

  /// The form that ``init(_:)`` reads.
  public var description: String {
    switch self {
    case .node(let n): "node/\(n)"
    case .qemu(let id): "qemu/\(id)"
    case .lxc(let id): "lxc/\(id)"
    case .name(let n): n
    }
  }
}

/// Where a console is, once the cluster was asked.
public struct Place: Sendable, Hashable, CustomStringConvertible {
  /// What kind of thing it is.
  public enum Kind: Sendable, Hashable {
    /// The node itself.
    case node
    /// A virtual machine.
    case qemu(VMID)
    /// A container.
    case lxc(VMID)
  }
  /// The node that it is, or runs on.
  public var node: NodeName
  /// Node or guest.
  public var kind: Kind
  /// The guest's name, where it has one.
  public var name: String?

  /// Puts the parts together.
  public init(node: NodeName, kind: Kind, name: String? = nil) {
    self.node = node
    self.kind = kind
    self.name = name
  }

  /// `node/pve1`, `qemu/100` or `lxc/200`.
  public var description: String {
    switch kind {
    case .node: "node/\(node)"
    case .qemu(let id): "qemu/\(id)"
    case .lxc(let id): "lxc/\(id)"
    }
  }

  /// Whether it is a VM: its terminals are serial ports.
  public var isVirtualMachine: Bool {
    if case .qemu = kind { true } else { false }
  }

  /// The guest's number, where it is a guest.
  public var vmid: VMID? {
    switch kind {
    case .node: nil
    case .qemu(let id), .lxc(let id): id
    }
  }
}
