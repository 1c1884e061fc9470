import EventLoop
import Glibc

/// `pct` and `qm` of a node, for its shell: scripts in a folder of their own, which ask the node over a named pipe.
final class NodeTools: StreamHandler {
  /// The folder, for `PATH`.
  let folder: String
  private unowned let node: PVENode
  private var stream: EventLoop.Stream?
  private var line: [UInt8] = []

  /// Makes the folder; nil where that fails.
  init?(node: PVENode) {
    guard let folder = node.cluster.rooms.place("tools-\(node.name)") else { return nil }
    self.folder = folder
    self.node = node
    mkdir(folder, 0o700)
    unlink(folder + "/ask")
    guard mkfifo(folder + "/ask", 0o600) == 0,
      NodeTools.write(Array(ToolScripts.common.utf8), to: folder + "/common", mode: 0o600),
      NodeTools.write(Array(ToolScripts.pct.utf8), to: folder + "/pct", mode: 0o700),
      NodeTools.write(Array(ToolScripts.qm.utf8), to: folder + "/qm", mode: 0o700)
    else { return nil }
    // Open for writing too, so that it never ends.
    let descriptor = open(folder + "/ask", O_RDWR | O_NONBLOCK | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    do throws(LoopError) {
      stream = try Stream.adopt(on: node.loop, descriptor: descriptor, handler: self)
    } catch {
      return nil
    }
  }

  func close() {
    stream?.close()
    stream = nil
  }

  private static func write(_ bytes: [UInt8], to path: String, mode: mode_t) -> Bool {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
    guard descriptor >= 0 else { return false }
    defer { Glibc.close(descriptor) }
    var done = 0
    while done < bytes.count {
      let n = bytes.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done)
      }
      if n <= 0 { return false }
      done += n
    }
    return true
  }

  private static func read(_ path: String) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { Glibc.close(descriptor) }
    var out: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      let n = Glibc.read(descriptor, &chunk, chunk.count)
      if n <= 0 { return out }
      out += chunk.prefix(n)
    }
  }

  // MARK: questions

  func streamConnected(_ stream: EventLoop.Stream) {}
  func streamDrained(_ stream: EventLoop.Stream) {}
  func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) { self.stream = nil }

  func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    line.append(contentsOf: bytes)
    while let end = line.firstIndex(of: 10) {
      let words = String(decoding: line[..<end], as: UTF8.self).split(separator: " ").map(
        String.init)
      line.removeSubrange(...end)
      // The number names the asker's files, so nothing else may be in it.
      guard words.count >= 2, words[0].utf8.allSatisfy({ (48...57).contains($0) }) else { continue }
      answer(Question(asker: words[0], word: words[1], arguments: Array(words.dropFirst(2))))
    }
  }

  private struct Question {
    var asker: String
    var word: String
    var arguments: [String]
    var kind: SimulatedGuest.Kind {
      arguments.first == "lxc" ? .lxc : .qemu
    }
    var vmid: Int { arguments.count > 1 ? Int(arguments[1]) ?? 0 : 0 }
    /// What comes after kind and vmid.
    func more(_ i: Int) -> String { arguments.count > 2 + i ? arguments[2 + i] : "" }
  }

  /// Text for standard output, and the exit status.
  private func done(_ question: Question, _ text: String = "", status: Int = 0) {
    if !text.isEmpty {
      _ = NodeTools.write(Array(text.utf8), to: "\(folder)/out.\(question.asker)", mode: 0o600)
    }
    reply(question, "done \(status)")
  }

  /// Text for standard error; PVE's tools end with 255.
  private func fail(_ question: Question, _ text: String) {
    _ = NodeTools.write(
      Array((text + "\n").utf8), to: "\(folder)/err.\(question.asker)", mode: 0o600)
    reply(question, "done 255")
  }

  private func reply(_ question: Question, _ text: String) {
    // The asker holds it open in both directions.
    let path = "\(folder)/reply.\(question.asker)"
    let descriptor = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    _ = Array((text + "\n").utf8).withUnsafeBytes {
      Glibc.write(descriptor, $0.baseAddress, $0.count)
    }
    Glibc.close(descriptor)
  }

  private func answer(_ question: Question) {
    if question.word == "list" { return done(question, list(question.kind)) }
    let isContainer = question.kind == .lxc
    guard let guest = node.guests[question.vmid], guest.description.kind == question.kind,
      guest.node === node
    else {
      return fail(
        question,
        "Configuration file 'nodes/\(node.name)/\(isContainer ? "lxc" : "qemu-server")/"
          + "\(question.vmid).conf' does not exist")
    }
    let title = "\(isContainer ? "CT" : "VM") \(question.vmid)"
    switch question.word {
    case "status": done(question, "status: \(guest.isRunning ? "running" : "stopped")\n")
    case "start":
      guard !guest.isRunning else { return fail(question, "\(title) already running") }
      guest.start()
      done(question)
    case "stop", "shutdown":
      guard guest.isRunning else {
        return isContainer || question.word == "shutdown"
          ? fail(question, "\(title) not running") : done(question)
      }
      if question.word == "stop" || !guest.insides.powerDown() { guest.stop() }
      done(question)
    case "reset", "reboot":
      guard guest.isRunning else { return fail(question, "\(title) not running") }
      guest.insides.reset()
      done(question)
    case "exec", "enter": enter(question, guest)
    case "guest-exec", "guest-exec-status", "guest-cmd": agent(question, guest)
    default: fail(question, "unknown command")
    }
  }

  private func enter(_ question: Question, _ guest: Guest) {
    guard guest.isRunning else {
      return fail(question, "container '\(question.vmid)' not running!")
    }
    let room = guest.insides.room
    switch room.walls {
    case .namespaces(let first, let user):
      reply(question, "enter \(first) \(user ? 1 : 0) \(guest.description.name)")
    case .mark(let mark):
      reply(question, "plain \(Room.variable)=\(mark) \(room.home) \(guest.description.name)")
    }
  }

  // MARK: tables

  private func list(_ kind: SimulatedGuest.Kind) -> String {
    let guests = node.guests.values.filter { $0.description.kind == kind && $0.node === node }
      .sorted { $0.description.vmid < $1.description.vmid }
    guard !guests.isEmpty else { return "" }
    func left(_ text: String, _ width: Int) -> String {
      text + String(repeating: " ", count: max(0, width - text.utf8.count))
    }
    func right(_ text: String, _ width: Int) -> String {
      String(repeating: " ", count: max(0, width - text.utf8.count)) + text
    }
    var out = ""
    if kind == .lxc {
      func row(_ id: String, _ status: String, _ lock: String, _ name: String) {
        out += "\(left(id, 10)) \(left(status, 10)) \(left(lock, 12)) \(left(name, 20))\n"
      }
      row("VMID", "Status", "Lock", "Name")
      for guest in guests {
        row(
          "\(guest.description.vmid)", guest.isRunning ? "running" : "stopped", "",
          guest.description.name)
      }
      return out
    }
    func row(
      _ id: String, _ name: String, _ status: String, _ memory: String, _ disk: String,
      _ pid: String
    ) {
      out +=
        "\(right(id, 10)) \(left(name, 20)) \(left(status, 10)) \(left(memory, 10)) "
        + "\(right(disk, 12)) \(left(pid, 10))\n"
    }
    row("VMID", "NAME", "STATUS", "MEM(MB)", "BOOTDISK(GB)", "PID")
    for guest in guests {
      row(
        "\(guest.description.vmid)", guest.description.name,
        guest.isRunning ? "running" : "stopped", "\(guest.description.memory >> 20)", "32.00",
        "\(guest.isRunning ? guest.pid : 0)")
    }
    return out
  }

  // MARK: agent

  private func agent(_ question: Question, _ guest: Guest) {
    guard guest.hasAgentLine else { return fail(question, "No QEMU guest agent configured") }
    guard guest.isRunning else { return fail(question, "VM \(question.vmid) is not running") }
    let call = AgentCall(node, guest)
    switch question.word {
    case "guest-cmd":
      call.perform("guest-\(question.more(0))", nil) { [weak self] outcome in
        switch outcome {
        case .success(let value): self?.done(question, AgentPrint.pretty(value) + "\n")
        case .failure(let error): self?.fail(question, error.message)
        }
      }
    case "guest-exec-status":
      status(question, call, pid: Int(question.more(0)) ?? 0, until: nil)
    default:
      let words = (NodeTools.read("\(folder)/args.\(question.asker)") ?? [])
        .split(separator: 0, omittingEmptySubsequences: false).dropLast()
        .map { String(decoding: $0, as: UTF8.self) }
      let input = NodeTools.read("\(folder)/input.\(question.asker)")
      guard !words.isEmpty || input != nil else {
        return fail(question, "command or input-data (or both) required")
      }
      var members: [JSON.Member] = [
        .init(key: "path", value: words.first.map { .string($0) } ?? .null),
        .init(key: "arg", value: .array(words.dropFirst().map { .string($0) })),
        .init(key: "capture-output", value: .bool(true)),
      ]
      if let input { members.append(.init(key: "input-data", value: .string(base64(input)))) }
      let limit = Int(question.more(1)) ?? 30
      call.perform("guest-exec", .object(members)) { [weak self] outcome in
        guard let self else { return }
        switch outcome {
        case .failure(let error): self.fail(question, error.message)
        case .success(let value):
          guard question.more(0) != "0", let pid = value["pid"]?.integer else {
            return self.done(question, AgentPrint.pretty(value) + "\n")
          }
          // Not at once: it has hardly begun.
          self.node.loop.schedule(after: .milliseconds(20)) { [weak self] in
            guard let self else { return }
            self.status(
              question, call, pid: pid,
              until: limit > 0 ? self.node.loop.now + .seconds(limit) : .seconds(Int.max / 4))
          }
        }
      }
    }
  }

  /// Asks once a second, as the real tool does, until the program has ended or the time is up.
  private func status(_ question: Question, _ call: AgentCall, pid: Int, until: Duration?) {
    call.perform("guest-exec-status", ["pid": .int(pid)]) { [weak self] outcome in
      guard let self else { return }
      switch outcome {
      case .failure(let error): self.fail(question, error.message)
      case .success(let value):
        if value["exited"] == .bool(false), let until, self.node.loop.now < until {
          self.node.loop.schedule(after: .seconds(1)) { [weak self] in
            self?.status(question, call, pid: pid, until: until)
          }
          return
        }
        var members = AgentPrint.status(value)
        if value["exited"] == .bool(false), until != nil {
          members.append(.init(key: "pid", value: .int(pid)))
        }
        self.done(question, AgentPrint.pretty(.object(members)) + "\n")
      }
    }
  }
}

/// JSON as PVE's tools print it: sorted keys, three spaces, a space on both sides of the colon.
enum AgentPrint {
  static func pretty(_ value: JSON, indent: String = "") -> String {
    let inner = indent + "   "
    switch value {
    case .object(let members):
      guard !members.isEmpty else { return "{}" }
      let rows = members.sorted { $0.key < $1.key }.map {
        "\(inner)\(JSON.string($0.key).text) : \(pretty($0.value, indent: inner))"
      }
      return "{\n" + rows.joined(separator: ",\n") + "\n\(indent)}"
    case .array(let items):
      guard !items.isEmpty else { return "[]" }
      return "[\n" + items.map { inner + pretty($0, indent: inner) }.joined(separator: ",\n")
        + "\n\(indent)]"
    default: return value.text
    }
  }

  /// `exec-status` as the API has it.
  static func status(_ value: JSON) -> [JSON.Member] {
    guard case .object(let members) = value else { return [] }
    return members.map { member in
      switch (member.key, member.value) {
      case ("out-data", .string(let text)), ("err-data", .string(let text)):
        .init(key: member.key, value: .string(AgentBytes.decode(text)))
      case (_, .bool(let flag)): .init(key: member.key, value: .flag(flag))
      default: member
      }
    }
  }
}
