import ConsoleProtocol
import Glibc

extension ExecFailure {
  /// A login shell that never became a runner.
  static func shell(_ failure: ShellBootstrap.Failure, on node: NodeName) -> ExecFailure {
    switch failure {
    case .silent(let text):
      let shown = text.split(whereSeparator: \.isNewline).suffix(2).joined(separator: " | ")
      return ExecFailure(
        .unreachable,
        "The shell on node \(node) did not take a command in time."
          + (shown.isEmpty ? " It showed nothing." : " It showed: \(shown)"),
        remedy: "Open the node's shell in the web interface to see what it waits for.")
    case .noTerminalSettings:
      return ExecFailure(
        .unsupported, "The shell on node \(node) has no working stty.",
        remedy: "Install coreutils (or busybox's stty) there.")
    case .ssh(let words):
      return ExecFailure(
        .unreachable, "The API host could not reach node \(node) by ssh: \(words)",
        remedy: "Run `pvecm updatecerts` on the nodes, or name the node itself among the hosts.")
    }
  }

  /// A command that its runner could not start.
  static func start(step: String, code: Int, order: RunnerOrder, place: Place) -> ExecFailure {
    let reason = code == 0 ? "" : String(cString: strerror(Int32(truncatingIfNeeded: code)))
    let program = String(decoding: (order.argv.first ?? []).prefix(200), as: UTF8.self)
    switch step {
    case "exec" where code == Int(ENOENT):
      return ExecFailure(
        .startFailed, "The program '\(program)' was not found on node \(place.node).",
        remedy: "Give its full path, or install it.")
    case "exec":
      return ExecFailure(
        .startFailed, "The program '\(program)' can't be run on node \(place.node): \(reason).",
        remedy: "Check its permissions and its format.")
    case "chdir":
      return ExecFailure(
        .startFailed,
        "The directory '\(String(decoding: order.directory ?? [], as: UTF8.self))' can't be entered on node "
          + "\(place.node): \(reason).",
        remedy: "Name one that exists there.", field: "directory")
    case "user":
      return ExecFailure(
        .startFailed, "There is no user '\(order.user ?? "")' on node \(place.node).",
        remedy: "Name one of its /etc/passwd.", field: "user")
    default:
      return ExecFailure(
        .startFailed, "Node \(place.node) could not start the command (\(step)): \(reason).",
        remedy: "Check the node: it may be out of processes or terminals.")
    }
  }
}

extension ShellPlan {
  /// A terminal that asks for a name or a password.
  func loginRefused(_ text: String, _ place: Place) -> ExecFailure {
    ExecFailure(
      .loginFailed, "The terminal of \(place) asks for a login ('\(text)').", remedy: loginRemedy)
  }

  /// What an end means that isn't the command's: `pct` itself ends with 255 where it runs nothing.
  func explain(_ end: ExecEnd, stdout: Int, error: [UInt8], _ place: Place) -> ExecEnd? {
    guard let container, case .exited(let code) = end, code != 0, stdout == 0 else { return nil }
    let text = String(decoding: error, as: UTF8.self)
    if code == 255, text.hasPrefix("container '\(container)' not running!") {
      return .lost(
        "Nothing was run: container \(container) stopped before the command could begin.")
    }
    if text.hasPrefix("Configuration file 'nodes/"), text.contains("' does not exist") {
      return .lost(
        "Nothing was run: container \(container) is no longer on node \(place.node).")
    }
    return nil
  }
}
