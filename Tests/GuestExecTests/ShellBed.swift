import ConsoleProtocol
import EventLoop
import PVESimulator
import ProxmoxClient
import Testing

@testable import GuestExec

/// A simulated node and the transports that go through its terminals.
struct ShellBed: Sendable {
  let pve: Simulator
  let client: ProxmoxClient
  let loops: LoopGroup
  let nodeName: NodeName

  /// Runs a body with a node.
  static func with(
    _ change: (inout SimulatorConfiguration) -> Void = { _ in },
    credential: ((Simulator) -> (Credential, Credential?))? = nil,
    _ body: (ShellBed) async throws -> Void
  ) async throws {
    var configuration = SimulatorConfiguration()
    configuration.timings = .impatient
    configuration.guests = [
      .vm(100, name: "web1", serial: [0: .shell]), .vm(101, name: "db1"),
      .container(200, name: "ct200"), .container(201, name: "ct201", running: false),
    ]
    change(&configuration)
    let pve = try await PVESimulator.start(configuration)
    let (first, second) =
      credential?(pve)
      ?? (
        .token(id: pve.tokenID, secret: pve.tokenSecret),
        .password(user: "root@pam", password: pve.rootPassword, secondFactor: nil)
      )
    var cluster = ClusterConfiguration(
      name: "test", hosts: [APIHost(host: "127.0.0.1", port: pve.port)], credential: first,
      consoleCredential: second)
    cluster.tls = TLSPolicy(trust: .fingerprint(pve.fingerprint))
    let bed = ShellBed(
      pve: pve, client: ProxmoxClient(cluster), loops: try LoopGroup(count: 1),
      nodeName: try #require(NodeName("pve1")))
    let result: Result<Void, any Error>
    do {
      try await body(bed)
      result = .success(())
    } catch {
      result = .failure(error)
    }
    bed.client.shutdown()
    bed.loops.shutdown()
    await pve.shutdown()
    try result.get()
  }

  func shell(_ change: (inout ShellOptions) -> Void = { _ in }) -> ShellTransport {
    var options = ShellOptions()
    options.killGrace = .seconds(1)
    change(&options)
    return ShellTransport(client: client, loops: loops, options: options)
  }

  var node: Place { Place(node: nodeName, kind: .node) }
  func container(_ vmid: Int = 200) -> Place { Place(node: nodeName, kind: .lxc(id(vmid))) }
  func vm(_ vmid: Int = 100) -> Place { Place(node: nodeName, kind: .qemu(id(vmid))) }

  private func id(_ vmid: Int) -> VMID {
    guard let id = VMID(vmid) else { preconditionFailure("\(vmid) is no vmid") }
    return id
  }
}

/// What a command left.
struct Collected: Sendable {
  var stdout: [UInt8] = []
  var stderr: [UInt8] = []
  var notes: [String] = []
  var result: ExecResult?

  var out: String { String(decoding: stdout, as: UTF8.self) }
  var err: String { String(decoding: stderr, as: UTF8.self) }
  var end: ExecEnd? { result?.end }
}

extension ExecProcess {
  /// Reads to the end.
  func collect(upTo enough: (Collected) -> Bool = { _ in false }) async -> Collected {
    var out = Collected()
    while let event = await next() {
      switch event {
      case .stdout(let bytes): out.stdout += bytes
      case .stderr(let bytes): out.stderr += bytes
      case .note(let text): out.notes.append(text)
      case .ended(let result): out.result = result
      }
      if enough(out) { break }
    }
    return out
  }
}

extension ExecTransport {
  /// Runs a command to its end.
  func run(
    _ request: ExecRequest, on place: Place, input: [UInt8]? = nil
  ) async throws -> Collected {
    var request = request
    request.hasInput = input != nil
    let process = try await start(request, on: place)
    async let feeding: Void = {
      guard let input else { return }
      try? await process.write(input)
      await process.closeInput()
    }()
    let out = await process.collect()
    await feeding
    return out
  }

  func run(_ argv: [String], on place: Place, input: [UInt8]? = nil) async throws -> Collected {
    try await run(ExecRequest(argv), on: place, input: input)
  }

  func sh(_ text: String, on place: Place, input: [UInt8]? = nil) async throws -> Collected {
    try await run(ExecRequest(.shell(Array(text.utf8))), on: place, input: input)
  }
}
