import ConsoleProtocol
import ProxmoxClient

extension ConfigurationBuilder {
  /// One cluster: its hosts, who we are there, and how the hosts prove themselves.
  mutating func cluster(
    _ section: ConfigurationFile.Cluster, at field: String
  ) throws(ConfigurationError) -> ClusterConfiguration {
    guard let name = section.name, !name.isEmpty else {
      throw ConfigurationError("\(field).name", "is missing", remedy: "It takes a short name")
    }
    guard name.utf8.count <= 63,
      name.utf8.allSatisfy({
        (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45
          || $0 == 95
      })
    else {
      throw ConfigurationError(
        "\(field).name", "'\(name.prefix(80))' is no name",
        remedy: "It takes up to 63 letters, digits, hyphens and underscores")
    }
    var hosts: [APIHost] = []
    for (i, text) in (section.hosts ?? []).enumerated() {
      guard let host = APIHost(text) else {
        throw ConfigurationError(
          "\(field).hosts[\(i)]", "'\(text)' is no host",
          remedy: "It takes a name or address, with a port unless it is 8006: \"192.0.2.10:8006\"")
      }
      hosts.append(host)
    }
    guard !hosts.isEmpty else {
      throw ConfigurationError(
        "\(field).hosts", "there is none", remedy: "It takes a list such as [\"192.0.2.10:8006\"]")
    }
    var out = ClusterConfiguration(
      name: name, hosts: hosts, credential: try credential(section, at: field),
      tls: try policy(section.tls, at: "\(field).tls"))
    if let user = section.consoleUser {
      out.consoleCredential = try password(user, at: "\(field).consoleUser")
    }
    if out.tls?.trust == .insecure {
      secrets.note("\(field).tls: certificates are not checked; anybody in between can take over")
    }
    if out.tls == nil {
      secrets.note("\(field).tls: plain HTTP; credentials cross the network readable")
    }
    if let t = section.timeouts {
      if let v = t.connect { out.timeouts.connect = try timeout(v, "\(field).timeouts.connect") }
      if let v = t.total { out.timeouts.total = try timeout(v, "\(field).timeouts.total") }
      if let v = t.idle { out.timeouts.idle = try timeout(v, "\(field).timeouts.idle") }
    }
    return out
  }

  private func timeout(_ value: Double, _ field: String) throws(ConfigurationError) -> Duration {
    guard value > 0, value <= 3600 else {
      throw ConfigurationError(
        field, "\(value) is out of range", remedy: "It takes a number of seconds up to 3600")
    }
    return .milliseconds(Int(value * 1000))
  }

  private mutating func credential(
    _ section: ConfigurationFile.Cluster, at field: String
  ) throws(ConfigurationError) -> Credential {
    let given = [section.token != nil, section.user != nil, section.ticketFile != nil]
    guard given.filter({ $0 }).count == 1 else {
      throw ConfigurationError(
        field,
        given.contains(true)
          ? "has more than one of token, user and ticketFile" : "has no credential",
        remedy:
          "Give one: token: {id: \"root@pam!sallyport\", secretFile: PATH}, or user, or ticketFile")
    }
    if let token = section.token { return try self.token(token, at: "\(field).token") }
    if let user = section.user { return try password(user, at: "\(field).user") }
    let path = section.ticketFile ?? ""
    return .ticket(try secrets.read(.file(path), field: "\(field).ticketFile"), csrf: nil)
  }

  private mutating func token(
    _ token: ConfigurationFile.Token, at field: String
  ) throws(ConfigurationError) -> Credential {
    let id = token.id ?? ""
    let parts = id.split(separator: "!", omittingEmptySubsequences: false)
    guard parts.count == 2, !parts[1].isEmpty, parts[0].contains("@"), !id.contains("=") else {
      throw ConfigurationError(
        "\(field).id", id.isEmpty ? "is missing" : "'\(id.prefix(80))' is no token's full name",
        remedy: "It takes USER@REALM!NAME, e.g. \"root@pam!sallyport\"")
    }
    guard let source = token.secret else {
      throw ConfigurationError(
        "\(field).secretFile", "is missing",
        remedy: "Name the file that holds the token's secret, or secretEnvironment")
    }
    return .token(id: id, secret: try secrets.read(source, field: "\(field).secretFile"))
  }

  private mutating func password(
    _ user: ConfigurationFile.User, at field: String
  ) throws(ConfigurationError) -> Credential {
    let name = user.name ?? ""
    guard name.contains("@"), !name.hasPrefix("@"), !name.hasSuffix("@"), !name.contains("!") else {
      throw ConfigurationError(
        "\(field).name", name.isEmpty ? "is missing" : "'\(name.prefix(80))' is no user with realm",
        remedy: "It takes USER@REALM, e.g. \"root@pam\"")
    }
    guard let source = user.password else {
      throw ConfigurationError(
        "\(field).passwordFile", "is missing",
        remedy: "Name the file that holds the password, or passwordEnvironment")
    }
    var factor: SecondFactor?
    if let totp = user.totp {
      factor = .totp(secret: try secrets.read(totp, field: "\(field).totpSecretFile"))
    }
    return .password(
      user: name, password: try secrets.read(source, field: "\(field).passwordFile"),
      secondFactor: factor)
  }

  private func policy(
    _ section: ConfigurationFile.TLS?, at field: String
  ) throws(ConfigurationError) -> TLSPolicy? {
    guard let section else { return TLSPolicy() }
    let insecure = section.insecure == true
    let plaintext = section.plaintext == true
    let ways = [section.fingerprint != nil, section.caFile != nil, insecure, plaintext]
    guard ways.filter({ $0 }).count <= 1 else {
      throw ConfigurationError(
        field, "has more than one of fingerprint, caFile, insecure and plaintext",
        remedy: "Keep one; without any, the machine's certificate authorities decide")
    }
    var policy = TLSPolicy()
    if let text = section.fingerprint {
      guard let fingerprint = Fingerprint(text) else {
        throw ConfigurationError(
          "\(field).fingerprint", "'\(text.prefix(120))' is no SHA-256 fingerprint",
          remedy:
            "It takes 32 pairs of hexadecimal digits, \"AA:BB:…\", as `pvenode cert info` shows them"
        )
      }
      policy.trust = .fingerprint(fingerprint)
    } else if let path = section.caFile {
      policy.trust = .caFile(try secrets.mustBeReadable(path, field: "\(field).caFile"))
    } else if insecure {
      policy.trust = .insecure
    }
    switch (section.clientCertificateFile, section.clientKeyFile) {
    case (nil, nil): break
    case (let certificate?, let key?):
      policy.clientCertificate = TLSPolicy.ClientCertificate(
        certificateFile: try secrets.mustBeReadable(
          certificate, field: "\(field).clientCertificateFile"),
        keyFile: try secrets.mustBeReadable(key, field: "\(field).clientKeyFile"))
    default:
      throw ConfigurationError(
        "\(field).clientCertificateFile", "certificate and key belong together",
        remedy: "Give both clientCertificateFile and clientKeyFile")
    }
    return plaintext ? nil : policy
  }
}
