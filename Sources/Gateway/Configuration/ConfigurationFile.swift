import Yams

/// A configuration file as it is written: every key optional, nothing looked up yet. The environment's overrides are
/// laid over it before anything is checked.
struct ConfigurationFile: Decodable {
  var listen: String?
  var publicURL: String?
  var behindProxy: Bool?
  var trustedProxies: [String]?
  var tls: ServerTLS?
  var allowedOrigins: [String]?
  var frameAncestors: [String]?
  var webRoot: String?
  var loops: Int?
  var apiKeys: [Key]?
  var links: Links?
  var sessions: Sessions?
  var limits: Limits?
  var exec: Exec?
  var clusters: [Cluster]?

  init() {}

  enum CodingKeys: String, CodingKey, CaseIterable {
    case listen, publicURL, behindProxy, trustedProxies, tls, allowedOrigins, frameAncestors
    case webRoot, loops, apiKeys, links, sessions, limits, exec, clusters
  }

  init(from decoder: any Decoder) throws {
    let fields = try StrictFields(decoder, keys: CodingKeys.self)
    listen = try fields.read(.listen, "an address and port such as \"127.0.0.1:8080\"")
    publicURL = try fields.read(.publicURL, "a URL such as \"https://console.example.com/pve\"")
    behindProxy = try fields.read(.behindProxy, "true or false")
    trustedProxies = try fields.read(.trustedProxies, "a list of addresses or networks")
    tls = try fields.read(.tls, "certificateFile and keyFile")
    allowedOrigins = try fields.read(
      .allowedOrigins, "a list of origins such as [\"https://portal.example.com\"]")
    frameAncestors = try fields.read(
      .frameAncestors, "a list of origins such as [\"https://portal.example.com\"]")
    webRoot = try fields.read(.webRoot, "a folder's path")
    loops = try fields.read(.loops, "a number of threads such as 2")
    apiKeys = try fields.read(.apiKeys, "a list of {name, keyFile} or {name, keyEnvironment}")
    links = try fields.read(.links, "ttl and maximumTTL")
    sessions = try fields.read(.sessions, "idle and maxDuration")
    limits = try fields.read(.limits, "numbers; see the documented configuration")
    exec = try fields.read(
      .exec, "dataFolder, keepFor and bounds; see the documented configuration")
    clusters = try fields.read(.clusters, "a list of clusters")
  }

  /// Reads YAML.
  /// - Throws: ``ConfigurationError``
  static func parse(_ yaml: String) throws(ConfigurationError) -> ConfigurationFile {
    do {
      // An empty file (or one of comments only) says nothing, which is allowed: the environment may say it all.
      guard let node = try Yams.compose(yaml: yaml), node.null == nil else {
        return ConfigurationFile()
      }
      return try YAMLDecoder().decode(ConfigurationFile.self, from: node)
    } catch let error as ConfigurationError {
      throw error
    } catch DecodingError.dataCorrupted(let context) {
      if let error = context.underlyingError as? ConfigurationError { throw error }
      throw ConfigurationError(
        "",
        "the configuration is no YAML: \(context.underlyingError.map { "\($0)" } ?? context.debugDescription)"
      )
    } catch {
      throw ConfigurationError("", "the configuration is no YAML: \(error)")
    }
  }

  struct ServerTLS: Decodable {
    var certificateFile: String?
    var keyFile: String?
    init() {}
    enum CodingKeys: String, CodingKey, CaseIterable { case certificateFile, keyFile }
    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      certificateFile = try fields.read(.certificateFile, "a PEM file's path")
      keyFile = try fields.read(.keyFile, "a PEM file's path")
    }
  }

  struct Key: Decodable {
    var name: String?
    var secret: SecretSource?
    var rights: [String]?
    var exec: ExecPolicySection?
    enum CodingKeys: String, CodingKey, CaseIterable {
      case name, keyFile, keyEnvironment, rights, exec
    }
    init(name: String, secret: SecretSource) {
      self.name = name
      self.secret = secret
    }
    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      name = try fields.read(.name, "a name for the log such as \"portal\"")
      secret = try SecretSource.read(fields, file: .keyFile, environment: .keyEnvironment)
      rights = try fields.read(.rights, "a list such as [consoles, inventory, exec]")
      exec = try fields.read(.exec, "rules such as {targets: [\"qemu/*\"]}")
    }
  }

  struct Links: Decodable {
    var ttl: Double?
    var maximumTTL: Double?
    enum CodingKeys: String, CodingKey, CaseIterable { case ttl, maximumTTL }
    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      ttl = try fields.read(.ttl, "a number of seconds such as 60")
      maximumTTL = try fields.read(.maximumTTL, "a number of seconds such as 86400")
    }
  }

  struct Sessions: Decodable {
    var idle: Double?
    var maxDuration: Double?
    enum CodingKeys: String, CodingKey, CaseIterable { case idle, maxDuration }
    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      idle = try fields.read(.idle, "a number of seconds such as 3600")
      maxDuration = try fields.read(.maxDuration, "a number of seconds such as 28800")
    }
  }

  struct Limits: Decodable {
    var maximumSessions: Int?
    var maximumLinks: Int?
    var history: Int?
    var attempts: Int?
    var firstMessage: Double?
    var dial: Double?
    var pingInterval: Double?
    var deadAfter: Double?
    var slowViewer: Double?
    var rfbKeepAlive: Double?
    enum CodingKeys: String, CodingKey, CaseIterable {
      case maximumSessions, maximumLinks, history, attempts, firstMessage, dial, pingInterval
      case deadAfter, slowViewer, rfbKeepAlive
    }
    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      let seconds = "a number of seconds"
      maximumSessions = try fields.read(.maximumSessions, "a number such as 10000")
      maximumLinks = try fields.read(.maximumLinks, "a number such as 10000")
      history = try fields.read(.history, "a number such as 1000")
      attempts = try fields.read(.attempts, "a number such as 3")
      firstMessage = try fields.read(.firstMessage, seconds)
      dial = try fields.read(.dial, seconds)
      pingInterval = try fields.read(.pingInterval, seconds)
      deadAfter = try fields.read(.deadAfter, seconds)
      slowViewer = try fields.read(.slowViewer, seconds)
      rfbKeepAlive = try fields.read(.rfbKeepAlive, seconds)
    }
  }
}
