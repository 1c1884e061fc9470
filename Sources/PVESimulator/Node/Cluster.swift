import ConsoleProtocol
import EventLoop

/// The simulated cluster: what its nodes share.
///
/// It lives on the simulator's loop thread with its nodes, so nothing in here has a lock. ``Simulator`` is its face
/// for other threads.
final class Cluster {
  let loop: Loop
  let era: Era
  let clock: SimulatorClock
  let timings: Timings
  let configuration: SimulatorConfiguration
  let journal: Journal
  let router: Router
  let tickets: TicketOffice
  let authenticator: Authenticator
  /// What goes wrong on purpose.
  let faults: FaultDesk
  /// Answers `/simulator`.
  private(set) lazy var control = ControlDesk(cluster: self)
  /// Where the cluster is kept beyond the end of the process.
  var store: StateStore?
  /// What it stays over restarts, where it is kept.
  var identity: ClusterIdentity?
  /// Where the journal is kept, too.
  var journalFile: JournalFile?
  var behaviour: Behaviour
  let access: AccessControl
  /// Users and rights at the start.
  var initialAccess: AccessControl.Contents
  /// VMs and containers by vmid; vmids are unique in a cluster.
  var guests: [Int: Guest] = [:] { didSet { guestsInOrder = nil } }
  private var guestsInOrder: [Guest]?
  /// Storages and their volumes.
  private(set) lazy var storages = StorageTable(era: era) { [unowned self] in save($0, $1, $2) }
  /// Pools and their members.
  lazy var pools = PoolTable { [unowned self] name, pool in
    save(.pool, name, pool.map { PoolTable.document(name, $0) })
  }
  /// `datacenter.cfg`.
  var datacenter = OptionList()
  /// In the order of the configuration; the first is the one that clients are told of.
  private(set) var nodes: [PVENode] = []
  /// Where guests' programs have their files.
  let rooms = RoomHouse()
  private var nodesByName: [String: PVENode] = [:]
  /// What the generic operations keep.
  let objects = ObjectStore()

  init(
    loop: Loop, configuration: SimulatorConfiguration, access: AccessControl, journal: Journal
  ) {
    self.loop = loop
    self.configuration = configuration
    era = configuration.era
    clock = configuration.clock
    timings = configuration.timings
    behaviour = configuration.behaviour
    self.access = access
    initialAccess = access.contents
    self.journal = journal
    tickets = TicketOffice(clock: configuration.clock)
    tickets.loop = loop
    authenticator = Authenticator(tickets: tickets)
    router = Router(PVENode.operations, era: configuration.era)
    faults = FaultDesk(seed: configuration.faultSeed, loop: loop)
    faults.stage = self
    access.persist = { [unowned self] part in
      guard store != nil else { return }
      save(.access, part.rawValue, self.access.document(part))
    }
    access.poolOfGuest = { [unowned self] in pools.pool(of: $0) }
    access.poolsOfStorage = { [unowned self] in pools.pools(ofStorage: $0) }
    access.pooledPaths = { [unowned self] in
      pools.pools.values.flatMap { pool in
        pool.guests.map { "/vms/\($0)" } + pool.storages.map { "/storage/\($0)" }
      }
    }
    tickets.persist = { [unowned self] in
      guard store != nil else { return }
      save(.meta, "authkeys", tickets.document)
    }
    GenericFixtures.fill(objects)
    objects.changed = { [unowned self] in save(.object, $0, $1) }
  }

  /// A node joins; done once, before clients come.
  func add(_ node: PVENode) {
    nodes.append(node)
    nodesByName[node.name] = node
    GenericFixtures.fill(objects, node: node.name)
  }

  /// Puts the configuration's guests on their nodes; those without one are on the first.
  func placeGuests() {
    guard let first = nodes.first else { return }
    for description in configuration.guests {
      let node = description.node.flatMap { nodesByName[$0] } ?? first
      guests[description.vmid] = Guest(description, node: node)
      guard let pool = description.pool else { continue }
      if pools[pool] == nil { pools.create(pool, comment: nil) }
      pools.move(description.vmid, to: pool)
    }
    pools.flush()
    storages.expect { [unowned self] in seedVolumes() }
  }

  /// VMs and containers by vmid, in order.
  var sortedGuests: [Guest] {
    if let guestsInOrder { return guestsInOrder }
    let sorted = guests.values.sorted { $0.description.vmid < $1.description.vmid }
    guestsInOrder = sorted
    return sorted
  }

  /// The node of a name, whether it is up or not.
  func node(named name: String) -> PVENode? { nodesByName[name] }

  /// Keeps a document of the durable state, or forgets it where it is nil. To be called after every change of
  /// what must survive a restart.
  func save(_ kind: StateKind, _ id: String, _ document: JSON?) {
    store?.save(kind, id, document)
    guard document == nil else { return }
    // What is gone takes the rights on it with it, so that the next of that name begins without any.
    switch kind {
    case .guest: access.removeACL(on: "/vms/\(id)")
    case .pool: access.removeACL(on: "/pool/\(id)")
    case .storage: access.removeACL(on: "/storage/\(id)")
    default: break
    }
  }

  /// Ends every node, with its clients, workers, guests and their processes.
  func shutdown() {
    // What ends now isn't what is kept: the guests of a file go on running with the next start.
    store?.close()
    store = nil
    journalFile?.close()
    journalFile = nil
    for node in nodes { node.shutdown() }
  }
}
