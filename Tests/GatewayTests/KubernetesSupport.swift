import ConsoleProtocol
import EventLoop
import Foundation
import Logging
import ProxmoxClient
import Synchronization
import Testing

@testable import Gateway
@testable import GuestExec

/// A way to commands that plays what the first argument says; the others are its arguments.
final class PlayTransport: ExecTransport {
  let name: TransportName
  let started = Mutex<[ExecRequest]>([])
  let processes = Mutex<[PlayProcess]>([])

  init(_ name: TransportName = .agent) { self.name = name }

  func assess(_ request: ExecRequest, on place: Place) async -> TransportVerdict {
    .possible("It plays.")
  }

  func start(_ request: ExecRequest, on place: Place) async throws(ExecFailure) -> any ExecProcess {
    started.withLock { $0.append(request) }
    guard case .argv(let words) = request.command else {
      throw ExecFailure(.unsupported, "Only arguments are played.")
    }
    let script = words.map { String(decoding: $0, as: UTF8.self) }
    if script[0] == "unstartable" {
      throw ExecFailure(
        .agentNotRunning, "The guest agent does not answer.", remedy: "Install qemu-guest-agent.")
    }
    let process = PlayProcess(script, request)
    processes.withLock { $0.append(process) }
    return process
  }

  func attach(_ handle: ExecHandle, from kept: ExecPosition) async -> any ExecProcess {
    LostProcess("Played commands can't be found again.")
  }
}

/// A played command.
final class PlayProcess: ExecProcess {
  let handle: ExecHandle? = nil
  let events = EventQueue()
  let taken = Mutex<[UInt8]>([])
  let sizes = Mutex<[TerminalSize]>([])
  let isCancelled = Atomic(false)
  private let script: [String]

  init(_ script: [String], _ request: ExecRequest) {
    self.script = script
    let number = script.count > 1 ? Int(script[1]) ?? 0 : 0
    switch script[0] {
    case "exit": end(.exited(number))
    case "signal": end(.signalled(number))
    case "timeout": end(.timedOut)
    case "lose": end(.lost("the node went away."))
    case "both":
      events.put(.stdout(Array("out".utf8)))
      events.put(.stderr(Array("err".utf8)))
      end(.exited(1))
    case "cut":
      events.put(.stdout(Array("half".utf8)))
      events.put(.ended(ExecResult(.exited(0), stdoutTruncated: true)))
    case "flood":
      Task { [self] in
        let piece = [UInt8](repeating: 0x61, count: 64 << 10)
        for _ in 0..<number * 16 { await events.putWaiting(.stdout(piece)) }
        end(.exited(0))
      }
    case "show":
      for word in script.dropFirst() { events.put(.stdout(Array("<\(word)>".utf8))) }
      end(.exited(0))
    default: break  // cat, sleep, slow, deaf, picky: they wait for input or for their end.
    }
    if request.terminal != nil { sizes.withLock { $0 = [request.terminal].compactMap { $0 } } }
  }

  private func end(_ end: ExecEnd) { events.put(.ended(ExecResult(end))) }

  func next() async -> ExecEvent? { await events.next() }

  func write(_ bytes: [UInt8]) async throws(ExecFailure) {
    switch script[0] {
    case "picky": throw ExecFailure(.unsupported, "It takes no such input.", remedy: "Send less.")
    case "deaf":
      while !events.isOver { try? await Task.sleep(for: .milliseconds(20)) }
    case "slow": try? await Task.sleep(for: .milliseconds(5))
    default: break
    }
    taken.withLock { $0 += bytes }
    if script[0] == "cat" { await events.putWaiting(.stdout(bytes)) }
    if script[0] == "head" { end(.exited(0)) }
  }

  func closeInput() async {
    let count = taken.withLock { $0.count }
    if script[0] == "slow" { events.put(.stdout(Array("\(count)".utf8))) }
    if ["cat", "slow"].contains(script[0]) { end(.exited(0)) }
  }

  func resize(_ size: TerminalSize) async {
    sizes.withLock { $0.append(size) }
    events.put(.stdout(Array("\(size.columns)x\(size.rows);".utf8)))
  }
  func signal(_ number: Int) async throws(ExecFailure) {}
  func cancel() async {
    isCancelled.store(true, ordering: .sequentiallyConsistent)
    end(.cancelled)
  }
  func detach() async {}
}

/// The gateway's HTTP face with an engine whose commands are played.
final class CommandBed: Sendable {
  static let key = "a-key-that-is-long-enough"
  static let readKey = "a-key-that-may-only-read"
  static let otherKey = "a-key-of-somebody-else"
  static let runKey = "a-key-that-may-only-run"
  let pve: FakePVE
  let engine: JobEngine
  let transport: PlayTransport
  let port: Int

  private init(pve: FakePVE, engine: JobEngine, transport: PlayTransport, port: Int) {
    self.pve = pve
    self.engine = engine
    self.transport = transport
    self.port = port
  }

