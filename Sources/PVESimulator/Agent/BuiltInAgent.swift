import EventLoop
import Glibc

/// Our own guest agent. It really does what it is asked to, in the guest's room, and answers in qemu-ga's words.
final class BuiltInAgent: GuestAgent {
  /// The guest's power, as the agent's commands move it.
  enum Power { case off, reboot }

  private let room: () -> Room
  private let loop: Loop
  private let children: () -> ChildKeeper
  private let facts: GuestFacts
  private let power: (Power) -> Void
  private var processes: [Int: AgentProcess] = [:]
  private var files = AgentFiles()
  private var isFrozen = false
  /// Whether `guest-exec` is switched off in the guest.
  var isExecDisabled = false

  /// - Parameter room: where commands run; asked when the first one does.
  init(
    loop: Loop, room: @escaping () -> Room, children: @escaping () -> ChildKeeper,
    facts: GuestFacts, power: @escaping (Power) -> Void
  ) {
    self.loop = loop
    self.room = room
    self.children = children
    self.facts = facts
    self.power = power
  }

  func execute(_ command: String, _ arguments: JSON?, _ done: @escaping (AgentAnswer) -> Void) {
    done(answer(command, Reader(arguments)))
  }

  func giveUp() {}

  func stop() {
    processes = [:]
    files.closeAll()
    isFrozen = false
  }

  /// What the agent can do, in the order of its table.
  static let commands = [
    "guest-get-osinfo", "guest-get-timezone", "guest-get-users", "guest-get-host-name",
    "guest-exec", "guest-exec-status", "guest-get-memory-block-info", "guest-get-memory-blocks",
    "guest-set-user-password", "guest-get-fsinfo", "guest-get-vcpus",
    "guest-network-get-interfaces", "guest-suspend-hybrid", "guest-suspend-ram",
    "guest-suspend-disk", "guest-fstrim", "guest-fsfreeze-thaw", "guest-fsfreeze-freeze",
    "guest-fsfreeze-status", "guest-file-flush", "guest-file-seek", "guest-file-write",
    "guest-file-read", "guest-file-close", "guest-file-open", "guest-shutdown", "guest-info",
    "guest-get-time", "guest-ping", "guest-sync", "guest-sync-delimited",
  ]

  private func answer(_ command: String, _ arguments: Reader) -> AgentAnswer {
    guard BuiltInAgent.commands.contains(command) else {
      return .refused(class: "CommandNotFound", text: "The command \(command) has not been found")
    }
    if isExecDisabled, command == "guest-exec" || command == "guest-exec-status" {
      return .refused(class: "CommandNotFound", text: "Command \(command) has been disabled")
    }
    // Frozen, qemu-ga does only what cannot touch a file system.
    if isFrozen,
      ![
        "guest-ping", "guest-info", "guest-sync", "guest-sync-delimited", "guest-get-time",
        "guest-fsfreeze-status", "guest-fsfreeze-thaw",
      ].contains(command)
    {
      return .refused(
        class: "CommandNotFound",
        text: "Command \(command) has been disabled: the agent is in "
          + "frozen state")
    }
    do throws(Reader.Wrong) {
      switch command {
      case "guest-exec": return try execute(arguments)
      case "guest-exec-status": return try status(arguments)
      case "guest-file-open":
        return files.open(
          try arguments.text("path"), mode: try arguments.optionalText("mode") ?? "r", in: room())
      case "guest-file-close": return files.close(try arguments.number("handle"))
      case "guest-file-read":
        return files.read(
          try arguments.number("handle"), count: try arguments.optionalNumber("count") ?? 4096)
      case "guest-file-write":
        guard let bytes = AgentBytes.read(try arguments.text("buf-b64")) else {
          return .failed("Base64 data contains invalid characters")
        }
        return files.write(
          try arguments.number("handle"), bytes, count: try arguments.optionalNumber("count"))
      case "guest-file-seek":
        return files.seek(
          try arguments.number("handle"), offset: try arguments.number("offset"),
          whence: arguments["whence"])
      case "guest-set-user-password": return try setPassword(arguments)
      default: return plain(command, arguments)
      }
    } catch {
      return .failed(error.text)
    }
  }

