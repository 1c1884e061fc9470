import ConsoleProtocol
import Testing

@testable import Gateway
@testable import ProxmoxClient

@Suite("Selectors")
struct FleetSelectorTests {
  static let inventory: Inventory = {
    func guest(
      _ id: Int, _ name: String, node: String, lxc: Bool = false, status: String = "running",
      tags: [String] = [], pool: String? = nil, template: Bool = false
    ) throws -> Inventory.Guest {
      let vmid = try #require(VMID(id))
      let place = Place(
        node: try #require(NodeName(node)), kind: lxc ? .lxc(vmid) : .qemu(vmid), name: name)
      return Inventory.Guest(
        place: place, vmid: vmid, name: name, status: status, tags: tags, pool: pool,
        template: template)
    }
    do {
      return Inventory(
        nodes: [
          Inventory.Node(node: try #require(NodeName("pve1")), status: "online"),
          Inventory.Node(node: try #require(NodeName("pve2")), status: "online"),
          Inventory.Node(node: try #require(NodeName("pve3")), status: "offline"),
        ],
        guests: [
          try guest(100, "web-1", node: "pve1", tags: ["web", "prod"], pool: "prod"),
          try guest(101, "web-2", node: "pve2", tags: ["web"], pool: "prod/eu"),
          try guest(102, "db-1", node: "pve1", status: "stopped", tags: ["db"]),
          try guest(103, "golden", node: "pve1", tags: ["web"], template: true),
          try guest(200, "ct-1", node: "pve1", lxc: true, tags: ["web"]),
          try guest(201, "and", node: "pve3", lxc: true, status: "unknown"),
        ])
    } catch {
      return Inventory(nodes: [], guests: [])
    }
  }()

  private func select(_ text: String) throws -> [String] {
    try Selection(try Selector(text), in: [("home", Self.inventory)]).targets
      .map(\.place.description)
  }

  @Test(
    "what a selector finds",
    arguments: [
      ("all", ["qemu/100", "qemu/101", "lxc/200"]),
      ("tag=web", ["qemu/100", "qemu/101", "lxc/200"]),
      ("tag=web and not node=pve2", ["qemu/100", "lxc/200"]),
      ("tag=web and node!=pve2", ["qemu/100", "lxc/200"]),
      ("name=web-* or type=lxc", ["qemu/100", "qemu/101", "lxc/200"]),
      ("name=web-? and (pool=prod or node=pve2)", ["qemu/100", "qemu/101"]),
      ("pool=prod", ["qemu/100"]),
      ("pool=prod*", ["qemu/100", "qemu/101"]),
      ("tag=prod,db", ["qemu/100"]),
      ("tag=prod,db and state=any", ["qemu/100", "qemu/102"]),
      ("state=stopped", ["qemu/102"]),
      ("vmid=100-150 and state=any", ["qemu/100", "qemu/101", "qemu/102"]),
      ("vmid=101,200-300", ["qemu/101", "lxc/200"]),
      ("type=lxc and state=any", ["lxc/200", "lxc/201"]),
      ("web-*", ["qemu/100", "qemu/101"]),
      ("100", ["qemu/100"]),
      ("lxc/*", ["lxc/200"]),
      ("home:qemu/*", ["qemu/100", "qemu/101"]),
      ("cluster=home and tag=prod", ["qemu/100"]),
      // Named by itself: whether it runs or not.
      ("qemu/102", ["qemu/102"]),
      ("qemu/100,qemu/102,lxc/201", ["qemu/100", "qemu/102", "lxc/201"]),
      ("name=\"and\" and state=any", ["lxc/201"]),
      // Nodes are meant only where nodes are spoken of.
      ("node=pve1", ["qemu/100", "lxc/200"]),
      ("not tag=web and state=any", ["qemu/102", "lxc/201"]),
      ("type=node", ["node/pve1", "node/pve2"]),
      ("not tag=web or node/pve1", ["node/pve1"]),
      ("type!=node and node!=pve2", ["qemu/100", "lxc/200"]),
      ("node/pve1", ["node/pve1"]),
      ("node/pve*", ["node/pve1", "node/pve2"]),
      ("type=node and state=offline", ["node/pve3"]),
      ("node/*,qemu/*", ["qemu/100", "qemu/101", "node/pve1", "node/pve2"]),
      ("all and not type=node", ["qemu/100", "qemu/101", "lxc/200"]),
    ])
  func finds(text: String, expected: [String]) throws {
    #expect(try select(text) == expected)
  }

  @Test("an empty selection is an error that says what was looked at")
  func empty() throws {
    let problem = #expect(throws: Problem.self) { try select("tag=nothing") }
    #expect(problem?.kind == "empty-selection")
    #expect(problem?.detail.contains("among 5 guests and 3 nodes of the cluster 'home'") == true)
    #expect(problem?.detail.contains("1 templates are never selected") == true)
    let stopped = #expect(throws: Problem.self) { try select("tag=db") }
    #expect(stopped?.remedy?.contains("state=any") == true)
  }

  @Test("a target that is named by itself and isn't there is an error, and so is a template")
  func missing() throws {
    for (text, name) in [
      ("qemu/100,qemu/999", "qemu/999"), ("qemu/100,golden", "golden"),
      ("qemu/103", "qemu/103"), ("other:qemu/100", "other:qemu/100"), ("lxc/100", "lxc/100"),
    ] {
      let problem = #expect(throws: Problem.self) { try select(text) }
      #expect(problem?.kind == "no-such-target")
      #expect(problem?.more["missing"] == .array([.string(name)]))
    }
    #expect(try select("qemu/* and not qemu/999") == ["qemu/100", "qemu/101"])
  }

  @Test(
    "what is no selector is refused with its place and what would do",
    arguments: [
      ("", 1), ("tag", 1), ("tag=", 5), ("tag=web and", 12), ("tag=web db", 9), ("(tag=web", 9),
      ("tag=web)", 8), ("colour=red", 1), ("tag==web", 4), ("tag=web && a", 9), ("!tag=web", 1),
      ("tag='web'", 5), ("state=flying", 7), ("type=vm", 6), ("vmid=1", 6), ("vmid=200-100", 6),
      ("100-200", 1), ("qemu/web", 1), ("vm/100", 1), ("tag=web,", 9), ("tag=\"web", 5),
      ("tag=\"\\x\"", 6), ("tag=\"a\u{7}\"", 7), ("tag=w\u{e9}b", 6), ("not", 4), ("or tag=web", 1),
      ("tag=and", 5), ("qemu/", 1), (":qemu/100", 1), ("name=\"\"", 6), ("node=a/b", 6),
      ("a/b/c", 1),
    ])
  func refused(text: String, position: Int) throws {
    let error = #expect(throws: SelectorError.self) { try Selector(text) }
    #expect(error?.position == position, "\(text): \(error.map { "\($0)" } ?? "")")
    #expect(error?.remedy.isEmpty == false)
  }

  @Test("depth, length and number of values are bounded")
  func bounds() throws {
    func depth(_ n: Int) -> String {
      String(repeating: "(", count: n) + "all" + String(repeating: ")", count: n)
    }
    _ = try Selector(depth(31))
    #expect(throws: SelectorError.self) { try Selector(depth(33)) }
    #expect(throws: SelectorError.self) { try Selector(depth(50_000)) }
    #expect(throws: SelectorError.self) {
      try Selector(String(repeating: "not ", count: 20_000) + "all")
    }
    #expect(throws: SelectorError.self) {
      try Selector("name=" + String(repeating: "a", count: 200_000))
    }
    let many = (100..<10_200).map { "\($0)" }.joined(separator: ",")
    #expect(throws: SelectorError.self) { try Selector("vmid=" + many) }
  }

  @Test("what is printed reads back as the same selector")
  func roundTrip() throws {
    var random = SeededGenerator(seed: 20_261_122)
    for _ in 0..<2000 {
      let selector = Self.selector(&random, depth: 0)
      let text = selector.description
      let again = try Selector(text)
      #expect(again == selector, "\(text)")
    }
  }

  @Test("hostile texts are read or refused, and never end the process")
  func hostile() throws {
    var random = SeededGenerator(seed: 7)
    let pieces = [
      "and", "or", "not", "(", ")", ",", "=", "!=", "tag", "vmid", "qemu/100", "*", "\"", "\\",
      "\u{0}", "\u{202e}", "e\u{301}", "100-", "-", ":", "/", " ", "all", "node/pve1", "🦊", "100",
    ]
    var read = 0
    for _ in 0..<5000 {
      let text = (0..<Int.random(in: 0...12, using: &random)).map { _ in
        pieces.randomElement(using: &random) ?? ""
      }.joined(separator: Bool.random(using: &random) ? " " : "")
      do throws(SelectorError) {
        let selector = try Selector(text)
        read += 1
        #expect((try? Selector(selector.description)) == selector)
      } catch {
        #expect(!error.remedy.isEmpty)
        if let position = error.position {
          #expect((1...text.unicodeScalars.count + 1).contains(position))
        }
      }
    }
    #expect(read > 50)
  }

  @Test("the JSON form means what the text form means")
  func json() throws {
    func read(_ text: String) throws -> Selector {
      try Selector(try JSONParser.parse(Array(text.utf8)))
    }
    for (json, text) in [
      (#""tag=web and node=pve1""#, "tag=web and node=pve1"),
      (#"{"tag":"web"}"#, "tag=web"),
      (#"{"tag":["web","db"],"node":"pve1"}"#, "tag=web,db and node=pve1"),
      (#"{"vmid":[100,"200-299"]}"#, "vmid=100,200-299"),
      (#"["qemu/100","lxc/200"]"#, "qemu/100,lxc/200"),
      (#"{"targets":["qemu/100"],"not":{"pool":"prod"}}"#, "qemu/100 and not pool=prod"),
      (#"{"or":[{"name":"web-*"},"pool=prod"]}"#, "name=web-* or pool=prod"),
      (#"{"and":["tag=a",{"or":["tag=b","tag=c"]}]}"#, "tag=a and (tag=b or tag=c)"),
    ] {
      #expect(try read(json) == (try Selector(text)), "\(json)")
    }
    for json in [
      "{}", "[]", "5", "null", #"{"colour":"red"}"#, #"{"tag":[]}"#, #"{"tag":{}}"#,
      #"{"or":[]}"#, #"{"tag":[null]}"#, #"{"targets":"qemu/100"}"#, #"["tag=web"]"#,
      #"{"not":""}"#,
    ] {
      #expect(throws: SelectorError.self, "\(json)") { try read(json) }
    }
  }

  @Test("a glob takes no time that explodes")
  func globs() {
    #expect(Glob("a*b?c").matches("axxbyc"))
    #expect(!Glob("a*b?c").matches("axxbyyc"))
    #expect(Glob("*").matches(""))
    #expect(Glob("?").matches("é"))
    #expect(!Glob("a").matches("A"))
    let hostile = Glob(String(repeating: "*a", count: 100) + "b")
    #expect(!hostile.matches(String(repeating: "a", count: 5000)))
  }

  // MARK: Making selectors

  private static func selector(_ random: inout SeededGenerator, depth: Int) -> Selector {
    switch Int.random(in: 0..<(depth > 3 ? 4 : 7), using: &random) {
    case 0: return .all
    case 1:
      let field = Selector.Field.allCases.randomElement(using: &random) ?? .name
      return .field(field, values(of: field, &random))
    case 2:
      return .vmid(
        (0..<Int.random(in: 1...3, using: &random)).map { _ in
          let low = Int.random(in: 100...5000, using: &random)
          return low...(low + Int.random(in: 0...50, using: &random))
        })
    case 3:
      return .target(
        (0..<Int.random(in: 1...3, using: &random)).map { _ in
          let kind =
            ([nil] + Selector.Kind.allCases.map { Optional($0) })
            .randomElement(using: &random) ?? nil
          let id =
            switch kind {
            case .node?: "pve" + ["1", "*", "?"][Int.random(in: 0...2, using: &random)]
            case nil:
              ["web-*", "and", "all", "tag", "x.y", "100"][Int.random(in: 0...5, using: &random)]
            default: ["100", "1??", "*"][Int.random(in: 0...2, using: &random)]
            }
          return Selector.TargetPattern(
            cluster: Bool.random(using: &random) ? Glob("home") : nil, kind: kind, id: Glob(id))
        })
    case 4: return .not(selector(&random, depth: depth + 1))
    case 5: return .and(parts(&random, depth))
    default: return .or(parts(&random, depth))
    }
  }

  private static func parts(_ random: inout SeededGenerator, _ depth: Int) -> [Selector] {
    (0..<Int.random(in: 2...4, using: &random)).map { _ in selector(&random, depth: depth + 1) }
  }

  private static func values(
    of field: Selector.Field, _ random: inout SeededGenerator
  ) -> [Glob] {
    let words: [String] =
      switch field {
      case .type: ["qemu", "lxc", "node"]
      case .state: Selector.states
      case .node: ["pve1", "pve*", "p?"]
      default: ["web", "a b", "and", "not", "x\"y", "\\", "é", "w*", "a,b", "(", "=", "🦊"]
      }
    return (0..<Int.random(in: 1...3, using: &random)).map { _ in
      Glob(words.randomElement(using: &random) ?? "x")
    }
  }
}

/// Numbers that are the same in every run (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
