import ConsoleProtocol
import Testing

@testable import ProxmoxClient

@Suite("What is in a cluster", .timeLimit(.minutes(2)))
struct InventoryTests {
  private func inventory(_ json: String) throws -> Inventory {
    let request = APIRequest(method: .get, path: "/cluster/resources")
    return try ProxmoxClient.inventory(
      from: AnswerReader(value: try JSONParser.parse(Array(json.utf8)), request: request, host: nil)
    )
  }

  @Test("a recorded cluster is read")
  func recorded() async throws {
    let server = try ScriptedServer { _, connection in
      connection.answer(Fixture("cluster-resources"))
    }
    let client = client(server)
    let inventory = try await client.inventory()
    #expect(inventory.nodes.map(\.node.value) == ["pve1"])
    #expect(inventory.nodes.first?.status == "online" && inventory.nodes.first?.maxcpu == 2)
    #expect(inventory.guests.map(\.place.description) == ["qemu/100", "lxc/200", "lxc/201"])
    let vm = try #require(inventory.guests.first)
    #expect(
      vm.name == "guest100" && vm.status == "running" && !vm.template && vm.maxmem == 268_435_456)
    #expect(vm.consoles.count == 6 && inventory.guests.last?.consoles == [.vnc, .terminal])
    #expect(try await client.resolve(Target("guest100")) == vm.place)
    #expect(try await client.resolve(Target("201")).description == "lxc/201")
    #expect(try await client.resolve(Target("node/pve1")).kind == .node)
    #expect(server.requests.count == 1)
    client.shutdown()
  }

  @Test("strings for numbers, nulls, missing and unknown fields are lived with")
  func tolerant() throws {
    let inventory = try inventory(
      #"[{"type":"qemu","vmid":"105","node":"n1","template":"1","tags":"a;b,c d","cpu":"0.5","mem":null,"new":{}},{"type":"pool","id":"/pool/x"},{"type":"node","node":"n2"}]"#
    )
    let guest = try #require(inventory.guests.first)
    #expect(guest.vmid.value == 105 && guest.template && guest.tags == ["a", "b", "c", "d"])
    #expect(guest.cpu == 0.5 && guest.mem == nil && guest.name == nil && guest.status == "unknown")
    #expect(guest.consoles.isEmpty)
    #expect(inventory.nodes.first?.status == "unknown")
  }

  @Test(
    "a missing required field is named with its place",
    arguments: [
      (#"[{"type":"qemu","node":"n1"}]"#, "[0].vmid"), (#"[{"type":"node"}]"#, "[0].node"),
      (#"[{"type":"node","node":"n"},{"x":1}]"#, "[1].type"),
      (#"[{"type":"lxc","vmid":5,"node":"n"}]"#, "[0].vmid"),
      (#"[{"type":"node","node":"../x"}]"#, "[0].node"), (#"{"a":1}"#, "data"), ("[7]", "[0].type"),
    ])
  func missing(_ json: String, _ field: String) {
    #expect {
      _ = try inventory(json)
    } throws: { error in
      guard let error = error as? PVEError else { return false }
      return error.kind == .malformedAnswer(field: field)
    }
  }

  private static let cluster =
    #"[{"type":"node","node":"n1"},{"type":"node","node":"n2"},{"type":"qemu","vmid":100,"node":"n1","name":"web"},{"type":"lxc","vmid":200,"node":"n2","name":"web"},{"type":"qemu","vmid":101,"node":"n2","name":"Mail"},{"type":"lxc","vmid":300,"node":"n2","name":"101"}]"#

  private func failing(_ target: String) throws -> PVEError? {
    let inventory = try inventory(Self.cluster)
    let target = try Target(target)
    do {
      _ = try ProxmoxClient.resolve(target, in: inventory)
      return nil
    } catch {
      return error
    }
  }

  @Test("an ambiguous name lists who has it, and where")
  func ambiguous() throws {
    let error = try #require(try failing("web"))
    guard case .ambiguousTarget(let candidates) = error.kind else {
      Issue.record("\(error)")
      return
    }
    #expect(candidates.map(\.description) == ["qemu/100", "lxc/200"])
    #expect(error.message.contains("qemu/100 on n1, lxc/200 on n2"))
    #expect(error.hint.contains("qemu/100"))
  }

  @Test("names without regard to case where nobody has them as written, and numbers before names")
  func names() throws {
    let inventory = try inventory(Self.cluster)
    #expect(try ProxmoxClient.resolve(Target("mail"), in: inventory).description == "qemu/101")
    #expect(try ProxmoxClient.resolve(Target("101"), in: inventory).description == "qemu/101")
    #expect(try ProxmoxClient.resolve(Target("lxc/300"), in: inventory).node.value == "n2")
  }

  @Test(
    "what isn't there is told with what is",
    arguments: [
      ("nobody", PVEError.Kind.targetNotFound, "VM.Audit"),
      ("lxc/100", .targetNotFound, "qemu/100 on n1"),
      ("n1", .targetNotFound, "node/n1"), ("node/n9", .nodeNotFound, "n1, n2"),
    ])
  func notFound(_ target: String, _ kind: PVEError.Kind, _ hint: String) throws {
    let error = try #require(try failing(target))
    #expect(error.kind == kind && error.hint.contains(hint))
  }
}

@Suite("Tasks and guests", .timeLimit(.minutes(2)))
struct TaskTests {
  private static let upid = "UPID:pve1:00000FB1:00078723:6B01E1B3:vncproxy:200:root@pam!tok1:"

  @Test("a task's name is read, and what is none is refused before it becomes a path")
  func names() throws {
    let upid = try #require(UPID(Self.upid))
    #expect(upid.node.value == "pve1" && upid.type == "vncproxy" && upid.id == "200")
    #expect(upid.user == "root@pam!tok1")
    for text in [
      "", "UPID", "UPID:a/b:1:2:3:x:y:z:", "UPID:pve1:g:2:3:x:y:z:", "XPID:pve1:1:2:3:x:y:z:",
    ] {
      #expect(UPID(text) == nil)
    }
  }

  @Test("status, log and stop go to the task's own node")
  func calls() async throws {
    let server = try ScriptedServer { request, connection in
      if request.method == "DELETE" { return connection.data("null") }
      connection.answer(Fixture(request.path.hasSuffix("/log") ? "task-log" : "task-status"))
    }
    let client = client(server)
    let status = try await client.taskStatus(Self.upid)
    #expect(!status.isRunning && status.succeeded)
    #expect(try await client.taskLogTail(Self.upid) == ["TASK OK"])
    try await client.stopTask(Self.upid)
    let base =
      "/api2/json/nodes/pve1/tasks/UPID%3Apve1%3A00000FB1%3A00078723%3A6B01E1B3%3Avncproxy%3A200%3Aroot%40pam%21tok1%3A"
    #expect(
      server.requests.map { "\($0.method) \($0.path)" } == [
        "GET \(base)/status", "GET \(base)/log", "DELETE \(base)",
      ])
    #expect(await failure { try await client.taskStatus("../../x") }?.kind == .badConfiguration)
    client.shutdown()
  }

  @Test("of a long log the end is read")
  func longLog() async throws {
    let server = try ScriptedServer { request, connection in
      let start = Int(request.field("start") ?? "") ?? 0
      let limit = Int(request.field("limit") ?? "") ?? 0
      let rows = (start..<min(1000, start + limit)).map {
        #"{"n":\#($0 + 1),"t":"line \#($0 + 1)"}"#
      }
      connection.answer("200 OK", #"{"data":[\#(rows.joined(separator: ","))],"total":1000}"#)
    }
    let client = client(server)
    #expect(
      try await client.taskLogTail(Self.upid, lines: 3) == ["line 998", "line 999", "line 1000"])
    #expect(server.requests.count == 2)
    client.shutdown()
  }

  @Test("a recorded guest's state and configuration are read")
  func guest() async throws {
    let server = try ScriptedServer { request, connection in
      connection.answer(
        Fixture(request.path.hasSuffix("/config") ? "guest-configuration" : "guest-status"))
    }
    let client = client(server)
    let place = Place(node: try #require(NodeName("pve1")), kind: .qemu(try #require(VMID(100))))
    let status = try await client.guestStatus(place)
    #expect(status.isRunning && status.hasSerial && status.hasAgent && status.name == "guest100")
    let configuration = try await client.guestConfiguration(place)
    #expect(configuration.serialPorts == [0] && configuration.hasScreen)
    #expect(
      configuration.has(.terminal, on: place.kind) && configuration.has(.serial0, on: place.kind))
    #expect(!configuration.has(.serial1, on: place.kind))
    #expect(
      await failure { try await client.guestStatus(Place(node: place.node, kind: .node)) } != nil)
    client.shutdown()
  }

  @Test("a serial port that is a device, and a VM without a screen")
  func configuration() throws {
    let json = try JSONParser.parse(
      Array(#"{"serial0":"/dev/ttyS0","serial3":"socket","vga":"none"}"#.utf8))
    let configuration = GuestConfiguration(all: json)
    #expect(configuration.serialPorts == [3] && !configuration.hasScreen)
  }
}
