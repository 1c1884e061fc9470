import EventLoop
import Glibc

/// The node's child processes: every one that is started is reaped, and none outlives its console.
final class ChildKeeper {
  private let loop: Loop
  private var living: [pid_t: (Int) -> Void] = [:]
  private var timer: LoopTimer?

  init(loop: Loop) { self.loop = loop }

  /// How many live.
  var count: Int { living.count }

  /// Watches a child; `ended` gets its exit status (128 and the signal's number, where a signal ended it).
  func watch(_ pid: pid_t, ended: @escaping (Int) -> Void) {
    living[pid] = ended
    arm()
  }

  /// Looks now, because a terminal has just reported its end.
  func reapSoon() {
    timer?.cancel()
    timer = nil
    poll()
  }

  /// Hangs up on a session and, a moment later, kills what is left of it.
  func end(session pid: pid_t) {
    guard living[pid] != nil else { return }
    for member in ChildKeeper.members(of: pid) { kill(member, SIGHUP) }
    for member in ChildKeeper.members(of: pid) { kill(member, SIGCONT) }
    loop.schedule(after: .milliseconds(200)) { [weak self] in
      guard let self, self.living[pid] != nil else { return }
      for member in ChildKeeper.members(of: pid) { kill(member, SIGKILL) }
      self.reapSoon()
    }
    loop.schedule(after: .milliseconds(5)) { [weak self] in self?.reapSoon() }
  }

  /// Kills all of them, with everything in their sessions.
  func killAll() {
    for pid in living.keys {
      for member in ChildKeeper.members(of: pid) { kill(member, SIGKILL) }
    }
    reapSoon()
  }

  private func arm() {
    guard timer == nil, !living.isEmpty else { return }
    timer = loop.schedule(after: .milliseconds(50)) { [weak self] in
      self?.timer = nil
      self?.poll()
    }
  }

  private func poll() {
    for pid in Array(living.keys) {
      var status: Int32 = 0
      guard waitpid(pid, &status, WNOHANG) == pid else { continue }
      let ended = living.removeValue(forKey: pid)
      let signal = Int(status & 0x7F)
      // What the child left running in its session goes with it.
      for member in ChildKeeper.members(of: pid) { kill(member, SIGKILL) }
      ended?(signal == 0 ? Int(status >> 8 & 0xFF) : 128 + signal)
    }
    arm()
  }

  /// Processes of a session, read from /proc; the leader first.
  private static func members(of session: pid_t) -> [pid_t] {
    var out: [pid_t] = [session]
    guard let directory = opendir("/proc") else { return out }
    defer { closedir(directory) }
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      guard let pid = pid_t(name), pid != session, getsid(pid) == session else { continue }
      out.append(pid)
    }
    // The leader itself may be gone while others of its session live; its number isn't reused before they end.
    return out
  }
}
