import ArgumentParser
import ConsoleProtocol
import Glibc
import GuestExec

/// `sallyport attach JOB`
struct AttachCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attach",
    abstract: "Follows a gateway's job as if it had been started here; its exit code is ours.",
    discussion: """
      What the job has written is shown from its beginning (or --from now, or a byte), then what comes. Its input is \
      connected where it was ordered with one. Leaving doesn't end it: the detach key (with a terminal on both sides), \
      a closed pipe, SIGTERM and SIGHUP only leave. Ctrl-C is the job's; a second one leaves.

        sallyport exec --detach web1 -- apt-get -y upgrade
        sallyport attach j-…
        sallyport attach j-… --from now --no-input | tee log.txt

      A fleet job (f-…, of exec --select --detach) is followed in the same way.

      Exit codes are those of `sallyport exec`; 0 where it was left.
      """)

  @Argument(help: "The job: j-…, or the fleet job: f-….") var job: String

  @Option(
    help: ArgumentHelp(
      "Where to begin: start, now, or a byte of standard output.", valueName: "where"))
  var from = "start"

  @Flag(name: [.customShort("n"), .long], help: "Send no standard input.")
  var noInput = false

  @Option(
    help: ArgumentHelp(
      "The key that leaves a job with a terminal: ctrl-], ctrl-a … or none.", valueName: "key"))
  var escape = EscapeKey.standard

  @Flag(name: .shortAndLong, help: "Say nothing on standard error but errors.")
  var quiet = false

  @OptionGroup(title: "Which gateway") var connection: ConnectionOptions

  func run() async throws {
    try await ExecStatus.guarded { try await follow() }
  }

  private func follow() async throws {
    let path = try Jobs.path(job)
    guard from == "start" || from == "now" || Int(from).map({ $0 >= 0 }) == true else {
      throw Failure.usage("--from is start, now or a number of bytes.")
    }
    guard case .gateway(let address) = try connection.connection() else {
      throw Failure.usage("Jobs are kept by a gateway.", remedy: "Give --gateway URL.")
    }
    let hub = SignalHub()
    let source = try GatewayExec(address)
    if job.hasPrefix("f-") {
      try await FleetRun(
        source.client, FleetOptions.none, show: nil, quiet: quiet, leavingKeeps: true
      ).follow(job, hub: hub)
      return source.client.close()
    }
    let summary = try await Jobs.call(source.client, "GET", path).json
    var position = ExecPosition(stdin: summary["stdinBytes"].int ?? 0)
    switch from {
    case "start": break
    case "now":
      position.stdout = summary["stdoutBytes"].int ?? 0
      position.stderr = summary["stderrBytes"].int ?? 0
    default: position.stdout = Int(from) ?? 0
    }
    let isTerminal = summary["terminal"].bool ?? false
    let isOver = ["ended", "failed"].contains(summary["state"].string ?? "")
    var plan = ExecSession.Plan()
    plan.input =
      !noInput && !isOver && summary["stdin"].string == "streamed"
      && LocalInput.isWanted(true)
    plan.terminal = isTerminal && !isOver
    plan.escape = escape
    plan.leavingKeeps = true
    plan.quiet = quiet
    let line = source.line(job, summary, plan.input, from: position)
    if !quiet, isatty(2) == 1 {
      let key =
        plan.terminal && plan.input && escape.byte != nil ? " \(escape.description) leaves it." : ""
      printError("\(line.about.sentence).\(key)\n")
    }
    let outcome = await ExecSession.run(line, plan: plan, signals: hub)
    source.client.close()
    if let failure = outcome.failure { throw Failure(failure) }
    guard let result = outcome.result else {
      if !quiet, isatty(2) == 1 { printError("\nLeft; \(job) goes on.\n") }
      if outcome.signal != 0 { throw ExitCode(128 + outcome.signal) }
      return
    }
    if let failure = ExecStatus.failure(result.end) { printError(failure.text) }
    let code = outcome.signal == SIGPIPE ? 128 + SIGPIPE : ExecStatus.code(result.end)
    if code != 0 { throw ExitCode(code) }
  }
}
