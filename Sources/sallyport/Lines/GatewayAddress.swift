import ConsoleProtocol
import EventLoop
import Foundation

/// A gateway, and what opens it to us.
struct GatewayAddress: Sendable {
  /// `https://consoles.example/prefix`, without a slash at the end.
  let url: String
  /// The host's name or address.
  let host: String
  /// 443 or 80 unless given.
  let port: Int
  /// The path that everything of the gateway is under; empty or `/prefix`.
  let prefix: String
  /// `https://consoles.example`
  let origin: String
  /// Our key.
  let key: Secret
  /// The cluster to name in requests.
  let cluster: String?
  /// How the gateway proves itself; nil for plain HTTP.
  let tls: TLSPolicy?

  /// Reads a URL. Plain HTTP is taken for loopback only: a key would be readable on the way.
  init(_ text: String, key: Secret, cluster: String?, tls policy: TLSPolicy) throws(Failure) {
    guard let parts = URLComponents(string: text), let scheme = parts.scheme?.lowercased(),
      scheme == "https" || scheme == "http", let host = parts.host, !host.isEmpty,
      parts.query == nil, parts.fragment == nil, parts.user == nil
    else {
      throw .usage(
        "'\(text.prefix(120))' is not the address of a gateway.",
        remedy: "Use https://consoles.example or https://portal.example/consoles.")
    }
    let bare = host.trimmingCharacters(in: CharacterSet(charactersIn: "[]"))
    let isLocal = bare == "localhost" || bare == "::1" || bare.hasPrefix("127.")
    guard scheme == "https" || isLocal else {
      throw .usage(
        "A gateway on another machine is not talked to in plain HTTP: the key would be readable.",
        remedy: "Use https://.")
    }
    self.host = bare
    port = parts.port ?? (scheme == "https" ? 443 : 80)
    var path = parts.percentEncodedPath
    while path.hasSuffix("/") { path.removeLast() }
    prefix = path
    let shown = bare.contains(":") ? "[\(bare)]" : bare
    origin = "\(scheme)://\(shown)" + (parts.port.map { ":\($0)" } ?? "")
    url = origin + path
    self.key = key
    self.cluster = cluster
    tls = scheme == "https" ? policy : nil
  }

  /// The `Host` header.
  var hostHeader: String {
    let shown = host.contains(":") ? "[\(host)]" : host
    return port == (tls == nil ? 80 : 443) ? shown : "\(shown):\(port)"
  }

  /// The gateway's addresses and TLS settings, off the loop.
  func resolve() async throws(Failure) -> (addresses: [SocketAddress], tls: TLSContext?) {
    do throws(LoopError) {
      let addresses = try await SocketAddress.resolve(host: host, port: port)
      return (addresses, try tls.map { policy throws(LoopError) in try TLSContext.client(policy) })
    } catch {
      throw Failure(
        kind: "gateway-unreachable", sentence: "The gateway \(url) can't be reached: \(error).",
        remedy: "Check the address.", status: .unreachable)
    }
  }

  /// What a connection's end means, when it came before an answer.
  func unreachable(_ end: StreamEnd) -> Failure {
    let remedy: String
    let sentence: String
    var kind = "gateway-unreachable"
    switch end {
    case .tlsUntrusted(let mismatch):
      kind = "tls-untrusted"
      sentence = "The gateway \(url) is not trusted: \(mismatch)"
      remedy =
        mismatch.seen.map { "If that is the right gateway, give --fingerprint \($0)." }
        ?? "Give --ca-file or --fingerprint."
    case .connectFailed(let why), .tlsFailed(let why), .failed(let why):
      sentence = "The gateway \(url) can't be reached: \(why)."
      remedy = "Check the address, and that the gateway runs."
    case .connectTimedOut:
      sentence = "The gateway \(url) doesn't answer."
      remedy = "Check the address and the network."
    case .endOfStream, .closedByUs:
      sentence = "The gateway \(url) closed the connection without an answer."
      remedy = "Check the address: http and https are not the same port."
    }
    return Failure(kind: kind, sentence: sentence, remedy: remedy, status: .unreachable)
  }
}
