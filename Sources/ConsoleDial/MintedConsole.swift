import ConsoleProtocol
import EventLoop

/// A freshly minted console and the addresses of the host that minted it.
package struct MintedConsole: Sendable {
  /// How to dial, once.
  package var plan: UpstreamPlan
  /// The host's addresses, resolved off the loop, best first.
  package var addresses: [SocketAddress]
  /// TLS settings for the dial; nil for plain HTTP.
  package var tls: TLSContext?
  /// The place that the target turned out to be.
  package var place: Place
  /// To be called once, when the inner login is over, well or ill: the next mint for the same VM may go on (PVE
  /// has one VNC password per VM). Idempotent; any thread.
  package var loginOver: @Sendable () -> Void

  /// Puts the parts together.
  package init(
    plan: UpstreamPlan, addresses: [SocketAddress], tls: TLSContext?, place: Place,
    loginOver: @escaping @Sendable () -> Void
  ) {
    self.plan = plan
    self.addresses = addresses
    self.tls = tls
    self.place = place
    self.loginOver = loginOver
  }
}

extension MintedConsole {
  /// What is left to know once the console is open: the ticket has done its work, and an open session keeps no
  /// credential in memory, nor the room that they took.
  package var spent: MintedConsole {
    var plan = plan
    plan.requestTarget = Secret("")
    plan.credentialHeader = (plan.credentialHeader.name, Secret(""))
    plan.login = .none
    return MintedConsole(plan: plan, addresses: [], tls: nil, place: place, loginOver: {})
  }
}

/// How an upstream leg came to its end, before anybody asked why.
package enum UpstreamFailure: Sendable {
  /// No connection, or none that may be trusted.
  case notConnected(StreamEnd)
  /// The machine of the console refused or broke off: see ``ConsoleFailure``.
  case console(ConsoleFailure)
  /// It took longer than allowed: nothing came, or the login did not finish.
  case silent(stage: String)
  /// It was open, and the connection ended.
  case endedOpen(StreamEnd)
}
