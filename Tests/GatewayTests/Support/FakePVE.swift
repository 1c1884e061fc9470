import ConsoleProtocol
import EventLoop
import ProxmoxClient
import Synchronization

/// A PVE node that answers what a test tells it to, over plain HTTP. It is no judge of requests; the simulator is.
final class FakePVE: HTTPHandler {
  /// What a console's websocket does.
  enum Worker: Sendable {
    /// Takes the login line, says OK, then echoes what is typed.
    case terminal
    /// Says OK and closes when something is typed.
    case endsOnInput
    /// Closes at once.
    case closes
    /// Answers the upgrade with a status.
    case refuses(Int)
  }

  struct Guest: Sendable {
    var type = "qemu"
    var name: String
    var status = "running"
    var config: [String: JSONValue] = [:]
  }

  struct State: Sendable {
    var guests: [Int: Guest] = [
      100: Guest(name: "web1", config: ["serial0": .string("socket")]),
      101: Guest(name: "off", status: "stopped", config: ["serial0": .string("socket")]),
      102: Guest(name: "mute"), 103: Guest(name: "twin"), 104: Guest(name: "twin"),
      200: Guest(type: "lxc", name: "ct1"),
    ]
    var worker = Worker.terminal
    /// Status and message for a mint that fails.
    var mintFails: (status: Int, message: String)?
    /// Status and message for looking at guests.
    var lookFails: (status: Int, message: String)?
    /// Status and message for everything.
    var allFails: (status: Int, message: String)?
    var taskRuns = false
    var exitStatus = "OK"
    var log = ["starting"]
    var asked: [String] = []
    /// Run when something is typed, before the worker ends.
    var onInput: (@Sendable (inout State) -> Void)?
  }

  let state = Mutex(State())
  private let server = Mutex<(HTTPServer, LoopGroup)?>(nil)

  /// A node that listens on a port of its own.
  static func start() async throws -> FakePVE {
    let pve = FakePVE()
    let group = try LoopGroup(count: 1)
    let server = try await HTTPServer(
      on: group, options: .init(address: .loopback(port: 0), subprotocols: ["binary"]), handler: pve
    )
    pve.server.withLock { $0 = (server, group) }
    return pve
  }

  func stop() async {
    let group = server.withLock { $0?.1 }
    _ = try? await blocking { group?.shutdown() }
  }

  var port: Int { server.withLock { $0?.0.port ?? 0 } }

  func cluster(_ name: String = "home") -> ClusterConfiguration {
    ClusterConfiguration(
      name: name, hosts: [APIHost(host: "127.0.0.1", port: port)],
      credential: .token(
        id: "root@pam!test", secret: Secret("00000000-0000-0000-0000-000000000000")),
      tls: nil)
  }

  func change(_ body: @Sendable (inout State) -> Void) { state.withLock { body(&$0) } }

  // MARK: Answers

  func handle(_ request: HTTPRequest, on loop: Loop, reply: HTTPReply) {
    let path = String(request.path.dropFirst("/api2/json".count))
    let (status, value) = state.withLock { state -> (Int, JSONValue) in
      state.asked.append("\(request.method) \(path)")
      return Self.answer(request.method, path, &state)
    }
    reply.send(
      HTTPResponse(
        status: status, headers: [("Content-Type", "application/json;charset=UTF-8")],
        body: Array(value.description.utf8)))
  }

  private static func failure(_ failure: (status: Int, message: String)) -> (Int, JSONValue) {
    (failure.status, .object(["data": .null, "message": .string(failure.message)]))
  }

