import ConsoleProtocol
import EventLoop
import Glibc

/// One node of the simulated cluster: its address, certificate, console ports, tasks and workers.
///
/// One loop serves the whole cluster, so nothing in here has a lock.
final class PVENode {
  unowned let cluster: Cluster
  let name: String
  private(set) var certificates: CertificateSet
  /// The TCP port on 127.0.0.1.
  let port: Int
  let booted: Int
  var tasks: TaskList
  var ports: PortTable
  let children: ChildKeeper
  private var toolsIfMade: NodeTools?
  /// What test sinks have taken, by vmid; 0 is the node's shell.
  var sinks: [Int: SinkCounter] = [:]
  /// Migration tunnels by socket path.
  var tunnels: [String: any ConsoleListener] = [:]
  /// Tasks that run, by UPID; console workers are apart.
  var runs: [String: TaskRun] = [:]
  /// Console workers that are alive, by UPID.
  var workers: [String: ConsoleWorker] = [:]
  /// What its consoles share.
  var consoles = ConsoleHall()
  /// Whether clients and other nodes reach it.
  private(set) var reachability = Reachability.up

  /// What makes its answers' bytes.
  let writer = ResponseWriter()
  /// Its pveproxy's processes.
  let proxies = ProxyWorkers()
  private var tls: TLSContext
  private let originalCertificates: (set: CertificateSet, tls: TLSContext)
  private var listener: Listener?
  /// The port while nobody listens on it; -1 while somebody does.
  private var reserved: Int32 = -1
  private var connections: [UInt64: Connection] = [:]
  private var nextConnection: UInt64 = 0
  private var isShutDown = false
  /// Connections that a hanging node took and never looks at.
  private var held: [Int32] = []
  /// Connections for which no worker had room yet.
  private var waiting: [Int32] = []

  init(cluster: Cluster, name: String, certificates: CertificateSet, tls: TLSContext, port: Int) {
    self.cluster = cluster
    self.name = name
    self.certificates = certificates
    self.tls = tls
    originalCertificates = (certificates, tls)
    self.port = port
    booted = cluster.clock.now - 4_926
    tasks = TaskList(clock: cluster.clock, booted: booted)
    ports = PortTable(loop: cluster.loop, reservation: cluster.timings.portReservation)
    children = ChildKeeper(loop: cluster.loop)
    tasks = makeTaskList()
  }

  /// `pct` and `qm` for the node's shell; nil where they can't be made.
  var tools: NodeTools? {
    if toolsIfMade == nil { toolsIfMade = NodeTools(node: self) }
    return toolsIfMade
  }

  // MARK: what is the cluster's

  var loop: Loop { cluster.loop }
  var era: Era { cluster.era }
  var clock: SimulatorClock { cluster.clock }
  var timings: Timings { cluster.timings }
  var configuration: SimulatorConfiguration { cluster.configuration }
  var journal: Journal { cluster.journal }
  var router: Router { cluster.router }
  var tickets: TicketOffice { cluster.tickets }
  var authenticator: Authenticator { cluster.authenticator }
  var behaviour: Behaviour {
    get { cluster.behaviour }
    set { cluster.behaviour = newValue }
  }
  var access: AccessControl { cluster.access }
  var guests: [Int: Guest] {
    get { cluster.guests }
    _modify { yield &cluster.guests }
  }

  /// Everything that the table of operations holds.
  static let operations: [Operation] =
    accessOperations + clusterOperations + nodeOperations + guestOperations + taskOperations
    + poolOperations + storageOperations + consoleOperations + spiceOperations + tunnelOperations
    + remoteMigrationOperations + agentOperations + uploadOperations

  // MARK: clients

  /// Serves a listening socket.
  func listen(socket: (descriptor: Int32, port: Int)) throws(LoopError) {
    listener = try Listener.adopt(on: loop, socket: socket) { [weak self] descriptor, _ in
      self?.accepted(descriptor)
    }
  }

  private func accepted(_ descriptor: Int32) {
    switch reachability {
    case .up: break
    case .refused, .unreachable:
      close(descriptor)
      return
    case .hanging:
      held.append(descriptor)
      return
    }
    serve(descriptor)
  }

  private func serve(_ descriptor: Int32) {
    guard let process = proxies.take() else {
      // Every worker has as many connections as it takes: this one waits as in the kernel's queue.
      waiting.append(descriptor)
      return
    }
    nextConnection += 1
    let connection = Connection(node: self, process: process, key: nextConnection)
    connections[nextConnection] = connection
    do throws(LoopError) {
      try connection.start(descriptor: descriptor, tls: tls)
    } catch {
      connectionClosed(nextConnection)
    }
  }

