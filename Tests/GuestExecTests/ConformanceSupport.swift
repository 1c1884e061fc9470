import ConsoleProtocol
import EventLoop
import Glibc
import PVESimulator
import ProxmoxClient
import Testing

@testable import GuestExec

/// All that one command told.
struct Told: Sendable {
  var stdout: [UInt8] = []
  var stderr: [UInt8] = []
  var notes: [String] = []
  var result: ExecResult?

  var end: ExecEnd? { result?.end }
  var text: String { String(decoding: stdout, as: UTF8.self) }
  var errors: String { String(decoding: stderr, as: UTF8.self) }

  /// Reads a command to its end.
  static func all(_ process: any ExecProcess) async -> Told {
    var told = Told()
    while let event = await process.next() {
      switch event {
      case .stdout(let bytes): told.stdout += bytes
      case .stderr(let bytes): told.stderr += bytes
      case .note(let note): told.notes.append(note)
      case .ended(let result): told.result = result
      }
    }
    return told
  }
}

/// A transport and a place that it reaches in the tests.
struct Reached: Sendable {
  var transport: any ExecTransport
  var place: Place

  func start(_ request: ExecRequest) async throws -> any ExecProcess {
    try request.check()
    return try await transport.start(request, on: place)
  }

  func run(_ request: ExecRequest, input: [UInt8]? = nil) async throws -> Told {
    let process = try await start(request)
    guard let input else { return await Told.all(process) }
    async let told = Told.all(process)
    try await process.write(input)
    await process.closeInput()
    return await told
  }

  /// A new folder there, for everybody.
  func folder() async throws -> String {
    let told = try await shell("d=$(mktemp -d) && chmod 755 $d && printf %s $d")
    guard told.end == .exited(0) else { throw SetUpFailure(what: "mktemp: \(told)") }
    return told.text
  }

  /// Whether a file is there.
  func has(_ path: String) async throws -> Bool {
    try await run(ExecRequest(["test", "-e", path])).end == .exited(0)
  }

  /// Waits until a file is there.
  func waits(for path: String) async throws -> Bool {
    let end = ContinuousClock.now + .seconds(30)
    while ContinuousClock.now < end {
      if try await has(path) { return true }
      try await Task.sleep(for: .milliseconds(100))
    }
    return false
  }

  /// A line for `/bin/sh`.
  func shell(_ line: String) async throws -> Told {
    try await run(ExecRequest(.shell(Array(line.utf8))))
  }
}

/// The ways to a target that the same expectations hold for.
enum Way: String, CaseIterable, Sendable, CustomTestStringConvertible {
  /// This machine.
  case local
  /// `pct exec` on this machine; a stand-in that runs the words right here.
  case localContainer
  /// The same in a container without Perl.
  case localContainerWithoutPerl
  /// OpenSSH to a node.
  case ssh
  /// OpenSSH and `pct exec`.
  case sshContainer
  /// A simulated node's shell over termproxy.
  case shell
  /// The same, and the simulated node's `pct exec` into a container.
  case shellContainer
  /// A virtual machine's guest agent.
  case agent
  /// `qm guest exec` on this machine: the simulated node's.
  case localMachine

  var testDescription: String { rawValue }

  /// Those that this machine can do.
  static var all: [Way] {
    allCases.filter { !$0.needsServer || SSHServer.whyNot == nil }
  }

  /// Those of them that tell what a command writes while it runs, and take input then.
  static var here: [Way] { all.filter { $0 != .localMachine } }

  var needsServer: Bool { self == .ssh || self == .sshContainer }

  /// Whether a signal's number comes through; a shell alone has 128 + n for both.
  var tellsSignals: Bool { self != .localContainerWithoutPerl }

  /// Whether what was let go goes on: a shell's commands end with their terminal.
  var goesOn: Bool { self != .shell && self != .shellContainer }

  /// Whether signals, users and what can't be done first are told of the command itself, and not by the `pct`, `nsenter`
  /// or `su` in between.
  var isDirect: Bool { self != .shellContainer }

  func reach() async throws -> Reached {
    switch self {
    case .local: Reached(transport: LocalTransport(node: .one), place: .node)
    case .localContainer:
      Reached(
        transport: LocalTransport(node: .one, pct: try Tools.shared().pct), place: .container(200))
    case .localContainerWithoutPerl:
      Reached(
        transport: LocalTransport(node: .one, pct: try Tools.shared().pct), place: .container(202))
    case .ssh:
      Reached(transport: try await SSHServer.shared().transport, place: .node)
    case .sshContainer:
      Reached(transport: try await SSHServer.shared().transport, place: .container(200))
    case .shell:
      Reached(transport: try await SimulatedNode.shared().shell, place: .node)
    case .shellContainer:
      Reached(transport: try await SimulatedNode.shared().shell, place: .container(200))
    case .agent:
      Reached(
        transport: AgentTransport(client: try await SimulatedNode.shared().client),
        place: .machine(SimulatedNode.agent))
    case .localMachine:
      Reached(
        transport: LocalTransport(
          node: .one, pct: "pct", qm: try await SimulatedNode.shared().qm()),
        place: .machine(SimulatedNode.agent))
    }
  }
}

extension NodeName {
  /// `pve1`
  static var one: NodeName {
    guard let name = NodeName("pve1") else { preconditionFailure("a good name") }
    return name
  }
}

