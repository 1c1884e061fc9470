import ArgumentParser
import ConsoleProtocol
import ProxmoxClient

/// `sallyport api METHOD PATH`
struct APICommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "api",
    abstract: "One call of the Proxmox VE API, with its answer as JSON.",
    discussion: """
      Prints the answer's `data`. The path is the one below /api2/json. Parameters are NAME=VALUE; the same name twice \
      makes an array; NAME=@FILE reads the value from a file and NAME=@- from standard input, which is how a password \
      is given.

        sallyport api get /version --host pve1.example --token-id root@pam!cli
        sallyport api get /nodes/pve1/qemu
        sallyport api post /nodes/pve1/qemu/100/status/start
        sallyport api put /access/password userid=joe@pve password=@-

      A refusal goes to standard error with Proxmox VE's message, the fields it names and a hint.
      """)

  @Argument(help: ArgumentHelp("get, post, put or delete.", valueName: "method"))
  var method: String

  @Argument(help: ArgumentHelp("E.g. /nodes/pve1/status.", valueName: "path"))
  var path: String

  @Argument(help: ArgumentHelp("Parameters.", valueName: "name=value"))
  var parameters: [String] = []

  @Flag(help: "One line instead of indented JSON.")
  var compact = false

  @OptionGroup(title: "Which cluster") var connection: ConnectionOptions

  func run() async throws {
    guard let method = HTTPMethod(rawValue: method.uppercased()) else {
      throw Failure.usage(
        "'\(method)' is no method of the Proxmox VE API.", remedy: "Use get, post, put or delete.")
    }
    guard path.hasPrefix("/"), !path.contains("?") else {
      throw Failure.usage(
        "'\(path)' is no path of the API.",
        remedy: "It begins with / and has no query: parameters are NAME=VALUE arguments.")
    }
    let path = self.path.hasPrefix("/api2/json/") ? String(self.path.dropFirst(10)) : self.path
    let parameters = try APICommand.parse(parameters)
    let client = ProxmoxClient(try connection.directConnection(for: "The API"))
    defer { client.shutdown() }
    do throws(PVEError) {
      printOut(try await client.call(method, path, parameters).encoded(pretty: !compact))
    } catch {
      throw Failure(error)
    }
  }

  /// `NAME=VALUE` arguments, in order of first appearance.
  static func parse(_ arguments: [String]) throws(Failure) -> [Parameter] {
    var order: [String] = []
    var values: [String: [String]] = [:]
    var secrets: [String: Secret] = [:]
    for argument in arguments {
      guard let equals = argument.firstIndex(of: "="), equals > argument.startIndex else {
        throw .usage("'\(argument.prefix(80))' is no parameter.", remedy: "Use NAME=VALUE.")
      }
      let name = String(argument[..<equals])
      let value = String(argument[argument.index(after: equals)...])
      if !order.contains(name) { order.append(name) }
      if value.hasPrefix("@") {
        let path = value == "@-" ? "/dev/stdin" : String(value.dropFirst())
        secrets[name] = try SecretSource.file(path, what: "parameter \(name)")
      } else {
        values[name, default: []].append(value)
      }
    }
    return order.map { name in
      if let secret = secrets[name] { return Parameter(name, secret) }
      let all = values[name] ?? []
      return all.count == 1 ? Parameter(name, all[0]) : Parameter(name, all)
    }
  }
}
