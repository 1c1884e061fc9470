import ArgumentParser
import ConsoleProtocol
import Foundation
import Glibc
import GuestExec
import ProxmoxClient

/// `sallyport jobs`
struct JobsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "jobs",
    abstract: "The commands that a gateway runs or has run: list, look at, read, end.",
    discussion: """
      Every command that goes through a gateway is a job of it, with its output kept for a time.

        export SALLYPORT_GATEWAY=https://consoles.example SALLYPORT_API_KEY=…
        sallyport jobs
        sallyport jobs list --state running --json
        sallyport jobs show j-…
        sallyport jobs output j-… > log.txt
        sallyport jobs signal j-… HUP
        sallyport jobs cancel j-…
        sallyport jobs forget j-…

      `sallyport attach j-…` follows one.
      """,
    subcommands: [
      JobsList.self, JobsShow.self, JobsOutput.self, JobsSignal.self, JobsCancel.self,
      JobsForget.self,
    ],
    defaultSubcommand: JobsList.self)
}

/// What the subcommands have in common.
enum Jobs {
  /// The gateway that the options name.
  static func gateway(_ connection: ConnectionOptions) throws -> GatewayClient {
    guard case .gateway(let address) = try connection.connection() else {
      throw Failure.usage(
        "Jobs are kept by a gateway.", remedy: "Give --gateway URL, or run `sallyport serve`.")
    }
    return try GatewayClient(address)
  }

  /// One call, its refusal as a failure.
  static func call(
    _ client: GatewayClient, _ method: String, _ path: String, json: JSONValue? = nil
  ) async throws -> GatewayAnswer {
    do throws(GatewayFailure) {
      return try await client.call(method, path, json: json)
    } catch {
      throw error.failure
    }
  }

  /// The path of a job; an id is checked, because it becomes a part of a path.
  static func path(_ id: String, _ rest: String = "") throws(Failure) -> String {
    let isPlain = id.utf8.allSatisfy {
      (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
        || "-_".utf8.contains($0)
    }
    guard isPlain, !id.isEmpty, id.utf8.count <= 128 else {
      throw .usage("'\(id.prefix(80))' is no job.", remedy: "`sallyport jobs` lists them: j-….")
    }
    return "/v1/exec/\(id)\(rest)"
  }

  /// A text as a part of a query.
  static func encoded(_ text: String) -> String {
    text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
  }

  /// How a job ended, or how far it is, in a few characters.
  static func state(_ job: JSONValue) -> String {
    let state = job["state"].string ?? "?"
    guard state == "ended" else {
      return job["failure"]["kind"].string.map { "\(state): \($0)" } ?? state
    }
    let end = job["end"]
    switch end["kind"].string {
    case "exited": return "exited \(end["code"].int ?? -1)"
    case "signalled": return "signal \(end["signal"].int ?? -1)"
    default: return end["kind"].string ?? state
    }
  }

  /// The command, as far as it may be shown.
  static func command(_ job: JSONValue) -> String {
    let command = job["command"]
    if let words = command.array ?? command["argv"].array {
      return words.compactMap(\.string).map { word in
        let isPlain =
          !word.isEmpty
          && word.utf8.allSatisfy {
            (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
              || "-_./=:,+@%".utf8.contains($0)
          }
        return isPlain ? word : "'" + word.replacingOccurrences(of: "'", with: "'\\''") + "'"
      }.joined(separator: " ")
    }
    return command.string ?? command["shell"].string ?? "(secret)"
  }

  /// Aligned columns.
  static func table(_ rows: [[String]]) -> String {
    let columns = rows.map(\.count).max() ?? 0
    let widths = (0..<columns).map { i in
      rows.map { $0.indices.contains(i) ? $0[i].count : 0 }.max() ?? 0
    }
    return rows.map { row in
      var line = zip(row, widths).map { $0.padding(to: $1) }.joined(separator: "  ")
      while line.hasSuffix(" ") { line.removeLast() }
      return line
    }.joined(separator: "\n")
  }

  /// What isn't fit for a terminal is shown as `?`.
  static func printable(_ text: String) -> String {
    String(
      String.UnicodeScalarView(
        text.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? "?" : $0 }))
  }
}

/// `sallyport jobs list`
struct JobsList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Jobs, the newest first.")

