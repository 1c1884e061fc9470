import ArgumentParser
import ConsoleProtocol
import EventLoop
import Foundation
import Gateway
import Glibc
import Logging
import ProxmoxClient

/// `sallyport serve`
struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The gateway, in front of your clusters.",
    discussion: """
      Reads a YAML file, lets environment variables and options override it, and serves until SIGTERM or SIGINT; then \
      every viewer is told, and the process ends.

        sallyport serve --config /etc/sallyport/sallyport.yaml
        sallyport serve --config sallyport.yaml --check      is it right, and do the clusters answer?

      Without a file, from the environment alone (a container):
        SALLYPORT_PVE_HOST=pve1.example SALLYPORT_PVE_TOKEN_ID='root@pam!sallyport' \\
        SALLYPORT_PVE_TOKEN_SECRET_FILE=/run/secrets/token SALLYPORT_API_KEY_FILE=/run/secrets/key \\
        SALLYPORT_LISTEN=0.0.0.0:8080 SALLYPORT_BEHIND_PROXY=1 sallyport serve

      It listens on 127.0.0.1:8080 unless told otherwise, and on other addresses only with TLS or behind a proxy that \
      has it. config/sallyport.yaml explains every setting, docs/configuration.md every variable.
      """)

  @Option(
    name: [.short, .long],
    help: ArgumentHelp("The configuration file. ($SALLYPORT_CONFIG)", valueName: "file"))
  var config: String?

  @Option(help: ArgumentHelp("Overrides `listen`: 127.0.0.1:8080.", valueName: "address:port"))
  var listen: String?

  @Option(help: ArgumentHelp("Overrides `loops`: threads that relay.", valueName: "number"))
  var loops: Int?

  @Flag(help: "Check the configuration, ask each cluster, say what is wrong, and end.")
  var check = false

  @Flag(help: "With --check: ask no cluster.")
  var offline = false

  @Flag(help: "Print {\"url\", \"port\"} as one line of JSON once connections are accepted.")
  var json = false

  @Option(
    help: ArgumentHelp(
      "trace, debug, info, notice, warning or error. ($SALLYPORT_LOG)", valueName: "level"))
  var logLevel: Logger.Level?

  /// What `--json` prints.
  private struct Card: Encodable {
    var url: String
    var port: Int
  }

  func run() async throws {
    let settings = try load()
    if check { return try await verify(settings) }
    let level =
      logLevel ?? Environment["SALLYPORT_LOG"].flatMap(Logger.Level.init(rawValue:)) ?? .info
    let logger = Logs.start(level)
    let gateway = try await Serving.start(settings, logger: logger, portOption: "listen")
    // Whoever reads the line may want it to end at once.
    Signals.catchFromNow([SIGTERM, SIGINT])
    if json { try JSONOutput.printLine(Card(url: gateway.url, port: gateway.port)) }
    logger.info(
      "serving",
      metadata: [
        "url": "\(gateway.url)", "listen": "\(settings.listen.ip):\(gateway.port)",
        "clusters": "\(settings.clusters.map(\.name).joined(separator: ","))",
      ])
    let signal = await Signals.first(of: [SIGTERM, SIGINT])
    logger.info("shutting down", metadata: ["signal": "\(signal == SIGINT ? "SIGINT" : "SIGTERM")"])
    await gateway.stop(grace: .seconds(5))
  }

  private func load() throws(Failure) -> GatewayConfiguration {
    var environment = ProcessInfo.processInfo.environment
    if let listen { environment["SALLYPORT_LISTEN"] = listen }
    if let loops { environment["SALLYPORT_LOOPS"] = String(loops) }
    let file = config ?? environment["SALLYPORT_CONFIG"].flatMap { $0.isEmpty ? nil : $0 }
    return try Serving.load(file, environment)
  }

  /// Asks every cluster what it is, and prints what is wrong with its remedy.
  private func verify(_ settings: GatewayConfiguration) async throws {
    for warning in settings.warnings { printOut("warning: \(warning)") }
    if settings.apiKeys.isEmpty {
      printOut(
        "warning: no API key is configured, so nobody can ask for links. Add one to apiKeys.")
    }
    printOut(
      "The configuration is right: \(settings.clusters.count) cluster(s), \(settings.apiKeys.count) key(s)."
    )
    if offline { return }
    var worst: Failure?
    for cluster in settings.clusters {
      let client = ProxmoxClient(cluster)
      defer { client.shutdown() }
      do throws(PVEError) {
        let version = try await client.version()
        let inventory = try await client.inventory()
        printOut(
          "\(cluster.name): Proxmox VE \(version) answers; \(inventory.nodes.count) node(s), "
            + "\(inventory.guests.count) guest(s) visible to \(cluster.credential.identity)")
        for note in Serve.notes(cluster, version, inventory) {
          printOut("\(cluster.name): note: \(note)")
        }
      } catch {
        let failure = Failure(error)
        printOut("\(cluster.name): \(failure.kind): \(failure.sentence)")
        if !failure.remedy.isEmpty { printOut("  → \(failure.remedy)") }
        worst = failure
      }
    }
    if let worst {
      throw Failure(
        kind: "check-failed", sentence: "Not every cluster can be used.", status: worst.status)
    }
  }

  /// What will not work with this credential on this version.
  private static func notes(
    _ cluster: ClusterConfiguration, _ version: PVEVersion, _ inventory: Inventory
  ) -> [String] {
    var notes: [String] = []
    if inventory.guests.isEmpty {
      notes.append(
        "no guest is visible; grant VM.Audit and VM.Console on /vms to \(cluster.credential.identity)"
      )
    }
    guard cluster.credential.kind == .token, cluster.consoleCredential == nil else { return notes }
    let can = version.capabilities
    if !can.tokensOpenGuestTerminals {
      notes.append(
        "on \(version) API tokens open no terminals of guests; add consoleUser for those")
    }
    if !can.tokensOpenNodeTerminal {
      notes.append("on \(version) API tokens open no node shells; add consoleUser for those")
    }
    return notes
  }
}

