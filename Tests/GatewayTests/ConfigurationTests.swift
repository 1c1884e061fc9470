import ConsoleProtocol
import Foundation
import ProxmoxClient
import Testing

@testable import Gateway

@Suite("Configuration")
struct ConfigurationTests {
  private static let cluster = """
    clusters:
      - name: home
        hosts: ["192.0.2.10:8006", "192.0.2.11"]
        token: {id: "root@pam!sallyport", secretEnvironment: SECRET}

    """
  private static let environment = ["SECRET": "11111111-2222-3333-4444-555555555555"]

  private func load(
    _ yaml: String, environment: [String: String] = environment, folder: String? = nil
  ) throws -> GatewayConfiguration {
    try GatewayConfiguration.load(yaml: yaml, folder: folder, environment: environment)
  }

  private func refusal(
    _ yaml: String, environment: [String: String] = environment
  ) -> ConfigurationError? {
    do {
      _ = try load(yaml, environment: environment)
      return nil
    } catch {
      return error as? ConfigurationError
    }
  }

  @Test("a whole file is understood")
  func whole() throws {
    let yaml =
      Self.cluster + """
            consoleUser: {name: "root@pam", passwordEnvironment: PASSWORD}
            tls:
              fingerprint: "\(Self.fingerprint)"
            timeouts: {connect: 5, total: 20.5, idle: 10}
        listen: "[::1]:9000"
        publicURL: "https://Console.example.com:443/pve/"
        behindProxy: true
        trustedProxies: ["10.0.0.0/8", "192.0.2.7"]
        allowedOrigins: ["https://portal.example.com"]
        frameAncestors: ["https://portal.example.com:8443"]
        webRoot: /srv/web
        loops: 3
        apiKeys:
          - {name: portal, keyEnvironment: KEY}
        links: {ttl: 30, maximumTTL: 600}
        sessions: {idle: 900, maxDuration: 3600}
        limits: {maximumSessions: 5, maximumLinks: 6, history: 7, attempts: 2, dial: 12}
        """
    var environment = Self.environment
    environment["PASSWORD"] = "pw"
    environment["KEY"] = TestBed.key
    let configuration = try load(yaml, environment: environment)
    #expect(configuration.listen.description == "[::1]:9000")
    #expect(configuration.publicURL?.description == "https://console.example.com/pve")
    #expect(configuration.trustedProxies[0].contains("10.20.30.40"))
    #expect(!configuration.trustedProxies[1].contains("192.0.2.8"))
    #expect(configuration.apiKeys.first?.name == "portal")
    #expect(configuration.links.ttl == .seconds(30))
    #expect(configuration.sessions.idle == .seconds(900))
    #expect(configuration.limits.maximumSessions == 5)
    #expect(configuration.limits.relay.attempts == 2)
    let cluster = try #require(configuration.clusters.first)
    #expect(cluster.hosts.map(\.description) == ["192.0.2.10:8006", "192.0.2.11:8006"])
    #expect(cluster.tls?.trust == Fingerprint(Self.fingerprint).map { .fingerprint($0) })
    #expect(cluster.timeouts.total == .milliseconds(20_500))
    #expect(cluster.consoleCredential?.identity == "root@pam")
  }

  private static let fingerprint = Array(repeating: "AB", count: 32).joined(separator: ":")

  @Test(
    "an unknown key is an error that names it and the known ones",
    arguments: [
      ("lisen: \"127.0.0.1:1\"", "lisen", "listen"),
      ("links: {tll: 3}", "links.tll", "maximumTTL"),
      ("apiKeys: [{name: a, key: b}]", "apiKeys[0].key", "keyFile"),
      ("clusters: [{nam: a}]", "clusters[0].nam", "hosts"),
      (
        "clusters: [{name: a, token: {id: x, secret: y}}]", "clusters[0].token.secret", "secretFile"
      ),
      ("clusters: [{name: a, tls: {verify: false}}]", "clusters[0].tls.verify", "insecure"),
      ("limits: {maxSessions: 1}", "limits.maxSessions", "maximumSessions"),
    ])
  func unknown(yaml: String, field: String, known: String) throws {
    let error = try #require(refusal(yaml))
    #expect(error.field == field)
    #expect(error.problem == "is not a known key")
    #expect(error.remedy.contains(known))
  }

