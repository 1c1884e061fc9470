import ConsoleProtocol
import Testing

@testable import PVESimulator

@Suite("Permission expressions")
struct SchemaPermissionTests {
  @Test("are read from the table's spelling")
  func reading() throws {
    func read(_ text: String) throws -> Permission { try PermissionReader.read(text).permission }
    #expect(try read("root") == .rootOnly)
    #expect(try read("all+") == .anyUser)
    #expect(try PermissionReader.read("all+").hasExtra)
    #expect(
      try read("/vms/{vmid}=VM.Audit,VM.Clone")
        == .privileges(["VM.Audit", "VM.Clone"], on: "/vms/{vmid}"))
    #expect(try read("/=A.B|C.D") == .oneOf(["A.B", "C.D"], on: "/"))
    #expect(
      try read("&(/vms/{vmid}=VM.Clone |(/vms/{newid}=VM.Allocate /pool/{pool}=VM.Allocate?pool))+")
        == .all([
          .privileges(["VM.Clone"], on: "/vms/{vmid}"),
          .either([
            .privileges(["VM.Allocate"], on: "/vms/{newid}"),
            .privileges(["VM.Allocate"], on: "/pool/{pool}", needs: "pool"),
          ]),
        ]))
    #expect(
      try read("|(self &(realm group=User.Modify!create))")
        == .either([.isSelf, .all([.allocatesUser, .inGroups(["User.Modify"], groups: .created)])]))
    #expect(try read("modify={path}") == .modifiesPermissions(on: "{path}"))
    for text in ["", "nonsense", "&(self", "self)", "/vms"] {
      #expect(throws: SchemaReader.Malformed.self) { try PermissionReader.read(text) }
    }
  }

  /// What a permission says to a caller: nil for yes.
  private func refusal(
    _ text: String, as user: String?, _ form: [String: String] = [:], roles: [String: String] = [:]
  ) throws -> String? {
    let access = try AccessControl(
      users: [
        SimulatedUser("alice@pve", roles: roles), SimulatedUser("bob@pve"),
      ], rootPassword: nil, tokenSecret: nil)
    var parameters = Parameters()
    for (name, value) in form { parameters.set(name, .text(value)) }
    let permission = try PermissionReader.read(text).permission
    do throws(APIError) {
      try permission.check(
        user.map { Identity(authID: $0) }, arguments: parameters, access: access)
      return nil
    } catch {
      return "\(error.status) \(error.message)"
    }
  }

  @Test("refuse in PVE's words")
  func texts() throws {
    let failed = "403 Permission check failed"
    for (text, user, form, roles, expected) in [
      ("root", "root@pam", [:], [:], nil),
      ("root", "root@pam!t", [:], [:], "\(failed) (user != root@pam)"),
      ("root", "alice@pve", [:], ["/": "Administrator"], "\(failed) (user != root@pam)"),
      ("all", "alice@pve", [:], [:], nil), ("world", nil, [:], [:], nil),
      ("all", nil, [:], [:], "\(failed) (user != null)"),
      (
        "/vms/{vmid}=VM.Audit,VM.Console", "alice@pve", ["vmid": "100"], ["/vms/100": "PVEAuditor"],
        "\(failed) (/vms/100, VM.Console)"
      ),
      (
        "/vms/{vmid}=VM.Console|VM.Clone", "alice@pve", ["vmid": "100"],
        ["/vms/100": "PVEAuditor"], "\(failed) (/vms/100, VM.Console|VM.Clone)"
      ),
      ("/vms/{vmid}=VM.Console", "alice@pve", ["vmid": "100"], ["/vms": "PVEVMUser"], nil),
      ("/pool/{pool}=Pool.Audit", "alice@pve", [:], [:], "\(failed) (/pool/-, Pool.Audit)"),
      ("/pool/{pool}=Pool.Audit?pool", "alice@pve", [:], ["/": "Administrator"], failed),
      ("|(/=Sys.Audit /vms=VM.Audit)", "alice@pve", [:], [:], failed),
      ("|(/=Sys.Audit /vms=VM.Audit)", "alice@pve", [:], ["/vms": "PVEAuditor"], nil),
      (
        "&(/vms=VM.Audit /=Sys.Audit)", "alice@pve", [:], ["/vms": "PVEAuditor"],
        "\(failed) (/, Sys.Audit)"
      ),
      ("self", "alice@pve", ["userid": "alice@pve"], [:], nil),
      ("self", "alice@pve", ["userid": "bob@pve"], [:], failed),
      ("self", "alice@pve", ["userid": "no@pve"], [:], "500 no such user ('no@pve')"),
      (
        "realm", "alice@pve", ["userid": "x@pve"], [:],
        "\(failed) (/access/realm/pve, Realm.AllocateUser)"
      ),
      (
        "|(self &(realm group=User.Modify))", "alice@pve", ["userid": "bob@pve"], [:],
        "\(failed) (/access/realm/pve, Realm.AllocateUser)"
      ),
      ("group=User.Modify", "alice@pve", ["userid": "bob@pve"], [:], failed),
      ("group=User.Modify", "alice@pve", ["userid": "bob@pve"], ["/access": "PVEUserAdmin"], nil),
      (
        "group=User.Modify!create", "alice@pve", ["userid": "x@pve"], [:],
        "\(failed) (/access/groups, User.Modify)"
      ),
      (
        "group=User.Modify!create", "alice@pve", ["userid": "x@pve", "groups": "staff"], [:],
        "\(failed) (/access/groups/staff, User.Modify)"
      ),
      (
        "modify={path}", "alice@pve", ["path": "/vms/100"], [:],
        "\(failed) (/vms/100, Permissions.Modify|VM.Allocate)"
      ),
      ("modify={path}", "alice@pve", ["path": "/vms/100"], ["/vms": "PVEVMAdmin"], nil),
      (
        "modify={path}", "alice@pve", ["path": "/vms"], ["/vms": "PVEVMAdmin"],
        "\(failed) (/vms, Permissions.Modify)"
      ),
    ] as [(String, String?, [String: String], [String: String], String?)] {
      #expect(try refusal(text, as: user, form, roles: roles) == expected, "\(text) \(form)")
    }
  }
}
