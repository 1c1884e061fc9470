import ArgumentParser

/// How the progress of many targets is shown.
enum FleetShow: String, ExpressibleByArgument, CaseIterable {
  /// A table that is drawn anew, outputs above it.
  case table
  /// Outputs with the target's name in front of each line.
  case lines
  /// One line of JSON for each event.
  case json
}

/// One command on many targets.
struct FleetOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Runs the command on all that a selector finds: 'tag=web and not node=pve3', 'lxc/*', "
        + "'name=web-*'. docs/fleet.md has the language. Needs a gateway.", valueName: "selector"))
  var select: String?

  @Option(help: ArgumentHelp("Commands at the same time (10).", valueName: "number"))
  var concurrency: Int?

  @Option(help: ArgumentHelp("Commands at the same time on one node.", valueName: "number"))
  var perNode: Int?

  @Option(
    help: ArgumentHelp(
      "So many go first, and all of them must succeed: 2 or 5%.", valueName: "number"))
  var canary: String?

  @Option(
    help: ArgumentHelp(
      "Failures that are borne; with one more nothing new is started: 0, 3 or 10%.",
      valueName: "number"))
  var failureBudget: String?

  @Option(
    help: ArgumentHelp(
      "Exit codes that are successes (0): 0,2. ", valueName: "codes"))
  var successCodes: String?

  @Flag(
    help: "When it is stopped by canaries or budget, cancel what runs instead of letting it end.")
  var cancelOnBudget = false

  @Option(
    help: ArgumentHelp(
      "Runs a fleet job's command again on the targets that failed.", valueName: "fleet"))
  var rerunFailed: String?

  @Option(
    help: ArgumentHelp(
      "With --rerun-failed, also those that are lost or skipped: lost,skipped.",
      valueName: "states"))
  var rerunAlso: String?

  @Flag(help: "Tell which targets it would be; run nothing.")
  var dryRun = false

  @Option(
    help: ArgumentHelp(
      "Writes outputs into files of this folder: NAME.stdout, NAME.stderr, and results.jsonl.",
      valueName: "folder"))
  var outputDir: String?

  @Option(
    help: ArgumentHelp(
      "table (on a terminal), lines (outputs with names in front) or json (elsewhere).",
      valueName: "how"))
  var show: FleetShow?

  /// Whether it is about many targets at all.
  var isWanted: Bool { select != nil || rerunFailed != nil }

  /// No options, for who only follows.
  static var none: FleetOptions { (try? FleetOptions.parse([])) ?? FleetOptions() }

  func validate() throws {
    let alone: [(String, Bool)] = [
      ("--concurrency", concurrency != nil), ("--per-node", perNode != nil),
      ("--canary", canary != nil), ("--failure-budget", failureBudget != nil),
      ("--success-codes", successCodes != nil), ("--cancel-on-budget", cancelOnBudget),
      ("--dry-run", dryRun), ("--output-dir", outputDir != nil), ("--show", show != nil),
      ("--rerun-also", rerunAlso != nil),
    ]
    if !isWanted, let first = alone.first(where: { $0.1 }) {
      throw ValidationError("\(first.0) goes with --select.")
    }
    if select != nil, rerunFailed != nil {
      throw ValidationError("--select and --rerun-failed are two ways to say which targets.")
    }
  }

  /// `2` or `5%` as the API wants it.
  static func share(_ text: String, _ name: String) throws(Failure) -> (count: Int?, text: String) {
    if let count = Int(text), count >= 0 { return (count, text) }
    guard text.hasSuffix("%"), Double(text.dropLast()) != nil else {
      throw .usage("'\(text)' is nothing for \(name).", remedy: "Use a number, or a part: 5%.")
    }
    return (nil, text)
  }
}
