extension ConfigurationFile {
  /// One entry of `clusters`.
  struct Cluster: Decodable {
    var name: String?
    var hosts: [String]?
    var token: Token?
    var user: User?
    var ticketFile: String?
    var consoleUser: User?
    var tls: TLS?
    var timeouts: Timeouts?
    var exec: ClusterExecSection?

    init() {}

    enum CodingKeys: String, CodingKey, CaseIterable {
      case name, hosts, token, user, ticketFile, consoleUser, tls, timeouts, exec
    }

    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      name = try fields.read(.name, "a short name such as \"home\"")
      hosts = try fields.read(.hosts, "a list of addresses such as [\"192.0.2.10:8006\"]")
      token = try fields.read(.token, "id and secretFile (or secretEnvironment)")
      user = try fields.read(.user, "name and passwordFile (or passwordEnvironment)")
      ticketFile = try fields.read(.ticketFile, "a file's path")
      consoleUser = try fields.read(.consoleUser, "name and passwordFile (or passwordEnvironment)")
      tls = try fields.read(.tls, "fingerprint, caFile, insecure or plaintext")
      timeouts = try fields.read(.timeouts, "connect, total and idle")
      exec = try fields.read(.exec, "transports, agentWait, ssh and localNode")
    }
  }

  struct Token: Decodable {
    var id: String?
    var secret: SecretSource?
    init() {}
    enum CodingKeys: String, CodingKey, CaseIterable { case id, secretFile, secretEnvironment }
    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      id = try fields.read(.id, "a token's full name such as \"root@pam!sallyport\"")
      secret = try SecretSource.read(fields, file: .secretFile, environment: .secretEnvironment)
    }
  }

  struct User: Decodable {
    var name: String?
    var password: SecretSource?
    var totp: SecretSource?
    init() {}
    enum CodingKeys: String, CodingKey, CaseIterable {
      case name, passwordFile, passwordEnvironment, totpSecretFile, totpSecretEnvironment
    }
    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      name = try fields.read(.name, "a user with realm such as \"root@pam\"")
      password = try SecretSource.read(
        fields, file: .passwordFile, environment: .passwordEnvironment)
      totp = try SecretSource.read(
        fields, file: .totpSecretFile, environment: .totpSecretEnvironment)
    }
  }

  struct TLS: Decodable {
    var fingerprint: String?
    var caFile: String?
    var insecure: Bool?
    var plaintext: Bool?
    var clientCertificateFile: String?
    var clientKeyFile: String?
    init() {}
    enum CodingKeys: String, CodingKey, CaseIterable {
      case fingerprint, caFile, insecure, plaintext, clientCertificateFile, clientKeyFile
    }
    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      fingerprint = try fields.read(.fingerprint, "a SHA-256 fingerprint such as \"AA:BB:…\"")
      caFile = try fields.read(.caFile, "a PEM file's path")
      insecure = try fields.read(.insecure, "true or false")
      plaintext = try fields.read(.plaintext, "true or false")
      clientCertificateFile = try fields.read(.clientCertificateFile, "a PEM file's path")
      clientKeyFile = try fields.read(.clientKeyFile, "a PEM file's path")
    }
  }

  struct Timeouts: Decodable {
    var connect: Double?
    var total: Double?
    var idle: Double?
    enum CodingKeys: String, CodingKey, CaseIterable { case connect, total, idle }
    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      connect = try fields.read(.connect, "a number of seconds such as 10")
      total = try fields.read(.total, "a number of seconds such as 60")
      idle = try fields.read(.idle, "a number of seconds such as 30")
    }
  }
}
