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
  /// What clients asked.
  public let journal: Journal
  /// The wall clock that tickets and codes follow.
  public let clock: SimulatorClock

  private let passwords: [String: Secret]
  private let tokens: [String: Secret]
  private let group: LoopGroup
  private let node: OnLoop<PVENode>
  private let isClosed = Atomic(false)

  init(
    port: Int, configuration: SimulatorConfiguration, certificates: CertificateSet,
    access: AccessControl, journal: Journal, group: LoopGroup, node: OnLoop<PVENode>
  ) {
    self.port = port
    fingerprint = certificates.fingerprint
    caCertificatePEM = certificates.caPEM
    nodeName = configuration.nodeName
    clock = configuration.clock
    self.journal = journal
    self.group = group
    self.node = node
    passwords = access.accounts.mapValues(\.password)
    var all: [String: Secret] = [:]
    for account in access.accounts.values {
      for (name, token) in account.tokens { all["\(account.id)!\(name)"] = token.secret }
    }
    tokens = all
    tokenID = "root@pam!sallyport"
    tokenSecret = all["root@pam!sallyport"] ?? Secret("")
  }

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
      + "serial ports run real programs of this machine as the current user"
      + (PVENode.canUnshare ? "; guests have processes and a host name of their own." : ".")
  }

  /// Changes quirks and faults while the node runs; done when this returns.
  public func change(_ body: @escaping @Sendable (inout Behaviour) -> Void) async {
    await onNode(or: ()) { body(&$0.behaviour) }
  }

  /// Starts a guest, as `POST …/status/start` does.
  public func startGuest(_ vmid: Int) async { await onNode(or: ()) { $0.guests[vmid]?.start() } }

  /// Stops a guest; its consoles end as they do when a guest is stopped under them.
  public func stopGuest(_ vmid: Int) async { await onNode(or: ()) { $0.guests[vmid]?.stop() } }

  /// Ends every client's connection at once, as the death of a pveproxy worker does.
  public func killConnections() async { await onNode(or: ()) { $0.killAllConnections() } }

  /// Kills a worker task by its UPID, as `DELETE …/tasks/{upid}` does; false where it doesn't run.
  public func killTask(_ upid: String) async -> Bool {
    await onNode(or: false) { node in
      guard let worker = node.workers[upid] else { return false }
      worker.terminate()
      return true
    }
  }

  /// UPIDs of the tasks that run.
  public func runningTasks() async -> [String] {
    await onNode(or: []) { node in node.tasks.all.filter(\.isRunning).map(\.upid) }
  }

  /// How many clients are connected, and how many child processes live.
  public func counts() async -> (connections: Int, children: Int) {
    await onNode(or: (0, 0)) { ($0.connectionCount, $0.children.count) }
  }

  /// What a ``SimulatedTerminal/sink`` of a guest has taken so far: how many bytes, and their SHA-256 in
  /// lower-case hexadecimal. `vmid` 0 is the node's shell.
  public func sinkReport(vmid: Int) async -> (bytes: Int, sha256: String) {
    await onNode(or: (0, "")) { $0.sinks[vmid]?.report ?? (0, "") }
  }

  /// What is written on a VM's built-in screen, line by line, without the spaces at the ends.
  public func screenText(vmid: Int) async -> [String] {
    await onNode(or: []) { $0.guests[vmid]?.screenText ?? [] }
  }

  /// Ends the node: connections, consoles, and every process that it started.
  public func shutdown() async {
    await onNode(or: ()) { $0.shutdown() }
    // Processes get a moment to be reaped, then the loop ends.
    for _ in 0..<50 {
      if await counts().children == 0 { break }
      try? await Task.sleep(for: .milliseconds(10))
    }
    guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    group.shutdown()
  }

  /// Runs on the node's loop; after ``shutdown()`` the loop is gone, and the answer is `otherwise`.
  private func onNode<R: Sendable>(
    or otherwise: R, _ body: @escaping @Sendable (PVENode) -> R
  ) async -> R {
    guard !isClosed.load(ordering: .acquiring) else { return otherwise }
    return await withCheckedContinuation { done in
      node.execute { done.resume(returning: body($0)) }
    }
  }
}
