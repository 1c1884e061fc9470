import GuestExec
import Synchronization

/// What a job tells whoever follows it, in order.
package enum JobEvent: Sendable {
  /// How far it is.
  case state(JobSummary)
  /// The bytes of standard output from an offset on.
  case stdout(offset: Int, [UInt8])
  /// The bytes of standard error from an offset on.
  case stderr(offset: Int, [UInt8])
  /// Something for a person about the way there.
  case note(String)
  /// It is over; nothing follows.
  case ended(JobSummary)
}

/// Reads a job's output from an offset on: first what is stored, then what comes. However slow the reader is, it costs
/// one piece of memory: everything is read from the job's files.
package final class JobFollower: Sendable {
  /// The most bytes of one event.
  static let piece = 64 << 10

  private struct State {
    var position: ExecPosition
    var lastState: JobState?
    var notes = 0
    var isOver = false
    /// Which stream was read last, so that one that never rests doesn't starve the other.
    var stderrIsNext = false
  }
  private let job: Job
  private let state: Mutex<State>

  init(_ job: Job, from position: ExecPosition) {
    self.job = job
    var begin = State(position: position)
    // Who comes back has heard what was told before.
    if position.stdout > 0 || position.stderr > 0 { begin.notes = job.report.notes.count }
    state = Mutex(begin)
  }

  /// Where the next bytes of each stream begin.
  package var position: ExecPosition { state.withLock { $0.position } }

  /// The next event; nil after the end, or when the calling task is cancelled (nothing is lost by that). One caller at
  /// a time.
  package func next() async -> JobEvent? {
    while !Task.isCancelled {
      // Taken before looking: what changes meanwhile makes the wait return at once.
      let seen = job.changes
      if let event = await look() { return event }
      if state.withLock({ $0.isOver }) { return nil }
      await job.changed(after: seen)
    }
    return nil
  }

  private func look() async -> JobEvent? {
    let (summary, notes) = job.report
    let now = state.withLock { $0 }
    if now.isOver { return nil }
    if now.lastState != summary.state, !summary.state.isOver {
      state.withLock { $0.lastState = summary.state }
      return .state(summary)
    }
    if now.notes < notes.count {
      state.withLock { $0.notes += 1 }
      return .note(notes[now.notes])
    }
    for isError in [now.stderrIsNext, !now.stderrIsNext] {
      let offset = isError ? now.position.stderr : now.position.stdout
      let end = isError ? summary.stderrBytes : summary.stdoutBytes
      guard offset < end else { continue }
      let bytes = await job.output.read(
        isError ? .stderr : .stdout, at: offset, count: min(Self.piece, end - offset))
      // A file that was taken away (its job was dropped) has nothing more to tell.
      guard !bytes.isEmpty else { continue }
      state.withLock {
        if isError {
          $0.position.stderr += bytes.count
        } else {
          $0.position.stdout += bytes.count
        }
        $0.stderrIsNext = !isError
      }
      return isError ? .stderr(offset: offset, bytes) : .stdout(offset: offset, bytes)
    }
    if summary.state.isOver {
      state.withLock { $0.isOver = true }
      return .ended(summary)
    }
    return nil
  }
}

/// Somebody looks on: as long as it is held (or until ``release()``), the job's caller has not gone away.
package final class JobAttachment: Sendable {
  private let job: Job
  private let isReleased = Atomic(false)

  init(_ job: Job) {
    self.job = job
    job.attached()
  }

  /// The caller has gone away. May be called more than once.
  package func release() {
    guard !isReleased.exchange(true, ordering: .sequentiallyConsistent) else { return }
    job.detached()
  }

  deinit { release() }
}
