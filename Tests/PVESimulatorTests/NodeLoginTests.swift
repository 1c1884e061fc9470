import ConsoleProtocol
import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("Logins, second factors and realms, through TLS")
  struct NodeLoginTests {
    private static let uri = "otpauth://totp/PVE:me?secret=JBSWY3DPEHPK3PXP&issuer=PVE"

    private func code(_ pve: Simulator, _ offset: Int = 0) -> String {
      totpCode(
        secret: base32Decoded("JBSWY3DPEHPK3PXP") ?? [], counter: pve.clock.now / 30 + offset)
    }

    private func credential(_ answer: TestAnswer) -> TestCredential {
      .ticket(
        answer.data["ticket"]?.asText ?? "",
        csrf: answer.data["CSRFPreventionToken"]?.asText ?? "")
    }

    @Test("a login answers what a recorded node answered, member for member")
    func members() async throws {
      try await withNode { pve in
        let answer = try await pve.call(
          "POST", "/access/ticket",
          [
            "username": "auditor@pve",
            "password": pve.password(of: "auditor@pve")?.reveal() ?? "",
          ])
        guard case .object(let members) = answer.data else {
          Issue.record("no object")
          return
        }
        #expect(
          Set(members.map(\.key)) == ["username", "cap", "ticket", "CSRFPreventionToken"])
        #expect(
          answer.data["cap"] == [
            "access": [:], "dc": ["SDN.Audit": 1, "Sys.Audit": 1], "mapping": ["Mapping.Audit": 1],
            "nodes": ["Sys.Audit": 1], "sdn": ["SDN.Audit": 1], "storage": ["Datastore.Audit": 1],
            "vms": ["VM.Audit": 1, "VM.GuestAgent.Audit": 1],
          ])
      }
    }

    @Test("every way to fail a login is the same 401, and tokens may not try")
    func failures() async throws {
      try await withNode { pve in
        let root = pve.rootPassword.reveal()
        for form in [
          ["username": "root@pam", "password": "wrong"], ["username": "root", "password": root],
          ["username": "nobody@pve", "password": root],
          ["username": "root@nowhere", "password": root],
          ["username": "root@pam", "realm": "pam", "password": root],
          ["username": "root@pam", "password": root, "otp": "totp:1", "tfa-challenge": "x"],
          ["username": "root@pam", "password": root, "tfa-challenge": "x"],
          ["username": "root@pam", "password": ""],
        ] {
          let answer = try await pve.call("POST", "/access/ticket", form)
          #expect(answer.status == 401, "\(form)")
          #expect(answer.reason == "authentication failure")
          #expect(answer.json["message"] == "authentication failure\n")
        }
        let form = ["username": "root@pam", "password": root]
        let byToken = try await pve.call("POST", "/access/ticket", form, as: .token(pve))
        #expect(byToken.status == 403)
      }
    }

    @Test("TOTP from adding it to logging in with it, and a lock that a recovery code opens")
    func secondFactor() async throws {
      try await withNode { pve in
        let alice = try await pve.login("alice@pve")
        let password = pve.password(of: "alice@pve")?.reveal() ?? ""
        let path = "/access/tfa/alice@pve"
        let new = [
          "type": "totp", "description": "phone", "totp": NodeLoginTests.uri, "value": code(pve),
        ]
        let unconfirmed = try await pve.call("POST", path, new, as: alice)
        #expect(
          unconfirmed.json["errors"] == ["password": "password is required to modify user"])
        let confirmed = new.merging(["password": password]) { $1 }
        #expect(
          try await pve.call("POST", path, confirmed, as: .token(pve)).status == 403)
        let added = try await pve.call("POST", path, confirmed, as: alice)
        let id = try #require(added.data["id"]?.asText)
        let recovery = try await pve.call(
          "POST", path, ["type": "recovery", "password": password], as: alice)
        let codes = try #require(recovery.data["recovery"]).items.compactMap(\.asText)
        #expect(codes.count == 10)
        #expect(try await pve.call("GET", "\(path)/\(id)", as: alice).data["type"] == "totp")
        let missing = try await pve.call("GET", "\(path)/nope", as: alice)
        #expect(missing.status == 404 && missing.reason == "No such tfa entry 'nope'")
        #expect(
          try await pve.call("GET", "/access/users/alice@pve/tfa?multiple=1", as: alice).data
            == ["types": ["totp", "recovery"]])
        #expect(
          try await pve.call("GET", "/access/users/alice@pve/tfa", as: alice).data
            == ["user": "oath"])

        let login = ["username": "alice@pve", "password": password]
        let first = try await pve.call("POST", "/access/ticket", login)
        #expect(first.data["NeedTFA"] == 1 && first.data["cap"] == nil)
        let pending = try #require(first.data["ticket"]?.asText)
        // Half a login is none.
        #expect(try await pve.call("GET", "/nodes", as: credential(first)).status == 401)
        func answer(_ response: String) async throws -> TestAnswer {
          try await pve.call(
            "POST", "/access/ticket",
            ["username": "alice@pve", "tfa-challenge": pending, "password": response])
        }
        let second = try await answer("totp:" + code(pve))
        #expect(second.status == 200 && second.data["cap"] != nil)
        #expect(try await pve.call("GET", "/nodes", as: credential(second)).status == 200)
        for _ in 0..<8 { #expect(try await answer("totp:000000").status == 401) }
        #expect(try await answer("totp:" + code(pve, 1)).status == 401)
        let root = try await pve.login()
        let rows = try await pve.call("GET", "/access/tfa", as: root).data.items
        let mine = try #require(rows.first { $0["userid"] == "alice@pve" })
        #expect(mine["totp-locked"] == 1)
        #expect(mine["entries"]?.items.count == 2)
        let users = try await pve.call("GET", "/access/users", as: root).data.items
        #expect(users.first { $0["userid"] == "alice@pve" }?["totp-locked"] == 1)
        #expect(try await answer("recovery:" + codes[3]).status == 200)
        #expect(try await answer("recovery:" + codes[3]).status == 401)
        #expect(try await answer("totp:" + code(pve, 1)).status == 200)
        for _ in 0..<8 { _ = try await answer("totp:000000") }
        #expect(
          try await pve.call("PUT", "/access/users/alice@pve/unlock-tfa", as: root).data == 1)
        #expect(
          try await pve.call("PUT", "/access/users/alice@pve/unlock-tfa", as: root).data == 0)

        let off = try await pve.call(
          "PUT", "\(path)/\(id)", ["enable": "0", "password": password], as: alice)
        #expect(off.status == 200)
        #expect(try await pve.call("GET", "\(path)/\(id)", as: alice).data["enable"] == 0)
        for entry in [id, "recovery"] {
          let form = "password=\(percentEncoded(password))"
          #expect(
            try await pve.call("DELETE", "\(path)/\(entry)?\(form)", as: alice).status == 200)
        }
        #expect(try await pve.call("POST", "/access/ticket", login).data["NeedTFA"] == nil)
        #expect(try await pve.call("GET", path, as: alice).data == [])
      }
    }

    @Test("others' second factors are an administrator's, root@pam's are root@pam's own")
    func othersFactors() async throws {
      try await withNode { pve in
        let alice = try await pve.login("alice@pve")
        let auditor = try await pve.login("auditor@pve")
        let password = pve.password(of: "alice@pve")?.reveal() ?? ""
        let form = ["type": "recovery", "password": password]
        #expect(
          try await pve.call("POST", "/access/tfa/auditor@pve", form, as: alice).status == 200)
        let roots = try await pve.call("POST", "/access/tfa/root@pam", form, as: alice)
        #expect(roots.status == 403 && roots.reason == "Permission check failed")
        #expect(
          try await pve.call("POST", "/access/tfa/alice@pve", form, as: auditor).status == 403)
        #expect(try await pve.call("GET", "/access/tfa/alice@pve", as: auditor).status == 200)
        let root = try await pve.login()
        let own = try await pve.call(
          "POST", "/access/tfa/root@pam", ["type": "webauthn", "description": "key"], as: root)
        #expect(own.status == 500 && own.reason == "no webauthn configuration available")
      }
    }

    @Test("PVE 7: half a ticket, its own call for the second step, bare digits")
    func seven() async throws {
      try await withNode {
        $0.era = .v7_4
      } _: { pve in
        let password = pve.password(of: "totp@pve")?.reveal() ?? ""
        let login = ["username": "totp@pve", "password": password]
        let first = try await pve.call("POST", "/access/ticket", login)
        #expect(first.data["NeedTFA"] == 1)
        #expect(first.data["ticket"]?.asText?.hasPrefix("PVE:tfa!totp@pve:") == true)
        let half = credential(first)
        let elsewhere = try await pve.call("GET", "/nodes", as: half)
        #expect(elsewhere.status == 401 && elsewhere.reason == "No ticket")
        let wrong = try await pve.call(
          "POST", "/access/tfa", ["response": "000000"], as: half)
        #expect(wrong.status == 401 && wrong.reason == "authentication failure")
        let second = try await pve.call(
          "POST", "/access/tfa", ["response": code(pve)], as: half)
        #expect(second.data["cap"] != nil)
        let whole = credential(first).lines
        #expect(whole.contains("CSRF"))
        let ticket = TestCredential.ticket(
          second.data["ticket"]?.asText ?? "",
          csrf: first.data["CSRFPreventionToken"]?.asText ?? "")
        #expect(try await pve.call("GET", "/nodes", as: ticket).status == 200)
        #expect(
          try await pve.call("POST", "/nodes/pve1/qemu/100/vncproxy", as: ticket).status == 200)
        // Without the CSRF token the half ticket does nothing.
        let bare = TestCredential.header(
          "Cookie", "PVEAuthCookie=\(percentEncoded(first.data["ticket"]?.asText ?? ""))")
        #expect(
          try await pve.call("POST", "/access/tfa", ["response": code(pve)], as: bare).reason
            == "Permission denied - invalid csrf token")
        let oneShot = login.merging(["otp": code(pve)]) { $1 }
        #expect(try await pve.call("POST", "/access/ticket", oneShot).data["NeedTFA"] == nil)
        let modern = login.merging(["new-format": "1"]) { $1 }
        let challenge = try await pve.call("POST", "/access/ticket", modern)
        #expect(challenge.data["ticket"]?.asText?.hasPrefix("PVE:!tfa!") == true)
        // A member of the old way only, and calls that came later.
        let root = try await pve.login()
        #expect(
          try await pve.call("POST", "/access/tfa", ["response": "1"], as: root).reason
            == "no u2f data available")
        #expect(
          try await pve.call("PUT", "/access/users/totp@pve/unlock-tfa", as: root).status == 501)
        #expect(try await pve.call("GET", "/access/tfa", as: .token(pve)).status == 403)
      }
      try await withNode {
        $0.era = .v8_4
      } _: { pve in
        let root = try await pve.login()
        #expect(
          try await pve.call("POST", "/access/tfa", ["response": "1"], as: root).status == 501)
        #expect(try await pve.call("GET", "/access/tfa", as: .token(pve)).status == 200)
      }
    }

    @Test(
      "what a bad credential is told, by era",
      arguments: [
        (Era.v9_2, false), (.v8_4_2026, false), (.v9_1, true), (.v9_0, true), (.v8_4, true),
        (.v7_4, true),
      ])
    func refusals(_ era: Era, _ tells: Bool) async throws {
      try await withNode {
        $0.era = era
        $0.users += [SimulatedUser("joe@pve", tokens: ["tok": .init(secret: Secret("s"))])]
      } _: { pve in
        func reason(_ credential: TestCredential) async throws -> String {
          let answer = try await pve.call("GET", "/nodes", as: credential)
          #expect(answer.status == 401 && answer.body.isEmpty)
          return answer.reason
        }
        func token(_ text: String) -> TestCredential {
          .header("Authorization", "PVEAPIToken=\(text)")
        }
        func expected(_ text: String) -> String { tells ? text : "Authentication failed!" }
        #expect(try await reason(.none) == "No ticket")
        #expect(
          try await reason(.header("Cookie", "PVEAuthCookie=garbage"))
            == expected("permission denied - invalid PVE ticket"))
        #expect(try await reason(token("joe@pve!tok=x")) == expected("invalid token value!"))
        #expect(
          try await reason(token("joe@pve!nope=x"))
            == expected("no such token 'nope' for user 'joe@pve'"))
        #expect(try await reason(token("no@pve!tok=x")) == expected("no such user ('no@pve')"))
        #expect(try await reason(token("nonsense")) == expected("no tokenid specified"))
        let root = try await pve.login()
        _ = try await pve.call("PUT", "/access/users/joe@pve", ["enable": "0"], as: root)
        #expect(
          try await reason(token("joe@pve!tok=s")) == expected("user 'joe@pve' is disabled"))
        _ = try await pve.call(
          "PUT", "/access/users/joe@pve", ["enable": "1", "expire": "1"], as: root)
        #expect(
          try await reason(token("joe@pve!tok=s")) == expected("user 'joe@pve' access expired"))
        _ = try await pve.call("PUT", "/access/users/joe@pve", ["expire": "0"], as: root)
        _ = try await pve.call(
          "PUT", "/access/users/joe@pve/token/tok", ["expire": "1"], as: root)
        #expect(
          try await reason(token("joe@pve!tok=s")) == expected("token 'tok' access expired"))
      }
    }

    @Test("the verification call: both path and privileges, and whatever proves who it is")
    func verification() async throws {
      try await withNode {
        $0.era = .v9_1
      } _: { pve in
        let login = try await pve.call(
          "POST", "/access/ticket",
          ["username": "root@pam", "password": pve.rootPassword.reveal()])
        let ticket = login.data["ticket"]?.asText ?? ""
        func verify(_ user: String, _ password: String, _ path: String?, _ privs: String?)
          async throws -> TestAnswer
        {
          var form = ["username": user, "password": password]
          form["path"] = path
          form["privs"] = privs
          return try await pve.call("POST", "/access/ticket", form)
        }
        let both = try await verify("root@pam", ticket, "/vms/100", "VM.Console")
        #expect(both.status == 200)
        #expect(both.data["username"] == "root@pam" && both.data["cap"] != nil)
        #expect(both.data["ticket"] == nil)
        #expect(
          try await verify("root@pam", pve.rootPassword.reveal(), "/vms/100", "VM.Console").status
            == 200)
        // A second factor isn't asked for here.
        let totp = pve.password(of: "totp@pve")?.reveal() ?? ""
        #expect(try await verify("totp@pve", totp, "/vms/100", "VM.Console").status == 200)
        #expect(try await verify("alice@pve", ticket, "/vms/100", "VM.Console").status == 401)
        let auditor = pve.password(of: "auditor@pve")?.reveal() ?? ""
        #expect(try await verify("auditor@pve", auditor, "/vms/100", "VM.Audit").status == 200)
        #expect(
          try await verify("auditor@pve", auditor, "/vms/100", "VM.Audit VM.Console").status == 401)
        #expect(
          try await verify("root@pam", ticket, "/vms/100", nil).json["errors"]
            == ["privs": "missing property - 'path' requires this property"])
        #expect(try await verify("root@pam", ticket, nil, "VM.Console").status == 400)
        let mint = try await pve.call(
          "POST", "/nodes/pve1/qemu/100/termproxy", as: credential(login))
        let console = mint.data["ticket"]?.asText ?? ""
        #expect(try await verify("root@pam", console, "/vms/100", "VM.Console").status == 200)
        #expect(try await verify("root@pam", console, "/vms/101", "VM.Console").status == 401)
      }
    }

    @Test("the check of console tickets, where there is one")
    func consoleTickets() async throws {
      for (era, exists, hasPort) in [
        (Era.v7_4, false, false), (.v8_4, false, false), (.v8_4_2026, true, true),
        (.v9_0, false, false), (.v9_1, true, false), (.v9_2, true, true),
      ] {
        try await withNode {
          $0.era = era
        } _: { pve in
          let login = try await pve.call(
            "POST", "/access/ticket",
            ["username": "root@pam", "password": pve.rootPassword.reveal()])
          let mint = try await pve.call(
            "POST", "/nodes/pve1/qemu/100/termproxy", as: credential(login))
          let ticket = mint.data["ticket"]?.asText ?? ""
          let port = mint.data["port"]?.asText ?? mint.data["port"]?.number.map(String.init) ?? ""
          func check(_ more: [String: String] = [:]) async throws -> Int {
            let form = [
              "authid": "root@pam", "vncticket": ticket, "path": "/vms/100", "privs": "VM.Console",
            ]
            return try await pve.call(
              "POST", "/access/vncticket", form.merging(more) { $1 },
              as: exists ? .none : credential(login)
            ).status
          }
          guard exists else {
            #expect(try await check() == 501, "\(era)")
            return
          }
          #expect(try await check(hasPort ? ["port": port] : [:]) == 200, "\(era)")
          if hasPort {
            #expect(try await check() == 401)
            #expect(try await check(["port": "5999"]) == 401)
            #expect(try await check(["port": port, "authid": "alice@pve"]) == 401)
          } else {
            #expect(try await check(["port": port]) == 400)
          }
          #expect(try await check(["authid": String(repeating: "a", count: 65)]) == 400)
        }
      }
    }

    @Test("a rotated key leaves logins and ends what was minted")
    func rotation() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        let mint = try await pve.call("POST", "/nodes/pve1/qemu/100/termproxy", as: root)
        let query =
          "port=\(mint.data["port"]?.asText ?? "")"
          + "&vncticket=\(percentEncoded(mint.data["ticket"]?.asText ?? ""))"
        func check() async throws -> Int {
          try await pve.call("GET", "/nodes/pve1/qemu/100/vncwebsocket?\(query)", as: root).status
        }
        #expect(try await check() == 200)
        await pve.rotateAuthKey()
        #expect(try await check() == 401)
        #expect(try await pve.call("GET", "/nodes", as: root).status == 200)
        #expect(
          try await pve.call("POST", "/nodes/pve1/qemu/100/termproxy", as: root).status == 200)
      }
    }

    @Test("once a day the key is a new one, and nobody waits for it")
    func dailyRotation() async throws {
      try await withNode {
        $0.clock = SimulatorClock(standingAt: 1_795_285_408)
      } _: { pve in
        let old = try await pve.login()
        pve.clock.advance(seconds: 43_200 - 60)
        let late = try await pve.login()
        #expect(try await pve.call("GET", "/nodes", as: old).status == 401)
        pve.clock.advance(seconds: 60)
        // The old key signs until the new one is there; what it signs meanwhile is good.
        for _ in 0..<5 {
          let mint = try await pve.call("POST", "/nodes/pve1/qemu/100/termproxy", as: late)
          let query =
            "port=\(mint.data["port"]?.asText ?? "")"
            + "&vncticket=\(percentEncoded(mint.data["ticket"]?.asText ?? ""))"
          let path = "/nodes/pve1/qemu/100/vncwebsocket?\(query)"
          #expect(try await pve.call("GET", path, as: late).status == 200)
        }
        #expect(try await pve.call("GET", "/nodes", as: late).status == 200)
      }
    }

    @Test("realms: made, shown without their passwords, changed, deleted")
    func realms() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        func call(_ method: String, _ path: String, _ form: [String: String] = [:]) async throws
          -> TestAnswer
        { try await pve.call(method, path, form, as: root) }
        let ldap = [
          "realm": "corp", "type": "ldap", "server1": "192.0.2.7", "base_dn": "dc=corp",
          "user_attr": "uid", "password": "bind-secret", "port": "636", "default": "1",
        ]
        #expect(try await call("POST", "/access/domains", ldap).status == 200)
        #expect(
          try await call("POST", "/access/domains", ldap).reason
            == "add auth server failed: domain 'corp' already exists")
        #expect(
          try await call("POST", "/access/domains", ["realm": "other", "type": "pve"]).reason
            == "add auth server failed: unable to create builtin type 'pve'")
        #expect(
          try await call(
            "POST", "/access/domains", ["realm": "win", "type": "ad", "server1": "192.0.2.7"]
          ).reason == "add auth server failed: missing value for required option 'domain'")
        let domains = try await pve.call("GET", "/access/domains").data.items
        #expect(domains.map { $0["realm"] } == ["corp", "pam", "pve"])
        #expect(domains.first == ["realm": "corp", "type": "ldap", "default": 1])
        let shown = try await call("GET", "/access/domains/corp")
        #expect(shown.data["port"] == 636 && shown.data["type"] == "ldap")
        #expect(!shown.body.contains("bind-secret"))
        let digest = shown.data["digest"]?.asText ?? ""
        #expect(digest.utf8.count == 40)
        #expect(
          try await call("PUT", "/access/domains/corp").reason
            == "update auth server failed: no options specified")
        #expect(
          try await call(
            "PUT", "/access/domains/corp", ["comment": "Corp", "digest": digest, "delete": "port"]
          ).status == 200)
        #expect(
          try await call("PUT", "/access/domains/corp", ["comment": "x", "digest": digest]).reason
            == "update auth server failed: detected modified configuration - file changed by other "
            + "user? Try again.")
        #expect(try await call("GET", "/access/domains/corp").data["port"] == nil)

        #expect(
          try await call("POST", "/access/users", ["userid": "joe@corp", "password": "12345678"])
            .reason == "create user failed: can't set password on auth type 'ldap'")
        #expect(try await call("POST", "/access/users", ["userid": "joe@corp"]).status == 200)
        let login = ["username": "joe", "realm": "corp", "password": "ldap-password"]
        #expect(try await pve.call("POST", "/access/ticket", login).status == 401)
        #expect(await pve.setPassword(Secret("ldap-password"), of: "joe@corp"))
        #expect(try await pve.call("POST", "/access/ticket", login).status == 200)
        let sync = try await call("POST", "/access/domains/corp/sync", ["scope": "users"])
        #expect(sync.data.asText?.contains(":auth-realm-sync:corp:root@pam:") == true)
        #expect(
          try await call("POST", "/access/domains/corp/sync").json["errors"]
            == [
              "scope": "Not passed as parameter and not defined in realm default sync options."
            ])
        #expect(
          try await call("POST", "/access/domains/pve/sync", ["scope": "users"]).reason
            == "Cannot sync realm type 'pve'! Only LDAP/AD realms can be synced.")
        #expect(try await call("DELETE", "/access/domains/corp").status == 200)
        #expect(
          try await call("DELETE", "/access/domains/corp").reason
            == "delete auth server failed: authentication domain 'corp' does not exist")
        #expect(try await pve.call("POST", "/access/ticket", login).status == 401)
      }
    }

    @Test("OpenID: PVE's refusals, and ours for what needs a provider")
    func openID() async throws {
      try await withNode {
        $0.realms = [SimulatedRealm("web", .openid)]
      } _: { pve in
        func url(_ realm: String) async throws -> TestAnswer {
          try await pve.call(
            "POST", "/access/openid/auth-url",
            ["realm": realm, "redirect-url": "https://pve.example"])
        }
        #expect(try await url("nope").reason == "authentication domain 'nope' does not exist")
        #expect(try await url("pam").reason == "wrong realm type (pam != openid)")
        #expect(try await url("web").reason.hasPrefix("OpenID discovery of 'https://id.example'"))
        let login = try await pve.call(
          "POST", "/access/openid/login",
          ["code": "x", "state": "y", "redirect-url": "https://pve.example"])
        #expect(login.status == 401 && login.reason == "authentication failure")
        #expect(try await pve.call("GET", "/access/openid", as: .token(pve)).data.items.count == 2)
      }
    }
  }
}
