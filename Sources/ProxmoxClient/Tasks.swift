import ConsoleProtocol

/// A task's name: `UPID:node:PID:PSTART:TIME:type:id:user:`, numbers in hexadecimal.
public struct UPID: Sendable, Hashable, CustomStringConvertible {
  /// The whole of it.
  public let text: String
  /// The node the task runs on.
  public let node: NodeName
  /// What it does: `vncproxy`, `vncshell`, `qmtunnel` …
  public let type: String
  /// What it does it to, a vmid as a rule; may be empty.
  public let id: String
  /// Who started it: `user@realm` or `user@realm!token`.
  public let user: String

  /// Nil for what isn't a task's name.
  public init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count >= 8, parts[0] == "UPID", let node = NodeName(parts[1]),
      parts[2...4].allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { HexDigit.value($0) != nil } })
    else { return nil }
    self.text = text
    self.node = node
    type = String(parts[5])
    id = String(parts[6])
    user = String(parts[7])
  }

  /// The whole of it.
  public var description: String { text }

  var apiPath: String { "/nodes/\(node)/tasks/\(PercentEncoding.encode(text))" }
}

/// How a task stands.
public struct TaskStatus: Sendable, Hashable {
  /// Whether it still runs.
  public var isRunning: Bool
  /// `OK`, or PVE's words about what failed; nil while it runs.
  public var exitStatus: String?
  /// Whether it ended well.
  public var succeeded: Bool { exitStatus == "OK" }
}

extension ProxmoxClient {
  /// How a task stands.
  public func taskStatus(_ upid: String) async throws(PVEError) -> TaskStatus {
    let answer = try await perform(
      APIRequest(method: .get, path: try task(upid).apiPath + "/status"))
    let status = try answer.string("status")
    return TaskStatus(
      isRunning: status == "running", exitStatus: answer.value["exitstatus"].string)
  }

  /// The last lines of a task's log, oldest first.
  public func taskLogTail(_ upid: String, lines: Int = 10) async throws(PVEError) -> [String] {
    let path = try task(upid).apiPath + "/log"
    let wanted = max(1, min(lines, 5000))
    func read(from start: Int) async throws(PVEError) -> (lines: [String], total: Int) {
      let (answer, json, _) = try await envelope(
        APIRequest(
          method: .get, path: path,
          parameters: [Parameter("start", start), Parameter("limit", max(wanted, 50))]))
      let rows = try answer.elements()
      return (rows.map { $0.value["t"].string ?? "" }, json["total"].int ?? rows.count)
    }
    // A console's log is a few lines; a long one needs a second look at its end.
    let first = try await read(from: 0)
    if first.total <= first.lines.count { return Array(first.lines.suffix(wanted)) }
    return Array(try await read(from: max(0, first.total - wanted)).lines.suffix(wanted))
  }

  /// Stops a task. A console's worker ends with it.
  public func stopTask(_ upid: String) async throws(PVEError) {
    _ = try await perform(APIRequest(method: .delete, path: try task(upid).apiPath))
  }

  private func task(_ upid: String) throws(PVEError) -> UPID {
    guard let task = UPID(upid) else {
      throw APIRequest(method: .get, path: "/nodes/localhost/tasks").error(
        .badConfiguration, "'\(PVEError.clean(String(upid.prefix(120))))' is no task",
        hint: "A task's name begins with UPID:")
    }
    return task
  }
}
