import EventLoop

/// A worker task while it runs: the handle with which its body logs, waits and ends. It ends exactly once.
///
/// ```swift
/// let upid = node.run("qmstop", id: "100", user: arguments.authID) { run in
///   run.after(node.timings.task) { run in
///     guest.stop()
///     run.finish()
///   }
/// }
/// ```
final class TaskRun {
  let upid: String
  /// What the task's log ends with when somebody stops it. Long copies say `interrupted by signal`.
  var stopText = "received interrupt"
  private(set) var isOver = false
  private weak var node: PVENode?
  private var timer: LoopTimer?
  private var stopHandlers: [() -> Void] = []
  private var endHandlers: [(_ exit: String) -> Void] = []
  private var warnings = 0

  fileprivate init(upid: String, node: PVENode) {
    self.upid = upid
    self.node = node
  }

  /// Adds a line to the log.
  func log(_ line: String) { log([line]) }

  /// Adds lines to the log.
  func log(_ lines: [String]) {
    guard !isOver else { return }
    node?.tasks.log(upid, lines)
  }

  /// Adds a warning; a task with warnings doesn't end `OK`.
  func warn(_ text: String) {
    guard !isOver else { return }
    warnings += 1
    log("WARN: \(text)")
  }

  /// Goes on later; never when the task was stopped meanwhile.
  func after(_ delay: Duration, _ body: @escaping (TaskRun) -> Void) {
    guard !isOver, let node else { return }
    let time = delay * node.cluster.faults.taskFactor
    timer = node.loop.schedule(after: time) { [weak self] in
      guard let self, !self.isOver else { return }
      body(self)
    }
    // The timer holds the task weakly; the node holds it until it ends.
  }

  /// Logs lines, spread evenly over a time, then goes on.
  func work(for time: Duration, _ lines: [String], then body: @escaping (TaskRun) -> Void) {
    guard let first = lines.first else {
      after(time, body)
      return
    }
    log(first)
    let pause = time / lines.count
    let rest = Array(lines.dropFirst())
    after(pause) { $0.rest(of: rest, pause: pause, then: body) }
  }

  private func rest(of lines: [String], pause: Duration, then body: @escaping (TaskRun) -> Void) {
    guard let first = lines.first else {
      body(self)
      return
    }
    log(first)
    let rest = Array(lines.dropFirst())
    after(pause) { $0.rest(of: rest, pause: pause, then: body) }
  }

  /// What to undo when the task is stopped; the task ends after it by itself.
  func onStop(_ body: @escaping () -> Void) { stopHandlers.append(body) }

  /// What to do when the task ends in any way.
  func onEnd(_ body: @escaping (_ exit: String) -> Void) { endHandlers.append(body) }

  /// Ends well.
  func finish() { end(warnings > 0 ? "WARNINGS: \(warnings)" : "OK") }

  /// Ends with an error.
  func fail(_ text: String) { end(text) }

  /// Somebody stops it.
  func stop() {
    guard !isOver else { return }
    let handlers = stopHandlers
    stopHandlers = []
    for handler in handlers.reversed() { handler() }
    end(stopText)
  }

  private func end(_ exit: String) {
    guard !isOver else { return }
    isOver = true
    timer?.cancel()
    timer = nil
    stopHandlers = []
    let handlers = endHandlers
    endHandlers = []
    node?.tasks.end(upid, exit: exit)
    node?.runs[upid] = nil
    for handler in handlers { handler(exit) }
  }
}

extension PVENode {
  /// Begins a task. Its body runs at once, so that what it locks is locked when the caller gets the UPID.
  /// - Parameters:
  ///   - type: PVE's name of the worker, e.g. `qmstart`.
  ///   - id: What it is about, mostly a vmid; may be empty.
  ///   - user: The full auth id.
  @discardableResult
  func run(_ type: String, id: String, user: String, _ body: (TaskRun) -> Void) -> String {
    let upid = tasks.begin(node: name, type: type, id: id, user: user)
    let run = TaskRun(upid: upid, node: self)
    runs[upid] = run
    body(run)
    return upid
  }

  /// Stops a task as `DELETE …/tasks/{upid}` does; false where it doesn't run.
  func stopTask(_ upid: String) -> Bool {
    if let run = runs[upid] {
      run.stop()
      return true
    }
    guard let worker = workers[upid] else { return false }
    worker.terminate()
    return true
  }
}