  @Option(
    help: ArgumentHelp("queued, starting, running, ended or failed.", valueName: "state"))
  var state: String?

  @Option(help: ArgumentHelp("Only those of a fleet job.", valueName: "fleet"))
  var fleet: String?

  @Option(help: ArgumentHelp("How many at most.", valueName: "number"))
  var limit = 50

  @Flag(help: "As JSON.")
  var json = false

  @OptionGroup(title: "Which gateway") var connection: ConnectionOptions

  func run() async throws {
    let client = try Jobs.gateway(connection)
    var query = "?limit=\(max(1, limit))"
    if let state { query += "&state=\(Jobs.encoded(state))" }
    if let fleet { query += "&fleet=\(Jobs.encoded(fleet))" }
    let answer = try await Jobs.call(client, "GET", "/v1/exec" + query).json
    client.close()
    if json { return printOut(answer.encoded(pretty: true)) }
    let jobs = answer["jobs"].array ?? []
    let rows = jobs.map { job in
      [
        job["id"].string ?? "?", job["target"].string ?? "?", job["name"].string ?? "",
        Jobs.state(job), job["transport"].string ?? "",
        String((job["created"].string ?? "").prefix(19)),
        String(Jobs.printable(Jobs.command(job)).prefix(60)),
      ]
    }
    if rows.isEmpty { return printError("There are no such jobs.\n") }
    printOut(
      Jobs.table([["JOB", "TARGET", "NAME", "STATE", "BY", "ORDERED", "COMMAND"]] + rows))
  }
}

/// `sallyport jobs show`
struct JobsShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "All that is known of a job.")

  @Argument(help: "The job: j-….") var job: String
  @Flag(help: "As JSON.") var json = false
  @OptionGroup(title: "Which gateway") var connection: ConnectionOptions

  func run() async throws {
    let path = try Jobs.path(job)
    let client = try Jobs.gateway(connection)
    let job = try await Jobs.call(client, "GET", path).json
    client.close()
    if json { return printOut(job.encoded(pretty: true)) }
    var rows: [[String]] = []
    func add(_ name: String, _ value: String?) {
      if let value, !value.isEmpty { rows.append([name, Jobs.printable(value)]) }
    }
    func bytes(_ stream: String) -> String {
      Quantity.bytes(job[stream + "Bytes"].int ?? 0)
        + (job[stream + "Truncated"].bool == true ? ", more was dropped" : "")
    }
    add("job", job["id"].string)
    add("target", job["target"].string)
    add("name", job["name"].string)
    add("node", job["node"].string)
    add("cluster", job["cluster"].string)
    add("command", Jobs.command(job))
    add("environment", job["environment"].array?.compactMap(\.string).joined(separator: ", "))
    add("state", Jobs.state(job))
    add("why", job["end"]["why"].string)
    add("failure", job["failure"]["sentence"].string)
    add("remedy", job["failure"]["remedy"].string)
    add("by", job["transport"].string)
    add("reason", job["reason"].string)
    add("ordered", job["created"].string.map { "\($0) with key \(job["key"].string ?? "?")" })
    add("started", job["started"].string)
    add("ended", job["ended"].string)
    add("stdout", bytes("stdout"))
    add("stderr", bytes("stderr"))
    if job["stdin"].string != "none" { add("stdin", Quantity.bytes(job["stdinBytes"].int ?? 0)) }
    for note in job["notes"].array ?? [] { add("note", note.string) }
    printOut(Jobs.table(rows))
  }
}

