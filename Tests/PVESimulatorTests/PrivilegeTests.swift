import ConsoleProtocol
import Testing

@testable import PVESimulator

@Suite("Privileges")
struct PrivilegeTests {
  private func access(era: Era = .v9_2, _ users: SimulatedUser...) throws -> AccessControl {
    try AccessControl(users: users, rootPassword: nil, tokenSecret: nil, era: era)
  }

  /// Puts guests and storages into pools, as the cluster's pools would say.
  private func set(
    guests: [Int: String] = [:], storages: [String: [String]] = [:], in access: AccessControl
  ) {
    access.poolOfGuest = { guests[$0] }
    access.poolsOfStorage = { storages[$0] ?? [] }
  }

  private func names(_ set: PrivilegeSet) -> Set<String> { Set(set.names) }

  @Test("every privilege has its name")
  func table() {
    for privilege in Privilege.allCases {
      #expect(Privilege(privilege.name) == privilege)
      let letters = privilege.name.filter { $0 != "." }.lowercased()
      #expect("\(privilege)".lowercased() == letters)
    }
    #expect(Privilege.allCases.count <= 64)
    #expect(Privilege("VM.Nonsense") == nil)
  }

  @Test("PVE 9.2 has the built-in roles that were read from a 9.2 node")
  func rolesOf9() throws {
    let roles = Privileges.of(.v9_2).roles
    #expect(
      Set(roles.keys) == [
        "NoAccess", "Administrator", "PVEAdmin", "PVEAuditor", "PVETemplateUser", "PVEVMAdmin",
        "PVEVMUser", "PVESysAdmin", "PVEDatastoreAdmin", "PVEDatastoreUser", "PVESDNAdmin",
        "PVESDNUser", "PVEUserAdmin", "PVEPoolAdmin", "PVEPoolUser", "PVEMappingAdmin",
        "PVEMappingUser",
      ])
    #expect(
      names(try #require(roles["PVEVMUser"])) == [
        "VM.Audit", "VM.Backup", "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console",
        "VM.GuestAgent.Audit", "VM.GuestAgent.FileRead", "VM.GuestAgent.FileSystemMgmt",
        "VM.GuestAgent.FileWrite", "VM.PowerMgmt",
      ])
    let admin = names(try #require(roles["PVEVMAdmin"]))
    #expect(
      admin.subtracting(names(try #require(roles["PVEVMUser"]))) == [
        "VM.Allocate", "VM.Clone", "VM.Config.CPU", "VM.Config.Disk", "VM.Config.HWType",
        "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options", "VM.GuestAgent.Unrestricted",
        "VM.Migrate", "VM.Replicate", "VM.Snapshot", "VM.Snapshot.Rollback",
      ])
    let all = Privileges.of(.v9_2).all
    #expect(
      names(all.subtracting(try #require(roles["PVEAdmin"]))) == [
        "Mapping.Modify", "Permissions.Modify", "Realm.Allocate", "Sys.AccessNetwork",
        "Sys.Incoming", "Sys.Modify", "Sys.PowerMgmt",
      ])
  }

  @Test("eras have the privileges of their time")
  func eras() throws {
    let seven = Privileges.of(.v7_4)
    let eight = Privileges.of(.v8_4)
    let nine = Privileges.of(.v9_0)
    #expect(seven.all.contains("VM.Monitor") && eight.all.contains("VM.Monitor"))
    #expect(!nine.all.contains("VM.Monitor"))
    #expect(!eight.all.contains("VM.GuestAgent.Audit") && nine.all.contains("VM.GuestAgent.Audit"))
    #expect(!eight.all.contains("VM.Replicate") && nine.all.contains("VM.Replicate"))
    for name in ["Mapping.Use", "SDN.Use", "Sys.AccessNetwork"] {
      #expect(!seven.all.contains(name))
      #expect(eight.all.contains(name))
    }
    #expect(seven.roles["PVESDNUser"] == nil && seven.roles["PVEMappingAdmin"] == nil)
    #expect(seven.roles["PVESysAdmin"]?.contains("Permissions.Modify") == true)
    #expect(eight.roles["PVESysAdmin"]?.contains("Permissions.Modify") == false)
    #expect(eight.roles["PVEAdmin"]?.contains("Permissions.Modify") == false)
  }

  /// A row of the matrix: what the ACL says, and whether it gives `VM.Console` on `/vms/100`.
  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var acl: [(String, ACLSubject, String, Bool)]
    var holds: Bool
  }

  private static let joe = ACLSubject.user("joe@pve")
  private static let ops = ACLSubject.group("ops")
  private static let dev = ACLSubject.group("dev")

  static let cases: [Case] = [
    Case(testDescription: "nothing", acl: [], holds: false),
    Case(testDescription: "on the path", acl: [("/vms/100", joe, "PVEVMUser", true)], holds: true),
    Case(
      testDescription: "on the path, not handed down", acl: [("/vms/100", joe, "PVEVMUser", false)],
      holds: true),
    Case(testDescription: "from above", acl: [("/vms", joe, "PVEVMUser", true)], holds: true),
    Case(testDescription: "from the root", acl: [("/", joe, "PVEVMUser", true)], holds: true),
    Case(
      testDescription: "above, not handed down", acl: [("/vms", joe, "PVEVMUser", false)],
      holds: false),
    Case(
      testDescription: "replaced further down",
      acl: [("/", joe, "PVEVMUser", true), ("/vms/100", joe, "PVEAuditor", true)], holds: false),
    Case(
      testDescription: "not replaced by what is not handed down",
      acl: [("/", joe, "PVEVMUser", true), ("/vms", joe, "PVEAuditor", false)], holds: true),
    Case(
      testDescription: "two roles on one path",
      acl: [("/vms", joe, "PVEVMUser", true), ("/vms", joe, "PVEAuditor", true)], holds: true),
    Case(
      testDescription: "NoAccess beats what stands beside it",
      acl: [("/vms", joe, "PVEVMUser", true), ("/vms", joe, "NoAccess", true)], holds: false),
    Case(
      testDescription: "NoAccess is replaced further down",
      acl: [("/vms", joe, "NoAccess", true), ("/vms/100", joe, "PVEVMUser", true)], holds: true),
    Case(
      testDescription: "NoAccess that is not handed down",
      acl: [("/", joe, "PVEVMUser", true), ("/vms", joe, "NoAccess", false)], holds: true),
    Case(testDescription: "by a group", acl: [("/vms", ops, "PVEVMUser", true)], holds: true),
    Case(
      testDescription: "by another group", acl: [("/vms", .group("hr"), "PVEVMUser", true)],
      holds: false),
    Case(
      testDescription: "by one of two groups",
      acl: [("/vms", ops, "PVEAuditor", true), ("/vms", dev, "PVEVMUser", true)], holds: true),
    Case(
      testDescription: "NoAccess of one group beats the other",
      acl: [("/vms", ops, "NoAccess", true), ("/vms", dev, "PVEVMUser", true)], holds: false),
    Case(
      testDescription: "the user's own role beats the group's",
      acl: [("/vms", ops, "PVEVMUser", true), ("/vms", joe, "PVEAuditor", true)], holds: false),
    Case(
      testDescription: "the user's own role beats the group's NoAccess",
      acl: [("/vms", ops, "NoAccess", true), ("/vms", joe, "PVEVMUser", true)], holds: true),
    Case(
      testDescription: "the user's role that is not handed down leaves the group's",
      acl: [("/vms", ops, "PVEVMUser", true), ("/vms", joe, "PVEAuditor", false)], holds: true),
    Case(
      testDescription: "a group's role further down beats the user's above",
      acl: [("/", joe, "PVEAuditor", true), ("/vms/100", ops, "PVEVMUser", true)], holds: true),
    Case(
      testDescription: "somebody else's", acl: [("/", .user("ann@pve"), "Administrator", true)],
      holds: false),
  ]

  @Test("the ACL is handed down as PVE does", arguments: PrivilegeTests.cases)
  func inheritance(_ row: Case) throws {
    let access = try access(SimulatedUser("joe@pve"))
    for group in ["ops", "dev", "hr"] { try access.createGroup(group, comment: nil) }
    try access.updateUser("joe@pve", .init(groups: ["ops", "dev"]))
    for (path, subject, role, propagates) in row.acl {
      access.acl[path, default: [:]][subject, default: [:]][role] = propagates
    }
    access.changed()
    #expect(access.holds("joe@pve", .vmConsole, on: "/vms/100") == row.holds)
    #expect(access.privileges(of: "joe@pve", onGuest: 100).contains(.vmConsole) == row.holds)
    // Asked again, from what is remembered.
    #expect(access.holds("joe@pve", .vmConsole, on: "/vms/100") == row.holds)
  }

  @Test("a change counts at once")
  func changes() throws {
    let access = try access(SimulatedUser("joe@pve"))
    try access.createGroup("ops", comment: nil)
    try access.createRole("Look", privileges: ["VM.Audit"])
    func holds() -> Bool { access.holds("joe@pve", .vmConsole, on: "/vms/100") }
    try access.changeACL(.init(path: "/vms", roles: ["Look"], groups: ["ops"]), as: "root@pam")
    #expect(!holds())
    try access.updateUser("joe@pve", .init(groups: ["ops"]))
    #expect(!holds())
    try access.updateRole("Look", privileges: ["VM.Console"], appends: true)
    #expect(holds())
    try access.updateUser("joe@pve", .init(groups: []))
    #expect(!holds())
    try access.updateUser("joe@pve", .init(groups: ["ops"]))
    #expect(holds())
    try access.deleteRole("Look")
    #expect(!holds())
    #expect(access.aclLines.isEmpty)
  }

  @Test("pools give their rights to their members")
  func pools() throws {
    let access = try access(SimulatedUser("joe@pve", roles: ["/pool/blue": "PVEVMUser"]))
    func holds(_ path: String) -> Bool { access.holds("joe@pve", .vmConsole, on: path) }
    #expect(!holds("/vms/100"))
    set(guests: [100: "blue", 101: "blue"], in: access)
    #expect(holds("/vms/100"))
    #expect(access.privileges(of: "joe@pve", onGuest: 101).contains(.vmConsole))
    #expect(!holds("/vms/102"))
    #expect(!access.grant(of: "joe@pve", on: "/vms/100").propagated.contains(.vmConsole))
    set(guests: [101: "blue"], in: access)
    #expect(!holds("/vms/100"))
    // NoAccess on either side wins.
    try access.changeACL(
      .init(path: "/vms/101", roles: ["NoAccess"], users: ["joe@pve"]), as: "root@pam")
    #expect(!holds("/vms/101"))
    try access.changeACL(
      .init(path: "/vms/101", roles: ["NoAccess"], users: ["joe@pve"], deletes: true),
      as: "root@pam")
    #expect(holds("/vms/101"))
    try access.changeACL(
      .init(path: "/vms", roles: ["PVEVMUser"], users: ["joe@pve"]), as: "root@pam")
    try access.changeACL(
      .init(path: "/pool/blue", roles: ["NoAccess"], users: ["joe@pve"]), as: "root@pam")
    #expect(holds("/vms/100"))
    #expect(!holds("/vms/101"))
    access.removeACL(on: "/pool/blue")
    #expect(holds("/vms/101"))
    #expect(access.acl["/pool/blue"] == nil)
  }

  @Test("a storage may be in several pools, and nested pools inherit")
  func storagesAndNestedPools() throws {
    let access = try access(SimulatedUser("joe@pve", roles: ["/pool/a": "PVEDatastoreUser"]))
    set(storages: ["disks": ["b"]], in: access)
    #expect(!access.holds("joe@pve", .datastoreAudit, on: "/storage/disks"))
    set(storages: ["disks": ["b", "a/inner"]], in: access)
    #expect(access.holds("joe@pve", .datastoreAudit, on: "/storage/disks"))
    #expect(!access.holds("joe@pve", .datastoreAudit, on: "/storage/other"))
  }

  /// What a user and the user's token have on `/vms`, and what the token may then do there.
  static let tokens: [(user: String?, token: String?, separated: Bool, holds: Set<String>)] = [
    (nil, nil, true, []), (nil, "PVEVMUser", true, []), ("PVEVMUser", nil, true, []),
    ("PVEVMUser", nil, false, ["VM.Audit", "VM.Console"]),
    ("PVEVMUser", "PVEVMAdmin", true, ["VM.Audit", "VM.Console"]),
    ("PVEVMAdmin", "PVEAuditor", true, ["VM.Audit"]),
    ("PVEVMAdmin", "PVEAuditor", false, ["VM.Audit", "VM.Console", "VM.Allocate"]),
    ("PVEVMAdmin", "NoAccess", true, []), ("NoAccess", "PVEVMAdmin", true, []),
    ("NoAccess", "PVEVMAdmin", false, []),
  ]

  @Test("a separated token has what both it and its user have", arguments: tokens)
  func separation(_ user: String?, _ token: String?, _ separated: Bool, _ holds: Set<String>) throws
  {
    let access = try access(
      SimulatedUser(
        "joe@pve", roles: user.map { ["/vms": $0] } ?? [:],
        tokens: ["tok": .init(separated: separated, roles: token.map { ["/vms": $0] } ?? [:])]))
    let asked: Set<String> = ["VM.Audit", "VM.Console", "VM.Allocate"]
    let held = names(access.privileges(of: "joe@pve!tok", on: "/vms/100"))
    #expect(held.intersection(asked) == holds)
    #expect(
      names(access.privileges(of: "joe@pve!tok", onGuest: 100)).intersection(asked) == holds)
    #expect(access.privileges(of: "joe@pve!other", on: "/vms/100").isEmpty)
  }

  @Test("root@pam has everything, its unseparated token too, its separated one what it is given")
  func root() throws {
    let access = try access(
      SimulatedUser(
        "root@pam",
        tokens: [
          "all": .init(), "cut": .init(separated: true, roles: ["/vms": "PVEAuditor"]),
        ]))
    let all = Privileges.of(.v9_2).all
    #expect(access.privileges(of: "root@pam", on: "/anything") == all)
    #expect(access.privileges(of: "root@pam!all", on: "/vms/1") == all)
    #expect(access.privileges(of: "root@pam!cut", on: "/vms/1").contains(.vmAudit))
    #expect(!access.privileges(of: "root@pam!cut", on: "/vms/1").contains(.vmConsole))
    #expect(access.privileges(of: "root@pam!cut", on: "/").isEmpty)
  }

  @Test("whoever lacks Permissions.Modify hands out no more than they have")
  func handingOut() throws {
    let access = try access(SimulatedUser("joe@pve", roles: ["/vms/100": "PVEVMAdmin"]))
    try access.createGroup("ops", comment: nil)
    func give(_ role: String, propagates: Bool = true, deletes: Bool = false) -> String? {
      do throws(APIError) {
        try access.changeACL(
          .init(
            path: "/vms/100", roles: [role], groups: ["ops"], propagates: propagates,
            deletes: deletes), as: "joe@pve")
        return nil
      } catch {
        return error.message
      }
    }
    let refused = "ACL update failed: 400 Parameter verification failed.\nrole: Cannot "
    #expect(give("PVEVMUser") == nil)
    #expect(
      give("Administrator") == refused
        + "add role 'Administrator' - requires 'Permissions.Modify' or superset of privileges.")
    #expect(give("NoAccess") == refused + "add role 'NoAccess' - requires 'Permissions.Modify'")
    #expect(
      give("Administrator", deletes: true)?.hasPrefix(refused + "remove role 'Administrator'")
        == true)
    // What joe has from a pool isn't handed down, so joe can't give it so either.
    let pooled = try self.access(SimulatedUser("joe@pve", roles: ["/pool/p": "PVEVMAdmin"]))
    set(guests: [100: "p"], in: pooled)
    #expect(throws: APIError.self) {
      try pooled.changeACL(
        .init(path: "/vms/100", roles: ["PVEVMUser"], users: ["joe@pve"]), as: "joe@pve")
    }
    try pooled.changeACL(
      .init(path: "/vms/100", roles: ["PVEVMUser"], users: ["joe@pve"], propagates: false),
      as: "joe@pve")
    // PVE 7 didn't mind.
    let old = try self.access(
      era: .v7_4, SimulatedUser("joe@pve", roles: ["/vms/100": "PVEVMAdmin"]))
    try old.changeACL(
      .init(path: "/vms/100", roles: ["Administrator"], users: ["joe@pve"]), as: "joe@pve")
  }

  @Test(
    "an ACL is on paths that there can be",
    arguments: [
      ("/", true), ("/vms", true), ("/vms/100", true), ("/vms/99", false), ("/vms/0100", false),
      ("/vms/100/x", false), ("/storage/disks", true), ("/nodes/pve1", true),
      ("/nodes/pve1/qemu", false), ("/pool/a/b/c", true), ("/pool/a/b/c/d", false),
      ("/access/groups/ops", true), ("/access/realm/pve", true), ("/access/users/x", false),
      ("/sdn/zones/z/v/12", true), ("/sdn/zones/z/v/01", false), ("/sdn/fabrics/f", true),
      ("/mapping/usb/stick", true), ("/nonsense", false), ("vms//100/", true), ("/a b", false),
    ])
  func paths(_ path: String, _ isGood: Bool) throws {
    let access = try access(SimulatedUser("joe@pve"))
    let change = AccessControl.ACLChange(path: path, roles: ["PVEAuditor"], users: ["joe@pve"])
    if isGood {
      try access.changeACL(change, as: "root@pam")
      #expect(access.aclLines.count == 1)
    } else {
      let error = try #require(throws: APIError.self) {
        try access.changeACL(change, as: "root@pam")
      }
      #expect(error.fields.first?.text == "invalid ACL path '\(path)'")
    }
  }

  @Test("cap shows what a login may do by branch, as a node answered it")
  func capabilities() throws {
    let access = try access(
      SimulatedUser("auditor@pve", roles: ["/": "PVEAuditor"]),
      SimulatedUser("pool@pve", roles: ["/pool/p": "PVEVMUser"]), SimulatedUser("nobody@pve"))
    let auditor = access.capabilities(of: "auditor@pve")
    #expect(
      auditor == [
        "access": [:], "dc": ["SDN.Audit": 1, "Sys.Audit": 1], "mapping": ["Mapping.Audit": 1],
        "nodes": ["Sys.Audit": 1], "sdn": ["SDN.Audit": 1], "storage": ["Datastore.Audit": 1],
        "vms": ["VM.Audit": 1, "VM.GuestAgent.Audit": 1],
      ])
    #expect(access.capabilities(of: "pool@pve")["vms"]?["VM.Console"] == 1)
    #expect(access.capabilities(of: "nobody@pve")["vms"] == [:])
    #expect(access.capabilities(of: "root@pam")["dc"]?["Sys.Modify"] == 1)
    let seven = try self.access(era: .v7_4).capabilities(of: "root@pam")
    #expect(seven["mapping"] == nil)
    #expect(seven["dc"]?["Sys.Modify"] == nil)
  }

  @Test("twenty thousand guests are looked up in a blink")
  func speed() throws {
    let access = try access(
      SimulatedUser(
        "joe@pve", roles: ["/": "PVEAuditor", "/vms/5000": "NoAccess"],
        tokens: ["tok": .init(separated: true, roles: ["/": "PVEAuditor"])]))
    let pools = Dictionary(
      uniqueKeysWithValues: (100..<20_100).map { ($0, "p\($0 % 64)") })
    set(guests: pools, in: access)
    let began = ContinuousClock.now
    var seen = 0
    for _ in 0..<5 {
      for vmid in 100..<20_100
      where access.privileges(of: "joe@pve!tok", onGuest: vmid).contains(.vmAudit) { seen += 1 }
    }
    // A debug build on a busy machine needs a fraction of this.
    #expect(began.duration(to: .now) < .seconds(10))
    #expect(seen == 5 * 19_999)
  }
}
