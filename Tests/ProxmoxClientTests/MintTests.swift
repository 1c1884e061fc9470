import ConsoleProtocol
import Synchronization
import Testing

@testable import ProxmoxClient

@Suite("Minting consoles", .timeLimit(.minutes(2)))
struct MintTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var console: Console
    var target: String
    var version: String
    var byToken: Bool
    var path: String
    var body: String
    var answer: String
    var testDescription: String {
      "\(target) \(console) \(version) \(byToken ? "token" : "ticket")"
    }
  }

  static func place(_ text: String) throws -> Place {
    let node = try #require(NodeName("pve1"))
    switch try Target(text) {
    case .node(let name): return Place(node: name, kind: .node)
    case .qemu(let id): return Place(node: node, kind: .qemu(id))
    case .lxc(let id): return Place(node: node, kind: .lxc(id))
    case .name: throw TransportFailure.cancelled
    }
  }

  static let ticket = Credential.ticket(Secret("PVE:root@pam:6B01E1A0::x=="), csrf: Secret("csrf"))

  /// Right before and after the recording, for ever: nobody renews.
  static let clock = LoginClock(monotonic: { .zero }, wall: WallClock { 0x6B01E1A0 })

  static let cases: [Case] = [
    Case(
      console: .terminal, target: "node/pve1", version: "9.2.11", byToken: false,
      path: "/nodes/pve1/termproxy", body: "", answer: "node-termproxy"),
    Case(
      console: .terminal, target: "node/pve1", version: "9.2.11", byToken: true,
      path: "/nodes/pve1/termproxy", body: "", answer: "node-termproxy-by-token"),
    Case(
      console: .vnc, target: "node/pve1", version: "9.2.11", byToken: false,
      path: "/nodes/pve1/vncshell", body: "websocket=1&width=1024&height=768",
      answer: "node-vncshell"),
    Case(
      console: .vnc, target: "qemu/100", version: "9.2.11", byToken: false,
      path: "/nodes/pve1/qemu/100/vncproxy", body: "websocket=1", answer: "qemu-vncproxy"),
    Case(
      console: .vnc, target: "qemu/100", version: "9.2.11", byToken: true,
      path: "/nodes/pve1/qemu/100/vncproxy", body: "websocket=1", answer: "qemu-vncproxy-by-token"),
    Case(
      console: .vnc, target: "qemu/100", version: "8.4.18", byToken: true,
      path: "/nodes/pve1/qemu/100/vncproxy", body: "websocket=1&generate-password=1",
      answer: "qemu-vncproxy-by-token"),
    Case(
      console: .vnc, target: "qemu/100", version: "6.1-5", byToken: false,
      path: "/nodes/pve1/qemu/100/vncproxy", body: "websocket=1", answer: "qemu-vncproxy"),
    Case(
      console: .terminal, target: "qemu/100", version: "9.2.11", byToken: false,
      path: "/nodes/pve1/qemu/100/termproxy", body: "", answer: "qemu-termproxy"),
    Case(
      console: .serial0, target: "qemu/100", version: "9.2.11", byToken: true,
      path: "/nodes/pve1/qemu/100/termproxy", body: "serial=serial0",
      answer: "qemu-termproxy-by-token"),
    Case(
      console: .serial3, target: "qemu/100", version: "7.4-20", byToken: false,
      path: "/nodes/pve1/qemu/100/termproxy", body: "serial=serial3", answer: "qemu-termproxy"),
    Case(
      console: .terminal, target: "lxc/200", version: "8.4.19", byToken: true,
      path: "/nodes/pve1/lxc/200/termproxy", body: "", answer: "qemu-termproxy-by-token"),
    Case(
      console: .vnc, target: "lxc/200", version: "9.2.11", byToken: false,
      path: "/nodes/pve1/lxc/200/vncproxy", body: "websocket=1&width=1024&height=768",
      answer: "lxc-vncproxy"),
    Case(
      console: .vnc, target: "lxc/200", version: "7.4-20", byToken: true,
      path: "/nodes/pve1/lxc/200/vncproxy", body: "websocket=1&width=1024&height=768",
      answer: "lxc-vncproxy-by-token"),
  ]

  @Test("every console: the right call, and a plan of what was answered", arguments: cases)
  func all(_ one: Case) async throws {
    let server = try ScriptedServer { request, connection in
      if request.path.hasSuffix("/version") {
        return connection.data(#"{"version":"\#(one.version)","release":"x"}"#)
      }
      connection.answer(Fixture(one.answer))
    }
    let client = client(server, credential: one.byToken ? token : Self.ticket, clock: Self.clock)
    let place = try Self.place(one.target)
    let plan = try await client.mint(
      one.console, of: place, size: ScreenSize(width: 1024, height: 768))
    let call = try #require(server.requests.last)
    #expect(call.method == "POST" && call.path == "/api2/json" + one.path && call.body == one.body)

    let data = try JSONParser.parse(Array(Fixture(one.answer).body.utf8))["data"]
    let minted = try #require(data["ticket"].string)
    let port = try #require(data["port"].int)
    #expect(plan.host == "127.0.0.1" && plan.port == server.port && plan.tls == nil)
    #expect(
      plan.requestTarget.reveal()
        == "/api2/json\(place.apiPath)/vncwebsocket?port=\(port)&vncticket=\(PercentEncoding.encode(minted))"
    )
    #expect(plan.credentialHeader.name == (one.byToken ? "Authorization" : "Cookie"))
    #expect(plan.credentialHeader.value.reveal() == call.header(plan.credentialHeader.name))
    #expect(plan.upid == data["upid"].string && plan.node.value == "pve1")
    #expect(
      plan.maximumFrame
        == (one.version.hasPrefix("7") || one.version.hasPrefix("6") ? 32_768 : 131_072))
    switch plan.login {
    case .rfb(let password):
      #expect(one.console == .vnc && password.reveal() == data["password"].string)
    case .termproxy(let line):
      #expect(one.console.isTerminal)
      #expect(line.reveal() == "\(try #require(data["user"].string)):\(minted)\n")
    case .none: Issue.record("a console without a login")
    }
    client.shutdown()
  }

  @Test(
    "without a password the ticket's first eight characters are it, and the port may be a number")
  func oldAnswer() async throws {
    let server = try ScriptedServer { request, connection in
      if request.path.hasSuffix("/version") { return connection.data(#"{"version":"7.4-20"}"#) }
      connection.data(
        #"{"user":"a@pve","ticket":"PVEVNC:6B01E1B3::a/b+c==","port":5901,"upid":"UPID:n:1:2:3:vncproxy:100:a@pve:","cert":"x"}"#
      )
    }
    let client = client(server)
    let plan = try await client.mint(.vnc, of: try Self.place("qemu/100"))
    guard case .rfb(let password) = plan.login else {
      Issue.record("no RFB login")
      return
    }
    #expect(password.reveal() == "PVEVNC:6")
    #expect(
      plan.requestTarget.reveal().hasSuffix(
        "?port=5901&vncticket=PVEVNC%3A6B01E1B3%3A%3Aa%2Fb%2Bc%3D%3D"))
    client.shutdown()
  }

  @Test("a ticket whose password is all reserved characters stays whole")
  func reserved() async throws {
    let server = try ScriptedServer { request, connection in
      if request.path.hasSuffix("/version") { return connection.answer(Fixture("version")) }
      connection.data(
        ##"{"user":"a@pve","ticket":"+/=:%&#?:PVEVNC:6B::x","password":"+/=:%&#?","port":"5900","upid":"UPID:n:1:2:3:v:1:a@pve:"}"##
      )
    }
    let client = client(server)
    let plan = try await client.mint(.vnc, of: try Self.place("qemu/100"))
    #expect(
      plan.requestTarget.reveal().hasSuffix(
        "vncticket=%2B%2F%3D%3A%25%26%23%3F%3APVEVNC%3A6B%3A%3Ax"))
    client.shutdown()
  }

  @Test(
    "an answer without a field, or with an impossible port, says which",
    arguments: [
      (#"{"user":"a","port":5900,"upid":"U"}"#, "ticket"),
      (#"{"ticket":"t","port":5900,"upid":"U"}"#, "user"),
      (#"{"user":"a","ticket":"t","upid":"U"}"#, "port"),
      (#"{"user":"a","ticket":"t","port":"x","upid":"U"}"#, "port"),
      (#"{"user":"a","ticket":"t","port":70000,"upid":"U"}"#, "port"),
      (#"{"user":"a","ticket":"t","port":5900}"#, "upid"),
      (#"{"user":"a\nb","ticket":"t","port":5900,"upid":"U"}"#, "user"), ("null", "ticket"),
      ("[]", "ticket"),
    ])
  func incomplete(_ json: String, _ field: String) async throws {
    let server = try ScriptedServer { request, connection in
      if request.path.hasSuffix("/version") { return connection.answer(Fixture("version")) }
      connection.data(json)
    }
    let client = client(server)
    let error = await failure { try await client.mint(.terminal, of: try Self.place("lxc/200")) }
    #expect(error?.kind == .malformedAnswer(field: field))
    client.shutdown()
  }

  @Test(
    "the second credential opens what the first can't, and nothing else",
    arguments: [
      ("9.2.11", "node/pve1", Console.vnc, true), ("9.2.11", "node/pve1", .terminal, false),
      ("8.4.18", "qemu/100", .terminal, true), ("8.4.18", "qemu/100", .vnc, false),
      ("9.1.8", "lxc/200", .terminal, true), ("9.1.9", "lxc/200", .terminal, false),
      ("9.0.12", "node/pve1", .terminal, true),
    ])
  func second(_ version: String, _ target: String, _ console: Console, _ usesSecond: Bool)
    async throws
  {
    let server = try ScriptedServer { request, connection in
      if request.path.hasSuffix("/version") {
        return connection.data(#"{"version":"\#(version)"}"#)
      }
      connection.answer(Fixture("lxc-vncproxy"))
    }
    let both = client(server, second: Self.ticket, clock: Self.clock)
    let plan = try await both.mint(console, of: try Self.place(target))
    #expect(plan.credentialHeader.name == (usesSecond ? "Cookie" : "Authorization"))
    #expect((server.requests.last?.header("Cookie") != nil) == usesSecond)
    #expect((server.requests.last?.header("CSRFPreventionToken") != nil) == usesSecond)
    both.shutdown()
    let alone = client(server)
    let error = await failure { try await alone.mint(console, of: try Self.place(target)) }
    #expect(error?.kind == (usesSecond ? .tokenUnsupported : nil))
    if usesSecond { #expect(error?.hint.contains("consoleCredential") == true) }
    alone.shutdown()
  }

  @Test(
    "a recorded refusal of a mint keeps path and privilege",
    arguments: ["console-without-privilege", "node-vncshell-by-token", "missing-guest"])
  func refused(_ name: String) async throws {
    let server = try ScriptedServer { request, connection in
      connection.answer(Fixture(request.path.hasSuffix("/version") ? "version" : name))
    }
    let client = client(server)
    let error = await failure { try await client.mint(.vnc, of: try Self.place("qemu/100")) }
    #expect(error?.kind == Fixture(name).error().kind)
    client.shutdown()
  }

  @Test("a container has no serial port")
  func noSerial() async throws {
    let server = try ScriptedServer { _, connection in connection.answer(Fixture("version")) }
    let client = client(server)
    let error = await failure { try await client.mint(.serial0, of: try Self.place("lxc/200")) }
    #expect(error?.kind == .noSuchConsole)
    client.shutdown()
  }

  @Test("a screen's size is cut to what PVE takes")
  func sizes() {
    #expect(ScreenSize(width: 1, height: 1) == ScreenSize(width: 16, height: 16))
    #expect(ScreenSize(width: 9999, height: 9999) == ScreenSize(width: 4096, height: 2160))
    #expect(ScreenSize(columns: 80, rows: 24) == ScreenSize(width: 640, height: 384))
    #expect(ScreenSize(columns: .max, rows: .max) == ScreenSize(width: 4096, height: 2160))
  }

  @Test("a tunnel: minted on localhost, its websockets are values")
  func tunnel() async throws {
    let server = try ScriptedServer { request, connection in
      if request.path.hasSuffix("/version") { return connection.answer(Fixture("version")) }
      connection.data(
        #"{"upid":"UPID:pve7:1:2:3:qmtunnel:150:root@pam!tok1:","ticket":"PVETUNNEL:6B01E1B3::a/b+c==","socket":"/run/qemu-server/150.mtunnel"}"#
      )
    }
    let client = client(server)
    let tunnel = try await client.mintTunnel(
      .qemu(try #require(VMID(150))), storages: ["local", "ceph"], bridges: ["vmbr0"])
    let call = try #require(server.requests.last)
    #expect(call.method == "POST" && call.path == "/api2/json/nodes/localhost/qemu/150/mtunnel")
    #expect(call.field("storages") == "local,ceph" && call.field("bridges") == "vmbr0")
    let base = "/api2/json/nodes/localhost/qemu/150/mtunnelwebsocket"
    #expect(
      tunnel.plan.requestTarget.reveal() == base
        + "?ticket=PVETUNNEL%3A6B01E1B3%3A%3Aa%2Fb%2Bc%3D%3D&socket=%2Frun%2Fqemu-server%2F150.mtunnel"
    )
    #expect(tunnel.plan.node.value == "pve7" && tunnel.plan.port == server.port)
    guard case .none = tunnel.plan.login else {
      Issue.record("a tunnel with a login")
      return
    }
    let other = tunnel.plan(socket: "/run/qemu-server/150.storage", ticket: Secret("PVETUNNEL:x"))
    #expect(
      other.requestTarget.reveal() == base
        + "?ticket=PVETUNNEL%3Ax&socket=%2Frun%2Fqemu-server%2F150.storage")
    #expect(other.credentialHeader.value == tunnel.plan.credentialHeader.value)
    client.shutdown()
  }

  @Test("one VM's screen is opened by one at a time, in order; who gives up leaves the line")
  func turns() async throws {
    let server = try ScriptedServer { _, _ in }
    let client = client(server)
    let vm = try Self.place("qemu/100")
    let first = try await client.turn(for: .vnc, of: vm)
    let order = Mutex<[Int]>([])
    let second = Task {
      let turn = try await client.turn(for: .vnc, of: vm)
      order.withLock { $0.append(2) }
      turn.end()
    }
    let leaver = Task { await failure { try await client.turn(for: .vnc, of: vm) } }
    try await Task.sleep(for: .milliseconds(50))
    leaver.cancel()
    #expect(await leaver.value?.kind == .cancelled)
    for console in [Console.terminal, .serial0] { _ = try await client.turn(for: console, of: vm) }
    _ = try await client.turn(for: .vnc, of: try Self.place("qemu/101"))
    _ = try await client.turn(for: .vnc, of: try Self.place("lxc/200"))
    #expect(order.withLock { $0 }.isEmpty)
    first.end()
    first.end()
    try await second.value
    // A turn that is dropped is a turn that ended.
    _ = try await client.turn(for: .vnc, of: vm)
    _ = try await client.turn(for: .vnc, of: vm)
    client.shutdown()
  }
}
