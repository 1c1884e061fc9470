import ConsoleProtocol
import ProxmoxClient

/// A request as one call of `agent/exec`.
struct AgentPlainCommand {
  /// Program and arguments as the call carries them.
  var words: [String]

  /// - Throws: ``ExecFailure/Kind/unsupported`` for what plain mode can't do.
  init(_ request: ExecRequest, isWindows: Bool, version: PVEVersion?) throws(ExecFailure) {
    guard request.terminal == nil else {
      throw ExecFailure(
        .unsupported, "The agent's plain mode has no terminal.",
        remedy: isWindows
          ? "Use remote desktop, or run the command without a terminal."
          : "Use the agent's streaming mode, or the serial transport.")
    }
    if isWindows {
      words = try Self.windows(request)
    } else {
      words = try Self.posix(request)
    }
    // PVE 7 splits at NUL bytes, and Perl drops empty fields at the end (pve-protocol §1.2, §5.1).
    if words.count > 1, words.last == "", let version, version.major < 8 {
      guard !isWindows else {
        throw ExecFailure(
          .unsupported, "PVE 7 loses empty arguments at a command's end.",
          remedy: "Upgrade to PVE 8, or leave the last argument out.")
      }
      let (_, quoted) = ASCIIWords.expressions(words.map { Array($0.utf8) })
      words = ["/bin/sh", "-c", "exec " + quoted.joined(separator: " ")]
    }
  }

  private static func posix(_ request: ExecRequest) throws(ExecFailure) -> [String] {
    let isBare =
      request.environment.isEmpty && request.directory == nil && request.user == nil
    switch request.command {
    case .argv(let argv) where isBare && argv.allSatisfy(ASCIIWords.isPlain):
      return argv.map { String(decoding: $0, as: UTF8.self) }
    case .shell(let text) where isBare && ASCIIWords.isPlain(text):
      return ["/bin/sh", "-c", String(decoding: text, as: UTF8.self)]
    default: break
    }
    let launch = AgentLaunch(request: request)
    try launch.check()
    return [
      "/bin/sh", "-c",
      "refuse() { echo \"sallyport: not run: ${1#* }\" >&2; exit 127; }\nlaunch() { exec \"$@\"; }\n"
        + launch.text,
    ]
  }

  /// Windows' programs get one command line, which qemu-ga (GLib's spawn helper) quotes by the rules of
  /// CommandLineToArgvW; what a program makes of it is the program's. `cmd` has rules of its own, so its text goes as it
  /// is behind `/c`.
  private static func windows(_ request: ExecRequest) throws(ExecFailure) -> [String] {
    func refuse(_ what: String, _ remedy: String) -> ExecFailure {
      ExecFailure(.unsupported, "On a Windows guest the agent can't \(what).", remedy: remedy)
    }
    guard request.user == nil else {
      throw refuse("run a command as another user", "Leave the user out: it runs as SYSTEM.")
    }
    guard request.environment.isEmpty else {
      throw refuse(
        "set environment variables", "Set them in the command: cmd /c \"set A=1&& program\".")
    }
    guard request.directory == nil else {
      throw refuse("choose the directory", "Change it in the command: cmd /c \"cd /d C:\\x && …\".")
    }
    switch request.command {
    case .argv(let argv):
      var words: [String] = []
      for word in argv {
        guard let text = String(validating: word, as: UTF8.self) else {
          throw refuse("take arguments that are not UTF-8", "Windows' arguments are text.")
        }
        words.append(text)
      }
      return words
    case .shell(let line):
      guard let text = String(validating: line, as: UTF8.self) else {
        throw refuse("take a command that is not UTF-8", "Windows' commands are text.")
      }
      return ["cmd.exe", "/c", text]
    }
  }
}

/// PowerShell on Windows guests.
public enum PowerShell {
  /// A script as a command: `-EncodedCommand` takes UTF-16LE in base64, so nothing has to be quoted.
  public static func command(_ script: String) -> ExecRequest.Command {
    let bytes = script.utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
    let words = [
      "powershell.exe", "-NoProfile", "-NonInteractive", "-EncodedCommand", AgentText.base64(bytes),
    ]
    return .argv(words.map { Array($0.utf8) })
  }
}
