/// The version that `GET /version` tells: that of the package `pve-manager`.
public struct PVEVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
  /// First number, 9 of `9.2.11`.
  public var major: Int
  /// Second number, 2 of `9.2.11`.
  public var minor: Int
  /// Third number, 11 of `9.2.11`, 20 of `7.4-20`; 0 where there is none.
  public var patch: Int

  /// Puts the numbers together.
  public init(_ major: Int, _ minor: Int, _ patch: Int = 0) {
    self.major = major
    self.minor = minor
    self.patch = patch
  }

  /// Reads the field `version` of `GET /version`: `9.2.11`, `8.0.0~8`, `7.4-20`; up to PVE 5 it was `5.4` and the
  /// field `release` held the third number. Nil where no number stands first.
  public init?(_ version: some StringProtocol, release: String? = nil) {
    var numbers: [Int] = []
    for part in version.split(
      omittingEmptySubsequences: false, whereSeparator: { ".-~+".contains($0) })
    {
      guard numbers.count < 3, (1...9).contains(part.utf8.count), let n = Int(part), n >= 0 else {
        break
      }
      numbers.append(n)
    }
    guard let major = numbers.first else { return nil }
    if numbers.count == 2, let release, let patch = Int(release), patch >= 0 {
      numbers.append(patch)
    }
    self.init(
      major, numbers.dropFirst().first ?? 0, numbers.dropFirst(2).first ?? 0)
  }

  /// `9.2.11`
  public var description: String { "\(major).\(minor).\(patch)" }

  /// By number.
  public static func < (a: PVEVersion, b: PVEVersion) -> Bool {
    (a.major, a.minor, a.patch) < (b.major, b.minor, b.patch)
  }

  /// What a node of this version can do.
  public var capabilities: Capabilities { Capabilities(version: self) }

  /// The eras of PVE under the names of what changed. Only pve-manager's version is known; where an era is
  /// another package's, it is mapped to the pve-manager that came out on the same day.
  public struct Capabilities: Sendable, Hashable {
    /// The version they are derived from.
    public let version: PVEVersion

    /// Makes them of a version.
    public init(version: PVEVersion) { self.version = version }

    /// The hardening of April 2026, on both branches on one day: pve-manager 9.1.9 and 8.4.19. PVE 7 never got it.
    private var hardened: Bool {
      version >= PVEVersion(9, 1, 9) || (version.major == 8 && version >= PVEVersion(8, 4, 19))
    }

    /// An API token opens the screen of a VM or container: RFB asks for the password only, so always.
    public var tokensOpenGuestVNC: Bool { true }
    /// An API token opens the terminal of a VM or container (qemu-server 9.1.7 / 8.4.7, pve-container 6.1.3 / 5.3.4).
    /// Before, termproxy asked `/access/ticket`, which takes no token's name for a user's.
    public var tokensOpenGuestTerminals: Bool { hardened }
    /// An API token opens a node's terminal, to a login prompt: pve-manager 9.0.13 on, never on 8 or 7.
    public var tokensOpenNodeTerminal: Bool { version >= PVEVersion(9, 0, 13) }
    /// An API token opens a node's VNC shell: never, its name fails the check for user names.
    public var tokensOpenNodeVNC: Bool { false }
    /// A console's ticket is signed for its port; another port's is refused.
    public var ticketBoundToPort: Bool { hardened }
    /// Every VNC mint's answer has the RFB `password` (and the ticket has it as a prefix).
    public var answersCarryPassword: Bool { hardened }
    /// A VM's `vncproxy` takes `generate-password` (qemu-server 6.2-4, June 2020).
    public var takesGeneratePassword: Bool { version >= PVEVersion(6, 3) }
    /// Form keys that repeat become an array (pve-http-server 5.0.2); before, they were joined by NUL bytes.
    public var arraysInForms: Bool { version.major >= 8 }
    /// `agent/exec` takes its command as an array of arguments.
    public var execTakesArray: Bool { version.major >= 8 }
    /// Frames of 131,072 bytes are safe. Older nodes name the same limit, but their receive buffer held 65,536
    /// bytes until the version that also raised the body's limit (pve-http-server 5.2.1, April 2025).
    public var largeFrames: Bool { version >= PVEVersion(8, 4, 1) }
    /// The largest payload of one frame toward PVE, in bytes.
    public var maximumFrame: Int { largeFrames ? 131_072 : 32_768 }
    /// The largest request body, in bytes (pve-http-server 5.2.1).
    public var bodyLimit: Int { version >= PVEVersion(8, 4, 1) ? 524_288 : 65_536 }
    /// Guest agent calls need `VM.GuestAgent.*`; before, `VM.Monitor`.
    public var agentPrivileges: Bool { version.major >= 9 }
    /// A terminal's end is an end of file after all output. From termproxy 2.0.1 (PVE 9) on, the socket stays open
    /// after the shell's exit, or the last output is lost.
    public var terminalEndsCleanly: Bool { version.major < 9 }
    /// Migration tunnels exist (PVE 7.3).
    public var migrationTunnels: Bool { version >= PVEVersion(7, 3) }
    /// Node shells are for users of the realm `pam` only (until pve-manager 8.0.8).
    public var nodeShellsNeedPAM: Bool { version < PVEVersion(8, 0, 8) }
  }
}
