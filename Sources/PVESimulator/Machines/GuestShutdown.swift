/// Shutting down a guest that may have a system of its own.
extension PVENode {
  /// How long PVE waits for a guest's system, where nobody says otherwise (180 s).
  private static let patience: Duration = .seconds(180)
  /// How often a machine is looked at.
  private static let look: Duration = .milliseconds(100)

  /// Asks a guest's system to power off, and goes on when it has. A simulated guest obeys at once; a real machine's
  /// system does what it wants, and the task fails where it takes too long, or stops the guest where that was asked for.
  func shutDown(
    _ guest: Guest, _ run: TaskRun, timeout: Int? = nil, forced: Bool = false,
    then next: @escaping (TaskRun) -> Void
  ) {
    guard guest.description.machine != nil, guest.insides.powerDown() else {
      // A guest needs a moment more to end by itself.
      run.after(timings.task) { run in
        guest.stop()
        next(run)
      }
      return
    }
    wait(
      for: guest, run, until: loop.now + (timeout.map { .seconds($0) } ?? PVENode.patience), forced,
      next)
  }

  private func wait(
    for guest: Guest, _ run: TaskRun, until deadline: Duration, _ forced: Bool,
    _ next: @escaping (TaskRun) -> Void
  ) {
    run.after(PVENode.look) { [weak self] run in
      guard let self else { return }
      guard guest.isRunning else { return next(run) }
      guard loop.now >= deadline else {
        return wait(for: guest, run, until: deadline, forced, next)
      }
      guard forced else { return run.fail("VM quit/powerdown failed - got timeout") }
      run.log("VM quit/powerdown failed - terminating now with SIGTERM")
      guest.stop()
      next(run)
    }
  }
}
