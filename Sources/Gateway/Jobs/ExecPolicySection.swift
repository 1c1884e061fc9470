import GuestExec

/// `exec:` of an API key in the configuration file, as it is written.
struct ExecPolicySection: Decodable, Sendable {
  var targets: [String]?
  var transports: [String]?
  var users: [String]?
  var argv: [Argv]?
  var shell: Shell?
  var environment: [String]?
  var timeLimit: Double?
  var terminal: Bool?

  init() {}

  enum CodingKeys: String, CodingKey, CaseIterable {
    case targets, transports, users, argv, shell, environment, timeLimit, terminal
  }

  init(from decoder: any Decoder) throws {
    let fields = try StrictFields(decoder, keys: CodingKeys.self)
    targets = try fields.read(.targets, "a list of selectors such as [\"qemu/*\", \"tag=web\"]")
    transports = try fields.read(.transports, "a list of transports such as [agent, ssh]")
    users = try fields.read(
      .users, "a list of users such as [postgres, \"-\"]; \"-\" stands for no user named")
    argv = try fields.read(
      .argv, "a list of patterns such as [\"/usr/bin/uptime\", [\"systemctl\", \"status\", \".+\"]]"
    )
    shell = try fields.read(.shell, "true, false, or a list of patterns")
    environment = try fields.read(
      .environment, "a list of variables' names such as [LANG, \"LC_*\"]")
    timeLimit = try fields.read(.timeLimit, "a number of seconds such as 300")
    terminal = try fields.read(.terminal, "true or false")
  }

  /// A pattern for the whole line, a list of patterns for the arguments, or `{arguments, rest}`.
  enum Argv: Decodable, Sendable {
    case line(String)
    case arguments([String], rest: String?)

    private enum CodingKeys: String, CodingKey, CaseIterable { case arguments, rest }

    init(from decoder: any Decoder) throws {
      let single = try decoder.singleValueContainer()
      if let text = try? single.decode(String.self) {
        self = .line(text)
      } else if let list = try? single.decode([String].self) {
        self = .arguments(list, rest: nil)
      } else {
        let fields = try StrictFields(decoder, keys: CodingKeys.self)
        let list: [String]? = try fields.read(.arguments, "a list of patterns, the program's first")
        guard let list else {
          throw ConfigurationError(
            fields.field(.arguments), "is missing",
            remedy: "It takes a list of patterns, the program's first")
        }
        self = .arguments(list, rest: try fields.read(.rest, "a pattern for what follows"))
      }
    }
  }

  /// True, false or patterns.
  enum Shell: Decodable, Sendable {
    case allowed(Bool)
    case matching([String])

    init(from decoder: any Decoder) throws {
      let single = try decoder.singleValueContainer()
      if let list = try? single.decode([String].self) {
        self = .matching(list)
      } else {
        self = .allowed(try single.decode(Bool.self))
      }
    }
  }

  /// What is meant.
  /// - Parameter field: the section's path, for an error: `apiKeys[0].exec`.
  func policy(at field: String) throws(ConfigurationError) -> ExecPolicy {
    var out = ExecPolicy()
    if let targets {
      try Self.notEmpty(targets.count, "\(field).targets", "targets")
      var selectors: [Selector] = []
      for (i, text) in targets.enumerated() {
        do throws(SelectorError) {
          selectors.append(try Selector(text))
        } catch {
          throw ConfigurationError(
            "\(field).targets[\(i)]", "is no selector: \(error.description)", remedy: error.remedy)
        }
      }
      out.targets = selectors
    }
    if let transports {
      try Self.notEmpty(transports.count, "\(field).transports", "transports")
      var names: Set<TransportName> = []
      for (i, text) in transports.enumerated() {
        guard let name = TransportName(rawValue: text) else {
          throw ConfigurationError(
            "\(field).transports[\(i)]", "there is no transport '\(text.prefix(40))'",
            remedy:
              "There are: \(TransportName.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        names.insert(name)
      }
      out.transports = names
    }
    if let users {
      try Self.notEmpty(users.count, "\(field).users", "users")
      out.users = Set(users)
    }
    if let argv { out.argv = try Self.rules(argv, "\(field).argv") }
    switch shell {
    case .allowed(let allowed)?: out.shell = allowed ? .anything : .nothing
    case .matching(let list)?: out.shell = .matching(try Self.patterns(list, "\(field).shell"))
    case nil: break
    }
    out.environment = environment?.map { Glob($0) }
    if let timeLimit {
      guard timeLimit > 0, timeLimit <= 366 * 86_400 else {
        throw ConfigurationError(
          "\(field).timeLimit", "\(timeLimit) is out of range",
          remedy: "It takes a number of seconds above zero")
      }
      out.timeLimit = .milliseconds(Int((timeLimit * 1000).rounded(.up)))
    }
    out.terminal = terminal ?? true
    return out
  }

  /// An empty list could mean everything or nothing.
  private static func notEmpty(
    _ count: Int, _ field: String, _ what: String
  ) throws(ConfigurationError) {
    guard count > 0 else {
      throw ConfigurationError(
        field, "is an empty list",
        remedy:
          "Leave it out to allow all \(what); to allow no command, take 'exec' out of 'rights'")
    }
  }

  private static func rules(
    _ list: [Argv], _ field: String
  ) throws(ConfigurationError) -> [ExecPolicy.ArgvRule] {
    try notEmpty(list.count, field, "command lines")
    var out: [ExecPolicy.ArgvRule] = []
    for (i, rule) in list.enumerated() {
      switch rule {
      case .line(let text): out.append(.line(try pattern(text, "\(field)[\(i)]")))
      case .arguments(let texts, let rest):
        guard !texts.isEmpty else {
          throw ConfigurationError(
            "\(field)[\(i)]", "is an empty list", remedy: "It takes the program's pattern first")
        }
        var restPattern: ExecPolicyPattern?
        if let rest { restPattern = try pattern(rest, "\(field)[\(i)].rest") }
        out.append(.arguments(try patterns(texts, "\(field)[\(i)]"), rest: restPattern))
      }
    }
    return out
  }

  private static func patterns(
    _ texts: [String], _ field: String
  ) throws(ConfigurationError) -> [ExecPolicyPattern] {
    try notEmpty(texts.count, field, "commands")
    var out: [ExecPolicyPattern] = []
    for (i, text) in texts.enumerated() { out.append(try pattern(text, "\(field)[\(i)]")) }
    return out
  }

  private static func pattern(
    _ text: String, _ field: String
  ) throws(ConfigurationError) -> ExecPolicyPattern {
    do throws(ExecPolicyPattern.Malformed) {
      return try ExecPolicyPattern(text)
    } catch {
      throw ConfigurationError(
        field, "is no pattern: \(error.description)",
        remedy: "It takes a regular expression for the whole text; see docs/fleet.md")
    }
  }
}
