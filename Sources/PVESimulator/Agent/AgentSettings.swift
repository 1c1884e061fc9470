/// Who answers as a VM's guest agent.
public enum AgentBackEnd: Sendable, Hashable {
  /// Debian's `qemu-ga` where it is installed, else our own.
  case automatic
  /// Our own agent: it runs commands, reads and writes files, and answers as qemu-ga does.
  case builtIn
  /// Debian's `qemu-ga` on a unix socket, started by the simulator; where it is not installed, nobody answers.
  case qemuGA
  /// Whoever speaks the agent's protocol on a unix socket, e.g. a real QEMU's virtio-serial port.
  case socket(String)
  /// Nobody: the guest has no agent installed.
  case absent
  /// An agent that answers pings and nothing else.
  case hangs
}

/// What a VM's agent does at the moment, for tests; ``Behaviour/agents`` holds it by vmid.
public enum AgentState: String, Sendable, Hashable, CaseIterable {
  /// It answers.
  case answers
  /// The guest has not booted as far: pings time out. What was started before is gone.
  case booting
  /// It stopped answering, pings included; what it started goes on.
  case silent
  /// It answers, but `guest-exec` is disabled in the guest.
  case execDisabled = "exec-disabled"
}

/// How `exec-status` says that output was cut, of which two manners were seen.
public enum TruncationFlags: String, Sendable, Hashable, CaseIterable {
  /// With every output, as 0 or 1 (qemu-ga 7.2).
  case always
  /// Only where output was cut, as 1 (newer sources).
  case whenTruncated = "when-truncated"
}
