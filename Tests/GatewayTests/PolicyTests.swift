import ConsoleProtocol
import GuestExec
import ProxmoxClient
import Testing

@testable import Gateway

@Suite("Rules for what a key may run")
struct PolicyTests {
  private func candidate(
    _ target: String = "qemu/100", tags: [String] = [], pool: String? = nil
  ) throws -> SelectorCandidate {
    let node = try #require(NodeName("pve1"))
    let kind: Place.Kind =
      switch try Target(target) {
      case .qemu(let id): .qemu(id)
      case .lxc(let id): .lxc(id)
      default: .node
      }
    var out = SelectorCandidate(
      place: Place(node: node, kind: kind, name: kind == .node ? "pve1" : "web-1"), cluster: "home")
    out.tags = tags
    out.pool = pool
    out.states = ["running"]
    return out
  }

  /// Nil where it is allowed, else the rule that refused.
  private func refusal(
    _ policy: ExecPolicy, _ request: ExecRequest, on target: SelectorCandidate? = nil,
    via transport: TransportName? = nil
  ) throws -> String? {
    let question = ExecPolicy.Question(
      candidate: try target ?? candidate(), request: request, transport: transport)
    do throws(Problem) {
      _ = try policy.allow(question, key: "ci")
      return nil
    } catch {
      #expect(error.status == 403 && error.kind == "policy-refused")
      return error.more["rule"]?.string
    }
  }

  private func policy(_ yaml: String) throws -> ExecPolicy {
    let key = """
      apiKeys:
        - name: ci
          keyEnvironment: CI_KEY
          exec: \(yaml)
      clusters:
        - name: home
          hosts: [pve1.example.com]
          token: {id: root@pam!x, secretEnvironment: CI_KEY}
      """
    let configuration = try GatewayConfiguration.load(
      yaml: key, folder: nil, environment: ["CI_KEY": "0123456789abcdef0123456789"])
    return try #require(configuration.apiKeys.first?.policy)
  }

  private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

  @Test("a policy without rules allows everything")
  func nothing() throws {
    let policy = try policy("{}")
    #expect(try refusal(policy, ExecRequest(["rm", "-rf", "/"])) == nil)
    #expect(try refusal(policy, ExecRequest(.shell(bytes("reboot")))) == nil)
  }