/// `sallyport jobs output`
struct JobsOutput: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "output",
    abstract: "What a job has written so far: its stdout as ours, its stderr as ours.",
    discussion: "To go on reading while it runs, use `sallyport attach`.")

  @Argument(help: "The job: j-….") var job: String
  @Option(help: ArgumentHelp("Only stdout or stderr.", valueName: "stream")) var stream: String?
  @Option(help: ArgumentHelp("Begin at that byte.", valueName: "bytes")) var offset = 0
  @OptionGroup(title: "Which gateway") var connection: ConnectionOptions

  func validate() throws {
    if let stream, !["stdout", "stderr"].contains(stream) {
      throw ValidationError("--stream is stdout or stderr.")
    }
    guard offset >= 0 else { throw ValidationError("--offset is a number of bytes.") }
  }

  func run() async throws {
    let path = try Jobs.path(job, "/output")
    let client = try Jobs.gateway(connection)
    for name in stream.map({ [$0] }) ?? ["stdout", "stderr"] {
      // Named alone, either goes to standard output.
      let writer = BytesWriter(stream == nil && name == "stderr" ? 2 : 1)
      var at = offset
      while true {
        let answer = try await Jobs.call(
          client, "GET", path + "?stream=\(name)&offset=\(at)&limit=\(1 << 20)")
        if answer.body.isEmpty { break }
        guard await writer.write(answer.body) else { throw ExitCode(128 + SIGPIPE) }
        at = max(
          at + answer.body.count, answer.headers["sallyport-next-offset"].flatMap { Int($0) } ?? 0)
      }
      await writer.flush()
    }
    client.close()
  }
}

/// `sallyport jobs signal`
struct JobsSignal: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "signal", abstract: "Sends a signal to a running job's command.")

  @Argument(help: "The job: j-….") var job: String
  @Argument(help: "INT, TERM, HUP, USR1 … or a number.") var signal: String
  @OptionGroup(title: "Which gateway") var connection: ConnectionOptions

  func run() async throws {
    let path = try Jobs.path(job, "/signal")
    let client = try Jobs.gateway(connection)
    let value: JSONValue =
      Int(signal).map { .int($0) }
      ?? .string(signal.uppercased().hasPrefix("SIG") ? String(signal.dropFirst(3)) : signal)
    _ = try await Jobs.call(client, "POST", path, json: .object(["signal": value]))
    client.close()
  }
}

/// `sallyport jobs cancel`
struct JobsCancel: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cancel", abstract: "Ends a job that runs or waits.")

  @Argument(help: "Jobs: j-….") var jobs: [String]
  @OptionGroup(title: "Which gateway") var connection: ConnectionOptions

  func run() async throws {
    let client = try Jobs.gateway(connection)
    for job in jobs {
      let path = try Jobs.path(job)
      let state = try await Jobs.call(client, "GET", path).json["state"].string ?? ""
      // The same call forgets a job that is over, which isn't what was asked for.
      if ["ended", "failed"].contains(state) {
        printError("\(job) is over already.\n")
        continue
      }
      _ = try await Jobs.call(client, "DELETE", path)
    }
    client.close()
  }
}

/// `sallyport jobs forget`
struct JobsForget: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "forget", abstract: "Removes jobs that are over, with their output.")

  @Argument(help: "Jobs: j-….") var jobs: [String]
  @OptionGroup(title: "Which gateway") var connection: ConnectionOptions

  func run() async throws {
    let client = try Jobs.gateway(connection)
    for job in jobs {
      let path = try Jobs.path(job)
      let state = try await Jobs.call(client, "GET", path).json["state"].string ?? ""
      guard ["ended", "failed"].contains(state) else {
        throw Failure(
          kind: "job-runs", sentence: "\(job) is \(state).",
          remedy: "sallyport jobs cancel \(job) ends it first.", status: .guest)
      }
      _ = try await Jobs.call(client, "DELETE", path)
    }
    client.close()
  }
}
