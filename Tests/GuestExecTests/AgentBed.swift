import ConsoleProtocol
import Glibc
import PVESimulator
import ProxmoxClient
import Synchronization
import Testing

@testable import GuestExec

/// Who answers as the guest's agent, and as which version of PVE.
struct AgentCase: Sendable, CustomTestStringConvertible {
  var backEnd: AgentBackEnd
  var era: Era
  var testDescription: String { "\(backEnd) \(era.rawValue)" }

  /// Both agents in the newest version, and ours in the others.
  static let all: [AgentCase] =
    [Era.v7_4, .v8_4, .v9_0].map { AgentCase(backEnd: .builtIn, era: $0) }
    + both.flatMap { [$0] } + [AgentCase(backEnd: .qemuGA, era: .v7_4)]
  /// Both agents in the newest version.
  static let both = [
    AgentCase(backEnd: .builtIn, era: .v9_2), AgentCase(backEnd: .qemuGA, era: .v9_2),
  ]
  /// Our agent, which is there on every machine.
  static let ours = AgentCase(backEnd: .builtIn, era: .v9_2)

  /// Whether it can be had here: qemu-ga has to be installed.
  var isHere: Bool {
    backEnd != .qemuGA
      || access("/usr/sbin/qemu-ga", X_OK) == 0 || access("/usr/bin/qemu-ga", X_OK) == 0
  }
}

/// What came of a command.
struct Ran: Sendable {
  var stdout: [UInt8] = []
  var stderr: [UInt8] = []
  var notes: [String] = []
  var result: ExecResult?
  var end: ExecEnd? { result?.end }
  var out: String { String(decoding: stdout, as: UTF8.self) }
  var err: String { String(decoding: stderr, as: UTF8.self) }
}

/// A simulated node whose VM 100 has an agent, and a transport to it.
struct AgentBed: Sendable {
  let pve: Simulator
  let client: ProxmoxClient
  let place: Place
  var options: AgentOptions
  var transport: AgentTransport { AgentTransport(client: client, options: options) }

  func with(_ change: (inout AgentOptions) -> Void) -> AgentBed {
    var bed = self
    change(&bed.options)
    return bed
  }
  var plain: AgentBed { with { $0.mode = .plain } }
  var streaming: AgentBed { with { $0.mode = .streaming } }

  func start(_ request: ExecRequest) async throws(ExecFailure) -> any ExecProcess {
    try await transport.start(request, on: place)
  }

  /// Runs a command to its end; input is given and closed where there is some.
  func run(_ request: ExecRequest, input: [UInt8]? = nil) async throws(ExecFailure) -> Ran {
    var request = request
    request.hasInput = input != nil
    let process = try await start(request)
    async let written: Void = give(input, to: process)
    let ran = await Self.collect(process)
    await written
    return ran
  }

  func run(_ argv: [String], input: [UInt8]? = nil) async throws(ExecFailure) -> Ran {
    try await run(ExecRequest(argv), input: input)
  }

  private func give(_ input: [UInt8]?, to process: any ExecProcess) async {
    guard let input else { return }
    var start = 0
    while start < input.count {
      let end = min(start + 1 << 20, input.count)
      try? await process.write(Array(input[start..<end]))
      start = end
    }
    await process.closeInput()
  }

  /// The next piece of standard output as text; notes are passed over. Nil for an end.
  static func output(_ process: any ExecProcess) async -> String? {
    while let event = await process.next() {
      switch event {
      case .stdout(let bytes): return String(decoding: bytes, as: UTF8.self)
      case .ended: return nil
      default: break
      }
    }
    return nil
  }

  static func collect(_ process: any ExecProcess) async -> Ran {
    var ran = Ran()
    while let event = await process.next() {
      switch event {
      case .stdout(let bytes): ran.stdout += bytes
      case .stderr(let bytes): ran.stderr += bytes
      case .note(let text): ran.notes.append(text)
      case .ended(let result): ran.result = result
      }
    }
    return ran
  }

  /// What of ours is left in the guest: folders and processes. Helpers need a second to go.
  func leftovers() async throws -> String {
    var last = ""
    for _ in 0..<40 {
      last = try await plain.run(
        ExecRequest(
          .shell(
            Array(
              "ls -d /run/sallyport-* /var/tmp/sallyport-* /tmp/sallyport-[0-9a-f]* 2>/dev/null; true"
                .utf8)))
      ).out
      if last.isEmpty { return "" }
      try await Task.sleep(for: .milliseconds(150))
    }
    return last
  }

  var execCalls: Int {
    pve.journal.entries.count { $0.method == "POST" && $0.path.hasSuffix("/agent/exec") }
  }

  static func with<R: Sendable>(
    _ which: AgentCase = .ours, _ change: (inout SimulatorConfiguration) -> Void = { _ in },
    guest: (inout SimulatedGuest) -> Void = { _ in },
    _ body: (AgentBed) async throws -> R
  ) async throws -> R? {
    guard which.isHere else { return nil }
    var configuration = SimulatorConfiguration()
    configuration.timings = .impatient
    // A busy machine is no silent agent.
    configuration.timings.agentPing = .seconds(15)
    configuration.timings.agentCommand = .seconds(25)
    configuration.era = which.era
    var vm = SimulatedGuest.vm(100, name: "web1", agent: true)
    vm.agentBackEnd = which.backEnd
    guest(&vm)
    configuration.guests = [
      vm, .vm(101, name: "db1"), .vm(102, name: "off", running: false, agent: true),
      .container(200, name: "ct200"),
    ]
    change(&configuration)
    let pve = try await PVESimulator.start(configuration)
    let client = ProxmoxClient(
      ClusterConfiguration(
        name: "simulated", hosts: [APIHost(host: "127.0.0.1", port: pve.port)],
        credential: .token(id: pve.tokenID, secret: pve.tokenSecret),
        tls: TLSPolicy(trust: .fingerprint(pve.fingerprint))))
    let node = try #require(NodeName(pve.nodeName))
    let vmid = try #require(VMID(100))
    let bed = AgentBed(
      pve: pve, client: client, place: Place(node: node, kind: .qemu(vmid)),
      options: AgentOptions())
    do {
      let result = try await body(bed)
      client.shutdown()
      await pve.shutdown()
      return result
    } catch {
      client.shutdown()
      await pve.shutdown()
      throw error
    }
  }
}

extension ExecRequest {
  static func sh(_ text: String) -> ExecRequest { ExecRequest(["/bin/sh", "-c", text]) }
}

extension [UInt8] {
  init(_ text: String) { self = Array(text.utf8) }

  /// Bytes without a short period, every value among them.
  static func pattern(_ count: Int) -> [UInt8] {
    SimulatedTerminal.pattern(from: 0, count: count)
  }
}
