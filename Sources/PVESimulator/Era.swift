/// A version of Proxmox VE, as far as clients can tell versions apart.
///
/// The node asks the era what it does instead of comparing versions in many places: what changes between
/// versions is a property here, or in one of the `Era+….swift` files. Each property says which package's version
/// brought the change; ``packages`` says which versions an era stands for.
///
/// One line divides them all: on the 21st and 22nd of April 2026 both the 9 and the 8 series hardened their
/// consoles (``isHardened``).
public enum Era: String, Sendable, Hashable, CaseIterable {
  /// Proxmox VE 7.4, the last of its series (out of support).
  case v7_4 = "7.4"
  /// Proxmox VE 8.4 before April 2026.
  case v8_4 = "8.4"
  /// Proxmox VE 8.4 after April 2026.
  case v8_4_2026 = "8.4-2026"
  /// Proxmox VE 9.0 of autumn 2025.
  case v9_0 = "9.0"
  /// Proxmox VE 9.1 before April 2026.
  case v9_1 = "9.1"
  /// Proxmox VE 9.2 of autumn 2026.
  case v9_2 = "9.2"

  /// The era of a name given by a person.
  /// - Throws: ``SimulatorError/configuration(_:)`` that lists all names.
  public init(argument: String) throws(SimulatorError) {
    guard let era = Era(rawValue: argument) else {
      throw .configuration("there is no era '\(argument)': it is one of \(Era.names)")
    }
    self = era
  }

  /// Every name, for help and errors: `7.4, 8.4, 8.4-2026, 9.0, 9.1, 9.2`.
  public static var names: String { allCases.map(\.rawValue).joined(separator: ", ") }

  /// 7, 8 or 9.
  var major: Int {
    switch self {
    case .v7_4: 7
    case .v8_4, .v8_4_2026: 8
    case .v9_0, .v9_1, .v9_2: 9
    }
  }

  /// Whether the console hardening of April 2026 is in: libpve-access-control 9.0.7 / 8.2.3, pve-manager 9.1.9 /
  /// 8.4.19, qemu-server 9.1.7 / 8.4.7, pve-container 6.1.3 / 5.3.4, proxmox-termproxy 2.1.0 / 1.1.1.
  /// PVE 7 never got it.
  var isHardened: Bool { self == .v8_4_2026 || self == .v9_2 }

  /// The column of the list of operations by version that the era has: an operation that this version doesn't
  /// have answers 501.
  var apiVersion: String {
    switch self {
    case .v7_4: "7.4"
    case .v8_4, .v8_4_2026: "8.4"
    case .v9_0: "9.0.6"
    case .v9_1: "9.1.0"
    case .v9_2: "9.2"
    }
  }

  /// Versions of the packages that the era stands for.
  struct Packages: Sendable, Hashable {
    var manager: String
    var httpServer: String
    var accessControl: String
    var qemuServer: String
    var container: String
    var termproxy: String
  }

  /// Which packages the era is. Every fact below follows from these numbers.
  var packages: Packages {
    switch self {
    case .v7_4:
      Packages(
        manager: "7.4-20", httpServer: "4.3.0", accessControl: "7.4.3", qemuServer: "7.4-7",
        container: "4.4-7", termproxy: "4.16.0-2")
    case .v8_4:
      Packages(
        manager: "8.4.14", httpServer: "5.2.2", accessControl: "8.2.2", qemuServer: "8.4.4",
        container: "5.3.2", termproxy: "1.1.0")
    case .v8_4_2026:
      Packages(
        manager: "8.4.21", httpServer: "5.2.2", accessControl: "8.2.3", qemuServer: "8.4.10",
        container: "5.3.5", termproxy: "1.1.1")
    case .v9_0:
      Packages(
        manager: "9.0.11", httpServer: "6.0.4", accessControl: "9.0.3", qemuServer: "9.0.23",
        container: "6.0.13", termproxy: "2.0.2")
    case .v9_1:
      Packages(
        manager: "9.1.4", httpServer: "6.0.5", accessControl: "9.0.5", qemuServer: "9.1.3",
        container: "6.1.0", termproxy: "2.0.3")
    case .v9_2:
      Packages(
        manager: "9.2.11", httpServer: "6.0.5", accessControl: "9.1.1", qemuServer: "9.2.6",
        container: "6.1.10", termproxy: "2.1.0")
    }
  }

  // MARK: what `GET /version` and status answers tell

  /// `version` of `GET /version`: pve-manager's.
  var version: String { packages.manager }

  /// `release` of `GET /version`.
  var release: String {
    switch self {
    case .v7_4: "7.4"
    case .v8_4, .v8_4_2026: "8.4"
    case .v9_0: "9.0"
    case .v9_1: "9.1"
    case .v9_2: "9.2"
    }
  }

  /// `repoid` of `GET /version`: the short hash of pve-manager's commit.
  var repositoryID: String {
    switch self {
    case .v7_4: "513c62be"
    case .v8_4: "b502d23c55afcba1"
    case .v8_4_2026: "6d1fa2e0c94b7d35"
    case .v9_0: "3bf5476b8a4699e2"
    case .v9_1: "5ac30304265fbd8e"
    case .v9_2: "14a22df3"
    }
  }

  /// The kernel's release.
  var kernelRelease: String {
    switch self {
    case .v7_4: "5.15.158-2-pve"
    case .v8_4: "6.8.12-15-pve"
    case .v8_4_2026: "6.8.12-22-pve"
    case .v9_0: "6.14.11-4-pve"
    case .v9_1: "6.17.4-1-pve"
    case .v9_2: "6.14.11-100-pve"
    }
  }

  /// QEMU's version, `running-qemu` of a VM's status.
  var qemuVersion: String {
    switch self {
    case .v7_4: "7.2.10"
    case .v8_4, .v8_4_2026: "9.2.0"
    case .v9_0: "10.0.2"
    case .v9_1: "10.1.2"
    case .v9_2: "11.0.0"
    }
  }
}
