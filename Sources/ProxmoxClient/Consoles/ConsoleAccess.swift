import ConsoleProtocol

/// Who may open which console on which version: pure facts.
public enum ConsoleAccess {
  /// Why a credential can't open a console: two sentences.
  public struct Refusal: Error, Sendable, Hashable {
    /// What is the matter.
    public var reason: String
    /// Which version or which credential would do.
    public var remedy: String
  }

  /// Nil if PVE of that version opens the console to that kind of credential (as far as permissions go, PVE decides).
  /// - Parameter identity: the user or token, for PVE's limit of 64 characters in termproxy's check.
  public static func refusal(
    of console: Console, on kind: Place.Kind, to credential: Credential.Kind, identity: String = "",
    version: PVEVersion
  ) -> Refusal? {
    guard credential == .token else { return nil }
    let can = version.capabilities
    let password = "configure a user with password (or a ticket) as consoleCredential"
    switch (kind, console) {
    case (.node, .vnc):
      return can.tokensOpenNodeVNC
        ? nil
        : Refusal(
          reason: "no version of PVE opens a node's VNC shell to an API token",
          remedy: "Open the node's terminal instead, or \(password)")
    case (.node, _):
      if !can.tokensOpenNodeTerminal {
        return Refusal(
          reason: "PVE \(version) doesn't open a node's terminal to an API token",
          remedy: "PVE from 9.0.13 on does; or \(password)")
      }
    case (_, .vnc):
      return can.tokensOpenGuestVNC ? nil : Refusal(reason: "", remedy: password)
    default:
      if !can.tokensOpenGuestTerminals {
        return Refusal(
          reason: "PVE \(version) doesn't open a guest's terminal to an API token",
          remedy: "PVE from 9.1.9 or, of the 8 series, from 8.4.19 on does; or \(password)")
      }
    }
    guard identity.utf8.count <= 64 else {
      return Refusal(
        reason: "PVE opens no terminal to a token whose full name has more than 64 characters",
        remedy: "Use a token with a shorter name, or \(password)")
    }
    return nil
  }
}
