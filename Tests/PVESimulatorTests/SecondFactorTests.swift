import ConsoleProtocol
import Testing

@testable import PVESimulator

@Suite("Second factors")
struct SecondFactorTests {
  private let clock = SimulatorClock(standingAt: 1_795_285_408)
  private static let secret = "JBSWY3DPEHPK3PXP"

  private func make(era: Era = .v9_2, realms: [SimulatedRealm] = [], _ users: SimulatedUser...)
    throws -> (AccessControl, TicketOffice, Login)
  {
    let access = try AccessControl(
      users: users, realms: realms, rootPassword: nil, tokenSecret: nil, era: era, clock: clock)
    let tickets = TicketOffice(clock: clock)
    return (access, tickets, Login(tickets: tickets, access: access))
  }

  private var totpUser: SimulatedUser {
    SimulatedUser(
      "t@pve", password: Secret("password"), totpSecret: Secret(SecondFactorTests.secret),
      recoveryCodes: [Secret("aaaa-bbbb"), Secret("cccc-dddd")])
  }

  private func code(_ offset: Int = 0) throws -> String {
    totpCode(
      secret: try #require(base32Decoded(SecondFactorTests.secret)),
      counter: clock.now / 30 + offset)
  }

  private func pending(_ outcome: Login.Outcome?) throws -> String {
    guard case .challenge(_, let ticket)? = outcome else {
      throw ClientFailure(description: "no challenge")
    }
    return ticket
  }

  @Test("TOTP gives RFC 6238's numbers, in all three algorithms")
  func numbers() throws {
    let secret = Array("12345678901234567890".utf8)
    #expect(totpCode(secret: secret, counter: 59 / 30) == "287082")
    #expect(totpCode(secret: secret, counter: 1_111_111_109 / 30) == "081804")
    #expect(base32Decoded("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ") == secret)
    func eight(_ algorithm: String, _ length: Int, at time: Int) throws -> String {
      let bytes = (0..<length).map { secret[$0 % 20] }
      let code = try TOTPCode(
        uri: "otpauth://totp/x?secret=\(base32(bytes))&digits=8&algorithm=\(algorithm)")
      return code.code(counter: time / 30)
    }
    #expect(try eight("SHA1", 20, at: 59) == "94287082")
    #expect(try eight("SHA256", 32, at: 1_111_111_111) == "67062674")
    #expect(try eight("SHA512", 64, at: 20_000_000_000) == "47863826")
  }

  @Test(
    "otpauth URIs are read as PVE reads them, with its complaints",
    arguments: [
      ("otpauth://totp/Issuer:me@pve?secret=JBSWY3DPEHPK3PXP&issuer=Issuer&digits=6&period=30", ""),
      ("otpauth://hotp/x?secret=JBSWY3DP", "not an otpauth uri"),
      ("otpauth://totp/x", "missing '?' in otp uri"),
      ("otpauth://totp/x?issuer=a", "missing secret in otpauth url"),
      ("otpauth://totp/x?secret=1!", "failed to decode otp secret in otpauth url"),
      ("otpauth://totp/x?secret=JBSWY3DP&algorithm=MD5", "unsupported algorithm: MD5"),
      ("otpauth://totp/x?secret=JBSWY3DP&colour=red", "unrecognized otpauth uri parameter: colour"),
      ("otpauth://totp/x?secret", "bad value in otpauth uri"),
    ])
  func uris(_ uri: String, _ complaint: String) throws {
    do throws(TOTPCode.Malformed) {
      let code = try TOTPCode(uri: uri)
      #expect(complaint == "")
      #expect(code.issuer == "Issuer" && code.account == "me@pve")
      #expect(try TOTPCode(uri: code.uri) == code)
    } catch {
      #expect(error.message == complaint)
    }
  }

