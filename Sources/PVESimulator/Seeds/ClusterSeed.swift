/// A made-up cluster that follows from a number: the same seed and sizes always give the same nodes, guests and users.
///
/// All of a guest's nature (name, tags, pool, size, state, node) is drawn from ``Dice`` by its place, so guest 150 of a
/// thousand is guest 150 of ten thousand.
public struct ClusterSeed: Sendable, Hashable, CustomStringConvertible {
  /// The number.
  public var seed: UInt64
  /// How many VMs and containers.
  public var guests: Int
  /// How many nodes.
  public var nodes: Int

  /// The largest cluster.
  public static let mostNodes = 64
  /// The most guests.
  public static let mostGuests = 20_000

  /// A seed with its sizes.
  public init(seed: UInt64, guests: Int, nodes: Int = 1) {
    self.seed = seed
    self.guests = guests
    self.nodes = nodes
  }

  /// `seed 7, 100 guests and 4 nodes`.
  public var description: String {
    "seed \(seed), \(guests) guest\(guests == 1 ? "" : "s") and \(nodes) node\(nodes == 1 ? "" : "s")"
  }

  /// Names of the nodes: `pve1`, `pve2` …
  var nodeNames: [String] { (1...max(nodes, 1)).map { "pve\($0)" } }

  // MARK: words

  private static let roles = [
    "web", "app", "api", "db", "cache", "mail", "dns", "proxy", "vpn", "git", "ci", "build", "log",
    "mon", "ldap", "wiki", "shop", "queue", "auth", "backup", "files", "print", "chat", "cms",
    "erp",
    "crm", "etl", "search", "stream", "render", "jump", "edge",
  ]
  private static let sites = ["ber", "vie", "zrh", "ams", "par", "lon", "waw", "mad"]
  private static let stages = ["prod", "prod", "prod", "stage", "test", "dev"]
  private static let systems = ["debian", "ubuntu", "alma", "alpine", "windows"]
  private static let teams = ["alpha", "bravo", "delta", "echo", "kilo", "lima", "oscar", "tango"]
  /// Every pair of a stage and a system. Sharing these arrays keeps thousands of guests small.
  private static let tags = stages.flatMap { stage in systems.map { [stage, $0] } }
  private static let serial: [Int: SimulatedTerminal] = [0: .shell]

  // MARK: guests

  /// All guests, by vmid from 100 on.
  func makeGuests() -> [SimulatedGuest] {
    let dice = Dice(seed: seed, "guests")
    let names = nodeNames
    return (0..<max(guests, 0)).map { ClusterSeed.guest($0, dice, nodes: names) }
  }

  private static func guest(_ place: Int, _ dice: Dice, nodes: [String]) -> SimulatedGuest {
    // Sixteen draws belong to each guest.
    func draw(_ limit: Int, _ n: Int) -> Int { dice.below(limit, place * 16 + n) }
    func pick<T>(_ items: [T], _ n: Int) -> T { items[draw(items.count, n)] }
    let isContainer = draw(100, 0) < 35
    let stage = draw(stages.count, 1)
    // The last system doesn't run in containers, and has no serial console.
    let system = draw(systems.count - (isContainer ? 1 : 0), 2)
    let isProduction = stages[stage] == "prod"
    let number = draw(40, 5) + 1
    let name =
      "\(pick(sites, 4))-\(pick(roles, 3))\(number < 10 ? "0" : "")\(number)"
      + (isProduction ? "" : "-\(stages[stage])")
    let isTemplate = draw(100, 6) == 0
    var guest = SimulatedGuest(
      kind: isContainer ? .lxc : .qemu, vmid: 100 + place, name: name,
      running: !isTemplate && draw(100, 7) < (isProduction ? 95 : 70),
      tags: tags[stage * systems.count + system])
    guest.template = isTemplate
    guest.node = pick(nodes, 8)
    guest.pool = draw(100, 9) < 80 ? pick(teams, 10) : nil
    guest.cores = 1 << draw(isContainer ? 3 : 5, 11)
    guest.memory = (512 << 20) << draw(isContainer ? 4 : 7, 12)
    guest.disk = ((isContainer ? 4 : 16) << 30) << draw(isContainer ? 5 : 6, 13)
    guest.uptime = 60 + draw(300 * 86_400, 14)
    if !isContainer {
      guest.agent = draw(100, 15) < 70
      if system != systems.count - 1 { guest.serialPorts = serial }
    }
    return guest
  }

  // MARK: users

  /// The demo's users, and one for each pool who may use its guests: `alpha@pve` …
  func makeUsers() -> [SimulatedUser] {
    SimulatedUser.demo
      + ClusterSeed.teams.map { SimulatedUser("\($0)@pve", roles: ["/pool/\($0)": "PVEVMUser"]) }
  }
}

extension SimulatorConfiguration {
  /// A cluster that follows from a seed.
  ///
  /// ```swift
  /// let pve = try await PVESimulator.start(SimulatorConfiguration(seed: 7, guests: 10_000, nodes: 16))
  /// ```
  public init(seed: UInt64, guests: Int, nodes: Int = 1) {
    self.init()
    apply(ClusterSeed(seed: seed, guests: guests, nodes: nodes))
  }

  /// Several nodes, `pve1` and so on, with the guests on them in turn.
  public mutating func spread(over nodes: Int) {
    let names = ClusterSeed(seed: 0, guests: 0, nodes: nodes).nodeNames
    nodeName = names.first ?? nodeName
    otherNodes = Array(names.dropFirst())
    if names.count > 1, clusterName == nil { clusterName = "simulated" }
    for i in guests.indices { guests[i].node = names[i % names.count] }
  }

  /// Puts a seed's nodes, guests and users in the place of those that are here.
  public mutating func apply(_ seed: ClusterSeed) {
    let names = seed.nodeNames
    nodeName = names.first ?? "pve1"
    otherNodes = Array(names.dropFirst())
    if names.count > 1, clusterName == nil { clusterName = "simulated" }
    self.seed = seed
    guests = seed.makeGuests()
    users = seed.makeUsers()
  }
}
