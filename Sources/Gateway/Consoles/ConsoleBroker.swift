import ConsoleProtocol
import EventLoop
import Foundation
import Logging
import ProxmoxClient
import Synchronization

/// What sessions need of the control plane: links are redeemed, consoles are checked and minted, ends are explained,
/// workers are stopped, and all of it is on record.
final class ConsoleBroker: ConsoleServices {
  let clusters: Clusters
  let links: LinkStore
  let sessions: SessionRegistry
  let limits: RelayLimits
  let logger: Logger
  let reaper: WorkerReaper
  private let contexts = Mutex<[TLSPolicy: TLSContext]>([:])
  private let stopping = Atomic(false)

  init(_ configuration: GatewayConfiguration, clusters: Clusters, logger: Logger) {
    self.clusters = clusters
    self.logger = logger
    limits = configuration.limits.relay
    links = LinkStore(maximum: configuration.limits.maximumLinks)
    sessions = SessionRegistry(history: configuration.limits.history)
    reaper = WorkerReaper(logger: logger)
  }

  // MARK: Links and the register

  func redeem(_ token: Secret, peer: String) -> Result<Grant, Ending> {
    if stopping.load(ordering: .relaxed) { return .failure(ConsoleBroker.shutdown) }
    let result = links.redeem(token)
    if case .failure(let ending) = result {
      logger.notice(
        "link refused", metadata: ["kind": "\(ending.kind.rawValue)", "peer": "\(peer)"])
      if ending.kind == .linkExpired { sweepLinks() }
    }
    return result
  }

  /// Ends the sessions for which nobody came in time.
  func sweepLinks() {
    for id in links.sweep() {
      sessions.ended(
        id: id,
        Ending(
          hop: .viewer, kind: .linkExpired, sentence: "Nobody used the link in time.",
          remedy: "Ask for a new link."))
    }
  }

  func opened(
    _ grant: Grant, peer: String, end: @escaping @Sendable (Ending) -> Void
  ) -> SessionRecord {
    let record = SessionRecord(grant: grant, peer: peer, end: end) { [weak self] record in
      self?.ended(record)
    }
    sessions.began(record)
    logger.info(
      "console opening",
      metadata: [
        "id": "\(grant.id)", "target": "\(grant.target)", "console": "\(grant.console)",
        "cluster": "\(grant.cluster)", "peer": "\(peer)",
      ])
    // One that slipped in while the sessions were being told to end.
    if stopping.load(ordering: .sequentiallyConsistent) {
      record.requestEnd(ConsoleBroker.shutdown)
    }
    return record
  }

  private func ended(_ record: SessionRecord) {
    guard let summary = sessions.ended(record), let ending = summary.ending else { return }
    let seconds = summary.opened.map { Int((summary.ended ?? Date()).timeIntervalSince($0)) } ?? 0
    logger.info(
      "console ended",
      metadata: [
        "id": "\(summary.grant.id)",
        "target": "\(summary.place?.description ?? summary.grant.target.description)",
        "console": "\(summary.grant.console)", "hop": "\(ending.hop.rawValue)",
        "kind": "\(ending.kind.rawValue)", "sentence": "\(ending.sentence)",
        "seconds": "\(seconds)",
        "toViewer": "\(summary.bytesToViewer)", "fromViewer": "\(summary.bytesFromViewer)",
      ])
  }

  /// Ends every session and takes no new one.
  func stop() {
    stopping.store(true, ordering: .sequentiallyConsistent)
    for record in sessions.records { record.requestEnd(ConsoleBroker.shutdown) }
  }

  static let shutdown = Ending(
    hop: .gateway, kind: .serverShutdown, sentence: "Sallyport is being shut down.",
    remedy: "Open the console again in a moment, with a new link.")

  /// The TLS settings of a policy. Made once: a certificate file that changes later needs a restart.
  func context(for policy: TLSPolicy) throws(LoopError) -> TLSContext {
    if let known = contexts.withLock({ $0[policy] }) { return known }
    let made = try TLSContext.client(policy)
    contexts.withLock { $0[policy] = made }
    return made
  }
}