  private static func answer(
    _ method: String, _ path: String, _ state: inout State
  ) -> (Int, JSONValue) {
    func data(_ value: JSONValue) -> (Int, JSONValue) { (200, .object(["data": value])) }
    if let all = state.allFails { return failure(all) }
    let parts = path.split(separator: "/").map(String.init)
    if path == "/version" {
      return data(.object(["version": .string("9.2.11"), "release": .string("9.2")]))
    }
    if path == "/cluster/resources" { return data(resources(state)) }
    if parts.count >= 4, parts[2] == "tasks" {
      if method == "DELETE" {
        state.taskRuns = false
        return data(.null)
      }
      if parts.last == "log" {
        let lines = state.log.enumerated().map {
          JSONValue.object(["n": .int($0 + 1), "t": .string($1)])
        }
        return (200, .object(["data": .array(lines), "total": .int(lines.count)]))
      }
      return data(
        .object(
          state.taskRuns
            ? ["status": .string("running")]
            : ["status": .string("stopped"), "exitstatus": .string(state.exitStatus)]))
    }
    if method == "POST", let step = parts.last, step.hasSuffix("proxy") || step == "vncshell" {
      if let fails = state.mintFails { return failure(fails) }
      let id = parts.count > 3 ? parts[3] : ""
      return data(
        .object([
          "user": .string("root@pam!test"), "ticket": .string("PVEVNC:65000000::c2lnbmF0dXJl"),
          "port": .string("5900"), "password": .string("p4ssw0rd"),
          "upid": .string("UPID:pve1:00001234:00005678:65000000:vncproxy:\(id):root@pam!test:"),
        ]))
    }
    guard parts.count >= 4, let id = Int(parts[3]), let guest = state.guests[id] else {
      return failure(
        (500, "Configuration file 'nodes/pve1/qemu-server/\(parts.last ?? "")' does not exist"))
    }
    if let fails = state.lookFails { return failure(fails) }
    if parts.last == "config" { return data(.object(guest.config)) }
    return data(.object(["status": .string(guest.status), "name": .string(guest.name)]))
  }

  private static func resources(_ state: State) -> JSONValue {
    let guests = state.guests.sorted { $0.key < $1.key }.map { id, guest in
      JSONValue.object([
        "type": .string(guest.type), "vmid": .int(id), "node": .string("pve1"),
        "name": .string(guest.name), "status": .string(guest.status), "tags": .string("a;b"),
        "mem": .int(1024), "maxmem": .int(2048), "cpu": .double(0.25), "maxcpu": .int(2),
      ])
    }
    let node = JSONValue.object([
      "type": .string("node"), "node": .string("pve1"), "status": .string("online"),
      "maxcpu": .int(4), "uptime": .int(100),
    ])
    return .array([node] + guests)
  }

  // MARK: Consoles

  func upgrade(_ request: HTTPRequest, on loop: Loop) -> UpgradeDecision {
    let worker = state.withLock { state in
      state.asked.append("WS \(request.path)")
      return state.worker
    }
    if case .refuses(let status) = worker { return .refuse(HTTPResponse(status: status)) }
    return .accept(FakeWorker(worker, of: self))
  }
}

/// The far end of a console.
private final class FakeWorker: WebSocketHandler {
  private let kind: FakePVE.Worker
  private let pve: FakePVE
  private var loggedIn = false

  init(_ kind: FakePVE.Worker, of pve: FakePVE) {
    self.kind = kind
    self.pve = pve
  }

  func webSocketOpened(_ socket: WebSocket) {
    if case .closes = kind { socket.kill() }
  }

  func webSocket(
    _ socket: WebSocket, received bytes: UnsafeMutableRawBufferPointer, isText: Bool, isFirst: Bool,
    isFinal: Bool
  ) {
    guard loggedIn else {
      loggedIn = true
      socket.sendBinary(Array("OKwelcome".utf8))
      return
    }
    guard bytes.first == UInt8(ascii: "0") else { return }
    if case .endsOnInput = kind {
      pve.state.withLock { state in
        let change = state.onInput
        change?(&state)
      }
      socket.kill()
    } else {
      let text = String(decoding: bytes, as: UTF8.self)
      socket.sendBinary(Array((text.split(separator: ":", maxSplits: 2).last ?? "").utf8))
    }
  }

  func webSocketPong(_ socket: WebSocket) {}
  func webSocketDrained(_ socket: WebSocket) {}
  func webSocketClosed(_ socket: WebSocket, code: UInt16?, reason: String) {}
}
