import EventLoop
import Glibc

/// Debian's `qemu-ga` as a simulated VM's agent: a process in the guest's room, on a unix socket.
///
/// What would reach beyond the room (this machine's power, clock, processors and file systems) is blocked in it and
/// answered by our own agent.
final class DebianAgent: GuestAgent {
  /// Where Debian's package puts it; nil where it isn't installed.
  static let path: String? = ["/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"].first {
    Glibc.access($0, X_OK) == 0
  }

  private static let ours: Set<String> = [
    "guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid",
    "guest-fsfreeze-status", "guest-fsfreeze-freeze", "guest-fsfreeze-freeze-list",
    "guest-fsfreeze-thaw", "guest-fstrim", "guest-set-user-password",
  ]
  private static let blocked =
    ours.sorted() + [
      "guest-set-time", "guest-set-vcpus", "guest-set-memory-blocks",
      "guest-ssh-add-authorized-keys", "guest-ssh-remove-authorized-keys",
    ]

  private let own: BuiltInAgent
  private let socket: SocketAgent
  private let children: ChildKeeper
  private var pid: pid_t?

  /// Starts it; nil where it can't be.
  /// - Parameter folder: for its socket, where the room has no folder of its own.
  init?(room: Room, folder: String, children: ChildKeeper, loop: Loop, own: BuiltInAgent) {
    guard let program = DebianAgent.path else { return nil }
    // The same place, as the room sees it and as this machine does.
    let inside = room.isWalled ? "/run" : folder
    let outside = room.folder.map { $0 + "/run" } ?? folder
    mkdir(outside, 0o755)
    let socketPath = outside + "/qga.sock"
    unlink(socketPath)
    let null = open("/dev/null", O_RDWR | O_CLOEXEC)
    guard null >= 0 else { return nil }
    defer { close(null) }
    let command = Command(
      path: program,
      arguments: [
        "qemu-ga", "-m", "unix-listen", "-p", inside + "/qga.sock", "-t", inside, "-f",
        inside + "/qga.pid", "-b", DebianAgent.blocked.joined(separator: ","),
      ],
      environment: ["PATH": Shells.path, "LANG": "C.UTF-8", "HOME": room.home])
    guard
      case .success(let started) = room.spawn(
        command, in: null, out: null, err: null, terminal: false)
    else { return nil }
    pid = started
    self.own = own
    self.children = children
    socket = SocketAgent(socketPath, loop: loop)
    children.watch(started, mark: nil) { [weak self] _ in self?.pid = nil }
  }

  /// Whether its process lives.
  var isAlive: Bool { pid != nil }

  func execute(_ command: String, _ arguments: JSON?, _ done: @escaping (AgentAnswer) -> Void) {
    if DebianAgent.ours.contains(command) {
      own.execute(command, arguments, done)
    } else if command == "guest-info" {
      socket.execute(command, arguments) { done(DebianAgent.complete($0)) }
    } else {
      socket.execute(command, arguments, done)
    }
  }

  /// What we answer ourselves is not disabled, whatever qemu-ga thinks.
  private static func complete(_ answer: AgentAnswer) -> AgentAnswer {
    guard case .value(.object(var members)) = answer,
      let i = members.firstIndex(where: { $0.key == "supported_commands" }),
      case .array(let rows) = members[i].value
    else { return answer }
    members[i].value = .array(
      rows.map { row in
        guard let name = row["name"]?.string, ours.contains(name), case .object(var row) = row,
          let k = row.firstIndex(where: { $0.key == "enabled" })
        else { return row }
        row[k].value = .bool(true)
        return .object(row)
      })
    return .value(.object(members))
  }

  func giveUp() { socket.giveUp() }

  func stop() {
    socket.stop()
    own.stop()
    if let pid { kill(pid, SIGTERM) }
    pid = nil
  }
}

/// Answers pings, and nothing else ever.
final class HangingAgent: GuestAgent {
  func execute(_ command: String, _ arguments: JSON?, _ done: @escaping (AgentAnswer) -> Void) {
    if command == "guest-ping" { done(.value(.object([]))) }
  }
  func giveUp() {}
  func stop() {}
}

/// Refuses what somebody switched off in the guest.
final class RefusingAgent: GuestAgent {
  func execute(_ command: String, _ arguments: JSON?, _ done: @escaping (AgentAnswer) -> Void) {
    done(.refused(class: "CommandNotFound", text: "Command \(command) has been disabled"))
  }
  func giveUp() {}
  func stop() {}
}

/// Tells what another agent can do, with `guest-exec` switched off in the guest.
final class ExecDisabledInfo: GuestAgent {
  private let agent: any GuestAgent
  init(_ agent: any GuestAgent) { self.agent = agent }

  func execute(_ command: String, _ arguments: JSON?, _ done: @escaping (AgentAnswer) -> Void) {
    agent.execute(command, arguments) { answer in
      guard case .value(.object(var members)) = answer,
        let i = members.firstIndex(where: { $0.key == "supported_commands" }),
        case .array(let rows) = members[i].value
      else { return done(answer) }
      members[i].value = .array(
        rows.map { row in
          guard let name = row["name"]?.string, name.hasPrefix("guest-exec"),
            case .object(var row) = row, let k = row.firstIndex(where: { $0.key == "enabled" })
          else { return row }
          row[k].value = .bool(false)
          return .object(row)
        })
      done(.value(.object(members)))
    }
  }
  func giveUp() { agent.giveUp() }
  func stop() {}
}
