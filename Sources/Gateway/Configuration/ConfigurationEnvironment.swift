import ConsoleProtocol

/// The environment variables that override a configuration file, so that a container needs none.
extension ConfigurationFile {
  /// Every variable and what it sets. `…_FILE` names a file that holds the value.
  package static let variables: [(name: String, meaning: String)] = [
    ("SALLYPORT_LISTEN", "listen"),
    ("SALLYPORT_PUBLIC_URL", "publicURL"),
    ("SALLYPORT_BEHIND_PROXY", "behindProxy: 1 or 0"),
    ("SALLYPORT_TRUSTED_PROXIES", "trustedProxies, with commas between"),
    ("SALLYPORT_TLS_CERTIFICATE_FILE", "tls.certificateFile"),
    ("SALLYPORT_TLS_KEY_FILE", "tls.keyFile"),
    ("SALLYPORT_ALLOWED_ORIGINS", "allowedOrigins, with commas between"),
    ("SALLYPORT_FRAME_ANCESTORS", "frameAncestors, with commas between"),
    ("SALLYPORT_WEB_ROOT", "webRoot"),
    ("SALLYPORT_LOOPS", "loops"),
    ("SALLYPORT_DATA_FOLDER", "exec.dataFolder"),
    ("SALLYPORT_AUDIT_FILE", "exec.auditFile"),
    ("SALLYPORT_API_KEY", "one more API key, named \"environment\""),
    ("SALLYPORT_API_KEY_FILE", "the same, from a file"),
    ("SALLYPORT_PVE_NAME", "the cluster's name"),
    ("SALLYPORT_PVE_HOST", "the cluster's hosts, with commas between"),
    ("SALLYPORT_PVE_TOKEN_ID", "token.id"),
    ("SALLYPORT_PVE_TOKEN_SECRET", "the token's secret"),
    ("SALLYPORT_PVE_TOKEN_SECRET_FILE", "token.secretFile"),
    ("SALLYPORT_PVE_USER", "user.name"),
    ("SALLYPORT_PVE_PASSWORD", "the user's password"),
    ("SALLYPORT_PVE_PASSWORD_FILE", "user.passwordFile"),
    ("SALLYPORT_PVE_TOTP_SECRET", "the user's TOTP secret"),
    ("SALLYPORT_PVE_TOTP_SECRET_FILE", "user.totpSecretFile"),
    ("SALLYPORT_PVE_TICKET_FILE", "ticketFile"),
    ("SALLYPORT_PVE_CONSOLE_USER", "consoleUser.name"),
    ("SALLYPORT_PVE_CONSOLE_PASSWORD", "the console user's password"),
    ("SALLYPORT_PVE_CONSOLE_PASSWORD_FILE", "consoleUser.passwordFile"),
    ("SALLYPORT_PVE_FINGERPRINT", "the cluster's tls.fingerprint"),
    ("SALLYPORT_PVE_CA_FILE", "the cluster's tls.caFile"),
    ("SALLYPORT_PVE_INSECURE", "the cluster's tls.insecure: 1 or 0"),
    ("SALLYPORT_PVE_PLAINTEXT", "the cluster's tls.plaintext: 1 or 0"),
  ]

  /// Lays the environment over the file. What is set and empty counts as not set.
  mutating func apply(_ environment: [String: String]) throws(ConfigurationError) {
    let known = Set(Self.variables.map(\.name))
    for name in environment.keys.sorted()
    where name.hasPrefix("SALLYPORT_PVE_") && !known.contains(name) {
      let all = known.filter { $0.hasPrefix("SALLYPORT_PVE_") }.sorted().joined(separator: ", ")
      throw ConfigurationError(name, "is not a known variable", remedy: "Known: \(all)")
    }
    let values = Overrides(environment)
    if let v = values.text("SALLYPORT_LISTEN") { listen = v }
    if let v = values.text("SALLYPORT_PUBLIC_URL") { publicURL = v }
    if let v = try values.flag("SALLYPORT_BEHIND_PROXY") { behindProxy = v }
    if let v = values.list("SALLYPORT_TRUSTED_PROXIES") { trustedProxies = v }
    if let v = values.text("SALLYPORT_TLS_CERTIFICATE_FILE") {
      tls = tls ?? ServerTLS()
      tls?.certificateFile = v
    }
    if let v = values.text("SALLYPORT_TLS_KEY_FILE") {
      tls = tls ?? ServerTLS()
      tls?.keyFile = v
    }
    if let v = values.list("SALLYPORT_ALLOWED_ORIGINS") { allowedOrigins = v }
    if let v = values.list("SALLYPORT_FRAME_ANCESTORS") { frameAncestors = v }
    if let v = values.text("SALLYPORT_WEB_ROOT") { webRoot = v }
    if let v = values.text("SALLYPORT_LOOPS") {
      guard let n = Int(v) else {
        throw ConfigurationError(
          "SALLYPORT_LOOPS", "'\(v)' is no number", remedy: "It takes a number of threads such as 2"
        )
      }
      loops = n
    }
    if let v = values.text("SALLYPORT_DATA_FOLDER") {
      exec = exec ?? Exec()
      exec?.dataFolder = v
    }
    if let v = values.text("SALLYPORT_AUDIT_FILE") {
      exec = exec ?? Exec()
      exec?.auditFile = v
    }
    if let source = try values.secret("SALLYPORT_API_KEY") {
      apiKeys = (apiKeys ?? []) + [Key(name: "environment", secret: source)]
    }
    try applyCluster(values)
  }

