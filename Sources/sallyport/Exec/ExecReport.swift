import ConsoleProtocol
import Foundation
import Gateway
import GuestExec
import ProxmoxClient

/// What `exec --json` prints: one object, whatever happened.
enum ExecReport {
  /// A command that ended, or that was left.
  static func json(
    _ line: ExecLine, _ outcome: ExecSession.Outcome, code: Int32, startSeconds: Double,
    seconds: Double
  ) -> JSONValue {
    var out: [String: JSONValue] = [
      "target": .string(line.about.target), "node": .string(line.about.node),
      "transport": .string(line.about.transport), "reason": .string(line.about.reason),
      "exitCode": .int(Int(code)), "startSeconds": .double(rounded(startSeconds)),
      "seconds": .double(rounded(seconds)),
      "notes": .array(outcome.notes.map { .string($0) }),
    ]
    if let name = line.about.name { out["name"] = .string(name) }
    if let job = line.about.job { out["job"] = .string(job) }
    if let result = outcome.result {
      out["end"] = result.end.json
      out["stdoutTruncated"] = .bool(result.stdoutTruncated)
      out["stderrTruncated"] = .bool(result.stderrTruncated)
    }
    if let failure = outcome.failure { out["failure"] = self.failure(Failure(failure)) }
    add("stdout", outcome.stdout, to: &out)
    add("stderr", outcome.stderr, to: &out)
    return .object(out)
  }

  /// A command that was never started.
  static func json(_ failure: Failure, target: String) -> JSONValue {
    .object([
      "target": .string(target), "exitCode": .int(Int(failure.status.rawValue)),
      "failure": self.failure(failure),
    ])
  }

  private static func failure(_ failure: Failure) -> JSONValue {
    .object([
      "kind": .string(failure.kind), "sentence": .string(failure.sentence),
      "remedy": .string(failure.remedy),
    ])
  }

  /// Text where the bytes are UTF-8, else Base64 under another name.
  private static func add(_ name: String, _ bytes: [UInt8], to out: inout [String: JSONValue]) {
    if let text = String(validating: bytes, as: UTF8.self) {
      out[name] = .string(text)
    } else {
      out[name + "Base64"] = .string(Data(bytes).base64EncodedString())
    }
  }

  private static func rounded(_ seconds: Double) -> Double { (seconds * 1000).rounded() / 1000 }
}
