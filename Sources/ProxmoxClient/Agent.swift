import ConsoleProtocol

/// How a program that the guest agent started stands.
public struct AgentExecStatus: Sendable, Hashable {
  /// Whether it ended **and** both its streams are closed. The agent tells that once, and forgets the program.
  public var exited: Bool
  /// Its exit status, where it ended by itself.
  public var exitCode: Int?
  /// The signal that ended it (on Windows: the exception's code).
  public var signal: Int?
  /// What it wrote, as bytes; nothing before its end.
  public var stdout: [UInt8]
  /// The same of standard error.
  public var stderr: [UInt8]
  /// Whether output was cut: told so, or exactly the 16 MiB that the agent keeps.
  public var stdoutTruncated: Bool
  /// The same of standard error.
  public var stderrTruncated: Bool
}

extension AgentExecStatus {
  /// A field that is not as it should be.
  package struct BadField: Error, Hashable {
    package var field: String
    package var what: String
  }

  /// Reads what `agent/exec-status` answers, and `qm guest exec-status` prints.
  package init(_ value: JSONValue) throws(BadField) {
    guard let exited = value["exited"].bool else {
      throw BadField(field: "exited", what: "is missing")
    }
    func bytes(_ field: String) throws(BadField) -> [UInt8] {
      guard let bytes = AgentText.bytes(value[field].string ?? "") else {
        throw BadField(field: field, what: "holds a character that is no byte")
      }
      return bytes
    }
    let out = try bytes("out-data")
    let err = try bytes("err-data")
    let whole = ProxmoxClient.agentCapture
    self.init(
      exited: exited, exitCode: value["exitcode"].int, signal: value["signal"].int, stdout: out,
      stderr: err,
      stdoutTruncated: value["out-truncated"].bool == true || out.count == whole,
      stderrTruncated: value["err-truncated"].bool == true || err.count == whole)
  }
}

/// What a guest is, by its agent.
public struct AgentOSInfo: Sendable, Hashable {
  /// What the agent said.
  package init(id: String?, name: String?) {
    self.id = id
    self.name = name
  }

  /// `debian`, `alpine`, `mswindows` …; nil where the guest has no `/etc/os-release`.
  public var id: String?
  /// A name for people.
  public var name: String?
  /// Whether the guest is Windows.
  public var isWindows: Bool { id == "mswindows" }
}

/// What an agent is and can do.
public struct AgentInfo: Sendable, Hashable {
  /// qemu-ga's version.
  public var version: String
  /// By command (`guest-exec` …), whether it is enabled in the guest.
  public var commands: [String: Bool]
}

/// The QEMU guest agent's calls, below `/nodes/{node}/qemu/{vmid}/agent` (pve-protocol §5).
///
/// `agent/exec`, `agent/exec-status` and `agent/file-write` are sent at most once: where an answer is lost they throw
/// ``PVEError/Kind/connectionLost`` and what happened is unknown. No error holds an argument, input or content.
extension ProxmoxClient {
  /// The agent's limit of one stream, in bytes.
  public static let agentCapture = 16 << 20
  /// The most characters of `input-data`.
  public static let agentInputLimit = 65_536
  /// The most characters of `file-write`'s content; with base64 they are 46,080 bytes.
  public static let agentWriteLimit = 61_440
  /// The most bytes that one ``agentFileWrite(_:file:bytes:)`` carries.
  public static let agentWriteBytes = agentWriteLimit / 4 * 3

  /// Starts a program (`agent/exec`).
  /// - Parameters:
  ///   - command: program and arguments. PVE 8 on takes an array. PVE 7 takes them joined by NUL bytes and loses empty
  ///     ones at the end; a single text would be split at spaces there, so it goes with an empty one behind it.
  ///   - input: standard input, each byte as the character of its number; at most 65,536.
  /// - Returns: its process id in the guest.
  public func agentExec(
    _ place: Place, _ command: [String], input: String? = nil
  ) async throws(PVEError) -> Int {
    var words = command
    if words.count == 1, try await version().major < 8 { words.append("") }
    var parameters = [Parameter("command", words)]
    if let input { parameters.append(Parameter("input-data", input)) }
    var request = APIRequest(
      method: .post, path: try agent(place) + "/exec", parameters: parameters)
    request.atMostOnce = true
    return try await perform(request).int("pid")
  }

