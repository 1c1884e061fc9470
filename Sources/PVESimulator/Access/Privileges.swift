/// The privileges and built-in roles of an era.
///
/// PVE sorts its privileges by what they are about and by who should have them, and makes its roles from that table:
/// `PVE…Admin` of a kind has all but what is root's, `PVE…User` what is for users and auditors, and so on.
struct Privileges: Sendable {
  /// Privileges about one kind of thing.
  private struct Kind {
    var name: String
    /// Only `Administrator` has them.
    var root: [Privilege] = []
    var admin: [Privilege] = []
    var user: [Privilege] = []
    var audit: [Privilege] = []
  }

  /// Every privilege of the era.
  let all: PrivilegeSet
  /// The built-in roles by name. They can't be changed.
  let roles: [String: PrivilegeSet]

  private static let tables = Dictionary(
    uniqueKeysWithValues: Era.allCases.map { ($0, Privileges($0)) })

  /// The table of an era.
  static func of(_ era: Era) -> Privileges { tables[era] ?? Privileges(era) }

  private init(_ era: Era) {
    var roles: [String: PrivilegeSet] = ["NoAccess": []]
    var all: PrivilegeSet = PrivilegeSet([.permissionsModify])
    var auditor: PrivilegeSet = []
    var admin: PrivilegeSet = []
    func known(_ privileges: [Privilege]) -> PrivilegeSet {
      PrivilegeSet(privileges.filter { era.hasPrivilege($0.name) })
    }
    for kind in Privileges.kinds(era) {
      let forAudit = known(kind.audit)
      let forUsers = known(kind.user)
      let forAdmins = known(kind.admin).union(forUsers).union(forAudit)
      guard !forAdmins.isEmpty else { continue }
      all.formUnion(known(kind.root).union(forAdmins))
      admin.formUnion(forAdmins)
      auditor.formUnion(forAudit)
      roles["PVE\(kind.name)Admin"] = forAdmins
      if !forUsers.isEmpty { roles["PVE\(kind.name)User"] = forUsers.union(forAudit) }
    }
    roles["Administrator"] = all
    roles["PVEAdmin"] = admin.subtracting(PrivilegeSet([.mappingModify]))
    roles["PVEAuditor"] = auditor
    roles["PVETemplateUser"] = PrivilegeSet([.vmClone, .vmAudit])
    self.all = all
    self.roles = roles
  }

  /// PVE's table; what an era doesn't know is cut out of it afterwards.
  private static func kinds(_ era: Era) -> [Kind] {
    [
      Kind(
        name: "VM",
        admin: [
          .vmConfigDisk, .vmConfigCPU, .vmConfigMemory, .vmConfigNetwork, .vmConfigHWType,
          .vmConfigOptions, .vmAllocate, .vmClone, .vmGuestAgentUnrestricted, .vmMigrate,
          .vmMonitor, .vmReplicate, .vmSnapshot, .vmSnapshotRollback,
        ],
        user: [
          .vmConfigCDROM, .vmConfigCloudinit, .vmConsole, .vmBackup, .vmGuestAgentFileRead,
          .vmGuestAgentFileSystemMgmt, .vmGuestAgentFileWrite, .vmPowerMgmt,
        ],
        audit: [.vmAudit, .vmGuestAgentAudit]),
      Kind(
        name: "Sys",
        root: [.sysPowerMgmt, .sysModify, .sysIncoming, .sysAccessNetwork],
        // Until 8.0 whoever administers nodes may also hand out permissions.
        admin: [.sysConsole, .sysSyslog]
          + (era.adminsModifyPermissions ? [.permissionsModify] : []),
        audit: [.sysAudit]),
      Kind(
        name: "Datastore", admin: [.datastoreAllocate, .datastoreAllocateTemplate],
        user: [.datastoreAllocateSpace], audit: [.datastoreAudit]),
      Kind(name: "SDN", admin: [.sdnAllocate, .sdnAudit], user: [.sdnUse], audit: [.sdnAudit]),
      Kind(
        name: "User", root: [.realmAllocate],
        admin: [.userModify, .groupAllocate, .realmAllocateUser]),
      Kind(name: "Pool", admin: [.poolAllocate], user: [.poolAudit], audit: [.poolAudit]),
      Kind(name: "Mapping", admin: [.mappingModify], user: [.mappingUse], audit: [.mappingAudit]),
    ]
  }
}
