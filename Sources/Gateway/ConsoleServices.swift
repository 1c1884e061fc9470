import ConsoleDial
import ConsoleProtocol
import EventLoop

/// What a link grants: one viewer, on one console of one target, with these rights and limits.
package struct Grant: Sendable {
  /// The session's name in the API: `GET /v1/consoles/{id}`.
  package var id: String
  /// The cluster's name in the configuration.
  package var cluster: String
  /// The target as it was asked for.
  package var target: Target
  /// Which console of it.
  package var console: Console
  /// Whether input is dropped by the relay.
  package var readOnly: Bool
  /// Ends the session this long after it opened.
  package var maxDuration: Duration?
  /// Ends the session after this long without input from the viewer.
  package var idle: Duration?

  /// Puts the parts together.
  package init(
    id: String, cluster: String, target: Target, console: Console, readOnly: Bool = false,
    maxDuration: Duration? = nil, idle: Duration? = nil
  ) {
    self.id = id
    self.cluster = cluster
    self.target = target
    self.console = console
    self.readOnly = readOnly
    self.maxDuration = maxDuration
    self.idle = idle
  }
}

/// What a session needs of the control plane. All of it may be called from a loop's thread; nothing blocks.
package protocol ConsoleServices: AnyObject, Sendable {
  /// Turns the token of a viewer's first message into what it grants. A token is good once.
  func redeem(_ token: Secret, peer: String) -> Result<Grant, Ending>

  /// Checks that the console can be opened, and mints it. Called only while the viewer's websocket is up.
  /// - Parameter attempt: 1 for the first; later ones follow a failed dial, after a back-off.
  func mint(_ grant: Grant, size: (columns: Int, rows: Int)?, attempt: Int) async throws(Ending)
    -> MintedConsole

  /// Finds out why an upstream leg failed or ended: asks the guest's state and the worker's task log.
  func diagnose(_ failure: UpstreamFailure, of grant: Grant, minted: MintedConsole?) async -> Ending

  /// Makes sure that PVE's worker task behind a console ends.
  func release(_ minted: MintedConsole)

  /// The registry entry of a session. `observer` is told when an operator ends the session.
  func opened(_ grant: Grant, peer: String, end: @escaping @Sendable (Ending) -> Void)
    -> SessionRecord

  /// Limits of the relay.
  var limits: RelayLimits { get }
}

/// The relay's numbers, all configurable.
package struct RelayLimits: Sendable {
  /// For the viewer's first message.
  package var firstMessage: Duration = .seconds(10)
  /// For TCP, TLS, upgrade and inner login together.
  package var dial: Duration = .seconds(15)
  /// Dials per session, each on a new mint.
  package var attempts: Int = 3
  /// Between websocket pings on either leg.
  package var pingInterval: Duration = .seconds(25)
  /// A leg from which nothing came for so long is dead.
  package var deadAfter: Duration = .seconds(55)
  /// How long reading from pveproxy may be stopped in one go for a slow viewer.
  package var slowViewer: Duration = .seconds(60)
  /// RFB keep-alive after so much silence.
  package var rfbKeepAlive: Duration = .seconds(300)

  /// The defaults.
  package init() {}
}
