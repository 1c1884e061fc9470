import ConsoleProtocol
import EventLoop
import Glibc
import ProxmoxClient

extension GatewayConfiguration {
  /// Reads a configuration file and lays the environment's `SALLYPORT_…` variables over it. Without a file the
  /// environment says it all.
  /// - Throws: ``ConfigurationError``, with the field, what is wrong, and the shape that is taken.
  package static func load(
    file: String?, environment: [String: String]
  ) throws(ConfigurationError) -> GatewayConfiguration {
    guard let file else { return try load(yaml: "", folder: nil, environment: environment) }
    guard let handle = fopen(file, "re") else {
      throw ConfigurationError(
        "", "the configuration '\(file)' can't be read: \(String(cString: strerror(errno)))")
    }
    defer { fclose(handle) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while case let n = fread(&buffer, 1, buffer.count, handle), n > 0 {
      bytes += buffer[..<n]
      guard bytes.count <= 4 << 20 else {
        throw ConfigurationError("", "the configuration '\(file)' is over 4 MiB")
      }
    }
    guard ferror(handle) == 0 else {
      throw ConfigurationError("", "the configuration '\(file)' can't be read; is it a folder?")
    }
    let folder = file.lastIndex(of: "/").map { String(file[..<$0]) } ?? "."
    return try load(
      yaml: String(decoding: bytes, as: UTF8.self), folder: folder, environment: environment)
  }

  /// The same from text. Relative paths in it are relative to `folder`.
  package static func load(
    yaml: String, folder: String?, environment: [String: String]
  ) throws(ConfigurationError) -> GatewayConfiguration {
    var file = try ConfigurationFile.parse(yaml)
    try file.apply(environment)
    var builder = ConfigurationBuilder(
      secrets: SecretReader(environment: environment, folder: folder))
    return try builder.build(file)
  }
}

/// Turns what is written into what is meant, field by field.
struct ConfigurationBuilder {
  var secrets: SecretReader

  mutating func build(
    _ file: ConfigurationFile
  ) throws(ConfigurationError) -> GatewayConfiguration {
    var clusters: [ClusterConfiguration] = []
    for (i, section) in (file.clusters ?? []).enumerated() {
      clusters.append(try cluster(section, at: "clusters[\(i)]"))
    }
    var out = GatewayConfiguration(clusters: clusters)
    for (i, section) in (file.clusters ?? []).enumerated() {
      guard let exec = section.exec, let name = section.name else { continue }
      out.clusterExec[name] = try clusterExec(exec, at: "clusters[\(i)].exec")
    }
    out.exec = try exec(file.exec)
    if let listen = file.listen { out.listen = try address(listen) }
    if let text = file.publicURL {
      guard let url = PublicURL(text) else {
        throw ConfigurationError(
          "publicURL", "'\(text)' is no URL that links could begin with",
          remedy: "It takes a URL such as \"https://console.example.com/pve\"")
      }
      out.publicURL = url
    }
    out.behindProxy = file.behindProxy ?? false
    for (i, text) in (file.trustedProxies ?? []).enumerated() {
      guard let range = IPRange(text) else {
        throw ConfigurationError(
          "trustedProxies[\(i)]", "'\(text)' is no address or network",
          remedy: "It takes an address such as 10.0.0.5 or a network such as 10.0.0.0/24")
      }
      out.trustedProxies.append(range)
    }
    if let tls = file.tls { out.tls = try serverTLS(tls) }
    out.allowedOrigins = try origins(file.allowedOrigins ?? [], "allowedOrigins")
    out.frameAncestors = try origins(file.frameAncestors ?? [], "frameAncestors")
    out.webRoot = file.webRoot.map { secrets.resolve($0) }
    if let loops = file.loops {
      guard (1...256).contains(loops) else {
        throw ConfigurationError(
          "loops", "\(loops) is out of range", remedy: "It takes a number of threads from 1 to 256")
      }
      out.loops = loops
    }
    out.apiKeys = try keys(file.apiKeys ?? [])
    try fill(&out, from: file)
    try out.check()
    out.warnings += secrets.warnings
    return out
  }

  private func fill(
    _ out: inout GatewayConfiguration, from file: ConfigurationFile
  ) throws(ConfigurationError) {
    if let v = file.links?.ttl { out.links.ttl = try seconds(v, "links.ttl") }
    if let v = file.links?.maximumTTL { out.links.maximumTTL = try seconds(v, "links.maximumTTL") }
    out.sessions.idle = try file.sessions?.idle.map { v throws(ConfigurationError) in
      try seconds(v, "sessions.idle")
    }
    out.sessions.maxDuration = try file.sessions?.maxDuration.map { v throws(ConfigurationError) in
      try seconds(v, "sessions.maxDuration")
    }
    guard let limits = file.limits else { return }
    if let v = limits.maximumSessions {
      out.limits.maximumSessions = try count(v, "limits.maximumSessions", 1...1_000_000)
    }
    if let v = limits.maximumLinks {
      out.limits.maximumLinks = try count(v, "limits.maximumLinks", 1...1_000_000)
    }
    if let v = limits.history { out.limits.history = try count(v, "limits.history", 0...100_000) }
    if let v = limits.attempts {
      out.limits.relay.attempts = try count(v, "limits.attempts", 1...10)
    }
    if let v = limits.firstMessage {
      out.limits.relay.firstMessage = try seconds(v, "limits.firstMessage")
    }
    if let v = limits.dial { out.limits.relay.dial = try seconds(v, "limits.dial") }
    if let v = limits.pingInterval {
      out.limits.relay.pingInterval = try seconds(v, "limits.pingInterval")
    }
    if let v = limits.deadAfter { out.limits.relay.deadAfter = try seconds(v, "limits.deadAfter") }
    if let v = limits.slowViewer {
      out.limits.relay.slowViewer = try seconds(v, "limits.slowViewer")
    }
    if let v = limits.rfbKeepAlive {
      out.limits.relay.rfbKeepAlive = try seconds(v, "limits.rfbKeepAlive")
    }
    guard out.limits.relay.pingInterval < out.limits.relay.deadAfter else {
      throw ConfigurationError(
        "limits.deadAfter", "is not longer than limits.pingInterval",
        remedy: "A leg that is not asked in time would always look dead")
    }
  }

