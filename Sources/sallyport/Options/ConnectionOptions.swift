import ArgumentParser
import ConsoleProtocol
import Gateway
import ProxmoxClient

/// Which cluster, and by which way: through a gateway, or directly.
struct ConnectionOptions: ParsableArguments {
  @Option(
    name: [.short, .long],
    help: ArgumentHelp(
      "A configuration file; its clusters are talked to directly. ($SALLYPORT_CONFIG)",
      valueName: "file"))
  var config: String?

  @Option(help: ArgumentHelp("Which cluster, where there are several.", valueName: "name"))
  var cluster: String?

  @Option(
    help: ArgumentHelp(
      "A gateway's address, to go through it. ($SALLYPORT_GATEWAY)", valueName: "url"))
  var gateway: String?

  @Option(
    help: ArgumentHelp(
      "A file with the gateway's API key, instead of $SALLYPORT_API_KEY.", valueName: "file"))
  var keyFile: String?

  @Option(
    help: ArgumentHelp(
      "A node's address, to talk to it directly; may be repeated. ($SALLYPORT_PVE_HOST)",
      valueName: "host[:port]"))
  var host: [String] = []

  @Option(
    name: .customLong("token-id"),
    help: ArgumentHelp(
      "An API token; its secret is in $SALLYPORT_PVE_TOKEN_SECRET. ($SALLYPORT_PVE_TOKEN_ID)",
      valueName: "user@realm!name"))
  var tokenID: String?

  @Option(help: ArgumentHelp("A file with the token's secret.", valueName: "file"))
  var tokenSecretFile: String?

  @Option(
    help: ArgumentHelp(
      "A user; the password is in $SALLYPORT_PVE_PASSWORD or asked for. ($SALLYPORT_PVE_USER)",
      valueName: "user@realm"))
  var user: String?

  @Option(help: ArgumentHelp("A file with the user's password.", valueName: "file"))
  var passwordFile: String?

  @Option(
    name: .customLong("totp-secret-file"),
    help: ArgumentHelp(
      "A file with the TOTP secret (base32); without it the code is asked for.", valueName: "file"))
  var totpSecretFile: String?

  @Option(
    help: ArgumentHelp(
      "The SHA-256 of the server's certificate, as PVE shows it. ($SALLYPORT_PVE_FINGERPRINT)",
      valueName: "AA:BB:…"))
  var fingerprint: String?

  @Option(
    help: ArgumentHelp(
      "The authority that signed the server's certificate (PEM). ($SALLYPORT_PVE_CA_FILE)",
      valueName: "file"))
  var caFile: String?

  @Flag(
    help: "Don't check the server's certificate. Anybody in between can then take the console over."
  )
  var insecure = false
}

/// What the options came to.
enum Connection {
  /// A gateway and our key to it.
  case gateway(GatewayAddress)
  /// A cluster.
  case cluster(ClusterConfiguration)
}

extension ConnectionOptions {
  /// Decides between the ways. What is on the command line goes before the environment, and a gateway or host before
  /// a file.
  func connection() throws -> Connection {
    if gateway != nil, !host.isEmpty {
      throw Failure.usage(
        "--gateway and --host are two ways to the same thing.", remedy: "Give one.")
    }
    if let gateway { return .gateway(try address(of: gateway)) }
    if !host.isEmpty { return .cluster(try direct(host)) }
    if let config { return .cluster(try cluster(in: config)) }
    if let gateway = Environment["SALLYPORT_GATEWAY"] { return .gateway(try address(of: gateway)) }
    if let hosts = Environment["SALLYPORT_PVE_HOST"] {
      return .cluster(try direct(hosts.split(separator: ",").map(String.init)))
    }
    if let config = Environment["SALLYPORT_CONFIG"] ?? ClusterFile.found {
      return .cluster(try cluster(in: config))
    }
    throw Failure.configuration(
      "Nothing says which cluster this is about.",
      remedy: "Give --gateway URL, --host HOST with --token-id or --user, or --config FILE.")
  }

  /// The same, for commands that only work without a gateway.
  func directConnection(for what: String) throws -> ClusterConfiguration {
    switch try connection() {
    case .cluster(let cluster): return cluster
    case .gateway:
      throw Failure.usage(
        "\(what) doesn't go through a gateway, which hands out consoles and nothing else.",
        remedy: "Give --host with --token-id or --user, or --config.")
    }
  }

  // MARK: Ways

  private func address(of url: String) throws -> GatewayAddress {
    let key: Secret
    if let keyFile {
      key = try SecretSource.file(keyFile, what: "gateway's API key")
    } else if let found = SecretSource.environment("SALLYPORT_API_KEY") {
      key = found
    } else {
      throw Failure.configuration(
        "There is no API key for the gateway.",
        remedy: "Set $SALLYPORT_API_KEY or give --key-file FILE.")
    }
    return try GatewayAddress(url, key: key, cluster: cluster, tls: try policy(environment: false))
  }

