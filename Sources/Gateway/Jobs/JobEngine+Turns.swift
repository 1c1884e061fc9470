import GuestExec

/// Which job may run: so many at a time, the others in order of arrival.
extension JobEngine {
  /// Reserves a turn, or a place in the line.
  /// - Returns: whether it is a turn.
  /// - Throws: 429 where the line is full, 503 where the gateway stops.
  func reserve() throws(Problem) -> Bool {
    enum Answer { case turn, line, full, stopping }
    let answer = state.withLock { state -> Answer in
      if state.isStopping { return .stopping }
      if state.running < configuration.maximumJobs, state.queue.isEmpty, state.arriving == 0 {
        state.running += 1
        return .turn
      }
      guard state.queue.count + state.arriving < configuration.maximumQueued else { return .full }
      state.arriving += 1
      return .line
    }
    switch answer {
    case .turn: return true
    case .line: return false
    case .full:
      var problem = Problem(
        429, "too-many-jobs",
        "\(configuration.maximumJobs) jobs run and \(configuration.maximumQueued) wait.",
        remedy: "Try again later, or raise exec.maximumJobs or exec.maximumQueued.")
      problem.headers = [("Retry-After", "5")]
      throw problem
    case .stopping:
      throw Problem(
        503, "server-shutdown", ConsoleBroker.shutdown.sentence, remedy: "Try again in a moment.")
    }
  }

  /// Gives back what ``reserve()`` gave.
  func giveBack(_ isTurn: Bool) {
    if isTurn {
      turnIsFree()
    } else {
      state.withLock { $0.arriving -= 1 }
    }
  }

  /// Puts a job that has a place in the line there.
  func line(up job: Job, wasReserved: Bool = true) {
    state.withLock { state in
      if wasReserved { state.arriving -= 1 }
      state.queue.append(job)
    }
    next()
  }

  /// A turn is over.
  func turnIsFree() {
    state.withLock { $0.running -= 1 }
    next()
  }

  private func next() {
    while true {
      let job = state.withLock { state -> Job? in
        guard !state.isStopping, state.running < configuration.maximumJobs,
          !state.queue.isEmpty
        else { return nil }
        state.running += 1
        return state.queue.removeFirst()
      }
      guard let job else { return }
      start(job)
    }
  }

  /// Takes a job out of the line.
  /// - Returns: whether it was there.
  func leaveLine(_ job: Job) -> Bool {
    state.withLock { state in
      guard let i = state.queue.firstIndex(where: { $0 === job }) else { return false }
      state.queue.remove(at: i)
      return true
    }
  }
}
