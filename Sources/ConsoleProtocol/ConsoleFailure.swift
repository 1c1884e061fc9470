/// How far an upstream leg has come.
package enum ConsoleStage: Sendable, Equatable {
  /// The request is out, the answer is not complete.
  case upgrade
  /// The websocket is up, the login inside it goes on.
  case login
  /// The console's bytes flow.
  case open
}

/// Why an upstream leg ended, as seen in its bytes alone. The gateway adds what PVE's task log knows.
package enum ConsoleFailure: Error, Sendable, Equatable {
  /// An HTTP answer other than 101. PVE's message is the reason phrase, on newer nodes also in the body.
  case upgradeRefused(status: Int, reason: String, body: String)
  /// The answer to the upgrade was no proper one.
  case upgradeViolation(String)
  /// RFB was expected; these were the first bytes.
  case notRFB([UInt8])
  /// The RFB server does not want to talk.
  case rfbRefused(reason: String)
  /// The VNC password was not taken, e.g. since another mint replaced it.
  case rfbAuthFailed(reason: String)
  /// A break of RFB's handshake, or no security type in common.
  case rfbViolation(String)
  /// termproxy closed without `OK`, which is how it refuses a ticket, or sent something else.
  case termproxyRefused
  /// The worker closed before it said anything: PVE upgrades for a stopped VM too.
  case closedBeforeGreeting
  /// The connection ended at this stage, in the middle of something.
  case closedEarly(ConsoleStage)
  /// A websocket frame that no server may send.
  case frameViolation(String)
  /// An open console's connection ended; PVE never says why (no close frame).
  case ended
  /// A close frame, from something that is not pveproxy.
  case closedByPeer(code: UInt16?, reason: String)
}

extension ConsoleFailure {
  /// What can be said without asking PVE further. The gateway refines it, e.g. with the guest's state.
  package var ending: Ending {
    switch self {
    case .upgradeRefused(let status, let reason, _):
      Self.ending(status: status, reason: reason)
    case .upgradeViolation(let sentence):
      Ending(
        hop: .api, kind: .protocolViolation,
        sentence: "The API host did not upgrade to a websocket properly: \(sentence).",
        remedy: "Check that the address is a Proxmox VE API host and that no proxy is in between.")
    case .notRFB:
      Ending(
        hop: .worker, kind: .protocolViolation,
        sentence: "The console's first bytes are not those of a screen (RFB).")
    case .rfbRefused(let reason):
      Ending(
        hop: .worker, kind: .loginFailed,
        sentence: "The screen refused the connection" + (reason.isEmpty ? "." : ": \(reason)"),
        remedy: "Wait a moment and connect again.")
    case .rfbAuthFailed(let reason):
      Ending(
        hop: .worker, kind: .loginFailed,
        sentence: "The screen did not take the password" + (reason.isEmpty ? "." : ": \(reason)"),
        remedy: "Connect again; somebody may have opened the same screen at the same moment.")
    case .rfbViolation(let sentence):
      Ending(
        hop: .worker, kind: .protocolViolation,
        sentence: "The screen's handshake (RFB) failed: \(sentence).")
    case .termproxyRefused:
      Ending(
        hop: .worker, kind: .ticketRejected,
        sentence: "The terminal's worker closed without taking the ticket.",
        remedy:
          "On Proxmox VE before 9.1 (8.4) API tokens open no terminals; use a user's login there.")
    case .closedBeforeGreeting:
      Ending(
        hop: .worker, kind: .workerExited,
        sentence: "The console's worker closed before it sent anything.",
        remedy: "Check that the guest is running.")
    case .closedEarly(.upgrade):
      Ending(
        hop: .api, kind: .nodeUnreachable,
        sentence: "The API host closed the connection without an answer.",
        remedy: "Connect again; a console's port is good for ten seconds and one connection.")
    case .closedEarly(.login):
      Ending(
        hop: .worker, kind: .workerExited, sentence: "The console closed during its login.",
        remedy: "Connect again.")
    case .closedEarly(.open):
      Ending(
        hop: .api, kind: .workerExited,
        sentence: "The connection was cut in the middle of a frame.",
        remedy: "Connect again.")
    case .frameViolation(let sentence):
      Ending(
        hop: .api, kind: .protocolViolation,
        sentence: "The API host broke the websocket protocol: \(sentence).")
    case .ended:
      Ending(hop: .worker, kind: .workerExited, sentence: "The console's worker ended.")
    case .closedByPeer(let code, let reason):
      Ending(
        hop: .api, kind: .workerExited,
        sentence: "The upstream websocket was closed"
          + (code.map { " with code \($0)" } ?? "") + (reason.isEmpty ? "." : ": \(reason)"))
    }
  }

  private static func ending(status: Int, reason: String) -> Ending {
    let text = "The API host answered \(status)" + (reason.isEmpty ? "." : ": \(reason)")
    switch status {
    case 401:
      return Ending(
        hop: .api, kind: .ticketRejected, sentence: text,
        remedy: "Check that the clocks agree and that one credential mints and connects.")
    case 403:
      return Ending(
        hop: .api, kind: .permissionDenied, sentence: text,
        remedy: "Grant VM.Console on the guest, or Sys.Console on the node.")
    case 595, 596, 597, 598, 599:
      return Ending(
        hop: .api, kind: .nodeUnreachable, sentence: text,
        remedy: "Check the node and the cluster's network.")
    default:
      return Ending(hop: .api, kind: .apiError, sentence: text)
    }
  }
}