/// What `serve` and `demo` share.
enum Serving {
  /// Reads a configuration, with errors as the command line says them.
  static func load(
    _ file: String?, _ environment: [String: String]
  ) throws(Failure) -> GatewayConfiguration {
    do throws(ConfigurationError) {
      return try GatewayConfiguration.load(file: file, environment: environment)
    } catch {
      throw Failure(error, file: file)
    }
  }

  /// Starts a gateway, with errors as the command line says them.
  static func start(
    _ settings: GatewayConfiguration, logger: Logger, portOption: String
  ) async throws -> Gateway {
    do {
      return try await Gateway.start(settings, logger: logger)
    } catch let error as ConfigurationError {
      throw Failure(error, file: nil)
    } catch let error as LoopError {
      throw Failure(
        kind: "not-listening", sentence: "The gateway can't listen: \(error).",
        remedy: "Choose another address with \(portOption), or end what uses it.",
        status: .configuration)
    }
  }
}

extension Failure {
  /// A configuration that can't be used.
  init(_ error: ConfigurationError, file: String?) {
    let place = [file, error.field.isEmpty ? nil : error.field].compactMap { $0 }.joined(
      separator: ": ")
    self = .configuration(
      (place.isEmpty ? "" : place + ": ") + error.problem + ".",
      remedy: error.remedy.isEmpty ? "" : error.remedy + ".")
  }
}

extension Gateway {
  /// A link's address, made in this process.
  func link(_ order: ConsoleOrder, for whom: String) async throws(Failure) -> String {
    do throws(Problem) {
      return try await link(order).url
    } catch {
      throw Failure(kind: error.kind, sentence: error.detail, remedy: error.remedy ?? "")
    }
  }
}
