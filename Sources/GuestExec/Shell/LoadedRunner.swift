import ConsoleProtocol

/// What a terminal is like, and what is run behind it.
struct ShellPlan: Sendable {
  /// What becomes of the login shell.
  var manner = ShellBootstrap.Manner.replace
  /// Whether every byte may be typed.
  var isTransparent = true
  /// The container in which `pct exec` runs the command.
  var container: VMID?
  /// What is typed at a login prompt.
  var credentials: ShellBootstrap.Credentials?
  /// What to do about a login prompt.
  var loginRemedy =
    "Configure consoleUser: root@pam with its password (or a ticket): PVE asks everybody else for a login."
}

/// The runner of a session, and what it wants to hear.
struct LoadedRunner: Sendable {
  private enum Kind: Sendable { case perl, posix }

  private let kind: Kind
  private let plan: ShellPlan
  private let hasTerminal: Bool
  /// The command's process on the node.
  var pid = 0
  /// Frames of output that came from a runner that counts frames.
  var frames = 0

  /// Nil where the wanted one can't be had.
  init?(_ wanted: ShellOptions.Runner, hasPerl: Bool, plan: ShellPlan, order: RunnerOrder) {
    if wanted == .perl, !hasPerl { return nil }
    kind = hasPerl && wanted != .posix ? .perl : .posix
    self.plan = plan
    hasTerminal = order.terminal != nil
  }

  /// How it is written to.
  var coding: RunnerCoding {
    switch kind {
    case .perl: plan.isTransparent ? .binary : .hexadecimal
    case .posix: .lines
    }
  }

  /// Whether the terminal is the command's own: what is typed goes to it, and what it writes comes without frames.
  var isPassedThrough: Bool { kind == .posix && hasTerminal }
  /// Whether its end frame counts bytes, and whether it minds the time itself. A shell does neither.
  var isComplete: Bool { kind == .perl }

  /// An order in its words.
  func order(_ order: RunnerOrder) -> RunnerOrder { kind == .perl ? order : order.simplified }

  /// What it takes at a time, and in all.
  func limit(_ sender: inout RunnerSender) {
    guard kind == .posix else { return }
    sender.largestPiece = PosixRunner.inputPiece
    sender.inputWindow = PosixRunner.inputWindow
  }

  /// The text for the loader's shell, and what that text reads from the terminal.
  func program(magic: [UInt8], options: ShellOptions) -> (script: [UInt8], rest: [UInt8]) {
    let linger = max(0, options.linger.milliseconds)
    let grace = max(100, options.killGrace.milliseconds)
    let alone = plan.manner == .keep ? 90 : 0
    switch kind {
    case .perl:
      let program = PerlRunner.program
      let exec = plan.manner == .replace ? "exec " : ""
      let words =
        "\(program.count) \(String(decoding: Hexadecimal.encode(magic), as: UTF8.self)) "
        + "\(PerlRunner.window) \(linger) \(grace) \(plan.isTransparent ? 0 : 1) "
        + "\(alone)"
      return (Array("PERL5OPT= \(exec)perl -C0 -e '\(PerlRunner.loader)' \(words)".utf8), program)
    case .posix:
      let octal = magic.map { byte in
        let digits = String(byte, radix: 8)
        return "\\" + String(repeating: "0", count: 3 - digits.count) + digits
      }.joined()
      return (PosixRunner.script(magic: octal, graceMilliseconds: Int(grace), alone: alone), [])
    }
  }

  /// How much output has come, in the runner's measure, and the window in the same.
  func window(_ bytes: Int) -> (total: Int, window: Int) {
    switch kind {
    case .perl: (bytes, PerlRunner.window)
    case .posix: (frames, PosixRunner.window)
    }
  }

  /// A signal's message: to whom a shell runner sends it, it has to be told.
  func address(_ signal: Int) -> [UInt8] {
    switch kind {
    case .perl: Array("\(signal)".utf8)
    case .posix: Array("\(signal) \(pid)".utf8)
    }
  }
}
