import ConsoleProtocol

/// One address of a cluster's API: a node's pveproxy, or something that forwards to exactly one.
public struct APIHost: Sendable, Hashable, CustomStringConvertible {
  /// A DNS name or an IP address (IPv6 without brackets).
  public var host: String
  /// The port, 8006 as a rule.
  public var port: Int
  /// This host's own certificate, where each node has another; it goes before the cluster's policy.
  public var fingerprint: Fingerprint?

  /// Names a host.
  public init(host: String, port: Int = 8006, fingerprint: Fingerprint? = nil) {
    self.host = host
    self.port = port
    self.fingerprint = fingerprint
  }

  /// Reads `pve1.example`, `pve1.example:8006`, `192.0.2.1:8006`, `[2001:db8::1]:8006` or `2001:db8::1`.
  /// Nil for anything else.
  public init?(_ text: String, fingerprint: Fingerprint? = nil) {
    var name = Substring(text)
    var port = 8006
    if name.hasPrefix("[") {
      guard let end = name.firstIndex(of: "]") else { return nil }
      let rest = name[name.index(after: end)...]
      name = name[name.index(after: name.startIndex)..<end]
      if !rest.isEmpty {
        guard rest.hasPrefix(":"), let n = Int(rest.dropFirst()) else { return nil }
        port = n
      }
    } else if name.filter({ $0 == ":" }).count == 1, let colon = name.firstIndex(of: ":") {
      guard let n = Int(name[name.index(after: colon)...]) else { return nil }
      port = n
      name = name[..<colon]
    }
    guard (1...65535).contains(port), (1...253).contains(name.utf8.count),
      name.utf8.allSatisfy({
        (48...58).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45
          || $0 == 46 || $0 == 95
      })
    else { return nil }
    self.init(host: String(name), port: port, fingerprint: fingerprint)
  }

  /// `pve1.example:8006`, `[2001:db8::1]:8006`
  public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// The policy for this host, given the cluster's.
  func policy(_ cluster: TLSPolicy?) -> TLSPolicy? {
    guard let fingerprint, let cluster else { return cluster }
    return TLSPolicy(
      trust: .fingerprint(fingerprint), clientCertificate: cluster.clientCertificate)
  }
}

/// How long to wait for what.
public struct Timeouts: Sendable, Hashable {
  /// Name lookup, TCP and TLS together.
  public var connect: Duration
  /// A whole call. PVE itself gives up forwarding after 30 s.
  public var total: Duration
  /// No byte either way; whole seconds. A 401 takes PVE three seconds on purpose.
  public var idle: Duration

  /// The defaults: 10 s, 60 s and 40 s.
  public init(
    connect: Duration = .seconds(10), total: Duration = .seconds(60), idle: Duration = .seconds(40)
  ) {
    self.connect = connect
    self.total = total
    self.idle = idle
  }
}

/// A cluster (or a single node) and how to talk to it.
public struct ClusterConfiguration: Sendable {
  /// What people call it.
  public var name: String
  /// Its addresses, in the order in which they are tried.
  public var hosts: [APIHost]
  /// Who we are.
  public var credential: Credential
  /// Who we are for consoles that ``credential`` can't open on that version.
  public var consoleCredential: Credential?
  /// How a host proves itself; nil means plain HTTP, which is for tests and pvedaemon only.
  public var tls: TLSPolicy?
  /// How long to wait for what.
  public var timeouts: Timeouts
  /// The largest answer that is read, in bytes: errors and logins too.
  public var maximumBody: Int
  /// A proxy for the API, e.g. `http://proxy.example:3128`. The environment's proxies are not used.
  public var proxy: String?
  /// The most connections to one host at a time.
  public var maximumConnections: Int

  /// Puts the parts together; see the properties for the defaults' meaning.
  public init(
    name: String, hosts: [APIHost], credential: Credential, consoleCredential: Credential? = nil,
    tls: TLSPolicy? = TLSPolicy(), timeouts: Timeouts = Timeouts(),
    maximumBody: Int = 32 << 20, proxy: String? = nil, maximumConnections: Int = 32
  ) {
    self.name = name
    self.hosts = hosts
    self.credential = credential
    self.consoleCredential = consoleCredential
    self.tls = tls
    self.timeouts = timeouts
    self.maximumBody = maximumBody
    self.proxy = proxy
    self.maximumConnections = maximumConnections
  }
}
