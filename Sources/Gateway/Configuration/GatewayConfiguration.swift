import ConsoleProtocol
import EventLoop
import ProxmoxClient

/// All that a gateway is told: made from a file and the environment (``load(file:environment:)``) or put together in
/// code, as the demo and the tests do.
package struct GatewayConfiguration: Sendable {
  /// The PEM files of the certificate that browsers see.
  package struct ServerTLS: Sendable, Hashable {
    /// Certificate, then its chain.
    package var certificateFile: String
    /// The private key.
    package var keyFile: String
    /// Names the two files.
    package init(certificateFile: String, keyFile: String) {
      self.certificateFile = certificateFile
      self.keyFile = keyFile
    }
  }

  /// How long links live.
  package struct Links: Sendable, Hashable {
    /// Unless the request says otherwise.
    package var ttl: Duration = .seconds(60)
    /// The most that a request may ask for.
    package var maximumTTL: Duration = .seconds(86_400)
    /// The defaults.
    package init() {}
  }

  /// What every session is held to. A request may ask for less, not for more.
  package struct Sessions: Sendable, Hashable {
    /// The longest time without input; nil for none.
    package var idle: Duration?
    /// The longest session; nil for none.
    package var maxDuration: Duration?
    /// No limits.
    package init() {}
  }

  /// The gateway's bounds.
  package struct Limits: Sendable {
    /// Viewers at a time, those that have not shown a link yet included.
    package var maximumSessions = 10_000
    /// Links that wait for their viewer.
    package var maximumLinks = 10_000
    /// Ended sessions that the API still tells about.
    package var history = 1_000
    /// The relay's numbers.
    package var relay = RelayLimits()
    /// The defaults.
    package init() {}
  }

  /// Where to listen.
  package var listen: SocketAddress
  /// What the outside calls us; links are built from it.
  package var publicURL: PublicURL?
  /// Whether a reverse proxy with TLS is in front: its `X-Forwarded-*` are believed.
  package var behindProxy = false
  /// Whose `X-Forwarded-*` are believed, beside loopback's.
  package var trustedProxies: [IPRange] = []
  /// TLS toward the browsers.
  package var tls: ServerTLS?
  /// Origins, beside our own, whose pages may open the viewer's websocket.
  package var allowedOrigins: [String] = []
  /// Origins whose pages may show ours in a frame.
  package var frameAncestors: [String] = []
  /// The folder with the page; nil to look for it beside the program and in the working folder.
  package var webRoot: String?
  /// Loop threads; nil for as many as there are cores.
  package var loops: Int?
  /// Who may use the API.
  package var apiKeys: [APIKey] = []
  /// Links.
  package var links = Links()
  /// Sessions.
  package var sessions = Sessions()
  /// Bounds.
  package var limits = Limits()
  /// The clusters behind this gateway, at least one.
  package var clusters: [ClusterConfiguration]
  /// The job service.
  package var exec = ExecConfiguration()
  /// Each cluster's ways to commands, by its name; one that isn't there has the defaults.
  package var clusterExec: [String: ClusterExec] = [:]
  /// What is allowed but unwise; to be logged at the start.
  package var warnings: [String] = []

  /// A gateway on loopback for some clusters; everything else has its default.
  package init(
    listen: SocketAddress = .loopback(port: 8080), clusters: [ClusterConfiguration],
    apiKeys: [APIKey] = []
  ) {
    self.listen = listen
    self.clusters = clusters
    self.apiKeys = apiKeys
  }

  /// Checks what no single field can know.
  package func check() throws(ConfigurationError) {
    if !listen.isLoopback, tls == nil, !behindProxy {
      throw ConfigurationError(
        "listen",
        "\(listen) can be reached from other machines, and without TLS link tokens and everything typed would "
          + "cross the network readable",
        remedy:
          "Set tls.certificateFile and tls.keyFile; or behindProxy: true if a reverse proxy with TLS is in "
          + "front; or listen on 127.0.0.1")
    }
    guard !clusters.isEmpty else {
      throw ConfigurationError(
        "clusters", "there is none",
        remedy:
          "Add one with name, hosts and token, or set SALLYPORT_PVE_HOST, SALLYPORT_PVE_TOKEN_ID and "
          + "SALLYPORT_PVE_TOKEN_SECRET_FILE")
    }
    var seen: Set<String> = []
    for (i, cluster) in clusters.enumerated() {
      guard !cluster.hosts.isEmpty else {
        throw ConfigurationError(
          "clusters[\(i)].hosts", "there is none",
          remedy: "Name at least one, e.g. \"192.0.2.10:8006\"")
      }
      guard seen.insert(cluster.name).inserted else {
        throw ConfigurationError(
          "clusters[\(i)].name", "'\(cluster.name)' is the name of two clusters",
          remedy: "Give each its own")
      }
    }
    guard links.ttl > .zero, links.ttl <= links.maximumTTL else {
      throw ConfigurationError("links.ttl", "is not between zero and links.maximumTTL")
    }
  }
}
