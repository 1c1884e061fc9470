import ConsoleProtocol
import EventLoop
import Foundation
import GuestExec
import ProxmoxClient

/// Measures commands by transport, beside the same calls made by hand. It reads what to measure as one JSON object from
/// standard input and prints one line of JSON for each sample; see Benchmarks/exec.py.
@main
struct ExecBench {
  /// Where the node is, and how much to do.
  struct Settings: Decodable {
    var host: String
    var fingerprint: String
    var tokenID: String
    var tokenSecret: String
    var password: String
    var vm: Int
    var container: Int
    var node: String
    var rounds: Int
    var mebibytes: Int
    var cases: [String]
    var ssh: SSH?
    struct SSH: Decodable {
      var port: Int
      var user: String
      var identityFile: String
      var knownHostsFile: String
    }
  }

  static func main() async throws {
    let settings = try JSONDecoder().decode(
      Settings.self, from: FileHandle.standardInput.readDataToEndOfFile())
    let bench = try Bench(settings)
    for name in settings.cases {
      do {
        try await bench.run(name)
      } catch {
        FileHandle.standardOutput.write(
          Data((line(["case": name, "failure": "\(error)"]) + "\n").utf8))
      }
    }
    bench.close()
  }

  static func line(_ fields: [String: Any]) -> String {
    let data = try? JSONSerialization.data(withJSONObject: fields, options: [.sortedKeys])
    return data.map { String(decoding: $0, as: UTF8.self) } ?? "{}"
  }
}

/// Something that the bench can't do.
struct Unable: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

/// The cases.
struct Bench {
  let settings: ExecBench.Settings
  let client: ProxmoxClient
  let asRoot: ProxmoxClient
  let loops: LoopGroup
  let vm: Place
  let container: Place
  let node: Place

  init(_ settings: ExecBench.Settings) throws {
    self.settings = settings
    guard let host = APIHost(settings.host), let pin = Fingerprint(settings.fingerprint),
      let vm = VMID(settings.vm), let container = VMID(settings.container),
      let node = NodeName(settings.node)
    else { throw Unable("the settings can't be used") }
    let tls = TLSPolicy(trust: .fingerprint(pin))
    client = ProxmoxClient(
      ClusterConfiguration(
        name: "bench", hosts: [host],
        credential: .token(id: settings.tokenID, secret: Secret(settings.tokenSecret)), tls: tls))
    asRoot = ProxmoxClient(
      ClusterConfiguration(
        name: "bench", hosts: [host],
        credential: .password(
          user: "root@pam", password: Secret(settings.password), secondFactor: nil),
        tls: tls))
    loops = try LoopGroup(count: 1)
    self.vm = Place(node: node, kind: .qemu(vm))
    self.container = Place(node: node, kind: .lxc(container))
    self.node = Place(node: node, kind: .node)
  }

  func close() {
    client.shutdown()
    asRoot.shutdown()
    loops.shutdown()
  }

  /// `WHAT-of-HOW`, e.g. `true-agent-plain`, `output-ssh`.
  func run(_ name: String) async throws {
    let parts = name.split(separator: "-", maxSplits: 1).map(String.init)
    guard parts.count == 2 else { throw Unable("no case is called \(name)") }
    let how = parts[1]
    switch parts[0] {
    case "true": try await latency(name, how)
    case "output": try await throughput(name, how)
    default: throw Unable("no case is called \(name)")
    }
  }

  private func agent(_ mode: AgentOptions.Mode) -> AgentOptions {
    var options = AgentOptions()
    options.mode = mode
    return options
  }

  private func transport(_ how: String) throws -> (any ExecTransport, Place) {
    switch how {
    case "agent-plain":
      return (AgentTransport(client: client, options: agent(.plain)), vm)
    case "agent-streaming":
      return (AgentTransport(client: client, options: agent(.streaming)), vm)
    case "shell-node": return (ShellTransport(client: asRoot, loops: loops), node)
    case "shell-container": return (ShellTransport(client: asRoot, loops: loops), container)
    case "local": return (LocalTransport(node: node.node), node)
    case "ssh":
      guard let ssh = settings.ssh else { throw Unable("there is no sshd") }
      return (
        SSHTransport(
          options: SSHOptions(
            hosts: [node.node: "127.0.0.1"], user: ssh.user, port: ssh.port,
            identityFile: ssh.identityFile, knownHostsFile: ssh.knownHostsFile)), node
      )
    default: throw Unable("no transport is called \(how)")
    }
  }

  // MARK: Latency

  private func latency(_ name: String, _ how: String) async throws {
    let once: () async throws -> Void
    switch how {
    case "agent-by-hand": once = { try await byHand() }
    case "ssh-by-hand": once = { try sshByHand(["true"], sink: nil) }
    default:
      let (transport, place) = try transport(how)
      once = {
        let process = try await transport.start(ExecRequest(["/bin/true"]), on: place)
        try await expectZero(process)
      }
    }
    try await once()
    for _ in 0..<settings.rounds {
      let begun = ContinuousClock.now
      try await once()
      report(name, ["ms": milliseconds(since: begun)])
    }
  }

