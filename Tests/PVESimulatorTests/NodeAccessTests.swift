import ConsoleProtocol
import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("Users, groups, roles, tokens and the ACL, through TLS")
  struct NodeAccessTests {
    /// An answer in a line: the status, and what is wrong with which field.
    private func line(_ answer: TestAnswer) -> String {
      guard answer.status != 200 else { return "200" }
      guard case .object(let fields)? = answer.json["errors"] else {
        return "\(answer.status) \(answer.reason)"
      }
      let texts = fields.map { "\($0.key): \($0.value.asText ?? "")" }.sorted()
      // What a format's check says ends with a newline.
      return "\(answer.status) " + texts.joined(separator: "; ").filter { $0 != "\n" }
    }

    @Test("a user's life: made, listed, changed, disabled, expired, deleted")
    func users() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        func call(_ method: String, _ path: String, _ form: [String: String] = [:]) async throws
          -> String
        { line(try await pve.call(method, path, form, as: root)) }
        #expect(
          try await call("POST", "/access/groups", ["groupid": "ops", "comment": "O"]) == "200")
        let form = [
          "userid": "joe@pve", "password": "joe-password", "groups": "ops", "firstname": "Joe",
          "comment": "night shift",
        ]
        #expect(try await call("POST", "/access/users", form) == "200")
        #expect(
          try await call("POST", "/access/users", form)
            == "500 create user failed: user 'joe@pve' already exists")
        #expect(
          try await call("POST", "/access/users", ["userid": "x@pve", "groups": "nope"])
            == "500 create user failed: no such group 'nope'")
        #expect(
          try await call("POST", "/access/users", ["userid": "x@no", "password": "12345678"])
            == "500 create user failed: auth domain 'no' does not exist")
        #expect(
          try await call("POST", "/access/users", ["userid": "x@pve", "password": "short"])
            == "400 password: value must be at least 8 characters long")
        #expect(
          try await call("POST", "/access/users", ["userid": "nonsense"])
            == "400 userid: invalid format - value 'nonsense' does not look like a valid user name")
        let joe = try await pve.call("GET", "/access/users/joe@pve", as: root).data
        #expect(
          joe == [
            "enable": 1, "expire": 0, "firstname": "Joe", "email": "", "comment": "night shift",
            "groups": ["ops"], "tokens": nil,
          ])
        let rows = try await pve.call("GET", "/access/users?full=1", as: root).data.items
        let row = try #require(rows.first { $0["userid"] == "joe@pve" })
        #expect(row["groups"] == "ops" && row["realm-type"] == "pve" && row["tokens"] == nil)
        #expect(
          try await pve.call("GET", "/access/groups/ops", as: root).data
            == ["members": ["joe@pve"], "comment": "O"])
        let login = try await pve.call(
          "POST", "/access/ticket", ["username": "joe", "realm": "pve", "password": "joe-password"])
        #expect(login.status == 200)
        #expect(login.data["clustername"] == nil)
        let ticket = TestCredential.ticket(
          login.data["ticket"]?.asText ?? "",
          csrf: login.data["CSRFPreventionToken"]?.asText ?? "")
        #expect(try await pve.call("GET", "/access/users", as: ticket).data.items.count == 1)
        #expect(try await call("PUT", "/access/users/joe@pve", ["enable": "0"]) == "200")
        #expect(try await pve.call("GET", "/version", as: ticket).status == 401)
        let enabled = try await pve.call("GET", "/access/users?enabled=0", as: root).data.items
        #expect(enabled.map { $0["userid"] } == ["joe@pve"])
        #expect(
          try await call("PUT", "/access/users/joe@pve", ["enable": "1", "expire": "1"]) == "200")
        let credentials = ["username": "joe@pve", "password": "joe-password"]
        #expect(try await pve.call("POST", "/access/ticket", credentials).status == 401)
        #expect(try await call("PUT", "/access/users/joe@pve", ["expire": "0"]) == "200")
        #expect(try await pve.call("POST", "/access/ticket", credentials).status == 200)
        #expect(
          try await call("PUT", "/access/users/nobody@pve", ["comment": "x"])
            == "500 update user failed: no such user ('nobody@pve')")
        #expect(try await call("DELETE", "/access/users/joe@pve") == "200")
        #expect(try await pve.call("POST", "/access/ticket", credentials).status == 401)
        #expect(
          try await pve.call("GET", "/access/groups/ops", as: root).data["members"] == [])
        #expect(try await call("DELETE", "/access/groups/ops") == "200")
        #expect(
          try await call("DELETE", "/access/groups/ops")
            == "500 delete group failed: group 'ops' does not exist")
      }
    }

    @Test("whoever is in charge of a group is in charge of its members, and of nobody else")
    func groupAdministrators() async throws {
      try await withNode { configuration in
        configuration.users += [
          SimulatedUser(
            "boss@pve",
            roles: ["/access/groups/ops": "PVEUserAdmin", "/access/realm/pve": "PVEUserAdmin"]),
          SimulatedUser("worker@pve"), SimulatedUser("other@pve"),
        ]
      } _: { pve in
        let root = try await pve.login()
        let boss = try await pve.login("boss@pve")
        func call(_ method: String, _ path: String, _ form: [String: String] = [:]) async throws
          -> String
        { line(try await pve.call(method, path, form, as: boss)) }
        for group in ["ops", "hr"] {
          _ = try await pve.call("POST", "/access/groups", ["groupid": group], as: root)
        }
        _ = try await pve.call(
          "PUT", "/access/users/worker@pve", ["groups": "ops"], as: root)
        let seen = try await pve.call("GET", "/access/users", as: boss).data.items
        #expect(seen.compactMap { $0["userid"]?.asText } == ["boss@pve", "worker@pve"])
        let groups = try await pve.call("GET", "/access/groups", as: boss).data.items
        #expect(groups.map { $0["groupid"] } == ["ops"])
        #expect(
          try await call("POST", "/access/users", ["userid": "new@pve", "groups": "ops"]) == "200")
        #expect(
          try await call("POST", "/access/users", ["userid": "x@pve", "groups": "hr"])
            == "403 Permission check failed (/access/groups/hr, User.Modify)")
        #expect(
          try await call("POST", "/access/users", ["userid": "x@pve"])
            == "403 Permission check failed (/access/groups, User.Modify)")
        #expect(
          try await call("POST", "/access/users", ["userid": "x@pam", "groups": "ops"])
            == "403 Permission check failed (/access/realm/pam, Realm.AllocateUser)")
        #expect(
          try await call("GET", "/access/users/other@pve") == "403 Permission check failed")
        #expect(try await call("GET", "/access/users/worker@pve") == "200")
        #expect(
          try await call("GET", "/access/users/nobody@pve") == "500 no such user ('nobody@pve')")
        #expect(
          try await call(
            "PUT", "/access/password", ["userid": "worker@pve", "password": "12345678"])
            == "400 confirmation-password: password is required to modify user")
        let own = pve.password(of: "boss@pve")?.reveal() ?? ""
        func change(_ user: String) async throws -> String {
          try await call(
            "PUT", "/access/password",
            ["userid": user, "password": "12345678", "confirmation-password": own])
        }
        #expect(try await change("worker@pve") == "200")
        #expect(try await change("other@pve") == "403 Permission check failed")
        #expect(
          try await change("root@pam")
            == "403 Permission check failed (/access/realm/pam, Realm.AllocateUser)")
        let worker = ["username": "worker@pve", "password": "12345678"]
        #expect(try await pve.call("POST", "/access/ticket", worker).status == 200)
      }
    }

    @Test("one's own password needs the current one, and tokens change none")
    func ownPassword() async throws {
      try await withNode { pve in
        let auditor = try await pve.login("auditor@pve")
        let old = pve.password(of: "auditor@pve")?.reveal() ?? ""
        func change(_ confirmation: String?) async throws -> String {
          var form = ["userid": "auditor@pve", "password": "new-password"]
          form["confirmation-password"] = confirmation
          return line(try await pve.call("PUT", "/access/password", form, as: auditor))
        }
        #expect(
          try await change(nil)
            == "400 confirmation-password: password is required to modify user")
        #expect(try await change("wrong-one") == "500 invalid credentials")
        #expect(try await change(old) == "200")
        #expect(try await change(old) == "500 invalid credentials")
        let form = ["userid": "auditor@pve", "password": "another-one"]
        let byToken = try await pve.call("PUT", "/access/password", form, as: .token(pve))
        #expect(
          byToken.reason
            == "Permission check failed (URI '/access/password' not available with API token, "
            + "need proper ticket.")
        let root = try await pve.login()
        #expect(try await pve.call("PUT", "/access/password", form, as: root).status == 200)
        let login = ["username": "auditor@pve", "password": "another-one"]
        #expect(try await pve.call("POST", "/access/ticket", login).status == 200)
      }
      try await withNode {
        $0.era = .v7_4
      } _: { pve in
        let auditor = try await pve.login("auditor@pve")
        let form = ["userid": "auditor@pve", "password": "12345"]
        #expect(line(try await pve.call("PUT", "/access/password", form, as: auditor)) == "200")
        let modern = form.merging(["confirmation-password": "12345"]) { $1 }
        #expect(try await pve.call("PUT", "/access/password", modern, as: auditor).status == 400)
      }
    }

    @Test("a token's life: its secret once, its limits, its end")
    func tokens() async throws {
      try await withNode { pve in
        let alice = try await pve.login("alice@pve")
        let path = "/access/users/alice@pve/token/ci"
        func call(_ method: String, _ form: [String: String] = [:]) async throws -> TestAnswer {
          try await pve.call(method, path, form, as: alice)
        }
        let made = try await call("POST", ["comment": "nightly", "privsep": "0"])
        #expect(made.data["full-tokenid"] == "alice@pve!ci")
        #expect(made.data["info"] == ["privsep": "0", "comment": "nightly"])
        let secret = try #require(made.data["value"]?.asText)
        #expect(secret.utf8.count == 36)
        #expect(line(try await call("POST")) == "400 tokenid: Token already exists.")
        #expect(
          try await call("GET").data == ["privsep": 0, "expire": 0, "comment": "nightly"])
        #expect(
          try await pve.call("GET", "/access/users/alice@pve/token", as: alice).data
            == [["tokenid": "ci", "privsep": 0, "expire": 0, "comment": "nightly"]])
        func use(_ secret: String) async throws -> Int {
          try await pve.call(
            "GET", "/nodes/pve1/status",
            as: .header("Authorization", "PVEAPIToken=alice@pve!ci=\(secret)")
          ).status
        }
        #expect(try await use(secret) == 200)
        #expect(try await use("wrong") == 401)
        #expect(try await call("PUT", ["privsep": "1"]).data["privsep"] == "1")
        #expect(try await use(secret) == 403)
        #expect(
          line(
            try await pve.call(
              "PUT", "/access/acl",
              ["path": "/nodes", "roles": "PVEAuditor", "tokens": "alice@pve!ci"], as: alice))
            == "200")
        #expect(try await use(secret) == 200)
        let renewed = try await call("PUT", ["regenerate": "1"])
        let newer = try #require(renewed.data["value"]?.asText)
        #expect(renewed.data["full-tokenid"] == "alice@pve!ci")
        #expect(try await use(secret) == 401)
        #expect(try await use(newer) == 200)
        #expect(
          try await call("PUT", ["expire": "\(pve.clock.now + 60)"]).status == 200)
        #expect(try await use(newer) == 200)
        pve.clock.advance(seconds: 61)
        #expect(try await use(newer) == 401)
        #expect(try await call("PUT", ["delete": "expire"]).data["expire"] == 0)
        #expect(try await use(newer) == 200)
        // The auditor is nobody to alice's tokens.
        let auditor = try await pve.login("auditor@pve")
        #expect(try await pve.call("GET", path, as: auditor).status == 403)
        #expect(try await call("DELETE").status == 200)
        #expect(line(try await call("GET")) == "500 no such token 'ci' for user 'alice@pve'")
        #expect(try await use(newer) == 401)
        let acl = try await pve.call("GET", "/access/acl", as: alice).data.items
        #expect(!acl.contains { $0["type"] == "token" })
      }
    }

    @Test("the ACL: given, listed, taken, refused")
    func acl() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        let auditor = try await pve.login("auditor@pve")
        func put(_ form: [String: String]) async throws -> String {
          line(try await pve.call("PUT", "/access/acl", form, as: root))
        }
        let one = "either 'users', 'groups' or 'tokens' is required."
        #expect(
          try await put(["path": "/vms", "roles": "PVEAuditor"])
            == "400 groups: \(one); tokens: \(one); users: \(one)")
        #expect(
          try await put(["path": "/nonsense", "roles": "PVEAuditor", "users": "auditor@pve"])
            == "400 path: invalid ACL path '/nonsense'")
        #expect(
          try await put(["path": "/vms", "roles": "Nope", "users": "auditor@pve"])
            == "500 ACL update failed: role 'Nope' does not exist")
        #expect(
          try await put(["path": "/vms", "roles": "PVEAuditor", "users": "no@pve"])
            == "500 ACL update failed: user 'no@pve' does not exist")
        #expect(
          try await put(["path": "/vms", "roles": "PVEAuditor", "groups": "nope"])
            == "500 ACL update failed: group 'nope' does not exist")
        #expect(
          try await put(["path": "/vms", "roles": "PVEAuditor", "tokens": "root@pam!nope"])
            == "500 ACL update failed: no such token 'nope' for user 'root@pam'")
        #expect(
          try await put([
            "path": "vms//100/", "roles": "PVEVMUser,PVEAuditor", "users": "auditor@pve",
            "propagate": "0",
          ]) == "200")
        func mint() async throws -> Int {
          try await pve.call("POST", "/nodes/pve1/qemu/100/vncproxy", as: auditor).status
        }
        #expect(try await mint() == 200)
        let rows = try await pve.call("GET", "/access/acl", as: root).data.items
        #expect(
          rows.filter { $0["path"] == "/vms/100" } == [
            [
              "path": "/vms/100", "type": "user", "ugid": "auditor@pve", "roleid": "PVEAuditor",
              "propagate": 0,
            ],
            [
              "path": "/vms/100", "type": "user", "ugid": "auditor@pve", "roleid": "PVEVMUser",
              "propagate": 0,
            ],
          ])
        let permissions = try await pve.call("GET", "/access/permissions", as: auditor).data
        #expect(permissions["/vms/100"]?["VM.Console"] == 0)
        #expect(permissions["/vms"]?["VM.Audit"] == 1)
        // Sys.Audit on /access shows the ACL; it may not be changed with it.
        #expect(
          try await pve.call("GET", "/access/acl", as: auditor).data.items.count == rows.count)
        let own = ["path": "/vms/100", "roles": "Administrator", "users": "auditor@pve"]
        #expect(
          line(try await pve.call("PUT", "/access/acl", own, as: auditor))
            == "403 Permission check failed (/vms/100, Permissions.Modify|VM.Allocate)")
        #expect(
          try await put([
            "path": "/vms/100", "roles": "PVEVMUser", "users": "auditor@pve", "delete": "1",
          ]) == "200")
        #expect(try await mint() == 403)
        // root@pam needs no role, and keeps none.
        #expect(
          try await put(["path": "/", "roles": "PVEAuditor", "users": "root@pam"]) == "200")
        let left = try await pve.call("GET", "/access/acl", as: root).data.items
        #expect(!left.contains { $0["ugid"] == "root@pam" })
      }
    }

    @Test("roles: PVE's own stay as they are, others come and go")
    func roles() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        func call(_ method: String, _ path: String, _ form: [String: String] = [:]) async throws
          -> String
        { line(try await pve.call(method, path, form, as: root)) }
        let form = ["roleid": "Look", "privs": "VM.Audit,Sys.Audit"]
        #expect(try await call("POST", "/access/roles", form) == "200")
        #expect(
          try await call("POST", "/access/roles", form)
            == "500 create role failed: role 'Look' already exists")
        #expect(
          try await call("POST", "/access/roles", ["roleid": "pveMine"])
            == "400 roleid: cannot use role ID starting with the (case-insensitive) 'PVE' namespace"
        )
        #expect(
          try await call("POST", "/access/roles", ["roleid": "Bad", "privs": "VM.Monitor"])
            == "400 privs: invalid format - invalid privilege 'VM.Monitor'")
        #expect(
          try await call("PUT", "/access/roles/Look", ["privs": "VM.Console", "append": "1"])
            == "200")
        #expect(
          try await pve.call("GET", "/access/roles/Look", as: root).data
            == ["Sys.Audit": 1, "VM.Audit": 1, "VM.Console": 1])
        #expect(try await call("PUT", "/access/roles/Look", ["privs": "VM.Audit"]) == "200")
        let roles = try await pve.call("GET", "/access/roles", as: root).data.items
        #expect(
          roles.first { $0["roleid"] == "Look" }
            == ["roleid": "Look", "privs": "VM.Audit", "special": 0])
        #expect(roles.first { $0["roleid"] == "PVEAuditor" }?["special"] == 1)
        #expect(
          try await call("PUT", "/access/roles/PVEAdmin", ["privs": "VM.Audit"])
            == "500 auto-generated role 'PVEAdmin' cannot be modified")
        #expect(
          try await call("DELETE", "/access/roles/Administrator")
            == "500 auto-generated role 'Administrator' cannot be deleted")
        #expect(try await call("DELETE", "/access/roles/Look") == "200")
        #expect(
          try await call("DELETE", "/access/roles/Look")
            == "500 delete role failed: role 'Look' does not exist")
        #expect(try await call("GET", "/access/roles/Look") == "500 role 'Look' does not exist")
      }
      try await withNode {
        $0.era = .v8_4
      } _: { pve in
        let form = ["roleid": "Old", "privs": "VM.Monitor"]
        let root = try await pve.login()
        #expect(try await pve.call("POST", "/access/roles", form, as: root).status == 200)
        let modern = ["roleid": "New", "privs": "VM.GuestAgent.Audit"]
        #expect(try await pve.call("POST", "/access/roles", modern, as: root).status == 400)
      }
    }

    @Test("permissions of oneself and one's tokens are everybody's to see, others' an auditor's")
    func permissions() async throws {
      try await withNode {
        $0.users += [
          SimulatedUser(
            "joe@pve", roles: ["/vms/100": "PVEVMUser"],
            tokens: ["tok": .init(separated: true, roles: ["/vms": "PVEAuditor"])])
        ]
      } _: { pve in
        let joe = try await pve.login("joe@pve")
        func ask(_ query: String) async throws -> TestAnswer {
          try await pve.call("GET", "/access/permissions?\(query)", as: joe)
        }
        #expect(try await ask("userid=joe@pve&path=/vms/100").data["/vms/100"]?["VM.Audit"] == 1)
        #expect(
          try await ask("userid=joe@pve!tok").data
            == ["/vms/100": ["VM.Audit": 1, "VM.GuestAgent.Audit": 1]])
        #expect(try await ask("path=/nodes").data == ["/nodes": [:]])
        #expect(
          line(try await ask("userid=alice@pve"))
            == "403 Permission check failed (/access, Sys.Audit)")
        let all = try await pve.call("GET", "/access/permissions", as: .token(pve)).data
        guard case .object(let paths) = all else {
          Issue.record("no object")
          return
        }
        #expect(
          paths.map(\.key) == [
            "/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms",
            "/vms/100",
          ])
      }
    }

    @Test("a pool's rights are its members', and go with the pool")
    func pools() async throws {
      try await withNode {
        $0.users += [SimulatedUser("joe@pve", roles: ["/pool/blue": "PVEVMUser"])]
      } _: { pve in
        let root = try await pve.login()
        let joe = try await pve.login("joe@pve")
        func mint() async throws -> Int {
          try await pve.call("POST", "/nodes/pve1/qemu/100/vncproxy", as: joe).status
        }
        #expect(try await mint() == 403)
        await pve.onCluster(or: ()) {
          $0.pools.create("blue", comment: nil)
          $0.pools.move(100, to: "blue")
        }
        #expect(try await mint() == 200)
        let seen = try await pve.call("GET", "/cluster/resources?type=vm", as: joe).data.items
        #expect(seen.compactMap { $0["vmid"]?.number } == [100])
        let permissions = try await pve.call("GET", "/access/permissions", as: joe).data
        #expect(permissions["/vms/100"]?["VM.Console"] == 0)
        await pve.onCluster(or: ()) { $0.pools.move(100, to: nil) }
        #expect(try await mint() == 403)
        await pve.onCluster(or: ()) { $0.save(.pool, "blue", nil) }
        let acl = try await pve.call("GET", "/access/acl", as: root).data.items
        #expect(!acl.contains { $0["path"] == "/pool/blue" })
      }
    }

    @Test("the nodes of a cluster share users, tickets and tokens")
    func cluster() async throws {
      try await withNode {
        $0.otherNodes = ["pve2"]
        $0.clusterName = "lab"
      } _: { pve in
        let root = try await pve.login()
        let form = ["userid": "joe@pve", "password": "joe-password"]
        #expect(try await pve.call("POST", "/access/users", form, as: root).status == 200)
        let other = try #require(pve.nodes.last).port
        let answer = try await blocking {
          let connection = try TestConnection(port: other)
          try connection.write(
            "GET /api2/json/access/users HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
              + "\(root.lines)\r\n")
          return try TestAnswer(connection.readToEnd(seconds: 15) ?? [])
        }
        #expect(answer.data.items.contains { $0["userid"] == "joe@pve" })
        let login = try await pve.call(
          "POST", "/access/ticket",
          ["username": "root@pam", "password": pve.rootPassword.reveal()])
        #expect(login.data["clustername"] == "lab")
        let joe = try await pve.call(
          "POST", "/access/ticket", ["username": "joe@pve", "password": "joe-password"])
        #expect(joe.data["clustername"] == nil)
      }
    }

    @Test("users, tokens and logins from Swift")
    func fromSwift() async throws {
      try await withNode { pve in
        try await pve.add(
          SimulatedUser("ann@pve", password: Secret("first-one"), roles: ["/": "PVEAuditor"]))
        func logsIn(_ password: String) async throws -> Bool {
          try await pve.call(
            "POST", "/access/ticket", ["username": "ann@pve", "password": password]
          ).status == 200
        }
        #expect(try await logsIn("first-one"))
        #expect(await pve.setPassword(Secret("second-one"), of: "ann@pve"))
        #expect(!(await pve.setPassword(Secret("second-one"), of: "nobody@pve")))
        #expect(try await !logsIn("first-one"))
        let secret = try #require(await pve.setToken("ci", of: "ann@pve"))
        let token = TestCredential.header(
          "Authorization", "PVEAPIToken=ann@pve!ci=\(secret.reveal())")
        #expect(try await pve.call("GET", "/nodes", as: token).status == 200)
        #expect(await pve.revokeToken("ann@pve!ci"))
        #expect(!(await pve.revokeToken("ann@pve!ci")))
        #expect(try await pve.call("GET", "/nodes", as: token).status == 401)
        let root = try await pve.login()
        await pve.revokeLogins(of: "root@pam")
        #expect(try await pve.call("GET", "/nodes", as: root).status == 401)
        #expect(try await pve.call("GET", "/nodes", as: pve.login()).status == 200)
        await #expect(throws: SimulatorError.self) {
          try await pve.add(SimulatedUser("nonsense"))
        }
        await #expect(throws: SimulatorError.self) {
          try await pve.add(SimulatedUser("x@pve", roles: ["/": "Nonsense"]))
        }
      }
    }
  }
}
