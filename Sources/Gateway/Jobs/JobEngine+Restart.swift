import ConsoleProtocol
import Foundation
import GuestExec
import Logging
import ProxmoxClient

/// What becomes of jobs when the gateway ends, and when it comes back.
extension JobEngine {
  /// Takes up the jobs that were not over. What may have been sent is never sent again.
  func takeUp() async throws {
    let rows: [JobStore.Row]
    do {
      rows = try await store.unfinished()
      try await tidy()
    } catch {
      throw ConfigurationError(
        "exec.dataFolder", "'\(folder.path)' can't be used: \(error)",
        remedy: "Move it away if it is damaged; the jobs in it are lost then")
    }
    for row in rows { await takeUp(row) }
    await sweep()
    if !rows.isEmpty { logger.info("jobs taken up", metadata: ["count": "\(rows.count)"]) }
  }

  private func takeUp(_ row: JobStore.Row) async {
    var summary = row.summary
    let probe = JobOutput(path: folder.output(summary.id), disk: disk)
    let sizes = try? await disk.run { (probe.size(.stdout), probe.size(.stderr)) }
    // The files know better than the last stored summary.
    summary.stdoutBytes = sizes?.0 ?? summary.stdoutBytes
    summary.stderrBytes = sizes?.1 ?? summary.stderrBytes
    let order = row.order.flatMap { JobOrder(stored: $0) }
    let node = NodeName(summary.node)
    let place =
      row.handle?.place
      ?? (try? Target(summary.target)).flatMap { target in
        node.flatMap { Place(target, on: $0, name: summary.name) }
      }
    guard let place else {
      await close(summary, .lost("The stored job names no place."))
      return
    }
    let job = make(summary, order, JobPlace(cluster: summary.cluster, place: place))
    job.change { $0.inputIsClosed = row.inputIsClosed }
    state.withLock { $0.jobs[job.id] = job }
    switch summary.state {
    case .queued:
      guard order != nil else {
        let what = row.order?["missing"].string ?? "the stored order can't be read"
        await fail(
          job,
          ExecFailure(
            .cancelled,
            "Sallyport was restarted before the command was sent, and \(what).",
            remedy: "Order it again."))
        return
      }
      watch(job)
      line(up: job, wasReserved: false)
    case .starting:
      await end(
        job,
        ExecResult(
          .lost(
            "Sallyport was restarted while the command was being started; it may have been started."
          )
        ))
    case .running:
      guard let handle = row.handle, let exec = execs[summary.cluster] else {
        let why =
          row.handle == nil
          ? "Sallyport was restarted, and a command started by '\(summary.transport?.rawValue ?? "?")' can't be "
            + "taken up again; it may still run."
          : "Sallyport was restarted without the cluster '\(summary.cluster)'; the command may still run."
        await end(job, ExecResult(.lost(why)))
        return
      }
      state.withLock { $0.running += 1 }
      watch(job)
      Task {
        await attach(job, handle, row, exec)
        turnIsFree()
      }
    case .ended, .failed: break
    }
  }

  private func close(_ summary: JobSummary, _ end: ExecEnd) async {
    var summary = summary
    summary.state = .ended
    summary.end = end
    summary.ended = Date()
    do {
      try await store.update(summary)
    } catch {
      logger.error("a job can't be stored: \(error)", metadata: ["job": "\(summary.id)"])
    }
    audit.ended(summary)
  }

  /// Goes on reading a command that another process of ours has started.
  private func attach(
    _ job: Job, _ handle: ExecHandle, _ row: JobStore.Row, _ exec: GuestExec
  ) async {
    let summary = job.summary
    let process = await exec.attach(
      handle,
      from: ExecPosition(
        stdout: summary.stdoutBytes, stderr: summary.stderrBytes, stdin: summary.stdinBytes))
    job.note("Taken up again after a restart of Sallyport.")
    if summary.input == JobInput.given([]).word, !row.inputIsClosed {
      // What was not given is gone, and a command must not take a part of its input for all of it.
      job.change {
        $0.lostBecause =
          "Sallyport was restarted before all of the command's standard input was given; the command was ended."
        $0.cancelWanted = true
      }
    }
    await pump(job, process)
  }

  // MARK: The end of this process

  /// Takes no new job. What runs is let go, or cancelled where nobody may be away; returns after `grace` at the latest.
  func stop(grace: Duration) async {
    let jobs = state.withLock { state -> [Job] in
      state.isStopping = true
      state.keeper?.cancel()
      return Array(state.jobs.values)
    }
    await withTaskGroup(of: Void.self) { group in
      for job in jobs where job.summary.state != .queued {
        group.addTask { await self.letGo(job, within: grace) }
      }
    }
    await store.close()
    // What was not let go in time may still want to write.
    try? await disk.run {}
    await disk.close { [folder] in folder.close() }
  }

  private func letGo(_ job: Job, within grace: Duration) async {
    if job.summary.onDisconnect == .kill {
      await withTaskGroup(of: Void.self) { group in
        group.addTask { await self.cancel(job) }
        group.addTask { _ = await job.over(within: grace) }
        await group.next()
        await job.until(within: grace) { $0.summary.state.isOver }
        group.cancelAll()
      }
      if job.summary.state.isOver { return }
    }
    // One that is just being started has its handle in a moment.
    await job.until(within: grace) { $0.process != nil || $0.summary.state.isOver }
    job.change { $0.isDetached = true }
    guard let process = job.process, !job.summary.state.isOver else { return }
    let letting = Task { await process.detach() }
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await letting.value }
      group.addTask { try? await Task.sleep(for: grace) }
      await group.next()
      group.cancelAll()
    }
  }
}

extension Place {
  /// The place of a target whose node is known; nil for a name.
  init?(_ target: Target, on node: NodeName, name: String?) {
    switch target {
    case .node(let node): self.init(node: node, kind: .node, name: name)
    case .qemu(let id): self.init(node: node, kind: .qemu(id), name: name)
    case .lxc(let id): self.init(node: node, kind: .lxc(id), name: name)
    case .name: return nil
    }
  }
}
