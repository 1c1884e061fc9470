/// How a command ended, as the JSON object `Status` of Kubernetes, the last message of its stream.
///
/// A client's exit status comes from it: `Success` is 0, the reason `NonZeroExitCode` carries the number (0 to 255, which
/// is all that kubectl reads), anything else is an error whose message is shown. So an end that is no exit status is
/// never given one.
package struct RemoteCommandStatus: Sendable, Hashable {
  /// A detail.
  package struct Cause: Sendable, Hashable {
    /// What kind of detail, e.g. `ExitCode`.
    package var reason: String
    /// The detail.
    package var message: String
    /// Puts the parts together.
    package init(_ reason: String, _ message: String) {
      self.reason = reason
      self.message = message
    }
  }

  /// Whether the command exited with 0.
  package var isSuccess: Bool
  /// One sentence for a person.
  package var message: String
  /// One word for a program.
  package var reason: String
  /// The HTTP status that an API would answer; nil where there is none.
  package var code: Int?
  /// Details.
  package var causes: [Cause]

  /// The reason of an end that is an exit status, but 0.
  package static let nonZeroExit = "NonZeroExitCode"
  /// The cause that holds the exit status.
  package static let exitCode = "ExitCode"

  /// The command exited. Numbers that aren't exit statuses of Unix (Windows has 32 bits) are 255, and told in words.
  package static func exited(_ status: Int) -> RemoteCommandStatus {
    if status == 0 {
      return RemoteCommandStatus(
        isSuccess: true, message: "", reason: "", code: nil, causes: [])
    }
    var out = RemoteCommandStatus(
      isSuccess: false, message: "command terminated with exit code \(status)",
      reason: nonZeroExit, code: nil, causes: [Cause(exitCode, String(status))])
    if !(1...255).contains(status) {
      out.causes = [Cause(exitCode, "255"), Cause("FullExitCode", String(status))]
    }
    return out
  }

  /// A signal ended the command: 128 and its number, as shells and container runtimes say it.
  package static func signalled(_ number: Int) -> RemoteCommandStatus {
    // A number that is no signal of Unix (a Windows exception) has no such form.
    let status = (1...127).contains(number) ? 128 + number : 255
    return RemoteCommandStatus(
      isSuccess: false, message: "command terminated by signal \(number)", reason: nonZeroExit,
      code: nil,
      causes: [Cause(exitCode, String(status)), Cause("Signal", String(number))])
  }

  /// There is no exit status: it was never started, or its end is another.
  package static func failed(
    _ reason: String, _ message: String, code: Int, causes: [Cause] = []
  ) -> RemoteCommandStatus {
    RemoteCommandStatus(
      isSuccess: false, message: message, reason: reason, code: code, causes: causes)
  }

  /// The object, in the order in which Kubernetes writes it.
  package var json: String {
    var out = "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":"
    out += isSuccess ? "\"Success\"" : "\"Failure\""
    func add(_ name: String, _ value: String) {
      guard !value.isEmpty else { return }
      out += ",\"\(name)\":"
      out.appendJSONString(value)
    }
    add("message", message)
    add("reason", reason)
    if !causes.isEmpty {
      out += ",\"details\":{\"causes\":["
      for (i, cause) in causes.enumerated() {
        out += i > 0 ? ",{\"reason\":" : "{\"reason\":"
        out.appendJSONString(cause.reason)
        out += ",\"message\":"
        out.appendJSONString(cause.message)
        out += "}"
      }
      out += "]}"
    }
    if let code { out += ",\"code\":\(code)" }
    return out + "}"
  }
}