  /// How a program stands (`agent/exec-status`). The answer that tells its end is given once only.
  public func agentExecStatus(_ place: Place, pid: Int) async throws(PVEError) -> AgentExecStatus {
    var request = APIRequest(
      method: .get, path: try agent(place) + "/exec-status", parameters: [Parameter("pid", pid)])
    request.atMostOnce = true
    // Two streams of 16 MiB, and a byte below 32 is six characters of JSON. An answer that is not read is lost.
    request.maximumBody = 2 * 6 * Self.agentCapture + (1 << 20)
    let answer = try await perform(request)
    do throws(AgentExecStatus.BadField) {
      return try AgentExecStatus(answer.value)
    } catch {
      throw answer.error(error.field, error.what)
    }
  }

  /// Reads a guest's file (`agent/file-read`): 16 MiB at most.
  /// - Parameters:
  ///   - offset: where to begin; not zero needs PVE 9.1.5.
  ///   - count: how much; needs PVE 9.1.5.
  /// - Returns: the bytes, and whether the file goes on behind them.
  public func agentFileRead(
    _ place: Place, file: String, offset: Int = 0, count: Int? = nil
  ) async throws(PVEError) -> (bytes: [UInt8], isCut: Bool) {
    var parameters = [Parameter("file", file)]
    if offset > 0 { parameters.append(Parameter("offset", offset)) }
    if let count { parameters.append(Parameter("count", count)) }
    var request = APIRequest(
      method: .get, path: try agent(place) + "/file-read", parameters: parameters)
    request.maximumBody = 6 * Self.agentCapture + (1 << 20)
    let answer = try await perform(request)
    guard let bytes = AgentText.bytes(try answer.required("content") { $0.string }) else {
      throw answer.error("content", "holds a character that is no byte")
    }
    return (bytes, answer.value["truncated"].bool ?? false)
  }

  /// Writes a guest's file (`agent/file-write`), in base64. What was in it is gone; nothing can be added to a file.
  /// - Parameter bytes: at most ``agentWriteBytes``.
  public func agentFileWrite(_ place: Place, file: String, bytes: [UInt8]) async throws(PVEError) {
    var request = APIRequest(
      method: .post, path: try agent(place) + "/file-write",
      parameters: [
        Parameter("file", file), Parameter("content", Secret(AgentText.base64(bytes))),
        Parameter("encode", false),
      ])
    request.atMostOnce = true
    _ = try await perform(request)
  }

  /// What the guest is (`agent/get-osinfo`).
  /// - Throws: ``PVEError/Kind/failed`` also where the agent itself refused; PVE calls that a success.
  public func agentOSInfo(_ place: Place) async throws(PVEError) -> AgentOSInfo {
    let result = try await agentResult(place, .get, "get-osinfo").value
    return AgentOSInfo(id: result["id"].string, name: result["pretty-name"].string)
  }

  /// What the agent can do (`agent/info`).
  public func agentInfo(_ place: Place) async throws(PVEError) -> AgentInfo {
    let result = try await agentResult(place, .get, "info")
    var commands: [String: Bool] = [:]
    for row in result.value["supported_commands"].array ?? [] {
      if let name = row["name"].string { commands[name] = row["enabled"].bool ?? true }
    }
    return AgentInfo(version: try result.string("version"), commands: commands)
  }

  /// Whether the agent answers (`agent/ping`). - Throws: where it doesn't, after three seconds.
  public func agentPing(_ place: Place) async throws(PVEError) {
    _ = try await perform(APIRequest(method: .post, path: try agent(place) + "/ping"))
  }

  /// A one-word command's `result`; an agent's error is a good answer of PVE's, and none of ours.
  private func agentResult(
    _ place: Place, _ method: HTTPMethod, _ name: String
  ) async throws(PVEError) -> AnswerReader {
    let request = APIRequest(method: method, path: try agent(place) + "/" + name)
    let answer = try await perform(request)
    let result = answer.value["result"]
    if let text = result["error"]["desc"].string {
      throw request.error(.failed, "Agent error: " + PVEError.clean(text), host: answer.host)
    }
    return AnswerReader(value: result, request: request, host: answer.host, prefix: "result.")
  }

  private func agent(_ place: Place) throws(PVEError) -> String {
    guard case .qemu = place.kind else {
      throw APIRequest(method: .get, path: place.apiPath).error(
        .badConfiguration, "\(place) is no virtual machine",
        hint: "Only virtual machines have a guest agent")
    }
    return place.apiPath + "/agent"
  }
}
