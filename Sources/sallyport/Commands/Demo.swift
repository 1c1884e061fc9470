import ArgumentParser
import ConsoleProtocol
import Foundation
import Gateway
import Glibc
import Logging
import PVESimulator

/// `sallyport demo`
struct Demo: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "A gateway in front of an embedded node, and a link that opens a console.",
    discussion: """
      Starts a simulated Proxmox VE node and a gateway in this process, prints a link to a shell and the address of the \
      inventory, and ends with Ctrl-C. Nothing is installed, nothing is left behind.

        sallyport demo
        sallyport demo --open          and shows it in the browser
        sallyport demo --with-qemu     with a real QEMU as VM 103

      The shells of the demo are real shells of this machine, run as you. Both listen on 127.0.0.1 only; the links and \
      the key in the printed addresses are what keeps other users of this machine out.
      """)

  @Option(
    help: ArgumentHelp("The gateway's port on 127.0.0.1; 0 takes a free one.", valueName: "port"))
  var port = 8080

  @Flag(help: "Open the inventory in the browser (xdg-open).")
  var open = false

  @Flag(help: "With a real QEMU as VM 103, where qemu-system-x86_64 is installed.")
  var withQemu = false

  @Option(
    help: ArgumentHelp(
      "What QEMU runs on: tcg (works everywhere), kvm, or auto.", valueName: "accelerator"))
  var accelerator: Accelerator?

  @Flag(help: "Print addresses and key as one line of JSON instead of sentences.")
  var json = false

  @Option(help: ArgumentHelp("trace, debug, info, notice, warning or error.", valueName: "level"))
  var logLevel: Logger.Level = .warning

  func validate() throws {
    guard (0...65535).contains(port) else { throw ValidationError("--port is 0 to 65535.") }
  }

  /// What `--json` prints.
  private struct Card: Encodable {
    var url: String
    var key: String
    var link: String
    var inventory: String
    var node: NodeCommand.Card
  }

  func run() async throws {
    let node = try await EmbeddedNode(
      SimulatorConfiguration(), qemu: withQemu || accelerator != nil ? accelerator ?? .tcg : nil)
    if let note = node.note { printError(note + "\n") }
    guard let (key, secret) = APIKey.generate(name: "demo") else {
      throw Failure(kind: "system", sentence: "The system gives no random numbers.")
    }
    let settings = GatewayConfiguration(
      listen: .loopback(port: port), clusters: [node.cluster], apiKeys: [key])
    let gateway: Gateway
    do {
      gateway = try await Serving.start(
        settings, logger: Logs.start(logLevel), portOption: "--port")
    } catch {
      await node.stop()
      throw error
    }
    let inventory = "\(gateway.url)/#key=\(secret.reveal())"
    let order = ConsoleOrder(
      target: .node(try NodeName(node.simulator.nodeName).orFail("the node has no name")))
    let link = try await gateway.link(order, for: "the demo")
    let endings = [SIGINT, SIGTERM, SIGHUP]
    Signals.catchFromNow(endings)
    if json {
      try JSONOutput.printLine(
        Card(
          url: gateway.url, key: secret.reveal(), link: link, inventory: inventory,
          node: NodeCommand.Card(node.simulator)))
    } else {
      printOut(
        """
        A shell of the embedded node, in your browser (the link is good once, for a minute):
          \(link)

        Everything there is, and a console of each:
          \(inventory)

        \(node.simulator.banner)
        Ctrl-C ends the demo.
        """)
    }
    if open { Demo.show(inventory) }
    _ = await Signals.first(of: endings)
    await gateway.stop(grace: .seconds(3))
    await node.stop()
  }

  private static func show(_ address: String) {
    guard let path = Programs.find("xdg-open") else { return }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = [address]
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try? process.run()
  }
}

extension Optional {
  /// The value, or a failure that should not happen.
  func orFail(_ sentence: String) throws(Failure) -> Wrapped {
    guard let self else { throw Failure(kind: "internal", sentence: sentence) }
    return self
  }
}