  /// Takes the node off the network, or back on it. Going down ends every connection and console.
  func set(_ wanted: Reachability) {
    guard wanted != reachability else { return }
    reachability = wanted
    for descriptor in held + waiting { close(descriptor) }
    held = []
    waiting = []
    if wanted == .refused { closeDoor() } else { openDoor() }
    guard wanted != .up else { return }
    killAllConnections()
    for worker in workers.values { worker.terminate() }
  }

  func connectionClosed(_ key: UInt64) {
    guard let connection = connections.removeValue(forKey: key) else { return }
    proxies.release(connection.process)
    if !waiting.isEmpty { serve(waiting.removeFirst()) }
  }

  /// How many clients are connected.
  var connectionCount: Int { connections.count }

  /// Ends every client's connection, as the death of all of pveproxy's workers does.
  func killAllConnections() {
    for connection in connections.values { connection.kill() }
  }

  /// One of pveproxy's workers dies, be it of a malformed frame, a dead port or a fault: its connections end at once, in
  /// mid-answer and in mid-console, and another takes its place.
  func kill(_ process: ProxyWorker) {
    for connection in connections.values where connection.process === process { connection.kill() }
    proxies.replace(process)
  }

  /// The worker of a place, 0 to 2, dies.
  func killWorker(_ place: Int) {
    if let process = proxies.worker(at: place) { kill(process) }
  }

  /// pveproxy is reloaded: what is being answered is answered to its end, then its connection closes; consoles that are
  /// open live on in the old workers.
  func reloadProxy() { proxies.retireAll() }

  /// pveproxy restarts: its connections end, and for a moment nobody listens.
  func restartProxy(for pause: Duration) {
    closeDoor()
    killAllConnections()
    loop.schedule(after: pause) { [weak self] in
      guard let self, self.reachability == .up else { return }
      self.openDoor()
    }
  }

  /// Nobody listens any more, and nobody else gets the port.
  private func closeDoor() {
    guard let listener else { return }
    listener.close()
    self.listener = nil
    do throws(LoopError) {
      reserved = try Listener.reserve(address: .loopback(port: port))
    } catch {
      reserved = -1
    }
  }

  private func openDoor() {
    guard listener == nil, !isShutDown else { return }
    do throws(LoopError) {
      if reserved >= 0, Glibc.listen(reserved, 1024) == 0 {
        let descriptor = reserved
        reserved = -1
        try listen(socket: (descriptor, port))
      } else {
        if reserved >= 0 { close(reserved) }
        reserved = -1
        try listen(socket: try Listener.open(address: .loopback(port: port)))
      }
    } catch {
      // Somebody else has the port for the moment.
      loop.schedule(after: .milliseconds(200)) { [weak self] in
        guard let self, self.reachability != .refused else { return }
        self.openDoor()
      }
    }
  }

  // MARK: faults

  /// Whether no console port can be had.
  var portsAreFull: Bool { behaviour.portsExhausted || cluster.faults.portsAreFull(on: name) }

  /// From now on the node shows a certificate of an authority that nobody knows.
  func swapCertificate() {
    do {
      guard let set = try CertificateSet.make(nodes: [name], fresh: true).first else { return }
      tls = try TLSContext.server(
        certificatePEM: set.certificatePEM + set.caPEM, keyPEM: set.keyPEM)
      certificates = set
    } catch {
      // OpenSSL can't; the old one stays.
    }
  }

  /// The certificate of the start again.
  func restoreCertificate() { (certificates, tls) = originalCertificates }

  /// Ends every worker and forgets every task.
  func forgetTasks() {
    for run in runs.values { run.stop() }
    for worker in workers.values { worker.terminate() }
    tasks = makeTaskList()
    ports = PortTable(loop: loop, reservation: timings.portReservation)
    sinks = [:]
  }

  /// Ends everything: clients, workers, guests and their processes.
  func shutdown() {
    isShutDown = true
    listener?.close()
    listener = nil
    if reserved >= 0 { close(reserved) }
    reserved = -1
    killAllConnections()
    for descriptor in held + waiting { close(descriptor) }
    held = []
    waiting = []
    for worker in workers.values { worker.terminate() }
    for guest in guests.values where guest.node === self { guest.stop() }
    toolsIfMade?.close()
    children.killAll()
  }

  // MARK: lookups

  /// Whether there is such a node in the cluster.
  func knows(node: String) -> Bool { cluster.node(named: node) != nil }

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
      guest.node.name == arguments.node
    else {
      let folder = kind == .qemu ? "qemu-server" : "lxc"
      throw .died(
        "Configuration file 'nodes/\(arguments.node)/\(folder)/\(arguments.vmid).conf' does not "
          + "exist")
    }
    return guest
  }
}
