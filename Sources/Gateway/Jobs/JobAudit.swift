import Foundation
import Glibc
import GuestExec
import Logging
import ProxmoxClient

/// Who ran what, where, when, and how it ended: a line in the log, and one in the audit file where there is one. No
/// secret is in either; the log has a command's program and how many arguments it has, the file the arguments too.
final class JobAudit: Sendable {
  private let logger: Logger
  private let disk: JobDisk
  private let descriptor: Int32?

  /// - Throws: ``ConfigurationError`` where the file can't be written.
  init(file: String?, logger: Logger, disk: JobDisk) throws(ConfigurationError) {
    self.logger = logger
    self.disk = disk
    guard let file else {
      descriptor = nil
      return
    }
    let opened = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
    guard opened >= 0 else {
      throw ConfigurationError(
        "exec.auditFile", "'\(file)' can't be written: \(String(cString: strerror(errno)))",
        remedy: "Name a file in a folder that Sallyport can write to")
    }
    descriptor = opened
  }

  deinit {
    if let descriptor { close(descriptor) }
  }

  /// A command was sent.
  func started(_ summary: JobSummary) {
    logger.info("exec started", metadata: Self.metadata(summary))
    append("started", summary, summary.started ?? Date())
  }

  /// A job is over, whether it was started or not.
  func ended(_ summary: JobSummary) {
    var metadata = Self.metadata(summary)
    metadata["state"] = "\(summary.state.rawValue)"
    switch summary.end {
    case .exited(let code)?: metadata["end"] = "exited \(code)"
    case .signalled(let number)?: metadata["end"] = "signalled \(number)"
    case let end?: metadata["end"] = "\(end.word)"
    case nil: metadata["end"] = "\(summary.failure?.kind.rawValue ?? "-")"
    }
    metadata["stdout"] = "\(summary.stdoutBytes)"
    metadata["stderr"] = "\(summary.stderrBytes)"
    if let started = summary.started {
      metadata["seconds"] = "\(Int((summary.ended ?? Date()).timeIntervalSince(started)))"
    }
    logger.info("exec ended", metadata: metadata)
    append("ended", summary, summary.ended ?? Date())
  }

  /// Somebody may not run what they asked for.
  func refused(_ order: JobOrder, key: String, _ problem: Problem) {
    logger.notice(
      "exec refused",
      metadata: [
        "key": "\(key)", "target": "\(order.target)", "kind": "\(problem.kind)",
        "program": "\(order.secretArgv ? "(secret)" : order.request.command.program)",
      ])
    write([
      "event": .string("refused"), "time": .string(Date().rfc3339), "key": .string(key),
      "target": .string(order.target.description), "reason": .string(problem.kind),
      "command": order.secretArgv ? .string("(secret)") : order.request.command.json,
    ])
  }

  private static func metadata(_ summary: JobSummary) -> Logger.Metadata {
    var out: Logger.Metadata = [
      "job": "\(summary.id)", "key": "\(summary.key)", "cluster": "\(summary.cluster)",
      "target": "\(summary.target)", "node": "\(summary.node)",
    ]
    if let transport = summary.transport { out["transport"] = "\(transport.rawValue)" }
    if let fleet = summary.fleet { out["fleet"] = "\(fleet)" }
    let words = summary.command?["argv"].array
    out["program"] =
      summary.command == nil ? "(secret)" : "\(Self.plain(words?.first?.string ?? "(shell)"))"
    if let words { out["arguments"] = "\(words.count - 1)" }
    return out
  }

  /// A word of a command, fit for a line of a log.
  private static func plain(_ text: String) -> String {
    String(
      String.UnicodeScalarView(
        text.unicodeScalars.prefix(200).map { $0.value < 32 || $0.value == 127 ? "?" : $0 }))
  }

  private func append(_ event: String, _ summary: JobSummary, _ time: Date) {
    var out: [String: JSONValue] = [
      "event": .string(event), "time": .string(time.rfc3339), "job": .string(summary.id),
      "key": .string(summary.key), "cluster": .string(summary.cluster),
      "target": .string(summary.target), "node": .string(summary.node),
      "command": summary.command ?? .string("(secret)"),
    ]
    if let name = summary.name { out["name"] = .string(name) }
    if let transport = summary.transport { out["transport"] = .string(transport.rawValue) }
    if let fleet = summary.fleet { out["fleet"] = .string(fleet) }
    if event == "ended" {
      out["state"] = .string(summary.state.rawValue)
      if let end = summary.end { out["end"] = end.json }
      if let failure = summary.failure { out["failure"] = .string(failure.kind.rawValue) }
      out["stdoutBytes"] = .int(summary.stdoutBytes)
      out["stderrBytes"] = .int(summary.stderrBytes)
    }
    write(out)
  }

  /// One write for a line: O_APPEND keeps lines of several writers whole.
  private func write(_ fields: [String: JSONValue]) {
    guard let descriptor else { return }
    let line = Array((JSONValue.object(fields).description + "\n").utf8)
    let logger = logger
    disk.later { [self] in
      let n = line.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      // Who reads this object's descriptor holds it.
      withExtendedLifetime(self) {}
      if n != line.count { logger.error("the audit file can't be written: errno \(errno)") }
    }
  }
}

extension ExecRequest.Command {
  /// The program's name as text.
  var program: String {
    switch self {
    case .argv(let words): String(decoding: (words.first ?? []).prefix(200), as: UTF8.self)
    case .shell: "(shell)"
    }
  }
}