  @Test("targets are selectors, one of which must mean the target")
  func targets() throws {
    let policy = try policy(
      "{targets: [\"qemu/1*\", lxc/200, \"tag=web and not pool=prod\", node/pve1]}")
    #expect(policy.needsInventory)
    let run = ExecRequest(["true"])
    for (target, tags, pool, allowed) in [
      ("qemu/100", [], nil, true), ("qemu/200", [], nil, false), ("lxc/200", [], nil, true),
      ("lxc/201", [], nil, false), ("lxc/201", ["web"], nil, true),
      ("lxc/201", ["web"], "prod", false), ("node/pve1", [], nil, true),
    ] as [(String, [String], String?, Bool)] {
      let refused = try refusal(policy, run, on: candidate(target, tags: tags, pool: pool))
      #expect(refused == (allowed ? nil : "exec.targets"), "\(target) \(tags)")
    }
    // Every guest is no node.
    #expect(
      try refusal(self.policy("{targets: [all]}"), run, on: candidate("node/pve1"))
        == "exec.targets")
    #expect(
      try refusal(self.policy("{targets: [node=pve1]}"), run, on: candidate("node/pve1"))
        == "exec.targets")
    #expect(try !self.policy("{targets: [\"qemu/*\"]}").needsInventory)
  }

  @Test("transports, users, terminal and time limit")
  func others() throws {
    let policy = try policy(
      "{transports: [agent], users: [postgres], terminal: false, timeLimit: 60}")
    var request = ExecRequest(["true"])
    #expect(try refusal(policy, request) == "exec.users")
    request.user = "root"
    #expect(try refusal(policy, request) == "exec.users")
    request.user = "postgres"
    #expect(try refusal(policy, request) == nil)
    #expect(try refusal(policy, request, via: .agent) == nil)
    #expect(try refusal(policy, request, via: .ssh) == "exec.transports")
    request.terminal = TerminalSize(columns: 80, rows: 24)
    #expect(try refusal(policy, request) == "exec.terminal")
    request.terminal = nil
    request.timeLimit = .seconds(61)
    #expect(try refusal(policy, request) == "exec.timeLimit")
    request.timeLimit = .seconds(60)
    #expect(try refusal(policy, request) == nil)
    request.timeLimit = nil
    let allowed = try policy.allow(
      .init(candidate: candidate(), request: request, transport: nil), key: "ci")
    #expect(allowed.timeLimit == .seconds(60))
    #expect(try refusal(self.policy("{users: [\"-\"]}"), ExecRequest(["true"])) == nil)
  }

  @Test(
    "a pattern for the whole line can't be fooled",
    arguments: [
      (["/usr/bin/uptime"], true), (["/usr/bin/uptime", "-p"], true),
      (["/usr/bin/uptime", "-p", "x"], false), (["/usr/bin/uptime -p"], false),
      (["/usr/bin/uptime\n"], false), (["/usr/bin/uptime", "-p\n"], false),
      (["\n/usr/bin/uptime"], false), (["/usr/bin/uptime", ""], false),
      (["x/usr/bin/uptime"], false),
      (["/usr/bin/uptime\u{301}"], false), (["/usr/bin/uptime;reboot"], false),
      (["/usr/bin/UPTIME"], false), (["/usr/bin/uptime", "'-p'"], false),
      (["/usr/bin/uptime", "-p'"], false), (["\u{FF0F}usr/bin/uptime"], false),
    ])
  func line(argv: [String], allowed: Bool) throws {
    let policy = try policy("{argv: [\"^/usr/bin/uptime( -p)?$\"]}")
    #expect(try refusal(policy, ExecRequest(argv)) == (allowed ? nil : "exec.argv"))
  }

  @Test("patterns for single arguments match them whole, and as many as there are")
  func arguments() throws {
    let policy = try policy(
      #"{argv: [[systemctl, "status|restart", "[a-z-]+\\.service"], {arguments: [echo], rest: ".*"}]}"#
    )
    for (argv, allowed) in [
      (["systemctl", "status", "nginx.service"], true),
      (["systemctl", "restart", "nginx.service"], true),
      (["systemctl", "stop", "nginx.service"], false),
      (["systemctl", "status", "nginx_service"], false),
      (["systemctl", "status", "nginx.service", "-H", "host"], false),
      (["systemctl", "status"], false),
      (["systemctl", "status", "nginx.service\n"], false),
      (["systemctl", "restart ", "nginx.service"], false),
      (["systemctl", "", "nginx.service"], false),
      (["echo"], true), (["echo", "a", "b c", ""], true), (["echo", "a\nb"], false),
    ] as [([String], Bool)] {
      #expect(
        try refusal(policy, ExecRequest(argv)) == (allowed ? nil : "exec.argv"), "\(argv)")
    }
    // Bytes that are no UTF-8 match nothing, not even anything.
    let bytes = ExecRequest(.argv([Array("echo".utf8), [0xFF, 0xFE]]))
    #expect(try refusal(policy, bytes) == "exec.argv")
  }

  @Test("with patterns, no shell and no environment unless said")
  func shellAndEnvironment() throws {
    let closed = try policy("{argv: [uptime]}")
    #expect(try refusal(closed, ExecRequest(.shell(bytes("uptime")))) == "exec.shell")
    var request = ExecRequest(["uptime"])
    request.environment = [.init(name: bytes("LD_PRELOAD"), value: bytes("/tmp/x.so"))]
    #expect(try refusal(closed, request) == "exec.environment")
    let open = try policy("{argv: [uptime], shell: true, environment: [LANG, \"LC_*\"]}")
    #expect(try refusal(open, ExecRequest(.shell(bytes("reboot")))) == nil)
    #expect(try refusal(open, request) == "exec.environment")
    request.environment = [.init(name: bytes("LC_ALL"), value: bytes("C"))]
    #expect(try refusal(open, request) == nil)
    request.environment.append(.init(name: [0xFF], value: []))
    #expect(try refusal(open, request) == "exec.environment")
    let some = try policy("{shell: [\"df -h( /[a-z]+)?\"]}")
    #expect(try refusal(some, ExecRequest(.shell(bytes("df -h /var")))) == nil)
    #expect(try refusal(some, ExecRequest(.shell(bytes("df -h /var\nreboot")))) == "exec.shell")
    #expect(try refusal(some, ExecRequest(["anything"])) == nil)
    #expect(try refusal(policy("{shell: false}"), ExecRequest(.shell(bytes("x")))) == "exec.shell")
  }

  @Test("a refusal names its rule and nothing of this or another")
  func leaks() throws {
    let policy = try policy("{targets: [tag=topsecret], argv: [/opt/hidden], users: [ghost]}")
    let problem = #expect(throws: Problem.self) {
      try policy.allow(
        .init(candidate: candidate(), request: ExecRequest(["ls"]), transport: nil), key: "ci")
    }
    let text = problem?.json.description ?? ""
    #expect(text.contains("exec.targets"))
    for word in ["topsecret", "hidden", "ghost", "exec.argv", "exec.users"] {
      #expect(!text.contains(word))
    }
    let verdicts = policy.explain(
      .init(candidate: try candidate(), request: ExecRequest(["ls"]), transport: nil))
    #expect(verdicts.map(\.rule) == [.targets, .users, .argv])
    #expect(verdicts.allSatisfy { !$0.isAllowed && !$0.sentence.contains("hidden") })
  }

  @Test("no two command lines have the same text")
  func lines() {
    var seen: [String: [String]] = [:]
    let words = ["", "a", "a b", "'", "a'b", "\\", "-", "\n", "b", "'a'", "é"]
    for a in words {
      for b in words {
        for argv in [[a], [a, b], [a, b, a]] {
          let text = String(decoding: ExecPolicy.line(argv.map { Array($0.utf8) }), as: UTF8.self)
          #expect(seen[text] == nil || seen[text] == argv, "\(text)")
          seen[text] = argv
        }
      }
    }
    #expect(
      String(decoding: ExecPolicy.line(["ls", "-l", "a b", "it's"].map(bytes)), as: UTF8.self)
        == #"ls -l 'a b' 'it'\''s'"#)
  }

  @Test(
    "what patterns match",
    arguments: [
      ("abc", "abc", true), ("abc", "abcd", false), ("abc", "xabc", false), ("", "", true),
      ("a|b", "b", true), ("^a$|^b$", "a", true), ("^a|b$", "ab", false), ("a*", "", true),
      ("a*", "aaaa", true), ("(ab)+", "abab", true), ("(ab)+", "aba", false),
      ("a{2,3}", "a", false),
      ("a{2,3}", "aaa", true), ("a{2,3}", "aaaa", false), ("a{2,}", "aaaaa", true),
      ("a{0}", "", true), ("[a-c]+", "abcab", true), ("[^a-c]+", "xyz", true),
      ("[^a-c]+", "a", false),
      ("[^a]", "\n", false), (".", "\n", false), (".", "é", true), ("..", "é", false),
      ("\\d+", "12", true), ("\\d", "٣", false), ("\\w+", "a_9", true), ("\\w", "é", false),
      ("\\s", "\t", true), ("\\s", "\n", false), ("\\n", "\n", true), ("\\x41", "A", true),
      ("[\\]\\-a]+", "]-a", true), ("[a-]", "-", true), ("\\.", ".", true), ("\\.", "x", false),
      ("(a*)*", "aaa", true), ("(a*)*b", "aaa", false), ("(?:a|b)?c", "c", true), ("()", "", true),
      ("é", "e\u{301}", false), ("[à-ü]", "é", true), ("a^b", "a^b", false), ("(|a)b", "ab", true),
    ])
  func matches(pattern: String, text: String, expected: Bool) throws {
    #expect(try ExecPolicyPattern(pattern).matches(Array(text.utf8)) == expected)
  }

  @Test(
    "what is no pattern is refused",
    arguments: [
      "(", ")", "[", "[]", "[b-a]", "*", "a**", "a+?", "a{", "a{2,1}", "a{1001}", "\\", "\\b",
      "\\1",
      "(?=a)", "(?i)a", "[[:alpha:]]", "\\x4", "[\\D]", "((((a{99}){99}){99}){99})", "a{,3}",
      String(repeating: "a", count: 5000), String(repeating: "(", count: 40), "[a-\\d]",
    ])
  func malformed(pattern: String) {
    #expect(throws: ExecPolicyPattern.Malformed.self) { try ExecPolicyPattern(pattern) }
  }

  @Test("a pattern that others choke on is judged at once")
  func explosive() throws {
    let text = Array(String(repeating: "a", count: 20_000).utf8) + [UInt8(ascii: "!")]
    for pattern in ["(a+)+", "(a|a)*", "(a*)*b", "(.*)(.*)(.*)(.*)x"] {
      #expect(try !ExecPolicyPattern(pattern).matches(text + [10]))
    }
  }

  @Test(
    "a wrong rule is an error of the configuration that names its place",
    arguments: [
      ("{colour: red}", "apiKeys[0].exec.colour"),
      ("{targets: []}", "apiKeys[0].exec.targets"),
      ("{targets: [\"tag=\"]}", "apiKeys[0].exec.targets[0]"),
      ("{targets: tag=web}", "apiKeys[0].exec.targets"),
      ("{transports: [pigeon]}", "apiKeys[0].exec.transports[0]"),
      ("{argv: [\"a(\"]}", "apiKeys[0].exec.argv[0]"),
      ("{argv: [[a, \"b[\"]]}", "apiKeys[0].exec.argv[0][1]"),
      ("{argv: [[]]}", "apiKeys[0].exec.argv[0]"),
      ("{argv: [{arguments: [a], rest: \"*\"}]}", "apiKeys[0].exec.argv[0].rest"),
      ("{argv: [{program: a}]}", "apiKeys[0].exec.argv[0].program"),
      ("{argv: uptime}", "apiKeys[0].exec.argv"),
      ("{shell: maybe}", "apiKeys[0].exec.shell"),
      ("{shell: [\"(\"]}", "apiKeys[0].exec.shell[0]"),
      ("{timeLimit: 0}", "apiKeys[0].exec.timeLimit"),
      ("{users: []}", "apiKeys[0].exec.users"),
      ("{terminal: 5}", "apiKeys[0].exec.terminal"),
    ])
  func configuration(yaml: String, field: String) throws {
    let error = #expect(throws: ConfigurationError.self) { try policy(yaml) }
    #expect(error?.field == field, "\(error.map { "\($0)" } ?? "")")
    #expect(error?.remedy.isEmpty == false)
  }
}