  static func with(
    _ timings: CommandStream.Timings = CommandStream.Timings(),
    _ body: (CommandBed) async throws -> Void
  ) async throws {
    let pve = try await FakePVE.start()
    var configuration = GatewayConfiguration(
      listen: .loopback(port: 0), clusters: [pve.cluster()],
      apiKeys: [APIKey(name: "portal", secret: Secret(key))].compactMap { $0 })
    if var read = APIKey(name: "reader", secret: Secret(readKey)) {
      read.rights = [.inventory]
      configuration.apiKeys.append(read)
    }
    if var run = APIKey(name: "runner", secret: Secret(runKey)) {
      run.rights = [.exec]
      configuration.apiKeys.append(run)
    }
    if let other = APIKey(name: "other", secret: Secret(otherKey)) {
      configuration.apiKeys.append(other)
    }
    let lines = LogLines()
    let logger = Logger(label: "test") { _ in lines.handler }
    let clusters = Clusters(configuration.clusters)
    let broker = ConsoleBroker(configuration, clusters: clusters, logger: logger)
    let transport = PlayTransport()
    let serial = PlayTransport(.serial)
    var execs: [String: GuestExec] = [:]
    for cluster in clusters.all {
      execs[cluster.name] = GuestExec(client: cluster.client, transports: [transport, serial])
    }
    let engine = try await JobEngine(
      ExecConfiguration(), clusters: clusters, execs: execs, logger: logger)
    let fleets = try await FleetEngine(engine, keys: configuration.apiKeys)
    let plane = ControlPlane(
      configuration, broker: broker, jobs: engine, fleets: fleets, logger: logger,
      commandTimings: timings)
    let group = try LoopGroup(count: 1)
    let server = try await HTTPServer(
      on: group,
      options: .init(
        address: .loopback(port: 0),
        subprotocols: [Gateway.subprotocol] + CommandSocket.subprotocols),
      handler: plane)
    let result: Result<Void, any Error>
    do {
      try await body(
        CommandBed(pve: pve, engine: engine, transport: transport, port: server.port))
      result = .success(())
    } catch {
      result = .failure(error)
    }
    await engine.stop(grace: .seconds(5))
    clusters.shutdown()
    _ = try? await blocking { group.shutdown() }
    await pve.stop()
    try result.get()
  }

  /// A websocket that is open.
  func open(
    _ path: String, subprotocol: String = "v5.channel.k8s.io", key: String? = CommandBed.key,
    headers: [String: String] = [:]
  ) async throws -> RawViewer {
    switch try await attempt(path, subprotocol: subprotocol, key: key, headers: headers) {
    case .open(let viewer): return viewer
    case .refused(let answer):
      throw RawFailure(description: "refused: \(answer.status) \(answer.text)")
    }
  }

  func attempt(
    _ path: String, subprotocol: String? = "v5.channel.k8s.io", key: String? = CommandBed.key,
    origin: String? = nil, headers: [String: String] = [:]
  ) async throws -> RawViewer.Attempt {
    var all = headers
    if let key { all["Authorization"] = "Bearer \(key)" }
    return try await RawViewer.attempt(
      port, path: path, subprotocol: subprotocol, origin: origin, headers: all)
  }

  /// The status that an attempt is answered with.
  func status(
    _ path: String, subprotocol: String? = "v5.channel.k8s.io", key: String? = CommandBed.key,
    origin: String? = nil
  ) async throws -> Int {
    switch try await attempt(path, subprotocol: subprotocol, key: key, origin: origin) {
    case .open: 101
    case .refused(let answer): answer.status
    }
  }

  /// A new job's stream.
  func stream(_ words: String..., more: String = "") async throws -> RawViewer {
    let command = words.map { "&command=\($0)" }.joined()
    return try await open("/v1/exec/stream?target=qemu/100\(command)\(more)")
  }

  func get(
    _ path: String, key: String? = CommandBed.key, headers: [String: String] = [:]
  ) async throws -> (status: Int, json: JSONValue) {
    var all = headers
    if let key { all["Authorization"] = "Bearer \(key)" }
    let answer = try await http(port, "GET", path, headers: all)
    return (answer.status, try JSONParser.parse(answer.body))
  }

  /// The job that was ordered last, once something is so.
  func job(_ isSo: @escaping (JobSummary) -> Bool) async throws -> JobSummary {
    for _ in 0..<400 {
      if let last = try await engine.list(limit: 1).first, isSo(last) { return last }
      try await Task.sleep(for: .milliseconds(25))
    }
    throw RawFailure(description: "the job never was as it should")
  }
}

/// What a stream said to its end.
struct StreamSeen: Sendable {
  var out: [UInt8] = []
  var err: [UInt8] = []
  var status = JSONValue.null
  var code = 0
  var exit: String? {
    status["details"]["causes"].array?.first { $0["reason"].string == "ExitCode" }?["message"]
      .string
  }
  var outText: String { String(decoding: out, as: UTF8.self) }
  var errText: String { String(decoding: err, as: UTF8.self) }
  var message: String { status["message"].string ?? "" }
}

extension RawViewer {
  /// Reads to the close frame.
  func seen() async throws -> StreamSeen {
    var seen = StreamSeen()
    while true {
      switch try await next() {
      case .binary(let bytes):
        switch bytes.first {
        case 1: seen.out += bytes.dropFirst()
        case 2: seen.err += bytes.dropFirst()
        case 3:
          guard seen.status.isNull else { throw RawFailure(description: "a second status") }
          seen.status = try JSONParser.parse(Array(bytes.dropFirst()))
        default: throw RawFailure(description: "channel \(bytes.first ?? 0)")
        }
        if bytes.first != 3, !seen.status.isNull {
          throw RawFailure(description: "output behind the status")
        }
      case .close(let code, _):
        seen.code = code
        return seen
      case .text, .other: break
      }
    }
  }

  func input(_ bytes: [UInt8]) async throws { try await send(binary: [0] + bytes) }
  func closeInput() async throws { try await send(binary: [255, 0]) }
}