extension Place {
  static var node: Place { Place(node: .one, kind: .node) }
  static func container(_ number: Int) -> Place {
    guard let id = VMID(number) else { preconditionFailure("a good number") }
    return Place(node: .one, kind: .lxc(id))
  }
  static func machine(_ number: Int) -> Place {
    guard let id = VMID(number) else { preconditionFailure("a good number") }
    return Place(node: .one, kind: .qemu(id))
  }
}

struct SetUpFailure: Error { var what: String }

/// A folder with a `pct` that runs the words of `pct exec` right here, as `lxc-attach` would in a container.
final class Tools: Sendable {
  let folder: String
  var pct: String { folder + "/pct" }

  private static let made = Result { try Tools() }
  static func shared() throws -> Tools { try made.get() }

  private init() throws {
    folder = try Tools.newFolder()
    try Tools.write(
      #"""
      #!/bin/sh
      [ "$1" = exec ] && [ "$3" = -- ] || { echo "unknown command" >&2; exit 255; }
      case $2 in
        200) ;;
        201) echo "container '201' not running!" >&2; exit 255 ;;
        202) PATH=${0%/*}/plain; export PATH ;;
        203) echo "lxc-attach: 203: sh: No such file or directory" >&2; exit 127 ;;
        *) echo "Configuration file 'nodes/pve1/lxc/$2.conf' does not exist" >&2; exit 2 ;;
      esac
      shift 3
      exec "$@"
      """#, to: folder + "/pct", mode: 0o755)
    // What Alpine has of what we need, and no Perl.
    mkdir(folder + "/plain", 0o755)
    for tool in [
      "sh", "dd", "stty", "id", "sed", "setsid", "setpriv", "su", "env", "cat", "sleep", "head",
      "printf", "tr", "touch", "true", "pwd", "ls", "wc", "yes", "rm", "test", "tee", "grep",
      "mktemp",
      "chmod", "mkdir",
    ] {
      guard let path = LocalTransport.find(tool) else { continue }
      symlink(path, folder + "/plain/" + tool)
    }
  }

  static func newFolder() throws -> String {
    var template = Array("/tmp/sp-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw SetUpFailure(what: "mkdtemp") }
    let path = String(
      decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    chmod(path, 0o755)
    return path
  }

  static func write(_ text: String, to path: String, mode: mode_t) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw SetUpFailure(what: path) }
    defer { close(descriptor) }
    let bytes = Array(text.utf8)
    let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
    guard written == bytes.count else { throw SetUpFailure(what: path) }
    chmod(path, mode)
  }

  static func read(_ path: String) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var out: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = Glibc.read(descriptor, &chunk, chunk.count)
      if count <= 0 { return String(decoding: out, as: UTF8.self) }
      out += chunk.prefix(count)
    }
  }
}

/// Runs a program of the set-up to its end.
func runTool(_ argv: [String]) async throws {
  let program = ChildProgram(
    argv.map { Array($0.utf8) }, environment: LocalEnvironment.base(of: .current))
  let end = await ShortChild.run(program, limit: .seconds(30))
  guard end == .exited(0) else {
    throw SetUpFailure(what: "\(argv.joined(separator: " ")): \(String(describing: end))")
  }
}

/// A simulated node that the tests share, and transports to what is on it.
final class SimulatedNode: Sendable {
  let pve: Simulator
  let client: ProxmoxClient
  let loops: LoopGroup
  let shell: ShellTransport

  private static let one = Task { try await SimulatedNode() }
  static func shared() async throws -> SimulatedNode { try await one.value }

  /// The path of the node's `qm`, which its shell finds.
  func qm() async throws -> String {
    let told = try await Reached(transport: shell, place: .node).shell("command -v qm")
    let path = told.text.trimmingPrefix(while: \.isWhitespace).prefix { !$0.isNewline }
    guard path.hasPrefix("/") else { throw SetUpFailure(what: "no qm: \(told)") }
    return String(path)
  }

  /// Virtual machines with an agent: one would serve all tests one after the other.
  private static let agents = Array(110..<118)
  /// The same for all of one test.
  static var agent: Int {
    let name = Test.current?.name ?? ""
    return agents[name.utf8.reduce(0) { ($0 &* 31 &+ Int($1)) & 0xFFFF } % agents.count]
  }

  private init() async throws {
    var configuration = SimulatorConfiguration()
    configuration.timings = .impatient
    configuration.timings.agentPing = .seconds(15)
    configuration.timings.agentCommand = .seconds(25)
    configuration.guests = [.vm(100, name: "web1", agent: true), .container(200, name: "ct200")]
    configuration.guests += SimulatedNode.agents.map { .vm($0, name: "agent\($0)", agent: true) }
    pve = try await PVESimulator.start(configuration)
    var cluster = ClusterConfiguration(
      name: "test", hosts: [APIHost(host: "127.0.0.1", port: pve.port)],
      credential: .token(id: pve.tokenID, secret: pve.tokenSecret),
      consoleCredential: .password(
        user: "root@pam", password: pve.rootPassword, secondFactor: nil))
    cluster.tls = TLSPolicy(trust: .fingerprint(pve.fingerprint))
    client = ProxmoxClient(cluster)
    loops = try LoopGroup(count: 1)
    shell = ShellTransport(client: client, loops: loops)
  }
}
