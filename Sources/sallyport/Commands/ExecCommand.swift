import ArgumentParser
import ConsoleProtocol
import Foundation
import Glibc
import GuestExec
import ProxmoxClient

/// `sallyport exec TARGET -- argv…`
struct ExecCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exec",
    abstract: "Runs a command in a VM, a container or on a node; its exit code is ours.",
    discussion: """
      What stands behind -- reaches the target exactly as it is: nothing is joined, split or expanded, unless \
      --shell asks for a shell. Standard input, output and error are connected byte for byte; input is read where it \
      is no terminal, or with -i or -t.

      A program, a line for the guest's shell, a terminal:
        sallyport exec web1 -- uname -a
        sallyport exec lxc/200 --shell 'df -h / | tail -1'
        sallyport exec -t node/pve1 -- top

      In a pipe, with variables, a working directory and another user:
        pg_dump shop | sallyport exec db1 --run-as postgres --cwd /srv -- psql shop
        sallyport exec web1 --env LANG=C --env-secret API_TOKEN -- /opt/deploy.sh

      At most a minute, as JSON, which way it would go:
        sallyport exec web1 --timeout 60 --json -- systemctl is-active nginx
        sallyport exec web1 --explain -- true

      On many targets at once, through a gateway:
        sallyport exec --select 'tag=web and node=pve1' --concurrency 10 -- apt-get -y upgrade

      Through a gateway the command is a job: it survives a broken connection, and with --detach the end of this \
      program (`sallyport jobs`, `sallyport attach`).

      Ctrl-C goes to the command; a second one cancels it, a third leaves at once.
      Exit codes: the command's own; 128 + n where a signal ended it; above 200 what went wrong on our side: \
      201 usage, 203 target, 204 permission, 205 unreachable, 206 agent, 207 no way, 208 not started, 210 timed out, \
      211 cancelled, 212 lost. All are in docs/exit-codes.md.
      """)

  @Argument(help: "node/NAME, lxc/VMID, qemu/VMID or a guest's name.")
  var target: String?

  @Argument(
    parsing: .postTerminator,
    help: ArgumentHelp("The program and its arguments, behind --.", valueName: "argv"))
  var command: [String] = []

  @Flag(name: .shortAndLong, help: "Send standard input although it is a terminal.")
  var interactive = false

  @Flag(name: [.customShort("n"), .long], help: "Send no standard input.")
  var noInput = false

  @Flag(name: .shortAndLong, help: "A terminal in the target, of this terminal's size.")
  var terminal = false

  @Option(
    help: ArgumentHelp(
      "With -t, the size where there is no terminal here: 120x40.", valueName: "columns x rows"))
  var size: String?

  @Option(
    help: ArgumentHelp(
      "With -t, a key that leaves (and cancels the command): ctrl-], ctrl-a … or none.",
      valueName: "key"))
  var escape = EscapeKey.standard

  @Flag(help: "Print one JSON object at the end: output, end, transport, times.")
  var json = false

  @Flag(help: "Say which transport would be used and why the others not; run nothing.")
  var explain = false

  @Flag(name: .shortAndLong, help: "Through a gateway: print the job's id and leave it running.")
  var detach = false

  @Flag(name: .shortAndLong, help: "Say nothing on standard error but errors.")
  var quiet = false

  @OptionGroup(title: "The command") var what: CommandOptions
  @OptionGroup(title: "Many targets") var fleet: FleetOptions
  @OptionGroup(title: "The way") var transport: TransportOptions
  @OptionGroup(title: "Which cluster") var connection: ConnectionOptions

  func run() async throws {
    let isReported = Shared(false)
    do {
      try await ExecStatus.guarded { try await runGuarded(isReported) }
    } catch let failure as Failure where json && !isReported.value {
      // A script that reads JSON gets JSON, whatever happened; a person reads standard error.
      printOut(ExecReport.json(failure, target: target ?? "").encoded(pretty: false))
      throw failure
    }
  }

  private func runGuarded(_ isReported: Shared<Bool>) async throws {
    if fleet.isWanted { return try await runFleet() }
    guard let target else {
      throw Failure.usage(
        "There is no target.",
        remedy: "sallyport exec TARGET -- PROGRAM …; --select runs it on many.")
    }
    let hub = SignalHub()
    let wish = try wish()
    var connection = connection
    let place = try Parsing.target(target, &connection)
    let source = try connection.connection().execSource(transport)
    if explain { return try await tell(source, wish, place) }
    let clock = ContinuousClock()
    let begin = clock.now
    let line = try await hub.interruptible { try await source.start(wish, on: place) }
    let started = clock.now
    if detach {
      await line.process.detach()
      await source.close()
      if json {
        printOut(JSONValue.object(["job": .string(line.about.job ?? "")]).encoded(pretty: false))
      } else {
        printOut(line.about.job ?? "")
      }
      return
    }
    if !quiet, terminal, LocalTerminal.inputIsTerminal {
      let way = escape.byte == nil ? "" : " \(escape.description) leaves it."
      printError("\(line.about.sentence).\(way)\n")
    }
    var plan = ExecSession.Plan()
    plan.input = wish.request.hasInput
    plan.terminal = terminal
    plan.escape = escape
    plan.quiet = quiet
    plan.captures = json
    let outcome = await ExecSession.run(line, plan: plan, signals: hub)
    let code = ExecCommand.code(outcome)
    if json {
      let report = ExecReport.json(
        line, outcome, code: code, startSeconds: (started - begin).seconds,
        seconds: (clock.now - begin).seconds)
      printOut(report.encoded(pretty: false))
      isReported.value = true
    }
    await source.close()
    try finish(outcome, code)
  }

  /// The exit code of a session.
  static func code(_ outcome: ExecSession.Outcome) -> Int32 {
    if let failure = outcome.failure { return ExecStatus.status(failure.kind).rawValue }
    if outcome.signal != 0 { return 128 + outcome.signal }
    guard let result = outcome.result else { return 0 }
    return ExecStatus.code(result.end)
  }

  private func finish(_ outcome: ExecSession.Outcome, _ code: Int32) throws {
    if let failure = outcome.failure { throw Failure(failure) }
    if let result = outcome.result {
      for (cut, name) in [
        (result.stdoutTruncated, "standard output"), (result.stderrTruncated, "standard error"),
      ] where cut && !json && outcome.signal != SIGPIPE {
        // Whoever uses the output has to know, terminal or not.
        printError("sallyport: truncated: Some of the command's \(name) is missing.\n")
      }
      if outcome.signal == 0, let failure = ExecStatus.failure(result.end) {
        printError(failure.text)
      }
    }
    if code != 0 { throw ExitCode(code) }
  }

  /// `--select` and `--rerun-failed`.
  private func runFleet() async throws {
    if let target {
      throw Failure.usage(
        "There is a target, '\(target)', and many are asked for as well.",
        remedy: "Selectors take targets too: --select 'tag=web or \(target)'.")
    }
    if terminal || explain || (json && fleet.show != nil) {
      throw Failure.usage(
        "-t and --explain are for one target; --json and --show say the same.",
        remedy: "--dry-run tells which targets it would be, and by which way.")
    }
    guard case .gateway(let address) = try connection.connection() else {
      throw Failure.usage(
        "Many targets at once need a gateway, which keeps their outputs and goes on when we don't.",
        remedy: "Run `sallyport serve`, and give --gateway URL.")
    }
    let hub = SignalHub()
    let source = try GatewayExec(address)
    var order: [String: JSONValue] = [:]
    if fleet.rerunFailed == nil {
      var wish = ExecWish(request: try what.request(command), via: transport.via)
      wish.secretEnvironment = !what.envSecret.isEmpty
      wish.agentWait = transport.agentWait
      wish.onDisconnect = .keep
      order = GatewayExec.command(wish)
      if interactive {
        let input = try SecretSource.whole("/dev/stdin", what: "standard input")
        order["stdinBase64"] = .string(Data(input).base64EncodedString())
      }
    } else if !command.isEmpty || what.shell != nil {
      throw Failure.usage(
        "--rerun-failed runs the same command again.", remedy: "Leave the command out.")
    }
    try await FleetRun(
      source.client, fleet, show: json ? .json : nil, quiet: quiet, leavingKeeps: false
    ).order(order, detach: detach, hub: hub)
    source.client.close()
  }

  private func wish() throws -> ExecWish {
    var request = try what.request(command)
    if terminal {
      if let size {
        guard let parsed = ConsoleCommand.terminalSize(size) else {
          throw Failure.usage("--size is COLUMNSxROWS, e.g. 120x40.")
        }
        request.terminal = parsed
      } else {
        request.terminal = LocalTerminal.size ?? TerminalSize(columns: 80, rows: 24)
      }
      if json {
        throw Failure.usage("--json and -t don't go together.", remedy: "Leave one out.")
      }
    }
    if detach, terminal || interactive {
      throw Failure.usage(
        "--detach leaves at once, so that nobody is there for -i or -t.", remedy: "Leave it out.")
    }
    request.hasInput = !noInput && !detach && LocalInput.isWanted(interactive || terminal)
    if json, request.outputLimit == nil { request.outputLimit = 64 << 20 }
    var wish = ExecWish(request: request, via: transport.via)
    wish.secretEnvironment = !what.envSecret.isEmpty
    wish.agentWait = transport.agentWait
    wish.detached = detach
    wish.onDisconnect = detach ? .keep : .keepFor(60)
    return wish
  }

  private func tell(_ source: any ExecSource, _ wish: ExecWish, _ target: Target) async throws {
    let opinions = try await source.explain(wish, on: target)
    await source.close()
    let chosen = opinions.first { $0.chosen }
    if json {
      try JSONOutput.print(opinions)
    } else {
      for opinion in opinions {
        let mark = opinion.chosen ? "→" : opinion.possible ? "+" : "-"
        let name = opinion.transport.padding(to: 8)
        printOut("\(mark) \(name) \(opinion.sentence)")
        if let remedy = opinion.remedy, !remedy.isEmpty { printOut("           \(remedy)") }
      }
    }
    if chosen == nil { throw ExitCode(ExitStatus.execTransport.rawValue) }
  }
}

/// Whether standard input is worth sending.
enum LocalInput {
  /// Not where it is a terminal (unless asked for), nor where there is nothing in it.
  static func isWanted(_ asked: Bool) -> Bool {
    var about = stat()
    guard fstat(0, &about) == 0 else { return false }
    if LocalTerminal.inputIsTerminal { return asked }
    var null = stat()
    if stat("/dev/null", &null) == 0, about.st_rdev == null.st_rdev, about.st_mode == null.st_mode {
      return false
    }
    return true
  }
}

extension String {
  /// Filled with spaces on the right.
  func padding(to width: Int) -> String {
    count < width ? self + String(repeating: " ", count: width - count) : self
  }
}

extension Duration {
  /// As a number of seconds.
  var seconds: Double {
    Double(components.seconds) + Double(components.attoseconds) / 1e18
  }
}

extension Connection {
  /// Where commands are run by this way.
  func execSource(_ options: TransportOptions) throws -> any ExecSource {
    switch self {
    case .gateway(let address): return try GatewayExec(address)
    case .cluster(let cluster): return try DirectExec(cluster, options)
    }
  }
}
