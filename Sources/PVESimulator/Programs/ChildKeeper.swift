import EventLoop
import Glibc

/// How a child process ended.
enum ChildEnd: Hashable {
  case exited(Int)
  case signalled(Int)

  /// As a shell shows it: 128 and the signal's number, where a signal ended it.
  var status: Int {
    switch self {
    case .exited(let code): code
    case .signalled(let signal): 128 + signal
    }
  }
}

/// The node's child processes: every one that is started is reaped, and none outlives its console or its guest.
final class ChildKeeper {
  private struct Child {
    /// `NAME=value` in the environment of everything that goes with it; nil where what it leaves behind stays.
    var mark: String?
    var ended: (ChildEnd) -> Void
  }

  private let loop: Loop
  private var living: [pid_t: Child] = [:]
  private var timer: LoopTimer?

  init(loop: Loop) { self.loop = loop }

  /// How many live.
  var count: Int { living.count }

  /// The environment variable by which everything that a console's program starts is found again.
  static let variable = "SALLYPORT_CONSOLE"

  /// Watches a child.
  /// - Parameter mark: `NAME=value` in the environment of everything that shall end with it.
  func watch(_ pid: pid_t, mark: String?, ended: @escaping (ChildEnd) -> Void) {
    living[pid] = Child(mark: mark, ended: ended)
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
    guard let child = living[pid] else { return }
    let mark = child.mark
    let members = ChildKeeper.members(of: pid, mark)
    for member in members { kill(member, SIGHUP) }
    for member in members { kill(member, SIGCONT) }
    loop.schedule(after: .milliseconds(200)) { [weak self] in
      guard let self else { return }
      for member in ChildKeeper.members(of: self.living[pid] == nil ? nil : pid, mark) {
        kill(member, SIGKILL)
      }
      self.reapSoon()
    }
    loop.schedule(after: .milliseconds(5)) { [weak self] in self?.reapSoon() }
  }

  /// Kills all of them, with everything that they started.
  func killAll() {
    for (pid, child) in living {
      for member in ChildKeeper.members(of: pid, child.mark) { kill(member, SIGKILL) }
    }
    reapSoon()
  }

  /// Kills everything with a mark in its environment.
  static func killAll(marked mark: String) {
    for member in members(of: nil, mark) { kill(member, SIGKILL) }
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
      guard let child = living.removeValue(forKey: pid) else { continue }
      let signal = Int(status & 0x7F)
      // What the child left running goes with it.
      for member in ChildKeeper.members(of: nil, child.mark) { kill(member, SIGKILL) }
      child.ended(signal == 0 ? .exited(Int(status >> 8 & 0xFF)) : .signalled(signal))
    }
    arm()
  }

  /// The child, where it still lives, and everything whose environment has its mark: also what began a session
  /// of its own (`setsid`, `nohup`) to outlive its terminal.
  private static func members(of child: pid_t?, _ mark: String?) -> [pid_t] {
    var out = child.map { [$0] } ?? []
    guard let mark, let directory = opendir("/proc") else { return out }
    defer { closedir(directory) }
    let wanted = Array(mark.utf8)
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      guard let pid = pid_t(name), pid != child, environment(of: pid).contains(wanted[...]) else {
        continue
      }
      out.append(pid)
    }
    return out
  }

  /// A process's environment, entry by entry; empty for other users' processes.
  private static func environment(of pid: pid_t) -> [ArraySlice<UInt8>] {
    let descriptor = open("/proc/\(pid)/environ", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return [] }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 16_384)
    let n = read(descriptor, &bytes, bytes.count)
    return n > 0 ? bytes.prefix(n).split(separator: 0) : []
  }
}
