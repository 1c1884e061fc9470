import ConsoleProtocol
import ProxmoxClient

/// What a refused or broken call to the agent means (pve-protocol §5.4, §10).
enum AgentTrouble {
  /// The configuration has no agent.
  case notConfigured
  /// The agent doesn't answer pings: not installed, not started, or not yet.
  case notRunning
  /// The guest is stopped.
  case stopped
  /// `guest-exec` is switched off.
  case execDisabled
  /// The agent could not start the program.
  case notStarted
  /// The agent has no such process (any more).
  case unknownPID
  /// The guest isn't on that node.
  case moved
  /// Too many calls at once: the command didn't get to the agent.
  case busy
  /// The agent took the command and didn't answer within PVE's five seconds, or the answer was lost on the way: what
  /// came of it is unknown.
  case unknown
  /// The connection was never made: nothing was sent.
  case unreachable
  /// PVE or the agent refused in another way.
  case refused

  init(_ error: PVEError) {
    switch error.kind {
    case .connectFailed, .timedOut(.connect), .tlsUntrusted, .badConfiguration, .shutDown:
      self = .unreachable
      return
    case .timedOut, .connectionLost, .malformedAnswer, .bodyTooLarge, .cancelled, .redirected:
      self = .unknown
      return
    case .nodeUnreachable:
      // 595 is the making of the connection; later than that the call may have run.
      self = error.status == 595 ? .unreachable : .unknown
      return
    case .guestNotFound:
      self = .moved
      return
    default: break
    }
    let text = error.message
    if text.contains("No QEMU guest agent configured") {
      self = .notConfigured
    } else if text.contains("QEMU guest agent is not running") {
      self = .notRunning
    } else if text.contains("got timeout") {
      self = .unknown
    } else if text.contains("qga socket") {
      self = .busy
    } else if text.contains("Invalid parameter 'pid'")
      || (text.hasPrefix("Agent error: PID") && text.contains("does not exist"))
    {
      self = .unknownPID
    } else if text.contains("guest-exec"),
      ["has been disabled", "has not been found", "is disabled", "not allowed"].contains(
        where: text.contains)
    {
      self = .execDisabled
    } else if text.contains("Failed to execute child process")
      || text.contains("Guest agent command failed")
    {
      self = .notStarted
    } else if error.kind == .guestNotRunning {
      self = .stopped
    } else {
      self = .refused
    }
  }
}

extension ExecFailure {
  /// What kept a command from being started through the agent.
  /// - Parameter request: its words are cut out of what PVE said, should it have repeated one.
  static func agent(
    _ error: PVEError, place: Place, version: PVEVersion?, request: ExecRequest? = nil
  ) -> ExecFailure {
    let vmid = place.vmid.map(\.description) ?? "?"
    switch AgentTrouble(error) {
    case .notConfigured:
      return ExecFailure(
        .agentNotConfigured, "The configuration of \(place) has no guest agent.",
        remedy:
          "Run 'qm set \(vmid) --agent 1' on its node, stop and start the guest (a reboot from"
          + " within is not enough), and have qemu-guest-agent installed in it.")
    case .notRunning: return notRunning(place)
    case .stopped, .moved:
      if case .guestNotFound = error.kind { return ExecFailure(error) }
      return ExecFailure(
        .guestNotRunning, "\(place) is not running.", remedy: "Start it: 'qm start \(vmid)'.")
    case .execDisabled: return execDisabled(place)
    case .notStarted:
      return ExecFailure(
        .startFailed, "The guest's agent could not start the program.",
        remedy: "Check that it exists in the guest, in the agent's PATH, and may be executed.")
    case .busy:
      return ExecFailure(
        .busy, "The agent of \(place) is busy with other calls.", remedy: "Try again.")
    case .unknown where error.kind == .cancelled:
      return ExecFailure(.cancelled, "The call was cancelled.")
    case .unknown, .unreachable, .unknownPID, .refused: break
    }
    var failure = ExecFailure(error)
    if case .forbidden(_, let named) = error.kind {
      failure.sentence = "Running commands through the agent of \(place) is not allowed."
      let privilege = named ?? neededPrivilege(version)
      failure.remedy =
        "Give the user or token a role with \(privilege.split(separator: "|").joined(separator: " or "))"
        + " on /vms/\(vmid) (a token with privilege separation needs it itself)."
    }
    if let request, request.words.contains(where: { error.message.contains($0) }) {
      failure.sentence = "PVE refused (\(error.status.map(String.init) ?? "no status"))."
    }
    return failure
  }

  static func notRunning(_ place: Place) -> ExecFailure {
    ExecFailure(
      .agentNotRunning, "The guest agent of \(place) doesn't answer.",
      remedy:
        "Install and start qemu-guest-agent in the guest ('systemctl enable --now qemu-guest-agent')."
        + " If it was configured while the guest ran, stop and start the guest once.")
  }

  static func execDisabled(_ place: Place) -> ExecFailure {
    ExecFailure(
      .agentExecDisabled, "The guest agent of \(place) has guest-exec switched off.",
      remedy: "Allow it in the guest: take guest-exec and guest-exec-status out of the agent's"
        + " block list (/etc/qemu/qemu-ga.conf, /etc/sysconfig/qemu-ga, or its service's"
        + " -b / --block-rpcs), and restart the agent.")
  }

  /// What `agent/exec` needs: VM.Monitor up to PVE 8, VM.GuestAgent.Unrestricted from 9 on.
  static func neededPrivilege(_ version: PVEVersion?) -> String {
    guard let version else { return "VM.GuestAgent.Unrestricted (VM.Monitor up to PVE 8)" }
    return version.capabilities.agentPrivileges ? "VM.GuestAgent.Unrestricted" : "VM.Monitor"
  }
}

extension ExecRequest {
  /// Every text in it that an error must not repeat.
  fileprivate var words: [String] {
    var words: [[UInt8]] = environment.map(\.value)
    switch command {
    case .argv(let argv): words += argv
    case .shell(let text): words.append(text)
    }
    return words.filter { $0.count >= 4 }.map { String(decoding: $0, as: UTF8.self) }
  }
}
