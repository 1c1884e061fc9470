import ConsoleProtocol
import Synchronization

/// The nodes and guests of a cluster, as far as the credential may look.
public struct Inventory: Sendable, Hashable {
  /// A node.
  public struct Node: Sendable, Hashable {
    /// Its name.
    public var node: NodeName
    /// `online`, `offline` or `unknown`.
    public var status: String
    /// Load, 0 to 1, where PVE tells it; likewise the rest.
    public var cpu: Double?
    /// Processor threads.
    public var maxcpu: Double?
    /// Memory in use, in bytes.
    public var mem: Int?
    /// Memory, in bytes.
    public var maxmem: Int?
    /// Seconds.
    public var uptime: Int?
  }

  /// A virtual machine or container.
  public struct Guest: Sendable, Hashable {
    /// Node, kind, number and name.
    public var place: Place
    /// Its number.
    public var vmid: VMID
    /// Its name, where PVE tells it (an offline node's guests may have none).
    public var name: String?
    /// `running`, `stopped`, `paused`, `unknown` …
    public var status: String
    /// Its tags.
    public var tags: [String]
    /// The pool that it is in, where it is in one that the credential may see.
    public var pool: String?
    /// Whether it is a template, which can't run.
    public var template: Bool
    /// What holds its lock (`backup`, `migrate` …), if anything.
    public var lock: String?
    /// Load, 0 to 1, where PVE tells it; likewise the rest.
    public var cpu: Double?
    /// Processor threads.
    public var maxcpu: Double?
    /// Memory in use, in bytes.
    public var mem: Int?
    /// Memory, in bytes.
    public var maxmem: Int?
    /// Seconds.
    public var uptime: Int?

    /// `qemu` or `lxc`.
    public var type: String { if case .lxc = place.kind { "lxc" } else { "qemu" } }
    /// The node it is on.
    public var node: NodeName { place.node }
    /// The consoles that its kind has. Whether a VM has a serial port, its configuration tells.
    public var consoles: [Console] {
      template ? [] : Console.allCases.filter { $0.isAvailable(on: place.kind) }
    }
  }

  /// By name.
  public var nodes: [Node]
  /// By number.
  public var guests: [Guest]
}

/// The last look at the cluster's resources, kept for the moment in which many consoles are opened at once.
final class ResourceCache: Sendable {
  static let maximumAge = Duration.seconds(3)
  private let last = Mutex<(inventory: Inventory, at: ContinuousClock.Instant)?>(nil)
  let flight = SingleFlight<Inventory>()

  var recent: Inventory? {
    last.withLock { last in
      guard let last, ContinuousClock.now - last.at < Self.maximumAge else { return nil }
      return last.inventory
    }
  }

  func store(_ inventory: Inventory) { last.withLock { $0 = (inventory, .now) } }
  func forget() { last.withLock { $0 = nil } }
}

extension ProxmoxClient {
  /// Nodes and guests, asked now (`GET /cluster/resources`); callers at the same time share one call.
  public func inventory() async throws(PVEError) -> Inventory {
    let request = APIRequest(method: .get, path: "/cluster/resources")
    return try await resources.flight.run(cancelled: request.error(.cancelled, "cancelled")) {
      [self] in
      do throws(PVEError) {
        let inventory = try Self.inventory(from: try await perform(request))
        resources.store(inventory)
        return .success(inventory)
      } catch {
        return .failure(error)
      }
    }.get()
  }

  /// The same, up to three seconds old.
  package func recentInventory() async throws(PVEError) -> Inventory {
    if let recent = resources.recent { return recent }
    return try await inventory()
  }

  /// Reads `/cluster/resources`. Rows that are neither node nor guest are passed over.
  static func inventory(from answer: AnswerReader) throws(PVEError) -> Inventory {
    var nodes: [Inventory.Node] = []
    var guests: [Inventory.Guest] = []
    for row in try answer.elements() {
      let type = try row.string("type")
      guard type == "node" || type == "qemu" || type == "lxc" else { continue }
      guard let node = NodeName(try row.string("node")) else {
        throw row.error("node", "is no name")
      }
      let value = row.value
      if type == "node" {
        nodes.append(
          Inventory.Node(
            node: node, status: value["status"].string ?? "unknown", cpu: value["cpu"].double,
            maxcpu: value["maxcpu"].double, mem: value["mem"].int, maxmem: value["maxmem"].int,
            uptime: value["uptime"].int))
        continue
      }
      guard let vmid = VMID(try row.int("vmid")) else {
        throw row.error("vmid", "is no guest's number")
      }
      let name = value["name"].string.flatMap { $0.isEmpty ? nil : $0 }
      guests.append(
        Inventory.Guest(
          place: Place(node: node, kind: type == "lxc" ? .lxc(vmid) : .qemu(vmid), name: name),
          vmid: vmid, name: name, status: value["status"].string ?? "unknown",
          tags: tags(value["tags"].string),
          pool: value["pool"].string.flatMap { $0.isEmpty ? nil : $0 },
          template: value["template"].bool ?? false,
          lock: value["lock"].string, cpu: value["cpu"].double, maxcpu: value["maxcpu"].double,
          mem: value["mem"].int, maxmem: value["maxmem"].int, uptime: value["uptime"].int))
    }
    return Inventory(
      nodes: nodes.sorted { $0.node < $1.node }, guests: guests.sorted { $0.vmid < $1.vmid })
  }

  /// PVE writes semicolons and reads commas and spaces as well.
  static func tags(_ text: String?) -> [String] {
    (text ?? "").split { ";, \t".contains($0) }.map(String.init)
  }
}
