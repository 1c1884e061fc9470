import ConsoleProtocol
import EventLoop
import Foundation
import GuestExec
import ProxmoxClient

extension JobOrder {
  /// The fields that say what to run and how; fleet jobs have the same.
  static let commandFields = [
    "argv", "argvBase64", "shell", "environment", "directory", "user", "terminal", "stdin",
    "stdinBase64", "timeLimit", "outputLimit", "transport", "onDisconnect", "secret", "labels",
  ]
  /// The fields of `POST /v1/exec`.
  static let fields = ["target", "cluster", "explain"] + commandFields

  /// Reads the JSON form of `POST /v1/exec`.
  init(_ body: JSONBody, _ configuration: ExecConfiguration) throws(Problem) {
    guard let text = try body.string("target"), !text.isEmpty else {
      throw Problem(
        400, "missing-field", "The field 'target' is missing.", field: "target",
        remedy: "Send e.g. {\"target\":\"qemu/100\",\"argv\":[\"uname\",\"-a\"]}.")
    }
    let (target, cluster) = try Self.target(text, cluster: try body.string("cluster"))
    try self.init(body, configuration, target: target, cluster: cluster)
  }

  /// Reads ``commandFields`` for a target that is known.
  init(
    _ body: JSONBody, _ configuration: ExecConfiguration, target: Target, cluster: String?
  ) throws(Problem) {
    var request = ExecRequest(try Self.command(body))
    request.environment = try Self.environment(body)
    request.directory = try body.string("directory").map { Array($0.utf8) }
    request.user = try body.string("user")
    request.terminal = try Self.terminal(body)
    request.timeLimit = try body.seconds("timeLimit", most: .seconds(366 * 86_400))
    request.outputLimit =
      try body.int("outputLimit", 0...configuration.outputLimit) ?? configuration.outputLimit
    let input = try Self.input(body)
    request.hasInput = input != .none
    self.init(target: target, cluster: cluster, request: request)
    self.input = input
    transport = try Self.transport(try body.string("transport"))
    if !body.value("onDisconnect").isNull {
      guard let rule = DisconnectRule(json: body.value("onDisconnect")) else {
        throw JSONBody.wrong("onDisconnect", "\"keep\", \"kill\" or {\"keepFor\":SECONDS}")
      }
      onDisconnect = rule
    }
    for word in try body.strings("secret") ?? [] {
      switch word {
      case "argv": secretArgv = true
      case "environment": secretEnvironment = true
      default:
        throw Problem(
          400, "bad-value", "'secret' holds '\(word.prefix(40))'.", field: "secret",
          remedy: "It takes a list of \"argv\" and \"environment\".")
      }
    }
    labels = try body.texts("labels") ?? [:]
    let size = labels.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
    guard labels.count <= 32, size <= 4096 else {
      throw Problem(
        422, "out-of-range", "'labels' has \(labels.count) entries of \(size) bytes.",
        field: "labels", remedy: "It takes up to 32 of 4096 bytes in all.")
    }
    do throws(ExecFailure) {
      try request.check()
    } catch {
      throw Problem(
        422, error.kind.rawValue, error.sentence, field: error.field, remedy: error.remedy)
    }
  }

  /// `home:qemu/100` names the cluster in front.
  static func target(
    _ text: String, cluster: String?
  ) throws(Problem) -> (Target, cluster: String?) {
    var text = text
    var cluster = cluster
    if let colon = text.firstIndex(of: ":") {
      let name = String(text[..<colon])
      if let other = cluster, other != name {
        throw Problem(
          400, "conflict", "'target' names the cluster '\(name.prefix(80))' and 'cluster' another.",
          field: "cluster", remedy: "Name it once.")
      }
      cluster = name
      text = String(text[text.index(after: colon)...])
    }
    do throws(Target.Malformed) {
      return (try Target(text), cluster)
    } catch {
      throw Problem(400, "bad-target", "\(error).", field: "target")
    }
  }

  private static func command(_ body: JSONBody) throws(Problem) -> ExecRequest.Command {
    let given = ["argv", "argvBase64", "shell"].filter { !body.value($0).isNull }
    guard given.count == 1 else {
      throw Problem(
        400, given.isEmpty ? "missing-field" : "conflict",
        given.isEmpty
          ? "There is no command."
          : "There is more than one command: \(given.joined(separator: ", ")).",
        field: given.last ?? "argv",
        remedy:
          "Send one of 'argv' (a list of texts), 'argvBase64' (for bytes that are no text) and 'shell' (a line for "
          + "the target's shell).")
    }
    if let words = try body.strings("argv") { return .argv(words.map { Array($0.utf8) }) }
    if let text = try body.string("shell") { return .shell(Array(text.utf8)) }
    var words: [[UInt8]] = []
    for (i, word) in (try body.strings("argvBase64") ?? []).enumerated() {
      words.append(try bytes(word, "argvBase64[\(i)]"))
    }
    return .argv(words)
  }

  private static func bytes(_ text: String, _ field: String) throws(Problem) -> [UInt8] {
    guard let data = Data(base64Encoded: text) else { throw JSONBody.wrong(field, "base64") }
    return [UInt8](data)
  }

  private static func environment(_ body: JSONBody) throws(Problem) -> [ExecRequest.Variable] {
    (try body.texts("environment") ?? [:]).sorted { $0.key < $1.key }.map {
      .init(name: Array($0.key.utf8), value: Array($0.value.utf8))
    }
  }

  private static func terminal(_ body: JSONBody) throws(Problem) -> TerminalSize? {
    switch body.value("terminal") {
    case .null, .bool(false): return nil
    case .bool(true): return TerminalSize(columns: 80, rows: 24)
    case let value:
      guard let fields = value.object,
        fields.keys.allSatisfy({ ["columns", "rows"].contains($0) }),
        case .int(let columns)? = fields["columns"], case .int(let rows)? = fields["rows"],
        let size = TerminalSize(columns: columns, rows: rows)
      else { throw JSONBody.wrong("terminal", "true or {\"columns\":80,\"rows\":24}") }
      return size
    }
  }

  private static func input(_ body: JSONBody) throws(Problem) -> JobInput {
    if let text = try body.string("stdinBase64") {
      guard body.value("stdin").isNull else {
        throw Problem(
          400, "conflict", "There are both 'stdin' and 'stdinBase64'.", field: "stdinBase64",
          remedy: "Send one of them.")
      }
      return .given(try bytes(text, "stdinBase64"))
    }
    switch body.value("stdin") {
    case .null, .bool(false): return .none
    case .bool(true): return .streamed
    case .string(let text): return .given(Array(text.utf8))
    default: throw JSONBody.wrong("stdin", "true, false or a text")
    }
  }

  /// `auto`, or nothing, leaves the choice to us.
  static func transport(_ word: String?) throws(Problem) -> TransportName? {
    guard let word, word != "auto" else { return nil }
    guard let name = TransportName(rawValue: word) else {
      throw Problem(
        400, "bad-transport", "There is no transport '\(word.prefix(80))'.", field: "transport",
        remedy:
          "There are: auto, \(TransportName.allCases.map(\.rawValue).joined(separator: ", ")).")
    }
    return name
  }
}
