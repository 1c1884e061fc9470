/// What consoles do differently.
extension Era {
  // MARK: mints (libpve-access-control, qemu-server, pve-container, pve-manager)

  /// Whether console and SPICE tickets are signed for their port (April 2026).
  var consoleTicketsBindPort: Bool { isHardened }

  /// Whether every mint that leads to RFB's password login answers `password` and puts it before the ticket,
  /// `XXXXXXXX:PVEVNC:…` (April 2026). Before, only a VM's `vncproxy` with `generate-password=1` answered one, and
  /// otherwise the ticket's first eight characters were the password: `PVEVNC:` and one digit.
  var mintsAlwaysHavePasswords: Bool { isHardened }

  /// Whether only users of the realm `pam` get a node's shell (until pve-manager 8.0.8): 403 `realm … != pam`.
  var nodeShellsNeedPAM: Bool { major < 8 }

  // MARK: termproxy

  /// How termproxy has the ticket line checked.
  enum LineCheck: Sendable, Hashable {
    /// `POST /access/ticket` with user name and ticket: an API token's name is no user name, so it fails.
    case accessTicket
    /// `POST /access/vncticket`: whoever minted.
    case consoleTicket
  }

  /// How the terminal of a VM or container checks its ticket line: as tokens can pass since April 2026 (qemu-server
  /// 9.1.7 / 8.4.7, pve-container 6.1.3 / 5.3.4).
  var guestLineCheck: LineCheck { isHardened ? .consoleTicket : .accessTicket }

  /// How a node's terminal checks its ticket line: pve-manager 9.0.13 and, with the hardening, 8.4.19.
  var nodeLineCheck: LineCheck { self == .v9_1 || isHardened ? .consoleTicket : .accessTicket }

  /// Whether an API token may mint a node's terminal and open its websocket: pve-manager 9.0.13 on. Never on 8 and 7,
  /// hardened or not, where the handlers want a user's name.
  var tokensOpenNodeTerminals: Bool { self == .v9_1 || self == .v9_2 }

  /// Whether API tokens get through the terminals of VMs and containers.
  var tokensOpenGuestTerminals: Bool { guestLineCheck == .consoleTicket }

  /// Whether termproxy holds the line against the one ticket that was minted (proxmox-termproxy 2.1.0 / 1.1.1); before,
  /// any ticket that the check accepts would do.
  var termproxyPinsTicket: Bool { isHardened }

  /// termproxy's options for a way of checking, as task logs show them.
  func termproxyFlags(_ check: LineCheck) -> String {
    switch check {
    case .accessTicket: ""
    case .consoleTicket:
      " --vncticket-endpoint" + (termproxyPinsTicket ? " --verify-port --ticket-fd 6" : "")
    }
  }

  /// What termproxy does when the program on its terminal ends (2.0.1, PVE 9, ignores the terminal's hang-up).
  var terminalEnding: TerminalEnding { major >= 9 ? .mixed : .clean }
}

/// What termproxy does when the program on its terminal ends.
public enum TerminalEnding: String, Sendable, Hashable, CaseIterable {
  /// PVE 9 as it is: of three endings two are ``staysOpen`` and one is ``losesTail``. Which one follows from
  /// ``Behaviour/seed``, so that a run can be repeated.
  case mixed
  /// All output arrives, and the connection stays open for ever.
  case staysOpen
  /// The connection closes and the last output is lost.
  case losesTail
  /// PVE 7 and 8: all output arrives, then the connection closes.
  case clean
}