  func seconds(_ value: Double, _ field: String) throws(ConfigurationError) -> Duration {
    guard value > 0, value <= 366 * 86_400 else {
      throw ConfigurationError(
        field, "\(value) is out of range", remedy: "It takes a number of seconds above zero")
    }
    return .milliseconds(Int((value * 1000).rounded(.up)))
  }

  func count(
    _ value: Int, _ field: String, _ range: ClosedRange<Int>
  ) throws(ConfigurationError) -> Int {
    guard range.contains(value) else {
      throw ConfigurationError(
        field, "\(value) is out of range",
        remedy: "It takes a number from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  private func address(_ text: String) throws(ConfigurationError) -> SocketAddress {
    let shape = "It takes an IP address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\""
    guard let authority = Authority(text),
      let port = authority.port ?? (text.hasSuffix(":0") ? 0 : nil)
    else {
      // A port of 0 asks the system for a free one, which no URL can.
      if text.hasSuffix(":0"), let host = Authority(text.dropLast(2)),
        let address = Self.bindAddress(host.host, port: 0)
      {
        return address
      }
      throw ConfigurationError("listen", "'\(text)' is no address with a port", remedy: shape)
    }
    guard let address = Self.bindAddress(authority.host, port: port) else {
      throw ConfigurationError("listen", "'\(text)' has no IP address", remedy: shape)
    }
    return address
  }

  private static func bindAddress(_ host: String, port: Int) -> SocketAddress? {
    if host == "localhost" { return .loopback(port: port) }
    let bare = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
    return SocketAddress(ip: bare, port: port)
  }

  private func serverTLS(
    _ section: ConfigurationFile.ServerTLS
  ) throws(ConfigurationError) -> GatewayConfiguration.ServerTLS {
    guard let certificate = section.certificateFile else {
      throw ConfigurationError(
        "tls.certificateFile", "is missing", remedy: "It takes a PEM file's path")
    }
    guard let key = section.keyFile else {
      throw ConfigurationError("tls.keyFile", "is missing", remedy: "It takes a PEM file's path")
    }
    return .init(
      certificateFile: try secrets.mustBeReadable(certificate, field: "tls.certificateFile"),
      keyFile: try secrets.mustBeReadable(key, field: "tls.keyFile"))
  }

  private func origins(
    _ list: [String], _ field: String
  ) throws(ConfigurationError) -> [String] {
    var out: [String] = []
    for (i, text) in list.enumerated() {
      guard let origin = Origin(text.hasSuffix("/") ? String(text.dropLast()) : text) else {
        throw ConfigurationError(
          "\(field)[\(i)]", "'\(text)' is no origin",
          remedy:
            "It takes scheme, host and port and nothing more, e.g. \"https://portal.example.com\"")
      }
      out.append(origin.text)
    }
    return out
  }

  private mutating func keys(
    _ list: [ConfigurationFile.Key]
  ) throws(ConfigurationError) -> [APIKey] {
    var out: [APIKey] = []
    for (i, entry) in list.enumerated() {
      let field = "apiKeys[\(i)]"
      guard let name = entry.name, !name.isEmpty else {
        throw ConfigurationError(
          "\(field).name", "is missing", remedy: "It takes a name for the log")
      }
      guard let source = entry.secret else {
        throw ConfigurationError(
          field, "has no key", remedy: "Add keyFile or keyEnvironment")
      }
      let secret = try secrets.read(source, field: "\(field).keyFile")
      guard var key = APIKey(name: name, secret: secret) else {
        throw ConfigurationError(
          field, "the key has fewer than \(APIKey.minimumLength) characters",
          remedy: "Make one with: openssl rand -base64 32")
      }
      key.rights = try rights(entry.rights, field)
      if let rules = entry.exec {
        guard key.has(.exec) else {
          throw ConfigurationError(
            "\(field).exec", "limits commands of a key that may run none",
            remedy: "Add exec to the key's rights, or leave the rules out")
        }
        key.policy = try rules.policy(at: "\(field).exec")
      }
      guard !out.contains(where: { $0.name == name }) else {
        throw ConfigurationError(
          "\(field).name", "'\(name.prefix(80))' is the name of two keys",
          remedy: "Give each its own: who has ordered a job is told by the key's name")
      }
      out.append(key)
    }
    return out
  }
}
