/// A version of Proxmox VE, as far as clients can tell versions apart.
///
/// The node asks the era what it does instead of comparing versions in many places: what changes between
/// versions is a property here.
public enum Era: String, Sendable, Hashable, CaseIterable {
  /// Proxmox VE 9.2 as of 2026.
  case v9_2 = "9.2"

  /// `version` of `GET /version`.
  var version: String { "9.2.11" }
  /// `release` of `GET /version`.
  var release: String { "9.2" }
  /// `repoid` of `GET /version`.
  var repositoryID: String { "14a22df3" }
  /// The largest request body that is read (pve-http-server 5.2.1 made it 512 KiB).
  var maximumBody: Int { 512 * 1024 }
  /// Whether error bodies carry the message, which older nodes have in the reason phrase only.
  var errorBodiesHaveMessages: Bool { true }
  /// Whether console tickets name the port (since April 2026).
  var consoleTicketsBindPort: Bool { true }
  /// What a terminal does when its program ends.
  var terminalEnding: TerminalEnding { .staysOpen }
}

/// What termproxy does when the program on its terminal ends.
public enum TerminalEnding: String, Sendable, Hashable, CaseIterable {
  /// PVE 9, two times of three: all output arrives, and the connection stays open for ever.
  case staysOpen
  /// PVE 9, the third time: the connection closes and the last output is lost.
  case losesTail
  /// PVE 8: all output arrives, then the connection closes.
  case clean
}
