import Testing

@testable import PVESimulator

@Suite("Faults")
struct FaultTests {
  private static let every = [
    "latency=200ms", "latency=1s,jitter=50ms,path=/nodes/*", "status=500,message=got timeout",
    "status=596,message=\"Broken pipe, or \"\"worse\"\"\",method=POST,times=3", "drop=answer",
    "status=596,message=Broken pipe,carried-out,path=*/exec",
    "drop=request", "truncate=10", "hang,user=*@pve", "garbage=64", "expired-ticket,skip=2",
    "dial=neverAnswers", "bad-frame=killWorker", "dead-port=killWorker",
    "terminal-ending=losesTail", "cut-console=1000", "reorder-console=0.25", "repeat-console=0.5",
    "lose-console=1.0", "console-rate=9600", "node-down=pve2,for=2s",
    "node-down,manner=hanging,path=/version,times=1", "new-certificate", "clock-skew=-400",
    "full-ports=pve1", "agent-delay=120s,vmid=100", "agent=exec-disabled,vmid=100", "agent=silent",
    "slow-tasks=3.5", "kill-worker=pve1,worker=2",
    "restart-proxy,for=100ms", "revoke-tickets=alice@pve", "migrate=100,to=pve2", "crash=100,id=x",
  ]

  @Test("text is read and written the same", arguments: every)
  func text(_ text: String) throws {
    let fault = try Fault(parsing: text)
    #expect(fault.description == text)
    #expect(try Fault(parsing: fault.description) == fault)
  }

  @Test("JSON says the same as text", arguments: every)
  func json(_ text: String) throws {
    let fault = try Fault(parsing: text)
    let json = try JSONReader.read(fault.json.bytes)
    #expect(try Fault(json: json) == fault)
  }

  @Test(
    "a mistake is named",
    arguments: [
      ("latency=200", "'latency' is a time with its unit, like 200ms, 1.5s or 2m, not '200'"),
      ("latency=1s,pth=/x", "'pth' is no field of a fault with 'latency'"),
      (
        "latency=1s,jitter=-1s",
        "'jitter' is a time with its unit, like 200ms, 1.5s or 2m, not '-1s'"
      ),
      ("latency=1s,hang", "a fault has one effect, not 'latency' and 'hang'"),
      ("hang,hang", "'hang' is there twice"),
      ("hang=1", "'hang' has no value"),
      ("status=99", "'status' is 200 to 599, not 99"),
      ("hang,probability=2", "'probability' is a number from 0 to 1, not '2'"),
      ("hang,nth=2,times=2", "'nth' says both 'skip' and 'times'; give it alone"),
      ("hang,path=nodes", "'path' begins with / or *, unlike 'nodes'"),
      ("hang,method=PATCH", "'method' is GET, POST, PUT or DELETE, not 'PATCH'"),
      ("hang,for=1s", "'for' goes with conditions, not 'hang'"),
      ("kill-worker,worker=3", "'worker' is 0, 1 or 2, not 3"),
      (
        "bad-frame=explode",
        "'bad-frame' is one of freeze, killWorker, not 'explode'"
      ),
      ("status=500,message=\"x", "a quote is not closed in 'status=500,message=\"x'"),
    ])
  func mistakes(_ text: String, _ sentence: String) {
    #expect(throws: FaultError(sentence)) { try Fault(parsing: text) }
  }

  @Test("an effect that there isn't gets the list of those that there are")
  func unknownEffect() {
    do {
      _ = try Fault(parsing: "letency=1s")
      Issue.record("read")
    } catch {
      #expect("\(error)".contains("latency, lose-console"))
      #expect("\(error)".contains("('letency' is none)"))
    }
  }