  private mutating func applyCluster(_ values: Overrides) throws(ConfigurationError) {
    guard values.hasAny(prefix: "SALLYPORT_PVE_") else { return }
    var all = clusters ?? []
    guard all.count <= 1 else {
      throw ConfigurationError(
        "SALLYPORT_PVE_HOST",
        "the file has \(all.count) clusters, and SALLYPORT_PVE_… describes one",
        remedy: "Unset the variables, or leave at most one cluster in the file")
    }
    var cluster = all.popLast() ?? Cluster()
    cluster.name = values.text("SALLYPORT_PVE_NAME") ?? cluster.name ?? "pve"
    if let v = values.list("SALLYPORT_PVE_HOST") { cluster.hosts = v }
    try applyCredential(values, to: &cluster)
    if let v = values.text("SALLYPORT_PVE_CONSOLE_USER") {
      cluster.consoleUser = cluster.consoleUser ?? User()
      cluster.consoleUser?.name = v
    }
    if let source = try values.secret("SALLYPORT_PVE_CONSOLE_PASSWORD") {
      cluster.consoleUser = cluster.consoleUser ?? User()
      cluster.consoleUser?.password = source
    }
    // One way of trust replaces another.
    if let v = values.text("SALLYPORT_PVE_FINGERPRINT") { cluster.trust { $0.fingerprint = v } }
    if let v = values.text("SALLYPORT_PVE_CA_FILE") { cluster.trust { $0.caFile = v } }
    if let v = try values.flag("SALLYPORT_PVE_INSECURE") { cluster.trust { $0.insecure = v } }
    if let v = try values.flag("SALLYPORT_PVE_PLAINTEXT") { cluster.trust { $0.plaintext = v } }
    clusters = [cluster]
  }

  private func applyCredential(
    _ values: Overrides, to cluster: inout Cluster
  ) throws(ConfigurationError) {
    let tokenID = values.text("SALLYPORT_PVE_TOKEN_ID")
    let tokenSecret = try values.secret("SALLYPORT_PVE_TOKEN_SECRET")
    let userName = values.text("SALLYPORT_PVE_USER")
    let password = try values.secret("SALLYPORT_PVE_PASSWORD")
    let totp = try values.secret("SALLYPORT_PVE_TOTP_SECRET")
    let ticket = values.text("SALLYPORT_PVE_TICKET_FILE")
    if tokenID != nil || tokenSecret != nil {
      var token = cluster.token ?? Token()
      token.id = tokenID ?? token.id
      token.secret = tokenSecret ?? token.secret
      cluster.token = token
      cluster.user = nil
      cluster.ticketFile = nil
    }
    if userName != nil || password != nil || totp != nil {
      if tokenID != nil || tokenSecret != nil {
        throw ConfigurationError(
          "SALLYPORT_PVE_USER", "is given together with SALLYPORT_PVE_TOKEN_ID",
          remedy: "Keep one; SALLYPORT_PVE_CONSOLE_USER names a second credential for consoles")
      }
      var user = cluster.user ?? User()
      user.name = userName ?? user.name
      user.password = password ?? user.password
      user.totp = totp ?? user.totp
      cluster.user = user
      cluster.token = nil
      cluster.ticketFile = nil
    }
    if let ticket { cluster.ticketFile = ticket }
  }
}

extension ConfigurationFile.Cluster {
  fileprivate mutating func trust(_ change: (inout ConfigurationFile.TLS) -> Void) {
    var tls = self.tls ?? ConfigurationFile.TLS()
    tls.fingerprint = nil
    tls.caFile = nil
    tls.insecure = nil
    tls.plaintext = nil
    change(&tls)
    self.tls = tls
  }
}

/// The environment, read.
private struct Overrides {
  private let environment: [String: String]

  init(_ environment: [String: String]) { self.environment = environment }

  func text(_ name: String) -> String? {
    guard let value = environment[name], !value.isEmpty else { return nil }
    return value
  }

  func hasAny(prefix: String) -> Bool {
    environment.contains { $0.key.hasPrefix(prefix) && !$0.value.isEmpty }
  }

  func list(_ name: String) -> [String]? {
    text(name)?.split(separator: ",").map {
      String($0.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
  }

  func flag(_ name: String) throws(ConfigurationError) -> Bool? {
    guard let value = text(name) else { return nil }
    switch value.lowercased() {
    case "1", "true", "yes", "on": return true
    case "0", "false", "no", "off": return false
    default:
      throw ConfigurationError(name, "'\(value)' is neither yes nor no", remedy: "It takes 1 or 0")
    }
  }

  func secret(_ name: String) throws(ConfigurationError) -> SecretSource? {
    switch (text(name), text(name + "_FILE")) {
    case (nil, nil): return nil
    case (let value?, nil): return .value(Secret(value))
    case (nil, let path?): return .file(path)
    default:
      throw ConfigurationError(
        name, "is given together with \(name)_FILE", remedy: "Keep one of the two")
    }
  }
}
