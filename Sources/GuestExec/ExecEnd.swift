/// How a command ended. It is never made up: what can't be known is ``lost(_:)``.
public enum ExecEnd: Sendable, Hashable {
  /// It exited with this status: 0 to 255, on Windows any 32-bit number.
  case exited(Int)
  /// A signal ended it.
  case signalled(Int)
  /// Its time limit was over, and it was told to end.
  case timedOut
  /// Somebody cancelled it.
  case cancelled
  /// Its end isn't known; a sentence that says why, and what is known.
  case lost(String)

  /// A short word: `exited`, `signalled`, `timed-out`, `cancelled` or `lost`.
  public var word: String {
    switch self {
    case .exited: "exited"
    case .signalled: "signalled"
    case .timedOut: "timed-out"
    case .cancelled: "cancelled"
    case .lost: "lost"
    }
  }
}

/// How a command ended, and whether its output is whole.
public struct ExecResult: Sendable, Hashable {
  /// How it ended.
  public var end: ExecEnd
  /// Whether output on standard output is missing: cut by a limit of ours or the target's.
  public var stdoutTruncated: Bool
  /// The same for standard error.
  public var stderrTruncated: Bool

  /// Puts the parts together.
  public init(_ end: ExecEnd, stdoutTruncated: Bool = false, stderrTruncated: Bool = false) {
    self.end = end
    self.stdoutTruncated = stdoutTruncated
    self.stderrTruncated = stderrTruncated
  }
}

/// What a running command tells, in order.
public enum ExecEvent: Sendable, Hashable {
  /// The next bytes of standard output (with a terminal: everything).
  case stdout([UInt8])
  /// The next bytes of standard error.
  case stderr([UInt8])
  /// Something for a person about the way there, e.g. that the agent is being waited for.
  case note(String)
  /// The end; nothing follows.
  case ended(ExecResult)
}
