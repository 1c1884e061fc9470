import ConsoleProtocol
import Testing

@testable import PVESimulator

@Suite("Tickets")
struct AccessTests {
  private let clock = SimulatorClock(standingAt: 1_795_285_408)
  private var tickets: TicketOffice { TicketOffice(clock: clock) }

  @Test("a login ticket has PVE's form and length, and is good for less than two hours")
  func loginTicket() {
    let tickets = tickets
    let ticket = tickets.login(user: "root@pam")
    #expect(ticket.hasPrefix("PVE:root@pam:"))
    #expect(ticket.utf8.count == "PVE:root@pam:".utf8.count + 8 + 2 + 344)
    #expect(tickets.user(ofLogin: ticket) == "root@pam")
    #expect(tickets.user(ofLogin: ticket.replacing("root@pam", with: "alice@pve")) == nil)
    clock.advance(seconds: 7199)
    #expect(tickets.user(ofLogin: ticket) == "root@pam")
    clock.advance(seconds: 1)
    #expect(tickets.user(ofLogin: ticket) == nil)
    clock.advance(seconds: -7200 - 299)
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
    clock.advance(seconds: 39)
    #expect(good(ticket))
    clock.advance(seconds: 1)
    #expect(!good(ticket))
    clock.advance(seconds: -59)
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
    let tickets = tickets
    #expect(tickets.user(ofLogin: text) == nil)
    #expect(tickets.user(ofHalf: text) == nil)
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

  @Test("half a login is no login, and the other way round")
  func half() {
    let tickets = tickets
    let half = tickets.half(user: "joe@pve")
    #expect(half.hasPrefix("PVE:tfa!joe@pve:"))
    #expect(tickets.user(ofHalf: half) == "joe@pve")
    #expect(tickets.user(ofLogin: half) == nil)
    #expect(tickets.user(ofHalf: tickets.login(user: "joe@pve")) == nil)
    tickets.revocations.revoke(user: "joe@pve", now: clock.now)
    #expect(tickets.user(ofHalf: half) == nil)
  }

  @Test("a new key leaves logins good and ends consoles and tunnels that are not open yet")
  func rotation() {
    let tickets = tickets
    let login = tickets.login(user: "joe@pve")
    let pending = tickets.pending(user: "joe@pve", challenge: ["totp": .bool(true)])
    let console = tickets.console(authID: "joe@pve", path: "/vms/100", port: 5900)
    let tunnel = tickets.tunnel(authID: "joe@pve", socket: "/run/x")
    tickets.rotateAuthKey()
    #expect(tickets.user(ofLogin: login) == "joe@pve")
    #expect(tickets.isPending(pending, user: "joe@pve"))
    #expect(!tickets.isConsole(console, authID: "joe@pve", path: "/vms/100", port: 5900))
    #expect(!tickets.isTunnel(tunnel, authID: "joe@pve", socket: "/run/x"))
    let after = tickets.login(user: "joe@pve")
    tickets.rotateAuthKey()
    #expect(tickets.user(ofLogin: after) == "joe@pve")
    #expect(tickets.user(ofLogin: login) == nil)
    #expect(!tickets.isPending(pending, user: "joe@pve"))
  }

  @Test("a day goes by: the key is a new one, and a login of an hour before is still good")
  func dailyRotation() {
    let tickets = tickets
    // The first key is half a day old.
    clock.advance(seconds: 43_200 - 3600)
    let login = tickets.login(user: "joe@pve")
    clock.advance(seconds: 3570)
    let console = tickets.console(authID: "joe@pve", path: "/vms/100", port: nil)
    clock.advance(seconds: 20)
    #expect(tickets.isConsole(console, authID: "joe@pve", path: "/vms/100", port: nil))
    clock.advance(seconds: 10)
    #expect(!tickets.isConsole(console, authID: "joe@pve", path: "/vms/100", port: nil))
    #expect(tickets.user(ofLogin: login) == "joe@pve")
    clock.advance(seconds: 3600)
    #expect(tickets.user(ofLogin: login) == nil)
  }

  @Test("the key that was replaced signs nothing new")
  func replacedKey() throws {
    let tickets = tickets
    _ = tickets.login(user: "joe@pve")
    let stolen = TicketOffice(clock: clock)
    #expect(stolen.restore(from: tickets.document))
    tickets.rotateAuthKey()
    clock.advance(seconds: 250)
    #expect(tickets.user(ofLogin: stolen.login(user: "joe@pve")) == "joe@pve")
    clock.advance(seconds: 60)
    #expect(tickets.user(ofLogin: stolen.login(user: "joe@pve")) == nil)
  }

  @Test("revoked logins end at once, later ones are good, other users' too")
  func revoking() {
    let tickets = tickets
    let old = tickets.login(user: "joe@pve")
    let other = tickets.login(user: "ann@pve")
    #expect(tickets.user(ofLogin: old) == "joe@pve")
    tickets.revocations.revoke(user: "joe@pve", now: clock.now)
    #expect(tickets.user(ofLogin: old) == nil)
    #expect(tickets.user(ofLogin: other) == "ann@pve")
    #expect(tickets.user(ofLogin: tickets.login(user: "joe@pve")) == "joe@pve")
    tickets.revocations.revoke(user: nil, now: clock.now)
    #expect(tickets.user(ofLogin: other) == nil)
    #expect(tickets.user(ofLogin: tickets.login(user: "ann@pve")) == "ann@pve")
  }

  @Test("keys survive a restart, with everything that they signed")
  func restart() {
    let before = tickets
    let login = before.login(user: "joe@pve")
    let csrf = before.csrf(user: "joe@pve")
    before.rotateAuthKey()
    let console = before.console(authID: "joe@pve", path: "/vms/100", port: 5900)
    let after = TicketOffice(clock: clock)
    #expect(!after.restore(from: .null))
    #expect(after.user(ofLogin: login) == nil || after.restore(from: before.document))
    #expect(after.restore(from: before.document))
    #expect(after.user(ofLogin: login) == "joe@pve")
    #expect(after.isCSRF(csrf, user: "joe@pve"))
    #expect(after.isConsole(console, authID: "joe@pve", path: "/vms/100", port: 5900))
  }

  @Test(
    "names of users and tokens are told apart",
    arguments: [
      ("root@pam", false, "root@pam"), ("root@pam!tok", true, "root@pam"),
      ("we!rd@pve", false, "we!rd@pve"), ("we!rd@pve!tok-1", true, "we!rd@pve"),
    ])
  func identities(_ id: String, _ isToken: Bool, _ user: String) {
    let identity = Identity(authID: id)
    #expect(identity.isToken == isToken)
    #expect(identity.user == user)
  }
}
