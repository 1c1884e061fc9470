import ConsoleProtocol
import Foundation
import GuestExec
import ProxmoxClient

/// An order in the store: until the command was sent, a restart has to find all that is needed to send it; and for as
/// long as the job is kept, an order that comes again has to be told from another.
extension JobOrder {
  /// Why the order can't be taken up after a restart; nil where it can.
  var missingAfterRestart: String? {
    if secretArgv || secretEnvironment {
      return "what is secret of it is never stored"
    }
    if case .given = input { return "its standard input is never stored" }
    return nil
  }

  /// What is stored of it. What is secret is not in it.
  var stored: JSONValue {
    if let missingAfterRestart { return .object(["missing": .string(missingAfterRestart)]) }
    return text(withSecrets: true)
  }

  /// The order as JSON; without secrets only their number is told.
  private func text(withSecrets: Bool) -> JSONValue {
    func base64(_ bytes: [UInt8]) -> JSONValue { .string(Data(bytes).base64EncodedString()) }
    var out: [String: JSONValue] = [
      "target": .string(target.description), "onDisconnect": onDisconnect.json,
      "input": .string(input.word), "labels": .object(labels.mapValues { .string($0) }),
    ]
    switch request.command {
    case .argv(let words):
      out["argv"] =
        secretArgv && !withSecrets ? .int(words.count) : .array(words.map { base64($0) })
    case .shell(let text):
      out["shell"] = secretArgv && !withSecrets ? .int(0) : base64(text)
    }
    out["environment"] =
      secretEnvironment && !withSecrets
      ? .int(request.environment.count)
      : .array(request.environment.map { .array([base64($0.name), base64($0.value)]) })
    if let cluster { out["cluster"] = .string(cluster) }
    if let directory = request.directory { out["directory"] = base64(directory) }
    if let user = request.user { out["user"] = .string(user) }
    if let size = request.terminal {
      out["terminal"] = .array([.int(size.columns), .int(size.rows)])
    }
    if let limit = request.timeLimit { out["timeLimit"] = .double(limit.seconds) }
    if let limit = request.outputLimit { out["outputLimit"] = .int(limit) }
    if let transport { out["transport"] = .string(transport.rawValue) }
    if let allowedTransports {
      out["allowed"] = .array(allowedTransports.map(\.rawValue).sorted().map { .string($0) })
    }
    if let fleet { out["fleet"] = .string(fleet) }
    return .object(out)
  }

  /// SHA-256 of what is ordered. What is secret doesn't go in: its digest, stored, would let it be guessed.
  var fingerprint: [UInt8] {
    var text = text(withSecrets: false)
    if case .object(var fields) = text {
      fields["allowed"] = nil
      fields["secret"] = .array([.bool(secretArgv), .bool(secretEnvironment)])
      if case .given(let bytes) = input {
        fields["given"] = .string(Data(Random.sha256(bytes)).base64EncodedString())
      }
      text = .object(fields)
    }
    return Random.sha256(text.description)
  }

  /// Reads ``stored``; nil where something is missing.
  init?(stored json: JSONValue) {
    func bytes(_ value: JSONValue) -> [UInt8]? {
      guard case .string(let text) = value else { return nil }
      return Data(base64Encoded: text).map { [UInt8]($0) }
    }
    guard let target = json["target"].string.flatMap({ try? Target($0) }) else { return nil }
    let command: ExecRequest.Command
    if let words = json["argv"].array {
      command = .argv(words.compactMap { bytes($0) })
    } else if let text = bytes(json["shell"]) {
      command = .shell(text)
    } else {
      return nil
    }
    var request = ExecRequest(command)
    request.environment = (json["environment"].array ?? []).compactMap { pair in
      guard let pair = pair.array, pair.count == 2, let name = bytes(pair[0]),
        let value = bytes(pair[1])
      else { return nil }
      return .init(name: name, value: value)
    }
    request.directory = bytes(json["directory"])
    request.user = json["user"].string
    if let size = json["terminal"].array, size.count == 2, let columns = size[0].int,
      let rows = size[1].int
    {
      request.terminal = TerminalSize(columns: columns, rows: rows)
    }
    request.timeLimit = json["timeLimit"].double.map { .milliseconds(Int($0 * 1000)) }
    request.outputLimit = json["outputLimit"].int
    request.hasInput = json["input"].string == "streamed"
    self.init(target: target, cluster: json["cluster"].string, request: request)
    transport = json["transport"].string.flatMap { TransportName(rawValue: $0) }
    allowedTransports = json["allowed"].array.map { list in
      Set(list.compactMap { $0.string.flatMap { TransportName(rawValue: $0) } })
    }
    onDisconnect = DisconnectRule(json: json["onDisconnect"]) ?? .keep
    labels = (json["labels"].object ?? [:]).compactMapValues(\.string)
    fleet = json["fleet"].string
  }
}
