import ConsoleProtocol
import GuestExec
import ProxmoxClient

/// What one API key may run, where and how. All rules that are set must agree; one that isn't set allows everything,
/// but see ``shell`` and ``environment``.
package struct ExecPolicy: Sendable {
  /// The rules, by the name that a refusal tells.
  enum Rule: String, Sendable, Hashable, CaseIterable {
    case targets = "exec.targets"
    case transports = "exec.transports"
    case users = "exec.users"
    case terminal = "exec.terminal"
    case shell = "exec.shell"
    case argv = "exec.argv"
    case environment = "exec.environment"
    case timeLimit = "exec.timeLimit"
  }

  /// One way in which an argv may be allowed.
  enum ArgvRule: Sendable, Hashable {
    /// The whole command line, each argument written as ``ExecPolicy/line(_:)`` does.
    case line(ExecPolicyPattern)
    /// One pattern for each argument, the program first; `rest` for each that follows. Without `rest` none may follow.
    case arguments([ExecPolicyPattern], rest: ExecPolicyPattern?)

    func allows(_ argv: [[UInt8]]) -> Bool {
      switch self {
      case .line(let pattern): return pattern.matches(ExecPolicy.line(argv))
      case .arguments(let patterns, let rest):
        guard argv.count >= patterns.count, rest != nil || argv.count == patterns.count else {
          return false
        }
        for (i, argument) in argv.enumerated() {
          let pattern = i < patterns.count ? patterns[i] : rest
          guard let pattern, pattern.matches(argument) else { return false }
        }
        return true
      }
    }
  }

  /// What may be given to a shell.
  enum ShellRule: Sendable, Hashable {
    case anything
    case nothing
    /// A text that one of these matches as a whole.
    case matching([ExecPolicyPattern])
  }

  /// Selectors; one must mean the target. States don't count here unless a selector speaks of them.
  var targets: [Selector]? { didSet { matchers = targets?.map { SelectorMatcher($0) } } }
  /// The ways that may be taken; `auto` chooses among them.
  var transports: Set<TransportName>?
  /// The users that may be named; ``noUser`` stands for none named.
  var users: Set<String>?
  /// Command lines that are allowed.
  var argv: [ArgvRule]?
  /// Nil: nothing where ``argv`` is set, anything else.
  var shell: ShellRule?
  /// Names of variables that may be set. Nil: none where ``argv`` is set (`LD_PRELOAD` and `PATH` would make another
  /// program of an allowed one), any else.
  var environment: [Glob]?
  /// The longest time limit. A command without one gets this.
  var timeLimit: Duration?
  /// Whether a terminal may be asked for.
  var terminal = true

  private var matchers: [SelectorMatcher]?

  /// No rule.
  init() {}

  /// Stands for no user in ``users``: no user's name begins with a hyphen.
  static let noUser = "-"

  /// What is asked.
  struct Question: Sendable {
    /// The guest or node, with tags and pool where ``ExecPolicy/needsInventory`` says so.
    var candidate: SelectorCandidate
    /// What to run.
    var request: ExecRequest
    /// By which way; nil for auto.
    var transport: TransportName?
  }

  /// What came of one rule.
  struct Verdict: Sendable, Hashable {
    var rule: Rule
    var isAllowed: Bool
    /// One sentence about what was asked; nothing of what the rule holds.
    var sentence: String

    var json: JSONValue {
      .object([
        "rule": .string(rule.rawValue), "allowed": .bool(isAllowed), "sentence": .string(sentence),
      ])
    }
  }

  /// Whether a target's name, tags, pool or state must be known.
  var needsInventory: Bool { matchers?.contains { $0.needsInventory } ?? false }

  /// Every rule that is set, in order, with what it says. Nothing is left out once one has refused.
  func explain(_ question: Question) -> [Verdict] {
    let request = question.request
    var out: [Verdict] = []
    func add(_ rule: Rule, _ isAllowed: Bool, _ what: String) {
      out.append(
        Verdict(
          rule: rule, isAllowed: isAllowed,
          sentence: isAllowed ? "\(what): allowed." : "\(what): not allowed."))
    }
    if let matchers {
      add(
        .targets, matchers.contains { $0.matches(question.candidate) },
        "Commands on \(question.candidate.place)")
    }
    if let transports {
      if let transport = question.transport {
        add(.transports, transports.contains(transport), "The transport '\(transport.rawValue)'")
      } else {
        add(.transports, !transports.isEmpty, "The transport is chosen among those allowed")
      }
    }
    if let users {
      add(
        .users, users.contains(request.user ?? Self.noUser),
        request.user.map { "The user '\($0)'" } ?? "Naming no user")
    }
    if request.terminal != nil, !terminal { add(.terminal, false, "A terminal") }
    switch request.command {
    case .shell(let text):
      switch shell ?? (argv == nil ? .anything : .nothing) {
      case .anything: break
      case .nothing: add(.shell, false, "A shell command")
      case .matching(let patterns):
        add(.shell, patterns.contains { $0.matches(text) }, "This shell command")
      }
    case .argv(let words):
      if let argv { add(.argv, argv.contains { $0.allows(words) }, "This command line") }
    }
    if !request.environment.isEmpty, environment != nil || argv != nil {
      let allowed = environment ?? []
      let refused = request.environment.first { variable in
        guard let name = String(validating: variable.name, as: UTF8.self) else { return true }
        return !allowed.contains { $0.matches(name) }
      }
      let name = refused.map { String(decoding: $0.name.prefix(80), as: UTF8.self) }
      add(
        .environment, refused == nil,
        name.map { "The environment variable '\($0)'" } ?? "The environment")
    }
    if let timeLimit, let asked = request.timeLimit {
      add(.timeLimit, asked <= timeLimit, "A time limit of \(asked.seconds) seconds")
    }
    return out
  }

  /// Allows the request, with the key's longest time limit where it had none.
  /// - Throws: ``Problem`` 403 `policy-refused`, naming the first rule that refused and no other.
  func allow(_ question: Question, key: String) throws(Problem) -> ExecRequest {
    if let refusal = explain(question).first(where: { !$0.isAllowed }) {
      var problem = Problem(
        403, "policy-refused",
        "The rule \(refusal.rule.rawValue) of the key '\(key)' refused. \(refusal.sentence)",
        remedy: Self.remedy(refusal.rule))
      problem.more["rule"] = .string(refusal.rule.rawValue)
      throw problem
    }
    var request = question.request
    if request.timeLimit == nil { request.timeLimit = timeLimit }
    return request
  }

  private static func remedy(_ rule: Rule) -> String {
    switch rule {
    case .targets: "Ask for a target that the key is for, or have the rule changed."
    case .transports: "Leave the transport out, or have the rule changed."
    case .users: "Ask for another user, or have the rule changed."
    case .terminal: "Ask without a terminal, or have the rule changed."
    case .shell: "Give the program and its arguments as argv, or have the rule changed."
    case .argv: "Whoever runs the gateway decides which command lines the key may run."
    case .environment: "Leave the variable out, or have the rule changed."
    case .timeLimit: "Ask for a shorter time limit, or for none to get the longest one."
    }
  }

  /// A command line as one text: the arguments with one space between them, and each that holds anything but
  /// `A–Z a–z 0–9 _ @ % + = : , . / -` (or nothing at all) in single quotes, with `'\''` for a quote. No two command
  /// lines have the same text.
  static func line(_ argv: [[UInt8]]) -> [UInt8] {
    var out: [UInt8] = []
    for (i, argument) in argv.enumerated() {
      if i > 0 { out.append(UInt8(ascii: " ")) }
      let isPlain =
        !argument.isEmpty
        && argument.allSatisfy {
          (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
            || "_@%+=:,./-".utf8.contains($0)
        }
      if isPlain {
        out += argument
        continue
      }
      out.append(UInt8(ascii: "'"))
      for byte in argument {
        if byte == UInt8(ascii: "'") { out += Array("'\\''".utf8) } else { out.append(byte) }
      }
      out.append(UInt8(ascii: "'"))
    }
    return out
  }
}

extension ExecPolicy: Hashable {
  private var identity: Identity {
    Identity(
      targets: targets, transports: transports, users: users, argv: argv, shell: shell,
      environment: environment, timeLimit: timeLimit, terminal: terminal)
  }

  /// The rules as they were written.
  private struct Identity: Hashable {
    var targets: [Selector]?
    var transports: Set<TransportName>?
    var users: Set<String>?
    var argv: [ArgvRule]?
    var shell: ShellRule?
    var environment: [Glob]?
    var timeLimit: Duration?
    var terminal: Bool
  }

  /// Whether both have the same rules.
  package static func == (a: ExecPolicy, b: ExecPolicy) -> Bool { a.identity == b.identity }

  /// Of the rules.
  package func hash(into hasher: inout Hasher) { hasher.combine(identity) }
}
