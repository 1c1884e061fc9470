import ConsoleProtocol
import EventLoop

/// The node: everything that lives on the simulator's loop thread.
///
/// One loop serves the whole node, so nothing in here has a lock. ``Simulator`` is its face for other threads.
final class PVENode {
  let loop: Loop
  let name: String
  let era: Era
  let clock: SimulatorClock
  let timings: Timings
  let configuration: SimulatorConfiguration
  let certificates: CertificateSet
  let journal: Journal
  let router: Router
  let tickets: TicketOffice
  let authenticator: Authenticator
  let booted: Int
  var behaviour: Behaviour
  var access: AccessControl
  var tasks: TaskList
  var guests: [Int: Guest] = [:]
  var ports: PortTable
  let children: ChildKeeper
  /// What test sinks have taken, by vmid; 0 is the node's shell.
  var sinks: [Int: SinkCounter] = [:]
  /// Migration tunnels by socket path.
  var tunnels: [String: TunnelWorker] = [:]
  /// Console workers that are alive, by UPID.
  var workers: [String: ConsoleWorker] = [:]
  /// What its consoles share.
  var consoles = ConsoleHall()

  private let tls: TLSContext
  private var listener: Listener?
  private var connections: [UInt64: Connection] = [:]
  private var nextConnection: UInt64 = 0

  init(
    loop: Loop, configuration: SimulatorConfiguration, access: AccessControl,
    certificates: CertificateSet, tls: TLSContext, journal: Journal
  ) {
    self.loop = loop
    self.configuration = configuration
    name = configuration.nodeName
    era = configuration.era
    clock = configuration.clock
    timings = configuration.timings
    behaviour = configuration.behaviour
    self.access = access
    self.certificates = certificates
    self.tls = tls
    self.journal = journal
    tickets = TicketOffice(clock: configuration.clock)
    authenticator = Authenticator(tickets: tickets)
    router = Router(PVENode.operations)
    booted = configuration.clock.now - 4_926
    tasks = TaskList(clock: configuration.clock, booted: booted)
    ports = PortTable(loop: loop, reservation: configuration.timings.portReservation)
    children = ChildKeeper(loop: loop)
    for description in configuration.guests {
      guests[description.vmid] = Guest(description, node: self)
    }
  }

  /// Everything that the table of operations holds.
  static let operations: [Operation] =
    accessOperations + clusterOperations + nodeOperations + guestOperations + taskOperations
    + consoleOperations + tunnelOperations

  // MARK: clients

  /// Serves a listening socket.
  func listen(socket: (descriptor: Int32, port: Int)) throws(LoopError) {
    listener = try Listener.adopt(on: loop, socket: socket) { [weak self] descriptor, _ in
      self?.accepted(descriptor)
    }
  }

  private func accepted(_ descriptor: Int32) {
    nextConnection += 1
    let connection = Connection(node: self, key: nextConnection)
    connections[nextConnection] = connection
    do throws(LoopError) {
      try connection.start(descriptor: descriptor, tls: tls)
    } catch {
      connections[nextConnection] = nil
    }
  }

  func connectionClosed(_ key: UInt64) { connections[key] = nil }

  /// How many clients are connected.
  var connectionCount: Int { connections.count }

  /// What the death of a pveproxy worker does to its clients.
  func killAllConnections() {
    for connection in connections.values { connection.kill() }
  }

  /// Ends everything: clients, workers, guests and their processes.
  func shutdown() {
    listener?.close()
    listener = nil
    killAllConnections()
    for worker in workers.values { worker.terminate() }
    for guest in guests.values { guest.stop() }
    children.killAll()
  }

  // MARK: lookups

  /// Whether there is such a node in the cluster.
  func knows(node: String) -> Bool { node == name }

  /// Connects a websocket to a worker; false where nobody listens.
  func dial(_ target: DialTarget, _ relay: WebsocketRelay) -> Bool {
    switch target {
    case .port(let port):
      guard let worker = ports.listener(on: port) else { return false }
      return worker.accept(relay)
    case .socket(let path):
      guard let tunnel = tunnels[path] else { return false }
      return tunnel.accept(relay)
    }
  }

  /// A guest of a node, or the 500 that PVE has for it.
  func guest(_ arguments: Arguments, _ kind: SimulatedGuest.Kind) throws(APIError) -> Guest {
    guard let guest = guests[arguments.vmid], guest.description.kind == kind,
      knows(node: arguments.node)
    else {
      let folder = kind == .qemu ? "qemu-server" : "lxc"
      throw .died(
        "Configuration file 'nodes/\(arguments.node)/\(folder)/\(arguments.vmid).conf' does not "
          + "exist")
    }
    return guest
  }

  // MARK: outside of the API

  /// `GET /`.
  var frontPage: Response {
    let text = """
      <!DOCTYPE html><html><head><title>\(name) - Proxmox Virtual Environment (simulated)</title></head>
      <body><h1>\(name)</h1><p>A simulated Proxmox VE \(era.rawValue) node. The API is at
      <code>/api2/json</code>; there is no web interface.</p></body></html>

      """
    return Response(
      status: 200, reason: "OK", body: Array(text.utf8), contentType: "text/html; charset=UTF-8")
  }

  /// Any other file.
  func noSuchFile(_ path: String) -> Response { .plain(501, "no such file '\(path)'") }
}
