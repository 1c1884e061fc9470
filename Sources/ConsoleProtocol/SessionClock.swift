/// The timers of one relayed session, as a value: the driver notes what happens (an assignment each), asks
/// ``nextDeadline`` for one timer, and does what ``due(at:)`` says when it rings.
///
/// Times are `Duration`s since an arbitrary start, never going back.
package struct SessionClock: Sendable {
  /// How long what may last.
  package struct Policy: Sendable, Equatable {
    /// Between websocket pings, on either leg.
    package var pingInterval: Duration = .seconds(25)
    /// A leg that was pinged and has been silent for this long is dead.
    package var deadAfter: Duration = .seconds(60)
    /// Without input of the viewer; nil for no limit.
    package var idleLimit: Duration?
    /// From the clock's start; nil for no limit.
    package var maximumDuration: Duration?
    /// How long before the two limits the viewer is warned.
    package var warning: Duration = .seconds(60)
    /// Without an RFB byte either way; nil where nothing has to be kept awake. `qm vncproxy` leaves after 15
    /// minutes, and a websocket ping does not reach it.
    package var rfbKeepAlive: Duration?
    /// How long reading from upstream may rest in one go: pveproxy buffers without bound meanwhile.
    package var slowViewerLimit: Duration?

    /// The defaults: pings and nothing else.
    package init() {}
  }

  /// One of the two connections.
  package enum Leg: Sendable, Equatable {
    /// Towards the browser.
    case viewer
    /// Towards PVE.
    case upstream
  }

  /// What happened.
  package enum Note: Sendable, Equatable {
    /// Console bytes came from this leg.
    case received(Leg)
    /// A pong, an acknowledgement, or another sign of life that is no console byte. Progress of a long write to the
    /// leg counts too.
    case alive(Leg)
    /// The viewer typed, clicked or pasted.
    case input
    /// Console bytes went to PVE.
    case sentUpstream
    /// Reading from this leg stops for lack of room on the other.
    case paused(Leg)
    /// … and goes on.
    case resumed(Leg)
  }

  /// What to do.
  package enum Action: Sendable, Equatable {
    /// Send a websocket ping.
    case ping(Leg)
    /// Send ``RFBClientStream/keepAlive``, if the stream is between messages.
    case rfbKeepAlive
    /// Tell the viewer: without input it ends in so many seconds.
    case idleWarning(seconds: Int)
    /// Tell the viewer: it ends in so many seconds.
    case maximumDurationWarning(seconds: Int)
    /// The end: no input for too long.
    case idle
    /// The end: it lasted as long as it may.
    case maximumDuration
    /// The end: nothing more comes from this leg.
    case dead(Leg)
    /// The end: the viewer has not taken anything for too long.
    case slowViewer
  }

  private struct LegState: Sendable {
    var lastHeard: Duration
    var nextPing: Duration
    var pinged = false
    var pausedSince: Duration?
  }

  private let policy: Policy
  private let start: Duration
  private var viewer: LegState
  private var upstream: LegState
  private var lastInput: Duration
  private var lastRFB: Duration
  private var idleWarned = false
  private var durationWarned = false
  private var isOver = false

  /// Starts all timers.
  package init(policy: Policy, startingAt now: Duration) {
    self.policy = policy
    start = now
    viewer = LegState(lastHeard: now, nextPing: now + policy.pingInterval)
    upstream = viewer
    lastInput = now
    lastRFB = now
  }

  /// Notes what happened. Cheap enough for every chunk.
  package mutating func note(_ note: Note, at now: Duration) {
    switch note {
    case .received(.upstream):
      upstream.lastHeard = now
      upstream.pinged = false
      lastRFB = now
    case .received(.viewer), .alive(.viewer):
      viewer.lastHeard = now
      viewer.pinged = false
    case .alive(.upstream):
      upstream.lastHeard = now
      upstream.pinged = false
    case .input:
      lastInput = now
      idleWarned = false
    case .sentUpstream: lastRFB = now
    case .paused(.viewer): if viewer.pausedSince == nil { viewer.pausedSince = now }
    case .paused(.upstream): if upstream.pausedSince == nil { upstream.pausedSince = now }
    case .resumed(.viewer): Self.resume(&viewer, now)
    case .resumed(.upstream): Self.resume(&upstream, now)
    }
  }

  /// When ``due(at:)`` should be called next; nil when the session is over. May lie in the past. It gets later by
  /// itself when bytes flow, so that a timer needs to be set only when it rings.
  package var nextDeadline: Duration? {
    if isOver { return nil }
    var first = min(deadline(viewer), deadline(upstream))
    if let idle = policy.idleLimit {
      first = min(first, lastInput + (idleWarned ? idle : warningTime(idle) ?? idle))
    }
    if let maximum = policy.maximumDuration {
      first = min(first, start + (durationWarned ? maximum : warningTime(maximum) ?? maximum))
    }
    if let keepAlive = policy.rfbKeepAlive { first = min(first, lastRFB + keepAlive) }
    if let limit = policy.slowViewerLimit, let since = upstream.pausedSince {
      first = min(first, since + limit)
    }
    return first
  }

  /// What has to be done at this time; empty when it is too early. An end comes alone, and once.
  package mutating func due(at now: Duration) -> [Action] {
    if isOver { return [] }
    if let end = ending(at: now) {
      isOver = true
      return [end]
    }
    var actions: [Action] = []
    if Self.ping(&viewer, policy, now) { actions.append(.ping(.viewer)) }
    if Self.ping(&upstream, policy, now) { actions.append(.ping(.upstream)) }
    if let keepAlive = policy.rfbKeepAlive, now >= lastRFB + keepAlive {
      lastRFB = now
      actions.append(.rfbKeepAlive)
    }
    if let idle = policy.idleLimit, !idleWarned, let warn = warningTime(idle),
      now >= lastInput + warn
    {
      idleWarned = true
      actions.append(.idleWarning(seconds: Self.seconds(lastInput + idle - now)))
    }
    if let maximum = policy.maximumDuration, !durationWarned, let warn = warningTime(maximum),
      now >= start + warn
    {
      durationWarned = true
      actions.append(.maximumDurationWarning(seconds: Self.seconds(start + maximum - now)))
    }
    return actions
  }

  private func ending(at now: Duration) -> Action? {
    if let maximum = policy.maximumDuration, now >= start + maximum { return .maximumDuration }
    if let idle = policy.idleLimit, now >= lastInput + idle { return .idle }
    if let limit = policy.slowViewerLimit, let since = upstream.pausedSince, now >= since + limit {
      return .slowViewer
    }
    if isDead(viewer, now) { return .dead(.viewer) }
    if isDead(upstream, now) { return .dead(.upstream) }
    return nil
  }

  /// A leg from which nothing is read can't be heard: it is not dead for that.
  private func isDead(_ leg: LegState, _ now: Duration) -> Bool {
    leg.pinged && leg.pausedSince == nil && now >= leg.lastHeard + policy.deadAfter
  }

  private func deadline(_ leg: LegState) -> Duration {
    guard leg.pinged, leg.pausedSince == nil else { return leg.nextPing }
    return min(leg.nextPing, leg.lastHeard + policy.deadAfter)
  }

  /// Since when the warning is due, counted like the limit; nil for a limit too short to warn of.
  private func warningTime(_ limit: Duration) -> Duration? {
    limit > policy.warning ? limit - policy.warning : nil
  }

  private static func ping(_ leg: inout LegState, _ policy: Policy, _ now: Duration) -> Bool {
    guard now >= leg.nextPing else { return false }
    leg.nextPing = now + policy.pingInterval
    leg.pinged = true
    return true
  }

  private static func resume(_ leg: inout LegState, _ now: Duration) {
    guard leg.pausedSince != nil else { return }
    leg.pausedSince = nil
    leg.lastHeard = now
  }

  /// Whole seconds, rounded up.
  private static func seconds(_ duration: Duration) -> Int {
    let (seconds, attoseconds) = duration.components
    return Int(seconds) + (attoseconds > 0 ? 1 : 0)
  }
}