  @Test(
    "a bad value names its field and the shape that is taken",
    arguments: [
      ("listen: 8080", "listen", "127.0.0.1:8080"),
      ("listen: \"example.com:80\"", "listen", "127.0.0.1:8080"),
      ("listen: [1]", "listen", "127.0.0.1:8080"),
      ("loops: many", "loops", "number"),
      ("loops: 0", "loops", "from 1 to 256"),
      ("publicURL: \"console.example.com\"", "publicURL", "https://"),
      ("publicURL: \"https://a.example/x?y\"", "publicURL", "https://"),
      (
        "allowedOrigins: [\"https://a.example/path\"]", "allowedOrigins[0]", "scheme, host and port"
      ),
      ("allowedOrigins: [\"*\"]", "allowedOrigins[0]", "scheme, host and port"),
      ("frameAncestors: [\"https://a.example; script-src *\"]", "frameAncestors[0]", "scheme"),
      ("trustedProxies: [proxy]", "trustedProxies[0]", "network"),
      ("behindProxy: maybe", "behindProxy", "true or false"),
      ("links: {ttl: 0}", "links.ttl", "above zero"),
      ("links: {ttl: 100, maximumTTL: 10}", "links.ttl", ""),
      ("links: 5", "links", "ttl"),
      ("limits: {history: -1}", "limits.history", "from 0"),
      ("limits: {pingInterval: 60, deadAfter: 30}", "limits.deadAfter", ""),
      ("tls: {certificateFile: /nowhere.pem, keyFile: /nowhere.key}", "tls.certificateFile", ""),
      ("tls: {keyFile: /nowhere.key}", "tls.certificateFile", "PEM"),
      ("apiKeys: [{name: portal}]", "apiKeys[0]", "keyFile"),
      ("apiKeys: [{keyEnvironment: SECRET}]", "apiKeys[0].name", "name"),
    ])
  func badValue(yaml: String, field: String, shape: String) throws {
    let error = try #require(refusal(Self.cluster + yaml))
    #expect(error.field == field, "\(error)")
    #expect(error.remedy.contains(shape) || shape.isEmpty, "\(error)")
  }

  @Test(
    "a bad cluster names its field and the shape that is taken",
    arguments: [
      ("hosts: [a], token: {id: \"a@b!c\", secretEnvironment: SECRET}", "name"),
      ("name: \"a b\", hosts: [a]", "name"),
      ("name: a, token: {id: \"a@b!c\", secretEnvironment: SECRET}", "hosts"),
      ("name: a, hosts: [\"a:b:c/d\"]", "hosts[0]"),
      ("name: a, hosts: [a]", ""),
      ("name: a, hosts: [a], token: {id: root, secretEnvironment: SECRET}", "token.id"),
      ("name: a, hosts: [a], token: {id: \"a@b!c\"}", "token.secretFile"),
      ("name: a, hosts: [a], token: {id: \"a@b!c\", secretEnvironment: NONE}", "token.secretFile"),
      ("name: a, hosts: [a], user: {name: root, passwordEnvironment: SECRET}", "user.name"),
      ("name: a, hosts: [a], user: {name: \"a@b\"}", "user.passwordFile"),
      (
        "name: a, hosts: [a], user: {name: \"a@b\"}, token: {id: \"a@b!c\"}", ""
      ),
      (
        "name: a, hosts: [a], token: {id: \"a@b!c\", secretEnvironment: SECRET}, tls: {fingerprint: \"AA:BB\"}",
        "tls.fingerprint"
      ),
      (
        "name: a, hosts: [a], token: {id: \"a@b!c\", secretEnvironment: SECRET}, tls: {insecure: true, plaintext: true}",
        "tls"
      ),
      (
        "name: a, hosts: [a], token: {id: \"a@b!c\", secretEnvironment: SECRET}, tls: {clientKeyFile: x}",
        "tls.clientCertificateFile"
      ),
      (
        "name: a, hosts: [a], token: {id: \"a@b!c\", secretEnvironment: SECRET}, timeouts: {connect: 0}",
        "timeouts.connect"
      ),
    ])
  func badCluster(section: String, field: String) throws {
    let error = try #require(refusal("clusters: [{\(section)}]"))
    #expect(error.field == (field.isEmpty ? "clusters[0]" : "clusters[0].\(field)"), "\(error)")
    #expect(!error.problem.isEmpty)
  }

  @Test("a public bind without TLS is refused with the reason, and allowed behind a proxy")
  func publicBind() throws {
    let error = try #require(refusal(Self.cluster + "listen: \"0.0.0.0:8080\""))
    #expect(error.field == "listen")
    #expect(error.problem.contains("without TLS"))
    #expect(error.remedy.contains("behindProxy"))
    let allowed = try load(Self.cluster + "listen: \"0.0.0.0:8080\"\nbehindProxy: true")
    #expect(!allowed.listen.isLoopback)
  }