  @Test("a file holds a fault a line, or a JSON array; mistakes have their place")
  func files() throws {
    let lines = try Fault.list(parsing: "# slow\n\nlatency=1s\r\n  hang,nth=2\n")
    #expect(lines.map(\.description) == ["latency=1s", "hang,skip=1,times=1"])
    let json = try Fault.list(
      parsing: #" [{"latency":"1s","probability":0.5},{"status":500,"times":2}] "#)
    #expect(
      json.map(\.description) == [
        "latency=1s,probability=0.5", "status=500,message=simulated fault,times=2",
      ])
    #expect(throws: FaultError("line 2: 'hang' has no value")) {
      try Fault.list(parsing: "hang\nhang=2")
    }
    #expect(throws: FaultError("fault 2: 'x' is a text, a number or true")) {
      try Fault.list(parsing: #"[{"hang":true},{"hang":true,"x":[]}]"#)
    }
  }

  @Test(
    "a star stands for any run of characters",
    arguments: [
      ("/nodes/*", "/nodes/pve1/status", true), ("/nodes/*", "/nodes", false),
      ("/nodes/*/agent/*", "/nodes/pve1/qemu/100/agent/exec", true),
      ("/nodes/*/agent/*", "/nodes/pve1/qemu/100/config", false), ("*", "", true),
      ("*/exec", "/a/exec", true), ("*/exec", "/a/exec-status", false),
      ("/version", "/version", true),
      ("/version", "/versions", false), ("a*a", "a", false), ("a*a", "aa", true),
      ("*ab*ab", "xabab", true), ("*ab*ab", "xab", false), ("a**b", "axb", true),
    ])
  func patterns(_ pattern: String, _ text: String, _ fits: Bool) {
    #expect(Glob(pattern).matches(text) == fits)
  }

  // MARK: the desk

  private func request(
    _ path: String, _ method: String = "GET", user: String? = "root@pam", node: String = "pve1",
    upgrade: Bool = false, ticket: Bool = true
  ) -> RequestFacts {
    RequestFacts(
      method: method, path: "/api2/json" + path, user: user, node: node, worker: 1,
      hasTicket: ticket, isUpgrade: upgrade)
  }

  @Test("a trigger's parts must all fit, and requests are counted")
  func triggers() throws {
    let desk = FaultDesk(seed: 1, loop: nil)
    try desk.add("status=500,method=POST,path=/nodes/*/start,user=*@pve,node=pve2,skip=1,times=2")
    func meets(_ facts: RequestFacts) -> Bool { desk.plan(facts).ending != nil }
    let fitting = request("/nodes/pve2/qemu/1/start", "POST", user: "a@pve", node: "pve2")
    #expect(!meets(fitting))
    #expect(meets(fitting))
    #expect(!meets(request("/nodes/pve2/qemu/1/start", "GET", user: "a@pve", node: "pve2")))
    #expect(!meets(request("/nodes/pve2/qemu/1/stop", "POST", user: "a@pve", node: "pve2")))
    #expect(!meets(request("/nodes/pve2/qemu/1/start", "POST", user: "a@pam", node: "pve2")))
    #expect(!meets(request("/nodes/pve2/qemu/1/start", "POST", user: nil, node: "pve2")))
    #expect(!meets(request("/nodes/pve2/qemu/1/start", "POST", user: "a@pve", node: "pve1")))
    #expect(meets(fitting))
    #expect(!meets(fitting))
    #expect(desk.records.first?.matched == 4)
    #expect(desk.records.first?.applied == 2)
    #expect(desk.records.first?.state == "over")
  }

  @Test(
    "the same seed meets the same requests, another seed others, and faults don't disturb each other"
  )
  func seeds() throws {
    func run(seed: UInt64, _ more: [Fault] = []) throws -> [Bool] {
      let desk = FaultDesk(seed: seed, loop: nil)
      try desk.add("hang,probability=0.3,id=a")
      for fault in more { try desk.add(fault) }
      return (0..<200).map { _ in desk.plan(request("/version")).faults.contains("a") }
    }
    let first = try run(seed: 7)
    #expect(try run(seed: 7) == first)
    #expect(try run(seed: 7, ["latency=1s,probability=0.5", "drop,probability=0.1"]) == first)
    #expect(try run(seed: 8) != first)
    #expect((40...80).contains(first.count { $0 }))
  }

  @Test("latencies add up, jitter is within its bounds and repeatable, the first ending wins")
  func plans() throws {
    func delays() throws -> [Duration] {
      let desk = FaultDesk(seed: 3, loop: nil)
      try desk.add("latency=100ms,jitter=50ms")
      try desk.add("latency=10ms")
      return (0..<50).map { _ in desk.plan(request("/version")).delay }
    }
    let first = try delays()
    #expect(first.allSatisfy { $0 >= .milliseconds(110) && $0 <= .milliseconds(160) })
    #expect(Set(first).count > 40)
    #expect(try delays() == first)

    let desk = FaultDesk(seed: 3, loop: nil)
    try desk.add("truncate=5,path=/version")
    try desk.add("hang")
    #expect(desk.plan(request("/version")).ending == .truncate(5))
    #expect(desk.plan(request("/nodes")).ending == .hang)
  }

  @Test("garbage is no HTTP and the same with the same seed")
  func garbage() throws {
    func bytes() throws -> [UInt8]? {
      let desk = FaultDesk(seed: 5, loop: nil)
      try desk.add("garbage=100")
      guard case .garbage(let bytes) = desk.plan(request("/version")).ending else { return nil }
      return bytes
    }
    let first = try #require(try bytes())
    #expect(first.count == 100 && first.allSatisfy { $0 > 127 })
    #expect(try bytes() == first)
  }

  @Test("console faults meet websockets only, expired tickets only those who show one")
  func families() throws {
    let desk = FaultDesk(seed: 1, loop: nil)
    try desk.add("cut-console=9,times=1")
    try desk.add("expired-ticket")
    #expect(desk.plan(request("/version", ticket: false)).faults.isEmpty)
    let plan = desk.plan(request("/nodes/pve1/vncwebsocket", upgrade: true, ticket: false))
    #expect(plan.console?.cutAfter == 9)
    #expect(desk.plan(request("/version")).ticketHasExpired)
  }

  /// Writes down what it is told.
  private final class Stage: FaultStage {
    var log: [String] = []
    func resolve(_ effect: Fault.Effect, asked request: RequestFacts?) -> Fault.Effect {
      guard case .nodeDown(nil, let manner) = effect else { return effect }
      return .nodeDown(request?.node ?? "first", manner)
    }
    func begin(_ effect: Fault.Effect, for duration: Duration?) {
      log.append("begin \(Fault(effect))")
    }
    func end(_ effect: Fault.Effect) { log.append("end \(Fault(effect))") }
    func check(_ fault: Fault) throws(FaultError) {
      if case .guestCrash = fault.effect { throw FaultError("no such guest") }
    }
  }

  @Test("a condition begins at once or at its request, and ends with the fault")
  func conditions() throws {
    let stage = Stage()
    let desk = FaultDesk(seed: 1, loop: nil)
    desk.stage = stage
    try desk.add("clock-skew=60")
    try desk.add("node-down,path=/version,nth=2")
    #expect(stage.log == ["begin clock-skew=60"])
    _ = desk.plan(request("/version", node: "pve3"))
    #expect(desk.plan(request("/version", node: "pve3")).faults == ["2"])
    #expect(stage.log.last == "begin node-down=pve3")
    #expect(desk.plan(request("/version", node: "pve3")).faults == [])
    desk.remove("1")
    #expect(stage.log.last == "end clock-skew=60")
    desk.clear()
    #expect(stage.log.last == "end node-down=pve3")
    #expect(!desk.remove("1"))
  }

  @Test("a happening without a trigger comes once; with one it comes as often as that says")
  func happenings() throws {
    let stage = Stage()
    let desk = FaultDesk(seed: 1, loop: nil)
    desk.stage = stage
    try desk.add("kill-worker=pve1,worker=0")
    try desk.add("revoke-tickets,path=/version,times=2")
    for _ in 0..<4 { _ = desk.plan(request("/version")) }
    #expect(
      stage.log == [
        "begin kill-worker=pve1,worker=0", "begin revoke-tickets", "begin revoke-tickets",
      ])
    #expect(desk.records.map(\.state) == ["over", "over"])
  }

  @Test("ids are unique; what the stage refuses isn't added; numbers begin anew after a clear")
  func ids() throws {
    let stage = Stage()
    let desk = FaultDesk(seed: 1, loop: nil)
    desk.stage = stage
    try desk.add("hang,id=2")
    #expect(try desk.add("hang").id == "1")
    #expect(try desk.add("hang").id == "3")
    #expect(throws: FaultError("there is a fault '2' already")) { try desk.add("drop,id=2") }
    #expect(throws: FaultError("no such guest")) { try desk.add("crash=100") }
    #expect(desk.records.count == 3)
    desk.clear(seed: 9)
    #expect(try desk.add("hang").id == "1")
    #expect(desk.seed == 9)
  }
}