  private func cluster(in file: String) throws -> ClusterConfiguration {
    let clusters = try ClusterFile.clusters(in: file)
    let names = clusters.map(\.name).joined(separator: ", ")
    if let wanted = cluster {
      guard let found = clusters.first(where: { $0.name == wanted }) else {
        throw Failure.usage("\(file) has no cluster '\(wanted)'.", remedy: "It has: \(names).")
      }
      return found
    }
    guard let only = clusters.first, clusters.count == 1 else {
      throw Failure.usage(
        clusters.isEmpty ? "\(file) names no cluster." : "\(file) has several clusters.",
        remedy: clusters.isEmpty ? "" : "Choose with --cluster: \(names).")
    }
    return only
  }

  private func direct(_ names: [String]) throws -> ClusterConfiguration {
    let hosts = try names.map { name in
      guard let host = APIHost(name) else {
        throw Failure.usage(
          "'\(name)' is not the address of a node.", remedy: "Use pve1.example or 192.0.2.1:8006.")
      }
      return host
    }
    return ClusterConfiguration(
      name: cluster ?? hosts.first?.host ?? "cluster", hosts: hosts, credential: try credential(),
      tls: try policy(environment: true))
  }

  // MARK: Parts

  private func policy(environment: Bool) throws -> TLSPolicy {
    let pin = fingerprint ?? (environment ? Environment["SALLYPORT_PVE_FINGERPRINT"] : nil)
    let authority = caFile ?? (environment ? Environment["SALLYPORT_PVE_CA_FILE"] : nil)
    if insecure { return TLSPolicy(trust: .insecure) }
    if let pin {
      guard let fingerprint = Fingerprint(pin) else {
        throw Failure.usage(
          "'\(pin.prefix(100))' is not a SHA-256 fingerprint.",
          remedy: "It has 32 pairs of hexadecimal digits: AA:BB:…; `pvenode cert info` shows it.")
      }
      return TLSPolicy(trust: .fingerprint(fingerprint))
    }
    return TLSPolicy(trust: authority.map { .caFile($0) } ?? .systemCAs)
  }

  private func credential() throws -> Credential {
    if let id = tokenID ?? (user == nil ? Environment["SALLYPORT_PVE_TOKEN_ID"] : nil) {
      if let tokenSecretFile {
        return .token(
          id: id, secret: try SecretSource.file(tokenSecretFile, what: "token's secret"))
      }
      guard let secret = SecretSource.environment("SALLYPORT_PVE_TOKEN_SECRET") else {
        throw Failure.configuration(
          "There is no secret for the API token \(id).",
          remedy: "Set $SALLYPORT_PVE_TOKEN_SECRET or give --token-secret-file FILE.")
      }
      return .token(id: id, secret: secret)
    }
    guard let user = user ?? Environment["SALLYPORT_PVE_USER"] else {
      throw Failure.configuration(
        "Nothing says who you are on the node.",
        remedy: "Give --token-id USER@REALM!NAME or --user USER@REALM.")
    }
    let factor = try secondFactor(of: user)
    if let passwordFile {
      return .password(
        user: user, password: try SecretSource.file(passwordFile, what: "password"),
        secondFactor: factor)
    }
    guard
      let password = SecretSource.environment("SALLYPORT_PVE_PASSWORD")
        ?? SecretSource.prompt("Password of \(user): ")
    else {
      throw Failure.configuration(
        "There is no password for \(user), and no terminal to ask for it.",
        remedy: "Set $SALLYPORT_PVE_PASSWORD or give --password-file FILE.")
    }
    return .password(user: user, password: password, secondFactor: factor)
  }

  private func secondFactor(of user: String) throws -> SecondFactor {
    if let totpSecretFile {
      return .totp(secret: try SecretSource.file(totpSecretFile, what: "TOTP secret"))
    }
    return .typed(for: user)
  }
}

extension SecondFactor {
  /// Asks for a code at the terminal: six digits are the app's, anything else is a recovery code.
  static func typed(for user: String) -> SecondFactor {
    SecondFactor { challenge in
      let kinds = [
        challenge.totp ? "TOTP code" : nil, challenge.recovery.isEmpty ? nil : "recovery code",
      ]
      let question = kinds.compactMap { $0 }.joined(separator: " or ")
      guard !question.isEmpty else { throw NoTypedFactor() }
      guard let code = SecretSource.prompt("\(user): \(question): ") else { throw NoTerminal() }
      let text = code.reveal().filter { $0 != " " }
      if text.hasPrefix("totp:") || text.hasPrefix("recovery:") { return Secret(text) }
      let isTOTP = challenge.totp && text.count == 6 && text.allSatisfy(\.isNumber)
      return Secret((isTOTP ? "totp:" : "recovery:") + text)
    }
  }
}

/// The account has second factors, but none that can be typed.
struct NoTypedFactor: Error, CustomStringConvertible {
  var description: String {
    "the account has no second factor that can be typed (TOTP, recovery codes)"
  }
}

/// A code is wanted, and there is nobody to ask.
struct NoTerminal: Error, CustomStringConvertible {
  var description: String { "a second factor is wanted, and there is no terminal to ask for it" }
}
