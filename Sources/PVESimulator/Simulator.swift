import ConsoleProtocol
import EventLoop
import Synchronization

/// A running node, as its owner sees it. May be used from any thread.
public final class Simulator: Sendable {
  /// The TCP port on 127.0.0.1.
  public let port: Int
  /// SHA-256 of the node's certificate, for pinning.
  public let fingerprint: Fingerprint
  /// The cluster CA's certificate, PEM, for verifying by authority.
  public let caCertificatePEM: String
  /// The node's name.
  public let nodeName: String
  /// The token of root@pam: `root@pam!sallyport`.
  public let tokenID: String
  /// Its secret.
  public let tokenSecret: Secret
  /// The version whose manners it has.
  public let era: Era
  /// What clients asked.
  public let journal: Journal
  /// The wall clock that tickets and codes follow.
  public let clock: SimulatorClock

  /// One node of the cluster.
  public struct Node: Sendable, Hashable {
    /// Its name.
    public let name: String
    /// Its TCP port on 127.0.0.1.
    public let port: Int
    /// SHA-256 of its certificate when the simulator started.
    public let fingerprint: Fingerprint
    /// `https://127.0.0.1:PORT`.
    public var url: String { "https://127.0.0.1:\(port)" }
  }
  /// All nodes; the first is the one of ``url``.
  public let nodes: [Node]

  private let passwords: [String: Secret]
  private let tokens: [String: Secret]
  private let group: LoopGroup
  private let cluster: OnLoop<Cluster>
  private let isClosed = Atomic(false)

  init(
    first: Node, others: [Node], caCertificatePEM: String, configuration: SimulatorConfiguration,
    credentials: AccessControl.Credentials, journal: Journal, group: LoopGroup,
    cluster: OnLoop<Cluster>
  ) {
    nodes = [first] + others
    port = first.port
    fingerprint = first.fingerprint
    self.caCertificatePEM = caCertificatePEM
    nodeName = configuration.nodeName
    clock = configuration.clock
    era = configuration.era
    self.journal = journal
    self.group = group
    self.cluster = cluster
    passwords = credentials.passwords
    tokens = credentials.tokens
    tokenID = "root@pam!sallyport"
    tokenSecret = credentials.tokens["root@pam!sallyport"] ?? Secret("")
  }

  /// Users that have a password, by name.
  public var userIDs: [String] { passwords.keys.sorted() }
  /// A user's password.
  public func password(of user: String) -> Secret? { passwords[user] }
  /// root@pam's password.
  public var rootPassword: Secret { passwords["root@pam"] ?? Secret("") }
  /// A token's secret by its full id, e.g. `root@pam!sallyport`.
  public func secret(ofToken id: String) -> Secret? { tokens[id] }
  /// `https://127.0.0.1:PORT`.
  public var url: String { "https://127.0.0.1:\(port)" }

  /// A line for people: what this is, and that it runs real programs.
  public var banner: String {
    "Simulated Proxmox VE node '\(nodeName)' on \(url) (this machine only). Its node shell, containers and "
      + "serial ports run real programs of this machine as the current user. "
      + Realness.sentences.joined(separator: ". ") + "."
  }

  /// Changes quirks and faults while the node runs; done when this returns.
  public func change(_ body: @escaping @Sendable (inout Behaviour) -> Void) async {
    await onCluster(or: ()) { body(&$0.behaviour) }
  }

  /// Starts a guest, as `POST …/status/start` does.
  public func startGuest(_ vmid: Int) async { await onCluster(or: ()) { $0.guests[vmid]?.start() } }

  /// Stops a guest; its consoles end as they do when a guest is stopped under them.
  public func stopGuest(_ vmid: Int) async { await onCluster(or: ()) { $0.guests[vmid]?.stop() } }

  /// A folder with `pct` and `qm` that work on a node's guests, for `PATH`; nil where it can't be made. Without a name
  /// the first node's.
  public func toolsFolder(ofNode name: String? = nil) async -> String? {
    await onCluster(or: nil) { cluster in
      let node = name.map { cluster.node(named: $0) } ?? cluster.nodes.first
      return node?.tools?.folder
    }
  }

  /// Reloads pveproxy on every node: consoles live on, other connections end after their answer.
  public func reloadProxy() async {
    await onCluster(or: ()) { for node in $0.nodes { node.reloadProxy() } }
  }

  /// Kills one of the three workers of pveproxy, 0 to 2, on every node: its connections end at once.
  public func killWorker(_ place: Int) async {
    await onCluster(or: ()) { for node in $0.nodes { node.killWorker(place) } }
  }

  /// Ends every client's connection at once, as the death of a pveproxy worker does.
  public func killConnections() async {
    await onCluster(or: ()) { for node in $0.nodes { node.killAllConnections() } }
  }

  /// Takes a node off the network, or back on it; its connections and consoles end when it goes.
  public func set(_ reachability: Reachability, ofNode name: String) async {
    await onCluster(or: ()) { $0.node(named: name)?.set(reachability) }
  }

  /// Kills a worker task by its UPID, as `DELETE …/tasks/{upid}` does; false where it doesn't run.
  public func killTask(_ upid: String) async -> Bool {
    await onCluster(or: false) { cluster in
      cluster.nodes.contains { $0.stopTask(upid) }
    }
  }

  /// UPIDs of the tasks that run.
  public func runningTasks() async -> [String] {
    await onCluster(or: []) { cluster in
      cluster.nodes.flatMap { $0.tasks.all.filter(\.isRunning).map(\.upid) }
    }
  }

  /// How many clients are connected, and how many child processes live.
  public func counts() async -> (connections: Int, children: Int) {
    await onCluster(or: (0, 0)) { cluster in
      cluster.nodes.reduce(into: (0, 0)) {
        $0.0 += $1.connectionCount
        $0.1 += $1.children.count
      }
    }
  }

  /// What a ``SimulatedTerminal/sink`` of a guest has taken so far: how many bytes, and their SHA-256 in
  /// lower-case hexadecimal. `vmid` 0 is the node's shell.
  public func sinkReport(vmid: Int) async -> (bytes: Int, sha256: String) {
    await onCluster(or: (0, "")) { cluster in
      cluster.nodes.lazy.compactMap { $0.sinks[vmid]?.report }.first ?? (0, "")
    }
  }

  /// What is written on a VM's built-in screen, line by line, without the spaces at the ends.
  public func screenText(vmid: Int) async -> [String] {
    await onCluster(or: []) { $0.guests[vmid]?.screenText ?? [] }
  }

  /// Ends the node: connections, consoles, and every process that it started.
  public func shutdown() async {
    await onCluster(or: ()) { $0.shutdown() }
    // Processes get a moment to be reaped, then the loop ends.
    for _ in 0..<50 {
      if await counts().children == 0 { break }
      try? await Task.sleep(for: .milliseconds(10))
    }
    await onCluster(or: ()) { $0.rooms.remove() }
    guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    group.shutdown()
  }

  /// Runs on the cluster's loop; after ``shutdown()`` the loop is gone, and the answer is `otherwise`.
  func onCluster<R: Sendable>(
    or otherwise: R, _ body: @escaping @Sendable (Cluster) -> R
  ) async -> R {
    guard !isClosed.load(ordering: .acquiring) else { return otherwise }
    return await withCheckedContinuation { done in
      cluster.execute { done.resume(returning: body($0)) }
    }
  }
}
