import ArgumentParser
import ConsoleProtocol
import Glibc
import PVESimulator

/// `sallyport node`
struct NodeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "node",
    abstract: "The embedded Proxmox VE node alone, to try clients on.",
    discussion: """
      A node of Proxmox VE, or a cluster of several, over TLS on 127.0.0.1, in this process: logins, tokens, tickets, \
      guests, tasks and every console. It refuses what Proxmox VE refuses.

        sallyport node --port 8006
        sallyport node --json        one line: url, fingerprint, token, users and their passwords
        sallyport node --pve 8.4 --nodes 3 --guests 500 --seed 7
        sallyport node --state cluster.sqlite
        sallyport node --fault 'latency=200ms,path=/nodes/*' --fault 'status=500,probability=0.1'

      While it runs, https://127.0.0.1:PORT/simulator tells what it is, holds its journal of requests, and takes faults \
      (docs/embedded-node.md). It asks for no credential, as it is reachable from this machine only; \
      $SALLYPORT_NODE_CONTROL_TOKEN makes it ask for that token.

      Its shells are real programs of this machine, run as you. Whoever has a password of it (they are random, and \
      printed here) can run commands as you, so it listens on the loopback address and nowhere else.
      $SALLYPORT_NODE_PASSWORD and $SALLYPORT_NODE_TOKEN_SECRET set root@pam's password and token.
      """)

  @Option(
    help: ArgumentHelp(
      "The first node's port on 127.0.0.1; 0 takes free ones.", valueName: "port"))
  var port = 0

  @OptionGroup var options: NodeOptions

  @Flag(help: "With a real QEMU as VM 103, where qemu-system-x86_64 is installed.")
  var withQemu = false

  @Option(
    help: ArgumentHelp(
      "What QEMU runs on: tcg (works everywhere), kvm, or auto.", valueName: "accelerator"))
  var accelerator: Accelerator?

  @Flag(help: "Print everything as one line of JSON.")
  var json = false

  func validate() throws {
    guard (0...65535).contains(port) else { throw ValidationError("--port is 0 to 65535.") }
  }

  /// What `--json` prints.
  struct Card: Encodable {
    var url: String
    var host = "127.0.0.1"
    var port: Int
    var node: String
    var fingerprint: String
    var ca: String
    var pve: String
    var nodes: [Node]
    var token: Token
    var users: [String: String]
    struct Node: Encodable {
      var name: String
      var url: String
      var port: Int
      var fingerprint: String
    }
    struct Token: Encodable {
      var id: String
      var secret: String
    }

    init(_ node: Simulator) {
      url = node.url
      port = node.port
      self.node = node.nodeName
      fingerprint = node.fingerprint.description
      ca = node.caCertificatePEM
      pve = node.era.rawValue
      nodes = node.nodes.map {
        Node(
          name: $0.name, url: $0.url, port: $0.port, fingerprint: $0.fingerprint.description)
      }
      token = Token(id: node.tokenID, secret: node.tokenSecret.reveal())
      users = [:]
      for user in node.userIDs { users[user] = node.password(of: user)?.reveal() }
    }
  }

  func run() async throws {
    var configuration = SimulatorConfiguration()
    configuration.port = port
    try options.apply(to: &configuration)
    let node = try await EmbeddedNode(
      configuration, qemu: withQemu || accelerator != nil ? accelerator ?? .tcg : nil)
    if let note = node.note { printError(note + "\n") }
    let simulator = node.simulator
    let endings = [SIGINT, SIGTERM, SIGHUP]
    Signals.catchFromNow(endings)
    if json {
      try JSONOutput.printLine(Card(simulator))
    } else {
      printOut(
        """
        \(simulator.banner)
        \(simulator.otherNodesSentence)
          export SALLYPORT_PVE_HOST=127.0.0.1:\(simulator.port)
          export SALLYPORT_PVE_FINGERPRINT=\(simulator.fingerprint)
          export SALLYPORT_PVE_USER=root@pam
          export SALLYPORT_PVE_PASSWORD=\(simulator.rootPassword.reveal())
        or, instead of the user:
          export SALLYPORT_PVE_TOKEN_ID='\(simulator.tokenID)'
          export SALLYPORT_PVE_TOKEN_SECRET=\(simulator.tokenSecret.reveal())

        then e.g.  sallyport inventory  or  sallyport console node/\(simulator.nodeName)
        Ctrl-C ends it.
        """)
    }
    _ = await Signals.first(of: endings)
    await node.stop()
  }
}

extension Simulator {
  /// Where the other nodes are, with a line end; empty where there are none.
  fileprivate var otherNodesSentence: String {
    let others = nodes.dropFirst().map { "\($0.name) on \($0.url)" }
    guard !others.isEmpty else { return "" }
    let shown = others.prefix(8).joined(separator: ", ")
    return "Its other nodes are \(shown)\(others.count > 8 ? " …" : "").\n"
  }
}
