import ConsoleDial
import ConsoleProtocol
import EventLoop
import ProxmoxClient

/// Asking PVE why a console ended, and stopping what it left behind.
extension ConsoleBroker {
  func diagnose(
    _ failure: UpstreamFailure, of grant: Grant, minted: MintedConsole?
  ) async -> Ending {
    var diagnosis = Diagnosis(failure: failure, console: grant.console, place: minted?.place)
    guard let minted else { return diagnosis.ending }
    diagnosis.host = "\(minted.plan.host):\(minted.plan.port)"
    guard !diagnosis.isCertain, let cluster = clusters[grant.cluster] else {
      return diagnosis.ending
    }
    let start = diagnosis
    // The viewer waits for this: what PVE hasn't said by then isn't waited for.
    let informed = await within(.seconds(6)) {
      var diagnosis = start
      await self.ask(&diagnosis, minted: minted, cluster: cluster)
      return diagnosis
    }
    return (informed ?? start).ending
  }

  private func ask(
    _ diagnosis: inout Diagnosis, minted: MintedConsole, cluster: Cluster
  ) async {
    let upid = minted.plan.upid
    let scrubber = Scrubber(minted.plan)
    // The worker notices the end, writes its log and goes; the task is over a moment later.
    for turn in 0..<6 {
      if turn > 0 { try? await Task.sleep(for: .milliseconds(250)) }
      switch await cluster.result({ client throws(PVEError) in try await client.taskStatus(upid) })
      {
      case .success(let status): diagnosis.task = status
      case .failure(let error):
        if case .unreachable = cluster.reachability { diagnosis.apiError = error }
      }
      if diagnosis.task?.isRunning != true || Task.isCancelled { break }
    }
    guard diagnosis.apiError == nil else { return }
    if case .success(let lines) = await cluster.result({ client throws(PVEError) in
      try await client.taskLogTail(upid, lines: 8)
    }) {
      diagnosis.log = scrubber.log(lines)
    }
    if let exit = diagnosis.task?.exitStatus { diagnosis.task?.exitStatus = scrubber.line(exit) }
    await askGuest(&diagnosis, place: minted.place, cluster: cluster)
  }

  private func askGuest(_ diagnosis: inout Diagnosis, place: Place, cluster: Cluster) async {
    guard place.vmid != nil else { return }
    // A VM's screen closes a little before PVE counts the VM as stopped.
    for turn in 0..<3 {
      if turn > 0 { try? await Task.sleep(for: .milliseconds(400)) }
      switch await cluster.result({ client throws(PVEError) in try await client.guestStatus(place) }
      )
      {
      case .success(let status): diagnosis.guest = status
      case .failure(let error) where error.kind == .guestNotFound: diagnosis.guestIsGone = true
      case .failure: return
      }
      if diagnosis.guestIsGone || diagnosis.guest?.isRunning == false || Task.isCancelled { break }
    }
    guard diagnosis.guestIsGone, let inventory = try? await cluster.client.inventory() else {
      return
    }
    if let now = inventory.guests.first(where: { $0.place.kind == place.kind }),
      now.node != place.node
    {
      diagnosis.guestIsGone = false
      diagnosis.nodeNow = now.node
    }
  }

  func release(_ minted: MintedConsole) {
    minted.loginOver()
    guard let cluster = clusters.owner(of: minted.plan) else { return }
    reaper.add(minted.plan.upid, of: cluster)
  }

  private func within<T: Sendable>(
    _ limit: Duration, _ body: @escaping @Sendable () async -> T
  ) async -> T? {
    await withTaskGroup(of: T?.self) { group in
      group.addTask { await body() }
      group.addTask {
        try? await Task.sleep(for: limit)
        return nil
      }
      let first = await group.next() ?? nil
      group.cancelAll()
      return first
    }
  }
}
