import ConsoleProtocol
import Testing

@testable import PVESimulator

@Suite("Tickets, second factors and privileges")
struct AccessTests {
  private let clock = SimulatorClock(standingAt: 1_795_285_408)
  private var tickets: TicketOffice { TicketOffice(clock: clock) }

  @Test("a login ticket has PVE's form and length, and is good for two hours")
  func loginTicket() {
    let tickets = tickets
    let ticket = tickets.login(user: "root@pam")
    #expect(ticket.hasPrefix("PVE:root@pam:"))
    #expect(ticket.utf8.count == "PVE:root@pam:".utf8.count + 8 + 2 + 344)
    #expect(tickets.user(ofLogin: ticket) == "root@pam")
    #expect(tickets.user(ofLogin: ticket.replacing("root@pam", with: "alice@pve")) == nil)
    clock.advance(seconds: 7200)
    #expect(tickets.user(ofLogin: ticket) == "root@pam")
    clock.advance(seconds: 1)
    #expect(tickets.user(ofLogin: ticket) == nil)
    clock.advance(seconds: -7201 - 300)
    #expect(tickets.user(ofLogin: ticket) == "root@pam")
    clock.advance(seconds: -1)
    #expect(tickets.user(ofLogin: ticket) == nil)
  }

  @Test(
    "a console ticket is bound to who, where and which port, for 40 s, with or without its password"
  )
  func consoleTicket() {
    let tickets = tickets
    let ticket = tickets.console(authID: "root@pam!t", path: "/vms/100", port: 5900)
    #expect(ticket.utf8.count == 361)
    func good(
      _ text: String, _ who: String = "root@pam!t", _ path: String = "/vms/100", _ port: Int = 5900
    )
      -> Bool
    { tickets.isConsole(text, authID: who, path: path, port: port) }
    #expect(good(ticket))
    #expect(good("a:b;c%d+" + ":" + ticket))
    #expect(!good("short:" + ticket))
    #expect(!good(ticket, "root@pam"))
    #expect(!good(ticket, "root@pam!t", "/vms/101"))
    #expect(!good(ticket, "root@pam!t", "/vms/100", 5901))
    #expect(!tickets.isTunnel(ticket, authID: "root@pam!t", socket: "/x"))
    clock.advance(seconds: 40)
    #expect(good(ticket))
    clock.advance(seconds: 1)
    #expect(!good(ticket))
    clock.advance(seconds: -61)
    #expect(good(ticket))
    clock.advance(seconds: -1)
    #expect(!good(ticket))
  }

  @Test(
    "forged and broken tickets are refused",
    arguments: [
      "", "PVE", "PVE:", "PVE:root@pam", "PVE:root@pam:00000000::", "PVE:root@pam:6B01E1A0::AAAA",
      "PVEVNC:6B01E1A0::AAAA", "::", "PVE:root@pam:6B01E1A0::!!!!", "PVE:!tfa!x:6B01E1A0::AAAA",
    ])
  func forged(_ text: String) {
    #expect(tickets.user(ofLogin: text) == nil)
    #expect(!tickets.isConsole(text, authID: "root@pam", path: "/vms/100", port: 5900))
    #expect(!tickets.isPending(text, user: "root@pam"))
  }

  @Test("CSRF tokens belong to a user")
  func csrf() {
    let tickets = tickets
    let token = tickets.csrf(user: "root@pam")
    #expect(token.utf8.count == 8 + 1 + 43)
    #expect(tickets.isCSRF(token, user: "root@pam"))
    #expect(!tickets.isCSRF(token, user: "alice@pve"))
    #expect(!tickets.isCSRF("bad", user: "root@pam"))
  }

  @Test("TOTP gives RFC 6238's numbers")
  func totp() {
    let secret = Array("12345678901234567890".utf8)
    #expect(totpCode(secret: secret, counter: 59 / 30) == "287082")
    #expect(totpCode(secret: secret, counter: 1_111_111_109 / 30) == "081804")
    #expect(totpCode(secret: secret, counter: 20_000_000_000 / 30) == "353130")
    #expect(base32Decoded("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ") == secret)
  }

  @Test("a second factor: challenge, code once, recovery once, lock after eight failures")
  func secondFactor() throws {
    let desk = Login(tickets: tickets)
    var access = try AccessControl(
      users: [
        SimulatedUser(
          "t@pve", password: Secret("pw"), totpSecret: Secret("JBSWY3DPEHPK3PXP"),
          recoveryCodes: [Secret("aaaa-bbbb")])
      ], rootPassword: nil, tokenSecret: nil)
    guard
      case .challenge(_, let pending)? = desk.begin(
        user: "t@pve", password: "pw", otp: nil, access: &access)
    else {
      Issue.record("no challenge")
      return
    }
    #expect(pending.hasPrefix("PVE:!tfa!%7B%22totp%22%3Atrue"))
    #expect(tickets.user(ofLogin: pending) == nil)
    let secret = try #require(base32Decoded("JBSWY3DPEHPK3PXP"))
    let code = totpCode(secret: secret, counter: clock.now / 30)
    func answer(_ text: String) -> Bool {
      desk.finish(user: "t@pve", pending: pending, response: text, access: &access) != nil
    }
    #expect(!answer(code))
    #expect(answer("totp:\(code)"))
    #expect(!answer("totp:\(code)"))
    #expect(answer("recovery:aaaa-bbbb"))
    #expect(!answer("recovery:aaaa-bbbb"))
    #expect(
      desk.finish(user: "root@pam", pending: pending, response: "totp:1", access: &access) == nil)
    clock.advance(seconds: 90)
    for _ in 0..<8 { #expect(!answer("totp:000000x")) }
    #expect(!answer("totp:\(totpCode(secret: secret, counter: clock.now / 30))"))
  }

  @Test("roles are inherited, replaced below, and cut for separated tokens")
  func roles() throws {
    let access = try AccessControl(
      users: [
        SimulatedUser(
          "u@pve", roles: ["/": "PVEAuditor", "/vms/100": "PVEVMUser", "/vms/101": "NoAccess"],
          tokens: [
            "cut": .init(separated: true, roles: ["/vms": "PVEVMAdmin"]), "full": .init(),
          ])
      ], rootPassword: nil, tokenSecret: nil)
    #expect(access.privileges(of: "u@pve", on: "/vms/5").contains("VM.Audit"))
    #expect(!access.privileges(of: "u@pve", on: "/vms/5").contains("VM.Console"))
    #expect(access.privileges(of: "u@pve", on: "/vms/100").contains("VM.Console"))
    #expect(access.privileges(of: "u@pve", on: "/vms/101").isEmpty)
    #expect(access.privileges(of: "u@pve!full", on: "/vms/100").contains("VM.Console"))
    #expect(
      access.privileges(of: "u@pve!cut", on: "/vms/5") == ["VM.Audit", "VM.GuestAgent.Audit"])
    #expect(access.privileges(of: "u@pve!none", on: "/vms/5").isEmpty)
    #expect(access.privileges(of: "nobody@pve", on: "/").isEmpty)
    #expect(throws: SimulatorError.self) {
      try AccessControl(
        users: [SimulatedUser("u@pve", roles: ["/": "Nonsense"])], rootPassword: nil,
        tokenSecret: nil)
    }
  }
}
