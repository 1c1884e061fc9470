import ArgumentParser
import ConsoleProtocol
import EventLoop
import Glibc

/// `sallyport console TARGET`
struct ConsoleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "console",
    abstract: "A node's shell, a container's console or a VM's serial port in this terminal.",
    discussion: """
      Keys, mouse, pastes and the window's size go through as they are; Ctrl-] leaves.

      A node's shell, a container by number, a VM's second serial port, a guest by name:
        sallyport console node/pve1
        sallyport console lxc/200
        sallyport console qemu/100 --serial 1
        sallyport console web1

      Through a gateway instead of directly:
        export SALLYPORT_API_KEY=…
        sallyport console lxc/200 --gateway https://consoles.example

      From a script, where standard input is no terminal: the input is sent, and the console is left when nothing more \
      has come for --linger seconds after its end.
        printf 'uptime\\n' | sallyport console lxc/200 --linger 3

      A VM needs a serial port (qm set 100 -serial0 socket) and a login on it (console=ttyS0).
      A shell that ends does not always end the console: Proxmox VE 9 keeps it open. Ctrl-] leaves it.
      Exit codes: 0 left, 20 guest, 21 permission, 22 unreachable, 23 worker; all are in docs/exit-codes.md.
      """)

  @Argument(help: "node/NAME, lxc/VMID, qemu/VMID or a guest's name.")
  var target: String

  @Option(help: ArgumentHelp("A VM's serial port, 0 to 3.", valueName: "number"))
  var serial: Int?

  @Option(help: ArgumentHelp("The key that leaves: ^], ctrl-a … or none.", valueName: "key"))
  var escape = EscapeKey.standard

  @Option(
    help: ArgumentHelp(
      "Where input is no terminal: leave after so many seconds without output.",
      valueName: "seconds"))
  var linger = 2.0

  @Option(
    help: ArgumentHelp(
      "The size to announce where there is no terminal: 120x40.", valueName: "columns x rows"))
  var size: String?

  @Flag(help: "Look only: nothing that is typed is sent.")
  var readOnly = false

  @Flag(name: .shortAndLong, help: "Say nothing on standard error but errors.")
  var quiet = false

  @OptionGroup(title: "Which cluster") var connection: ConnectionOptions

  func validate() throws {
    if let serial, !(0...3).contains(serial) {
      throw ValidationError("A VM has the serial ports 0 to 3.")
    }
    guard linger >= 0, linger < 1_000_000 else {
      throw ValidationError("--linger is a number of seconds.")
    }
    if let size, ConsoleCommand.terminalSize(size) == nil {
      throw ValidationError("--size is COLUMNSxROWS, e.g. 120x40.")
    }
  }

  func run() async throws {
    var connection = connection
    let target = try Parsing.target(target, &connection)
    let console: Console = serial.flatMap { Console("serial\($0)") } ?? .terminal
    let size =
      size.flatMap(ConsoleCommand.terminalSize) ?? LocalTerminal.size
      ?? TerminalSize(columns: 80, rows: 24)
    let source = try connection.connection().source
    let group = try Parsing.loops()
    let pending = try await source.line(
      to: target, console: console, size: size, readOnly: readOnly, on: group.next())
    var plan = TerminalSession.Plan()
    plan.escape = escape
    plan.linger = .milliseconds(Int(linger * 1000))
    plan.quiet = quiet
    let outcome = await TerminalSession.run(pending, plan: plan)
    group.shutdown()
    await source.close()
    let isInteractive = LocalTerminal.inputIsTerminal
    switch outcome {
    case .left:
      if isInteractive, !quiet { printError("\nLeft \(self.target).\n") }
    case .signal(let number): throw ExitCode(128 + number)
    case .ended(let ending):
      if isInteractive { printError("\n") }
      throw Failure(ending)
    }
  }

  /// Reads `120x40`.
  static func terminalSize(_ text: String) -> TerminalSize? {
    let parts = text.lowercased().split(separator: "x", omittingEmptySubsequences: false)
    guard parts.count == 2, let columns = Int(parts[0]), let rows = Int(parts[1]) else {
      return nil
    }
    return TerminalSize(columns: columns, rows: rows)
  }
}

/// Arguments that several commands read.
enum Parsing {
  /// A target, or a usage error. `CLUSTER:` in front chooses the cluster.
  static func target(
    _ text: String, _ connection: inout ConnectionOptions
  ) throws(Failure) -> Target {
    var text = text
    if let colon = text.firstIndex(of: ":") {
      let name = String(text[..<colon])
      if let other = connection.cluster, other != name {
        throw .usage("'\(text)' names the cluster '\(name)', and --cluster '\(other)'.")
      }
      connection.cluster = name
      text = String(text[text.index(after: colon)...])
    }
    do throws(Target.Malformed) {
      return try Target(text)
    } catch {
      throw .usage("\(error).")
    }
  }

  /// One loop, which is all that a command needs.
  static func loops() throws(Failure) -> LoopGroup {
    do throws(LoopError) {
      return try LoopGroup(count: 1)
    } catch {
      throw Failure(kind: "system", sentence: "\(error)")
    }
  }
}
