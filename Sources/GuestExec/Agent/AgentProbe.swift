import ConsoleProtocol
import ProxmoxClient

/// What a failed `agent/exec` means for the command.
enum AgentStart {
  /// It was certainly not run.
  case refused(ExecFailure)
  /// It may have been run: the sentence says why nobody knows.
  case unknown(String)

  init(_ error: PVEError, link: AgentLink, request: ExecRequest, version: PVEVersion?) {
    guard case .unknown = AgentTrouble(error) else {
      self = .refused(
        ExecFailure.agent(error, place: link.place, version: version, request: request))
      return
    }
    if error.kind == .cancelled {
      self = .unknown("The call that starts the command was cancelled on its way")
    } else if let status = error.status, (595...599).contains(status) {
      self = .unknown("PVE answered \(status) to the call that starts the command")
    } else if error.message.contains("got timeout") {
      self = .unknown("The agent took the command and didn't answer within PVE's five seconds")
    } else {
      self = .unknown("The answer to the call that starts the command was lost")
    }
  }
}

extension AgentLink {
  /// Whether a POSIX guest has a program; nil where that can't be found out. Runs nothing but a shell's look-up.
  func has(program: [UInt8]) async -> Bool? {
    let (setup, words) = ASCIIWords.expressions([program])
    guard let word = words.first else { return nil }
    let script = setup + "command -v -- \(word) >/dev/null 2>&1 && echo yes || echo no\n"
    guard let status = try? await run(["/bin/sh", "-c", script]), status.exitCode == 0 else {
      return nil
    }
    switch status.stdout {
    case Array("yes\n".utf8): return true
    case Array("no\n".utf8): return false
    default: return nil
    }
  }
}