  @Test("text that is no YAML, and a key that comes twice, are errors")
  func noYAML() throws {
    #expect(try #require(refusal("{")).problem.contains("YAML"))
    #expect(try #require(refusal("loops: 1\nloops: 2")).problem.contains("YAML"))
    #expect(try #require(refusal("just words")).problem.contains("no mapping"))
  }

  @Test("an empty file needs a cluster, and says how to give one")
  func empty() throws {
    let error = try #require(refusal("# nothing\n", environment: [:]))
    #expect(error.field == "clusters")
    #expect(error.remedy.contains("SALLYPORT_PVE_HOST"))
  }

  @Test("the environment alone is enough")
  func environmentAlone() throws {
    let configuration = try load(
      "",
      environment: [
        "SALLYPORT_LISTEN": "127.0.0.1:0", "SALLYPORT_PVE_HOST": "pve1.example, pve2.example:443",
        "SALLYPORT_PVE_TOKEN_ID": "root@pam!x", "SALLYPORT_PVE_TOKEN_SECRET": "s3cret",
        "SALLYPORT_PVE_FINGERPRINT": Self.fingerprint, "SALLYPORT_API_KEY": TestBed.key,
        "SALLYPORT_ALLOWED_ORIGINS": "https://a.example,https://b.example", "SALLYPORT_LOOPS": "",
      ])
    #expect(configuration.listen.port == 0)
    #expect(
      configuration.clusters.first?.hosts.map(\.description) == [
        "pve1.example:8006", "pve2.example:443",
      ])
    #expect(configuration.allowedOrigins == ["https://a.example", "https://b.example"])
    #expect(configuration.apiKeys.map(\.name) == ["environment"])
  }

  @Test("the environment overrides the file's credential and trust")
  func environmentOverrides() throws {
    var environment = Self.environment
    environment["SALLYPORT_PVE_USER"] = "root@pam"
    environment["SALLYPORT_PVE_PASSWORD"] = "pw"
    environment["SALLYPORT_PVE_INSECURE"] = "1"
    let configuration = try load(Self.cluster, environment: environment)
    let cluster = try #require(configuration.clusters.first)
    #expect(cluster.credential.identity == "root@pam")
    #expect(cluster.tls?.trust == .insecure)
    #expect(configuration.warnings.contains { $0.contains("not checked") })
  }

  @Test("a misspelt variable for the cluster is an error")
  func misspelt() throws {
    let error = try #require(refusal("", environment: ["SALLYPORT_PVE_HOSTS": "a"]))
    #expect(error.field == "SALLYPORT_PVE_HOSTS")
    #expect(error.remedy.contains("SALLYPORT_PVE_HOST,"))
  }

  @Test("a secret's file may be relative to the configuration, and its line end is no part of it")
  func secretFile() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appendingPathComponent("token").path
    let yaml = """
      clusters: [{name: a, hosts: [b], token: {id: "a@b!c", secretFile: token}}]
      """
    func write(_ text: String, mode: Int = 0o600) throws {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path))
      try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
    }
    try write("s3cret\n")
    let good = try load(yaml, folder: folder.path)
    guard case .token(_, let secret)? = good.clusters.first?.credential else {
      Issue.record("no token")
      return
    }
    #expect(secret == Secret("s3cret"))
    #expect(good.warnings.isEmpty)

    try write("s3cret\n", mode: 0o644)
    #expect(try load(yaml, folder: folder.path).warnings.first?.contains("chmod 600") == true)

    for (text, words) in [("", "is empty"), ("\n", "is empty"), ("a\nb\n", "more than one line")] {
      try write(text)
      do {
        _ = try load(yaml, folder: folder.path)
        Issue.record("taken: \(text)")
      } catch let error as ConfigurationError {
        #expect(error.field == "clusters[0].token.secretFile")
        #expect(error.problem.contains(words))
        #expect(!"\(error)".contains("s3cret"))
      }
    }
  }

  @Test("a short API key is refused with a way to make a good one")
  func shortKey() throws {
    let error = try #require(
      refusal(
        Self.cluster + "apiKeys: [{name: a, keyEnvironment: KEY}]",
        environment: [
          "SECRET": "x", "KEY": "short",
        ]))
    #expect(error.field == "apiKeys[0]")
    #expect(error.remedy.contains("openssl rand"))
  }

  @Test("a file that isn't there is an error with the system's words")
  func noFile() {
    #expect(throws: ConfigurationError.self) {
      try GatewayConfiguration.load(file: "/nowhere/at/all.yaml", environment: [:])
    }
  }
}