  /// The commands without arguments.
  private func plain(_ command: String, _ arguments: Reader) -> AgentAnswer {
    switch command {
    case "guest-info":
      let rows = BuiltInAgent.commands.map { name -> JSON in
        [
          "enabled": .bool(!(isExecDisabled && name.hasPrefix("guest-exec"))),
          "name": .string(name),
          "success-response": .bool(
            name != "guest-shutdown" && !name.hasPrefix("guest-suspend")),
        ]
      }
      return .value(["version": "7.2.22", "supported_commands": .array(rows)])
    case "guest-get-time":
      var now = timespec()
      clock_gettime(CLOCK_REALTIME, &now)
      return .value(.int(now.tv_sec * 1_000_000_000 + now.tv_nsec))
    case "guest-get-host-name": return .value(["host-name": .string(room().shownHostName)])
    case "guest-get-osinfo": return .value(facts.system(room()))
    case "guest-get-timezone": return .value(facts.timeZone)
    case "guest-get-users": return .value(.array([]))
    case "guest-get-vcpus": return .value(facts.processors)
    case "guest-get-fsinfo": return .value(facts.fileSystems(room()))
    case "guest-get-memory-blocks": return .value(facts.memoryBlocks)
    case "guest-get-memory-block-info": return .value(["size": .int(GuestFacts.memoryBlock)])
    case "guest-network-get-interfaces": return .value(facts.interfaces(room()))
    case "guest-fsfreeze-status": return .value(.string(isFrozen ? "frozen" : "thawed"))
    case "guest-fsfreeze-freeze":
      isFrozen = true
      return .value(1)
    case "guest-fsfreeze-thaw":
      let count = isFrozen ? 1 : 0
      isFrozen = false
      return .value(.int(count))
    case "guest-fstrim":
      return .value(["paths": [["path": "/", "minimum": 0, "trimmed": 0]]])
    case "guest-shutdown":
      let mode = arguments["mode"]?.string ?? "powerdown"
      guard ["powerdown", "halt", "reboot"].contains(mode) else {
        return .failed("mode is invalid (valid values are: halt|powerdown|reboot")
      }
      // The answer goes out first.
      loop.schedule(after: .milliseconds(20)) { [power] in
        power(mode == "reboot" ? .reboot : .off)
      }
      return .value(.object([]))
    case "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid":
      return .failed("the guest can't be suspended: it is a simulated one")
    default: return .value(.object([]))
    }
  }

  // MARK: programs

  private func execute(_ arguments: Reader) throws(Reader.Wrong) -> AgentAnswer {
    let path = try arguments.text("path")
    let words = try arguments.optionalTexts("arg") ?? []
    let settings = try arguments.optionalTexts("env")
    var input: [UInt8]?
    if let data = try arguments.optionalText("input-data") {
      guard let bytes = AgentBytes.read(data) else {
        return .failed("Base64 data contains invalid characters")
      }
      input = bytes
    }
    let room = room()
    // A service's environment, not a login's.
    var environment = ["PATH": Shells.path, "LANG": "C.UTF-8", "HOME": room.home]
    if let settings {
      environment = [:]
      for setting in settings {
        let halves = setting.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        environment[String(halves[0])] = halves.count > 1 ? String(halves[1]) : ""
      }
    }
    let command = Command(path: path, arguments: [path] + words, environment: environment)
    let started = AgentProcess.start(
      command, room: room, input: input,
      capturesOutput: arguments["capture-output"]?.boolean ?? false, children: children(),
      loop: loop)
    switch started {
    case .success(let process):
      let pid = Int(room.innerPID(of: process.pid))
      processes[pid] = process
      return .value(["pid": .int(pid)])
    case .failure(let error):
      // With the quotes that kill PVE's daemon.
      return .failed(
        "Guest agent command failed, error was 'Failed to execute child process “\(path)” "
          + "(\(error.reason))'")
    }
  }

  private func status(_ arguments: Reader) throws(Reader.Wrong) -> AgentAnswer {
    let pid = try arguments.number("pid")
    guard let process = processes[pid] else { return .failed("Invalid parameter 'pid'") }
    let status = process.status
    // It can be told once.
    if process.isOver { processes[pid] = nil }
    return .value(status)
  }

  private func setPassword(_ arguments: Reader) throws(Reader.Wrong) -> AgentAnswer {
    let user = try arguments.text("username")
    guard base64Decoded(try arguments.text("password")) != nil else {
      return .failed("Base64 data contains invalid characters")
    }
    // Only whether there is such a user can be told apart: nobody logs in to a room with a password.
    guard facts.users(room()).contains(user) else {
      return .failed("child process has failed to set user password")
    }
    return .value(.object([]))
  }
}

/// The arguments of a command, checked as qemu-ga checks them.
struct Reader {
  struct Wrong: Error { var text: String }

  private let value: JSON?
  init(_ value: JSON?) { self.value = value }

  subscript(name: String) -> JSON? { value?[name] }

  private func wrong(_ name: String, _ type: String) -> Wrong {
    Wrong(text: "Invalid parameter type for '\(name)', expected: \(type)")
  }

  func text(_ name: String) throws(Wrong) -> String {
    guard let text = try optionalText(name) else {
      throw Wrong(text: "Parameter '\(name)' is missing")
    }
    return text
  }

  func optionalText(_ name: String) throws(Wrong) -> String? {
    guard let value = value?[name] else { return nil }
    guard let text = value.string else { throw wrong(name, "string") }
    return text
  }

  func number(_ name: String) throws(Wrong) -> Int {
    guard let number = try optionalNumber(name) else {
      throw Wrong(text: "Parameter '\(name)' is missing")
    }
    return number
  }

  func optionalNumber(_ name: String) throws(Wrong) -> Int? {
    guard let value = value?[name] else { return nil }
    guard let number = value.integer else { throw wrong(name, "integer") }
    return number
  }

  func optionalTexts(_ name: String) throws(Wrong) -> [String]? {
    guard let value = value?[name] else { return nil }
    guard case .array(let items) = value else { throw wrong(name, "array") }
    var out: [String] = []
    for item in items {
      guard let text = item.string else { throw wrong(name, "string") }
      out.append(text)
    }
    return out
  }
}
