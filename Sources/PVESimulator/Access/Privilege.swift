/// A privilege such as `VM.Console`, as a number, so that a set of them is one word.
///
/// These are the privileges of all eras together; ``Era/hasPrivilege(_:)`` tells which an era knows.
enum Privilege: UInt8, CaseIterable, Sendable, Hashable {
  case datastoreAllocate, datastoreAllocateSpace, datastoreAllocateTemplate, datastoreAudit
  case groupAllocate
  case mappingAudit, mappingModify, mappingUse
  case permissionsModify
  case poolAllocate, poolAudit
  case realmAllocate, realmAllocateUser
  case sdnAllocate, sdnAudit, sdnUse
  case sysAccessNetwork, sysAudit, sysConsole, sysIncoming, sysModify, sysPowerMgmt, sysSyslog
  case userModify
  case vmAllocate, vmAudit, vmBackup, vmClone
  case vmConfigCDROM, vmConfigCPU, vmConfigCloudinit, vmConfigDisk, vmConfigHWType
  case vmConfigMemory, vmConfigNetwork, vmConfigOptions
  case vmConsole
  case vmGuestAgentAudit, vmGuestAgentFileRead, vmGuestAgentFileSystemMgmt
  case vmGuestAgentFileWrite, vmGuestAgentUnrestricted
  case vmMigrate, vmMonitor, vmPowerMgmt, vmReplicate, vmSnapshot, vmSnapshotRollback

  /// In the order of the cases, which is alphabetical.
  private static let names = [
    "Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate",
    "Datastore.Audit",
    "Group.Allocate",
    "Mapping.Audit", "Mapping.Modify", "Mapping.Use",
    "Permissions.Modify",
    "Pool.Allocate", "Pool.Audit",
    "Realm.Allocate", "Realm.AllocateUser",
    "SDN.Allocate", "SDN.Audit", "SDN.Use",
    "Sys.AccessNetwork", "Sys.Audit", "Sys.Console", "Sys.Incoming", "Sys.Modify", "Sys.PowerMgmt",
    "Sys.Syslog",
    "User.Modify",
    "VM.Allocate", "VM.Audit", "VM.Backup", "VM.Clone",
    "VM.Config.CDROM", "VM.Config.CPU", "VM.Config.Cloudinit", "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options",
    "VM.Console",
    "VM.GuestAgent.Audit", "VM.GuestAgent.FileRead", "VM.GuestAgent.FileSystemMgmt",
    "VM.GuestAgent.FileWrite", "VM.GuestAgent.Unrestricted",
    "VM.Migrate", "VM.Monitor", "VM.PowerMgmt", "VM.Replicate", "VM.Snapshot",
    "VM.Snapshot.Rollback",
  ]

  private static let byName = Dictionary(uniqueKeysWithValues: zip(names, allCases))

  /// As PVE writes it.
  var name: String { Privilege.names[Int(rawValue)] }

  /// The privilege of a name, of whatever era.
  init?(_ name: String) {
    guard let privilege = Privilege.byName[name] else { return nil }
    self = privilege
  }

  /// The privilege of a name, where the era knows it.
  init?(_ name: String, in era: Era) {
    guard let privilege = Privilege(name), era.hasPrivilege(name) else { return nil }
    self = privilege
  }
}

/// Privileges, one bit each.
struct PrivilegeSet: OptionSet, Sendable, Hashable {
  var rawValue: UInt64

  init(rawValue: UInt64) { self.rawValue = rawValue }

  init(_ privileges: some Sequence<Privilege>) {
    rawValue = privileges.reduce(0) { $0 | 1 << UInt64($1.rawValue) }
  }

  /// Names that aren't privileges are left out.
  init(names: some Sequence<some StringProtocol>) {
    self.init(names.compactMap { Privilege(String($0)) })
  }

  func contains(_ privilege: Privilege) -> Bool { rawValue & 1 << UInt64(privilege.rawValue) != 0 }

  func contains(_ name: String) -> Bool { Privilege(name).map(contains) ?? false }

  /// In alphabetical order.
  var privileges: [Privilege] { Privilege.allCases.filter(contains) }

  /// In alphabetical order.
  var names: [String] { privileges.map(\.name) }
}