  @Test("the challenge, a code once, a recovery code once")
  func challenge() throws {
    let (_, tickets, desk) = try make(totpUser)
    let pending = try pending(desk.begin(user: "t@pve", password: "password", otp: nil))
    #expect(
      pending.hasPrefix("PVE:!tfa!%7B%22totp%22%3Atrue%2C%22recovery%22%3A%5B0%2C1%5D%7D:"))
    #expect(tickets.user(ofLogin: pending) == nil)
    func answer(_ text: String) -> Bool {
      desk.finish(user: "t@pve", pending: pending, response: text) != nil
    }
    let code = try code()
    #expect(!answer(code))
    #expect(!answer("totp:" + (try self.code(-2))))
    #expect(answer("totp:\(code)"))
    #expect(!answer("totp:\(code)"))
    #expect(!answer("totp:" + (try self.code(-1))))
    #expect(answer("totp:" + (try self.code(1))))
    #expect(answer("recovery:aaaa-bbbb"))
    #expect(!answer("recovery:aaaa-bbbb"))
    #expect(desk.finish(user: "root@pam", pending: pending, response: "totp:1") == nil)
    // What is left stands in the next challenge.
    let next = try self.pending(desk.begin(user: "t@pve", password: "password", otp: nil))
    #expect(next.contains("recovery%22%3A%5B1%5D"))
    #expect(desk.begin(user: "t@pve", password: "wrong", otp: nil) == nil)
    clock.advance(seconds: 7300)
    #expect(!answer("recovery:cccc-dddd"))
  }

  @Test("a code with the first step needs its prefix; one for nobody's question is refused")
  func oneShot() throws {
    let (_, _, desk) = try make(totpUser, SimulatedUser("u@pve", password: Secret("password")))
    let code = try code()
    #expect(desk.begin(user: "t@pve", password: "password", otp: code) == nil)
    #expect(
      desk.begin(user: "t@pve", password: "password", otp: "totp:\(code)")
        == .complete(user: "t@pve"))
    #expect(desk.begin(user: "t@pve", password: "password", otp: "totp:\(code)") == nil)
    #expect(desk.begin(user: "u@pve", password: "password", otp: "totp:\(code)") == nil)
    #expect(desk.begin(user: "u@pve", password: "password", otp: nil) == .complete(user: "u@pve"))
  }

  @Test("eight wrong codes lock TOTP until a recovery code is used")
  func totpLock() throws {
    let (access, _, desk) = try make(totpUser)
    let pending = try pending(desk.begin(user: "t@pve", password: "password", otp: nil))
    func answer(_ text: String) -> Bool {
      desk.finish(user: "t@pve", pending: pending, response: text) != nil
    }
    for _ in 0..<7 { #expect(!answer("totp:000000")) }
    #expect(access.factors["t@pve"]?.isTOTPLocked == false)
    #expect(!answer("totp:00000x"))
    #expect(access.factors["t@pve"]?.isTOTPLocked == true)
    #expect(!answer("totp:" + (try code())))
    #expect(
      access.factors["t@pve"]?.lockMembers(at: clock.now).map(\.key) == ["totp-locked"])
    // It is still asked for.
    let next = try self.pending(desk.begin(user: "t@pve", password: "password", otp: nil))
    #expect(next.hasPrefix("PVE:!tfa!%7B%22totp%22"))
    #expect(answer("recovery:aaaa-bbbb"))
    #expect(access.factors["t@pve"]?.isTOTPLocked == false)
    #expect(answer("totp:" + (try code())))
  }

  @Test("a right code between wrong ones begins the count anew")
  func countsInARow() throws {
    let (access, _, desk) = try make(totpUser)
    let pending = try pending(desk.begin(user: "t@pve", password: "password", otp: nil))
    for _ in 0..<7 { _ = desk.finish(user: "t@pve", pending: pending, response: "totp:000000") }
    #expect(
      desk.finish(user: "t@pve", pending: pending, response: "totp:" + (try code())) != nil)
    for _ in 0..<7 { _ = desk.finish(user: "t@pve", pending: pending, response: "totp:000000") }
    #expect(access.factors["t@pve"]?.isTOTPLocked == false)
  }

  @Test("a hundred wrong answers lock everything for an hour by the clock")
  func accountLock() throws {
    let (access, _, desk) = try make(totpUser)
    let pending = try pending(desk.begin(user: "t@pve", password: "password", otp: nil))
    func answer(_ text: String) -> Bool {
      desk.finish(user: "t@pve", pending: pending, response: text) != nil
    }
    // What is no answer at all isn't counted.
    #expect(!answer("nonsense"))
    #expect(!answer("webauthn:{"))
    for _ in 0..<98 { #expect(!answer("recovery:wrong")) }
    #expect(!answer("webauthn:{}"))
    #expect(access.factors["t@pve"]?.lockedUntil == nil)
    #expect(!answer("recovery:wrong"))
    #expect(access.factors["t@pve"]?.lockedUntil == clock.now + 3600)
    #expect(!answer("recovery:aaaa-bbbb"))
    #expect(!answer("totp:" + (try code())))
    #expect(
      access.factors["t@pve"]?.lockMembers(at: clock.now)
        == [.init(key: "tfa-locked-until", value: .int(clock.now + 3600))])
    clock.advance(seconds: 3600)
    #expect(access.factors["t@pve"]?.lockMembers(at: clock.now).isEmpty == true)
    #expect(answer("recovery:aaaa-bbbb"))
    #expect(access.factors["t@pve"]?.failures == 0)
  }

  @Test("an administrator unlocks")
  func unlocking() throws {
    let (access, _, desk) = try make(totpUser)
    let pending = try pending(desk.begin(user: "t@pve", password: "password", otp: nil))
    #expect(try !access.unlockFactors(of: "t@pve"))
    for _ in 0..<8 { _ = desk.finish(user: "t@pve", pending: pending, response: "totp:000000") }
    #expect(try access.unlockFactors(of: "t@pve"))
    #expect(
      desk.finish(user: "t@pve", pending: pending, response: "totp:" + (try code())) != nil)
    #expect(throws: APIError.self) { try access.unlockFactors(of: "root@pam") }
  }

  @Test("PVE 7's old way: a half ticket, bare digits, nothing locked and nothing used up")
  func oldWay() throws {
    let (access, tickets, desk) = try make(era: .v7_4, totpUser)
    func begin(_ otp: String?, newFormat: Bool = false) -> Login.Outcome? {
      desk.begin(user: "t@pve", password: "password", otp: otp, newFormat: newFormat)
    }
    let half = try pending(begin(nil))
    #expect(half.hasPrefix("PVE:tfa!t@pve:"))
    #expect(tickets.user(ofLogin: half) == nil)
    let code = try code()
    #expect(begin(code) == .complete(user: "t@pve"))
    #expect(begin(code) == .complete(user: "t@pve"))
    #expect(begin("totp:\(code)") == nil)
    #expect(desk.acceptsOld(code, of: try access.user("t@pve")))
    #expect(try pending(begin(nil, newFormat: true)).hasPrefix("PVE:!tfa!"))
    #expect(begin(code, newFormat: true) == nil)
    #expect(begin("totp:\(code)", newFormat: true) == .complete(user: "t@pve"))
    for _ in 0..<120 { _ = begin("000000") }
    #expect(begin(code) == .complete(user: "t@pve"))
  }

  @Test("recovery codes alone are more than PVE 7's old way understands")
  func oldWayRecovery() throws {
    let (_, _, desk) = try make(
      era: .v7_4,
      SimulatedUser("r@pve", password: Secret("password"), recoveryCodes: [Secret("aaaa")]))
    #expect(desk.begin(user: "r@pve", password: "password", otp: nil, newFormat: false) == nil)
    #expect(
      try pending(desk.begin(user: "r@pve", password: "password", otp: nil, newFormat: true))
        .contains("recovery"))
  }

  @Test("tickets renew; root@pam's opens every account; nobody else's does, nor a pending one")
  func renewal() throws {
    let (access, tickets, desk) = try make(totpUser, SimulatedUser("u@pve"))
    let own = tickets.login(user: "t@pve")
    let root = tickets.login(user: "root@pam")
    #expect(desk.begin(user: "t@pve", password: own, otp: nil) == .complete(user: "t@pve"))
    #expect(desk.begin(user: "u@pve", password: own, otp: nil) == nil)
    #expect(desk.begin(user: "u@pve", password: root, otp: nil) == .complete(user: "u@pve"))
    #expect(desk.begin(user: "nobody@pve", password: root, otp: nil) == nil)
    let pending = try pending(desk.begin(user: "t@pve", password: "password", otp: nil))
    #expect(desk.begin(user: "t@pve", password: pending, otp: nil) == nil)
    try access.updateUser("u@pve", .init(isEnabled: false))
    #expect(desk.begin(user: "u@pve", password: root, otp: nil) == nil)
    try access.updateUser("u@pve", .init(isEnabled: true, expires: clock.now - 1))
    #expect(desk.begin(user: "u@pve", password: root, otp: nil) == nil)
    try access.updateUser("u@pve", .init(expires: clock.now))
    #expect(desk.begin(user: "u@pve", password: root, otp: nil) != nil)
    clock.advance(seconds: 7200)
    #expect(desk.begin(user: "t@pve", password: own, otp: nil) == nil)
  }

  @Test("realms: a directory's users have passwords, OpenID's have none, and case may not matter")
  func realms() throws {
    let (access, _, desk) = try make(
      realms: [
        SimulatedRealm("corp", .ldap, isCaseSensitive: false), SimulatedRealm("win", .ad),
        SimulatedRealm("web", .openid),
      ], SimulatedUser("joe@corp", password: Secret("password")),
      SimulatedUser("ann@win", password: Secret("password")),
      SimulatedUser("eve@web", password: Secret("password")),
      SimulatedUser("gone@nowhere", password: Secret("password")))
    func logsIn(_ user: String) -> String? {
      desk.begin(user: user, password: "password", otp: nil)?.user
    }
    #expect(logsIn("joe@corp") == "joe@corp")
    #expect(logsIn("JOE@corp") == "joe@corp")
    #expect(logsIn("ann@win") == "ann@win")
    #expect(logsIn("Ann@win") == nil)
    #expect(logsIn("eve@web") == nil)
    #expect(logsIn("gone@nowhere") == nil)
    // Two users of one name: nobody can tell who it is.
    try access.createUser("Joe@win", password: nil, .init())
    try access.add(SimulatedUser("JoE@corp", password: Secret("password")))
    #expect(logsIn("joe@corp") == nil)
  }

  @Test("a realm that wants TOTP takes nothing else, and the keys of old")
  func realmFactor() throws {
    let (access, _, desk) = try make(totpUser, SimulatedUser("k@pve", password: Secret("password")))
    try access.updateRealm("pve", options: ["tfa": "type=oath,digits=6"], delete: [], digest: nil)
    // Nothing set up: nobody gets in.
    #expect(desk.begin(user: "k@pve", password: "password", otp: nil) == nil)
    try access.updateUser("k@pve", .init(keys: SecondFactorTests.secret))
    let pending = try pending(desk.begin(user: "k@pve", password: "password", otp: nil))
    #expect(desk.finish(user: "k@pve", pending: pending, response: "yubico:1") == nil)
    #expect(
      desk.finish(user: "k@pve", pending: pending, response: "totp:" + (try code())) != nil)
    let other = try self.pending(desk.begin(user: "t@pve", password: "password", otp: nil))
    #expect(desk.finish(user: "t@pve", pending: other, response: "recovery:aaaa-bbbb") != nil)
    try access.updateRealm("pve", options: ["tfa": "type=yubico"], delete: [], digest: nil)
    #expect(
      try self.pending(desk.begin(user: "k@pve", password: "password", otp: nil))
        .contains("yubico%22%3Atrue"))
  }

  @Test("adding factors: what PVE asks for, and what it refuses")
  func adding() throws {
    let (access, _, desk) = try make(SimulatedUser("u@pve", password: Secret("password")))
    func add(_ factor: AccessControl.NewFactor) -> (JSON?, String?) {
      do throws(APIError) {
        return (try access.addFactor(factor, to: "u@pve"), nil)
      } catch {
        return (nil, error.message)
      }
    }
    let uri = "otpauth://totp/PVE:u?secret=\(SecondFactorTests.secret)"
    #expect(add(.init(type: "totp")).1 == "'description' is required for new entries")
    #expect(
      add(.init(type: "totp", description: "d", totp: uri)).1
        == "'totp' type requires both 'totp' and 'value' parameters")
    #expect(
      add(.init(type: "totp", description: "d", totp: uri, value: "000000")).1
        == "failed to verify TOTP challenge")
    #expect(
      add(.init(type: "totp", description: "d", totp: uri, value: "1", challenge: "c")).1
        == "'challenge' parameter is invalid for 'totp' entries")
    #expect(
      add(.init(type: "webauthn", description: "d")).1 == "no webauthn configuration available")
    #expect(add(.init(type: "u2f", description: "d")).1 == "no u2f configuration available")
    #expect(
      add(.init(type: "yubico", description: "d", value: "v")).1
        == "no yubico otp configuration available for realm pve")
    #expect(desk.begin(user: "u@pve", password: "password", otp: nil) == .complete(user: "u@pve"))
    let added = add(.init(type: "totp", description: "phone", totp: uri, value: try code())).0
    guard case .string(let id)? = added?["id"] else {
      Issue.record("no id")
      return
    }
    #expect(id.utf8.count == 36)
    #expect(access.users["u@pve"]?.keys == "x")
    let recovery = add(.init(type: "recovery")).0
    guard case .array(let codes)? = recovery?["recovery"] else {
      Issue.record("no codes")
      return
    }
    #expect(recovery?["id"] == "recovery")
    #expect(codes.count == 10)
    #expect(add(.init(type: "recovery")).1 == "user already has recovery keys")
    #expect(
      access.factors["u@pve"]?.entries == [
        ["id": "recovery", "type": "recovery", "description": "", "created": .int(clock.now)],
        ["id": .string(id), "type": "totp", "description": "phone", "created": .int(clock.now)],
      ])
    // The code that proved the device still logs in once.
    let pending = try pending(desk.begin(user: "u@pve", password: "password", otp: nil))
    #expect(
      desk.finish(user: "u@pve", pending: pending, response: "totp:" + (try code())) != nil)
    if case .string(let first)? = codes.first {
      #expect(first.utf8.count == 19)
      #expect(desk.finish(user: "u@pve", pending: pending, response: "recovery:\(first)") != nil)
    }
    try access.updateFactor(id, of: "u@pve", description: "old phone", isEnabled: false)
    let without = try self.pending(desk.begin(user: "u@pve", password: "password", otp: nil))
    #expect(without.hasPrefix("PVE:!tfa!%7B%22recovery"))
    #expect(throws: APIError.self) {
      try access.updateFactor("recovery", of: "u@pve", description: "x", isEnabled: nil)
    }
    try access.deleteFactor("recovery", of: "u@pve")
    // Only what is switched off is left.
    #expect(desk.begin(user: "u@pve", password: "password", otp: nil) == .complete(user: "u@pve"))
    try access.deleteFactor(id, of: "u@pve")
    #expect(access.users["u@pve"]?.keys == nil)
    #expect(throws: APIError.self) { try access.deleteFactor(id, of: "u@pve") }
  }

  @Test("everything survives a restart")
  func documents() throws {
    let (access, _, desk) = try make(
      realms: [SimulatedRealm("corp", .ldap, comment: "Corp")], totpUser,
      SimulatedUser(
        "joe@corp", password: Secret("password"), roles: ["/vms": "PVEVMUser"],
        tokens: [
          "tok": .init(secret: Secret("s3cret"), separated: true, roles: ["/": "PVEAuditor"])
        ]))
    try access.createGroup("ops", comment: "Operators")
    try access.createRole("Look", privileges: ["VM.Audit", "Sys.Audit"])
    try access.updateUser(
      "joe@corp",
      .init(
        isEnabled: false, expires: 7, firstName: "Joe", comment: "ä\"\n", groups: ["ops"]))
    try access.changeACL(
      .init(path: "/vms/100", roles: ["Look"], groups: ["ops"], propagates: false), as: "root@pam")
    let pending = try pending(desk.begin(user: "t@pve", password: "password", otp: nil))
    #expect(desk.finish(user: "t@pve", pending: pending, response: "totp:" + (try code())) != nil)
    #expect(desk.finish(user: "t@pve", pending: pending, response: "recovery:aaaa-bbbb") != nil)
    for _ in 0..<8 { _ = desk.finish(user: "t@pve", pending: pending, response: "totp:000000") }

    let (again, _, _) = try make(SimulatedUser("somebody@pve"))
    for part in AccessControl.Part.allCases {
      // Through text, as the file has it.
      try again.restore(part, from: try JSONReader.read(access.document(part).bytes))
    }
    for part in AccessControl.Part.allCases {
      #expect(again.document(part) == access.document(part), "\(part)")
    }
    #expect(again.users["somebody@pve"] == nil)
    #expect(again.factors["t@pve"]?.isTOTPLocked == true)
    #expect(again.factors["t@pve"]?.recovery?.left == [1])
    #expect(again.users["joe@corp"]?.tokens["tok"]?.secret == Secret("s3cret"))
    #expect(again.holds("joe@corp!tok", .vmAudit, on: "/vms/7"))
    for part in AccessControl.Part.allCases {
      #expect(throws: SimulatorError.self) { try again.restore(part, from: ["nonsense": 1]) }
      #expect(throws: SimulatorError.self) { try again.restore(part, from: [["nonsense": 1]]) }
    }
  }
}
