/// All that is needed to open one console of PVE, once: made by the client core right after the mint, used by
/// the leg that dials. A plan is good for one dial within ten seconds (PVE's listener waits no longer and
/// accepts once), and never for a second.
public struct UpstreamPlan: Sendable {
  /// What is said inside the websocket before the console's bytes flow.
  public enum Login: Sendable {
    /// RFB security type 2 with this password (PVE uses its first eight bytes), or type 1 where offered.
    case rfb(password: Secret)
    /// termproxy: this line (`AUTHID:TICKET\n`, newline included), answered by `OK`.
    case termproxy(line: Secret)
    /// Nothing: the bytes flow at once (`mtunnelwebsocket`).
    case none
  }

  /// The API host that minted, and nothing else: a console's port is open on that host only.
  public var host: String
  /// Its port (8006).
  public var port: Int
  /// TLS, as for the REST call; nil means plain HTTP (tests and pvedaemon only).
  public var tls: TLSPolicy?
  /// Path and query of the upgrade request, percent-encoded, e.g.
  /// `/api2/json/nodes/pve1/qemu/100/vncwebsocket?port=5900&vncticket=PVEVNC%3A…`. It contains a ticket.
  public var requestTarget: Secret
  /// `Cookie: PVEAuthCookie=…` or `Authorization: PVEAPIToken=…`: the credential that minted.
  public var credentialHeader: (name: String, value: Secret)
  /// What is said inside.
  public var login: Login
  /// The largest frame payload that this node is known to take: 32,768 or 131,072 bytes.
  public var maximumFrame: Int
  /// The worker task behind the console, to ask why it ended.
  public var upid: String
  /// The node on which the worker task runs.
  public var node: NodeName

  /// Puts the parts together.
  public init(
    host: String, port: Int, tls: TLSPolicy?, requestTarget: Secret,
    credentialHeader: (name: String, value: Secret), login: Login, maximumFrame: Int, upid: String,
    node: NodeName
  ) {
    self.host = host
    self.port = port
    self.tls = tls
    self.requestTarget = requestTarget
    self.credentialHeader = credentialHeader
    self.login = login
    self.maximumFrame = maximumFrame
    self.upid = upid
    self.node = node
  }
}
