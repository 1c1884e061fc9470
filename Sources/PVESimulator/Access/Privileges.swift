/// Privileges and roles of PVE 9.2.
enum Privileges {
  static let vm = [
    "VM.Allocate", "VM.Audit", "VM.Backup", "VM.Clone", "VM.Config.CDROM", "VM.Config.CPU",
    "VM.Config.Cloudinit", "VM.Config.Disk", "VM.Config.HWType", "VM.Config.Memory",
    "VM.Config.Network", "VM.Config.Options", "VM.Console", "VM.GuestAgent.Audit",
    "VM.GuestAgent.FileRead", "VM.GuestAgent.FileSystemMgmt", "VM.GuestAgent.FileWrite",
    "VM.GuestAgent.Unrestricted", "VM.Migrate", "VM.PowerMgmt", "VM.Replicate", "VM.Snapshot",
    "VM.Snapshot.Rollback",
  ]
  static let sys = [
    "Sys.AccessNetwork", "Sys.Audit", "Sys.Console", "Sys.Incoming", "Sys.Modify", "Sys.PowerMgmt",
    "Sys.Syslog",
  ]
  static let storage = [
    "Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate",
    "Datastore.Audit",
  ]
  static let sdn = ["SDN.Allocate", "SDN.Audit", "SDN.Use"]
  static let mapping = ["Mapping.Audit", "Mapping.Modify", "Mapping.Use"]
  static let access = ["Group.Allocate", "Permissions.Modify", "User.Modify"]
  static let others = ["Pool.Allocate", "Pool.Audit", "Realm.Allocate", "Realm.AllocateUser"]

  /// Every privilege.
  static let all = vm + sys + storage + sdn + mapping + access + others

  /// The built-in roles.
  static let roles: [String: Set<String>] = [
    "NoAccess": [],
    "Administrator": Set(all),
    "PVEAdmin": Set(all).subtracting([
      "Sys.PowerMgmt", "Sys.Modify", "Realm.Allocate", "Sys.AccessNetwork", "Sys.Incoming",
      "Permissions.Modify", "SDN.Allocate",
    ]),
    "PVEAuditor": [
      "VM.Audit", "VM.GuestAgent.Audit", "Sys.Audit", "Datastore.Audit", "SDN.Audit",
      "Mapping.Audit", "Pool.Audit",
    ],
    "PVEVMAdmin": Set(vm).subtracting(["VM.Replicate"]),
    "PVEVMUser": [
      "VM.Audit", "VM.Backup", "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console",
      "VM.GuestAgent.Audit", "VM.GuestAgent.FileRead", "VM.GuestAgent.FileSystemMgmt",
      "VM.GuestAgent.FileWrite", "VM.PowerMgmt",
    ],
    "PVESysAdmin": ["Sys.Audit", "Sys.Console", "Sys.Syslog"],
    "PVEDatastoreAdmin": Set(storage),
    "PVEDatastoreUser": ["Datastore.AllocateSpace", "Datastore.Audit"],
    "PVEPoolAdmin": ["Pool.Allocate", "Pool.Audit"],
    "PVEPoolUser": ["Pool.Audit"],
    "PVEUserAdmin": ["User.Modify", "Group.Allocate", "Realm.AllocateUser"],
    "PVETemplateUser": ["VM.Audit", "VM.Clone"],
  ]

  /// What the `cap` of a login answer is computed from: group, path, and which privileges belong to it.
  static let capabilityGroups: [(name: String, path: String, privileges: [String])] = [
    ("vms", "/vms", vm + ["Permissions.Modify"]),
    ("dc", "/", ["Sys.Modify", "Sys.Audit"] + sdn),
    ("nodes", "/nodes", sys + ["Permissions.Modify"]),
    ("mapping", "/mapping", mapping + ["Permissions.Modify"]),
    ("access", "/access", access),
    ("sdn", "/sdn", sdn + ["Permissions.Modify"]),
    ("storage", "/storage", storage + ["Permissions.Modify"]),
  ]
}