  /// `agent/exec`, then `agent/exec-status` without a pause until it is over: nobody who polls can be faster.
  private func byHand() async throws {
    let path = "/nodes/\(settings.node)/qemu/\(settings.vm)/agent"
    let answer = try await client.call(.post, path + "/exec", [Parameter("command", ["/bin/true"])])
    guard let pid = answer["pid"].int else { throw Unable("exec answered no pid") }
    while true {
      let status = try await client.call(.get, path + "/exec-status", [Parameter("pid", pid)])
      if status["exited"].bool == true {
        guard status["exitcode"].int == 0 else { throw Unable("true failed") }
        return
      }
    }
  }

  private func expectZero(_ process: any ExecProcess) async throws {
    while let event = await process.next() {
      if case .ended(let result) = event {
        guard result.end == .exited(0) else { throw Unable("it ended as \(result)") }
        return
      }
    }
    throw Unable("it never ended")
  }

  // MARK: Throughput

  private func throughput(_ name: String, _ how: String) async throws {
    let wanted = settings.mebibytes << 20
    let begun = ContinuousClock.now
    var got = 0
    switch how {
    case "agent-by-hand": got = try await fileByHand(wanted)
    case "ssh-by-hand":
      let counter = Counter()
      try sshByHand(["head", "-c", "\(wanted)", "/dev/zero"], sink: counter)
      got = counter.count
    default:
      let (transport, place) = try transport(how)
      let process = try await transport.start(
        ExecRequest(["head", "-c", "\(wanted)", "/dev/zero"]), on: place)
      events: while let event = await process.next() {
        switch event {
        case .stdout(let bytes): got += bytes.count
        case .ended(let result):
          guard result.end == .exited(0), !result.stdoutTruncated else {
            throw Unable("it ended as \(result)")
          }
          break events
        case .stderr, .note: break
        }
      }
    }
    guard got == wanted else { throw Unable("\(got) bytes of \(wanted) came") }
    let seconds = milliseconds(since: begun) / 1000
    report(name, ["rate": Double(settings.mebibytes) / seconds, "seconds": seconds])
  }

  /// The same bytes out of a file in the guest by `agent/file-read` with offsets, a mebibyte a call.
  private func fileByHand(_ wanted: Int) async throws -> Int {
    let path = "/nodes/\(settings.node)/qemu/\(settings.vm)/agent"
    let file = "/tmp/exec-bench-\(UInt32.random(in: 0...UInt32.max))"
    func exec(_ command: [String]) async throws {
      let answer = try await client.call(.post, path + "/exec", [Parameter("command", command)])
      guard let pid = answer["pid"].int else { throw Unable("exec answered no pid") }
      while try await client.call(.get, path + "/exec-status", [Parameter("pid", pid)])["exited"]
        .bool != true
      { try await Task.sleep(for: .milliseconds(5)) }
    }
    try await exec(["/bin/sh", "-c", "head -c \(wanted) /dev/zero >\(file)"])
    var offset = 0
    while offset < wanted {
      let answer = try await client.call(
        .get, path + "/file-read",
        [Parameter("file", file), Parameter("offset", offset), Parameter("count", 1 << 20)])
      let count = answer["bytes-read"].int ?? answer["content"].string?.unicodeScalars.count ?? 0
      guard count > 0 else { break }
      offset += count
    }
    try await exec(["/bin/rm", "-f", file])
    return offset
  }

  // MARK: ssh by hand

  /// Counts what is read.
  final class Counter {
    var count = 0
  }

  private func sshByHand(_ command: [String], sink: Counter?) throws {
    guard let ssh = settings.ssh else { throw Unable("there is no sshd") }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/ssh")
    process.arguments =
      [
        "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
        "-o", "UserKnownHostsFile=\(ssh.knownHostsFile)", "-o", "IdentitiesOnly=yes",
        "-o", "ControlMaster=auto", "-o", "ControlPath=\(ssh.identityFile).ctl",
        "-o", "ControlPersist=5", "-i", ssh.identityFile, "-p", "\(ssh.port)",
        "\(ssh.user)@127.0.0.1",
      ] + command
    let pipe = Pipe()
    process.standardOutput = sink == nil ? FileHandle.nullDevice : pipe
    process.standardInput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    if let sink {
      while case let data = pipe.fileHandleForReading.availableData, !data.isEmpty {
        sink.count += data.count
      }
    }
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Unable("ssh ended with \(process.terminationStatus)")
    }
  }

  // MARK: Reports

  private func milliseconds(since begun: ContinuousClock.Instant) -> Double {
    let (seconds, attoseconds) = (ContinuousClock.now - begun).components
    return Double(seconds) * 1000 + Double(attoseconds) / 1e15
  }

  private func report(_ name: String, _ fields: [String: Any]) {
    let line = ExecBench.line(fields.merging(["case": name]) { a, _ in a })
    FileHandle.standardOutput.write(Data((line + "\n").utf8))
  }
}
