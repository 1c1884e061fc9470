/// What the API itself does differently: transport, parameters, logins, privileges.
extension Era {
  // MARK: pve-http-server

  /// The largest request body that is read: 64 KiB, and 512 KiB since pve-http-server 5.2.1 (April 2025).
  var maximumBody: Int { self == .v7_4 ? 64 * 1024 : 512 * 1024 }

  /// Whether error bodies carry `message` (pve-http-server 5.2.0, January 2025). Older nodes have it in the reason
  /// phrase only, and what the server refuses before a handler runs has an empty body there.
  var errorBodiesHaveMessages: Bool { self != .v7_4 }

  /// Whether form keys that repeat become an array (pve-http-server 5.0.2, PVE 8). PVE 7 joins the values with NUL
  /// bytes to one text.
  var formArrays: Bool { major >= 8 }

  /// What becomes of them.
  var formRepeats: Parameters.Repeats { formArrays ? .list : .joined }

  /// Whether JSON bodies may hold arrays (pve-http-server 5.0.2); before, lists were texts.
  var jsonArrays: Bool { major >= 8 }

  /// Whether long answers are compressed with deflate too, for clients that don't take gzip (pve-http-server 5).
  var compressesWithDeflate: Bool { major >= 8 }

  /// The status of what goes wrong between the request's head and its handler (broken JSON, a bad websocket version).
  var bodyFailureStatus: Int { major >= 8 ? 500 : 501 }

  /// How many bytes of a websocket frame that isn't complete yet are held: 64 KiB before pve-http-server 5.2.1, and a
  /// frame that is longer than that ends its connection. Since then only the frame's own limit of 131,072 counts.
  var websocketBuffer: Int? { self == .v7_4 ? 64 * 1024 : nil }

  // MARK: logins (libpve-access-control, pve-manager)

  /// Whether a 401 of the authentication stage says `Authentication failed!` and nothing else (pve-manager 9.1.5 /
  /// 8.4.17). Before, it says in detail what is wrong: `permission denied - invalid PVE ticket`, `invalid token value!`.
  var hidesAuthenticationDetail: Bool { isHardened }

  /// Whether logins do PVE 7's old second factor unless asked with `new-format=1`: bare digits as `otp`, tickets
  /// `PVE:tfa!…`, and `POST /access/tfa` with `response` (removed in 8.0).
  var hasOldSecondFactor: Bool { major < 8 }

  /// Whether `POST /access/vncticket` exists: libpve-access-control 9.0.4 / 8.2.3, reachable without a login since
  /// pve-manager 9.0.13 / 8.4.19.
  var hasConsoleTicketCheck: Bool { self == .v9_1 || isHardened }

  /// Whether `POST /access/vncticket` looks at `privs` and `port` (libpve-access-control 9.0.7 / 8.2.3).
  var consoleTicketCheckIsFull: Bool { isHardened }

  // MARK: privileges

  /// Whether guest agent calls need `VM.GuestAgent.*` (libpve-access-control 9.0.2, qemu-server 9.0.3). Before they
  /// needed `VM.Monitor`, which no longer exists.
  var hasAgentPrivileges: Bool { major >= 9 }

  /// Names of privileges that a role may hold in this era. PVE 9 has `VM.GuestAgent.*` and `VM.Replicate`, PVE 8 has
  /// `VM.Monitor` instead, and PVE 7 nothing of mappings, `SDN.Use` and `Sys.AccessNetwork` yet.
  func hasPrivilege(_ name: String) -> Bool {
    if name == "VM.Monitor" { return !hasAgentPrivileges }
    if name.hasPrefix("VM.GuestAgent.") || name == "VM.Replicate" { return hasAgentPrivileges }
    if name.hasPrefix("Mapping.") || name == "SDN.Use" || name == "Sys.AccessNetwork" {
      return major >= 8
    }
    return true
  }

  // MARK: guest agent (qemu-server)

  /// Whether `agent/exec` takes its command as an array (qemu-server 8.0.1) and needs one. In PVE 7 it is a text:
  /// values joined with NUL bytes, or else split at spaces, commas and semicolons; and it may be absent.
  var agentCommandIsArray: Bool { major >= 8 }

  /// Whether `agent/file-read` takes `count`, `offset` and `decode` (qemu-server 9.1.5).
  var agentReadsRanges: Bool { self == .v9_2 }

  // MARK: nodes (pve-manager)

  /// Whether `POST /nodes/{node}/execute` is root@pam's with a ticket (PVE 8, June 2023). Before: `Sys.Audit` on the
  /// node, and each inner call checked.
  var executeNeedsRoot: Bool { major >= 8 }

  // MARK: migration tunnels (qemu-server; they exist since PVE 7.3, so in every era)

  /// Whether a VM's tunnel refuses parameters that it doesn't know, and looks at those of `start` (qemu-server 9.2.2
  /// and 9.2.4 / 8.4.9). A container's never does.
  var tunnelsRefuseUnknownParameters: Bool { isHardened }
}
