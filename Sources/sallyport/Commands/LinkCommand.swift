import ArgumentParser
import ConsoleProtocol

/// `sallyport link TARGET`
struct LinkCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "link",
    abstract: "A one-time link that opens a console in a browser.",
    discussion: """
      Asks a gateway for a link. Whoever opens it first gets the console; a used or expired link opens nothing.

        export SALLYPORT_API_KEY=…
        sallyport link qemu/100 --gateway https://consoles.example
        sallyport link lxc/200 --ttl 300 --read-only --output json

      Without --console a VM opens its screen, everything else its terminal.
      """)

  @Argument(help: "node/NAME, qemu/VMID, lxc/VMID or a guest's name.")
  var target: String

  @Option(help: ArgumentHelp("vnc, terminal, serial0 … serial3.", valueName: "console"))
  var console: String?

  @Option(help: ArgumentHelp("How long the link waits for its viewer.", valueName: "seconds"))
  var ttl: Int?

  @Option(help: ArgumentHelp("How long the console may stay open.", valueName: "seconds"))
  var maxDuration: Int?

  @Option(help: ArgumentHelp("Ends the console after so long without input.", valueName: "seconds"))
  var idle: Int?

  @Flag(help: "The viewer may look and not type.")
  var readOnly = false

  @OptionGroup var format: OutputOptions
  @OptionGroup(title: "Which cluster") var connection: ConnectionOptions

  func validate() throws {
    if let console, Console(console) == nil {
      throw ValidationError("--console is vnc, terminal or serial0 to serial3.")
    }
  }

  func run() async throws {
    var connection = connection
    let target = try Parsing.target(target, &connection)
    guard case .gateway(let address) = try connection.connection() else {
      throw Failure.usage(
        "Links are made by a gateway.", remedy: "Give --gateway URL, or run `sallyport serve`.")
    }
    let group = try Parsing.loops()
    let link = try await GatewayLink.create(
      LinkRequest(
        target: target.description, console: console, ttl: ttl, readOnly: readOnly ? true : nil,
        maxDuration: maxDuration, idle: idle, cluster: address.cluster), at: address,
      on: group.next())
    group.shutdown()
    switch format.output {
    case .json: try JSONOutput.print(link)
    case .text: printOut(link.url)
    }
  }
}
