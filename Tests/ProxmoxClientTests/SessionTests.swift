import ConsoleProtocol
import Foundation
import Synchronization
import Testing

@testable import ProxmoxClient

/// A clock that a test turns.
final class TestClock: Sendable {
  private let seconds: Mutex<Int>
  init(_ start: Int = 1_795_285_408) { seconds = Mutex(start) }
  var now: Int { seconds.withLock { $0 } }
  func advance(_ by: Int) { seconds.withLock { $0 += by } }
  var login: LoginClock {
    LoginClock(monotonic: { .seconds(self.now) }, wall: WallClock { self.now })
  }
}

/// A node that logs in one user and numbers its tickets.
final class LoginNode: Sendable {
  struct Rules: Sendable {
    var refusePassword = false
    var refuseRenewal = false
    var renewalStatus: String?
    /// Tickets below this number are refused with 401.
    var oldestTicket = 1
    var pendingTicket: String?
    var knowsNewFormat = true
    var delay = 0.0
  }
  let rules: Shared
  let server: ScriptedServer

  /// The rules, and how many tickets there were.
  final class Shared: Sendable {
    private let state: Mutex<(rules: Rules, tickets: Int)>
    init(_ rules: Rules) { state = Mutex((rules, 0)) }
    var value: Rules { state.withLock { $0.rules } }
    func withLock(_ change: (inout Rules) -> Void) { state.withLock { change(&$0.rules) } }
    func nextTicket() -> Int {
      state.withLock {
        $0.tickets += 1
        return $0.tickets
      }
    }
  }

  init(_ initial: Rules = Rules()) throws {
    let rules = Shared(initial)
    server = try ScriptedServer { request, connection in
      let now = rules.value
      guard request.path.hasSuffix("/access/ticket") || request.path.hasSuffix("/access/tfa") else {
        let cookie = request.header("Cookie") ?? ""
        let number = Int(cookie.split(separator: "-").last ?? "") ?? 0
        if request.method != "GET", request.header("CSRFPreventionToken") != "csrf-\(number)" {
          return connection.answer("401 Permission denied - invalid csrf token")
        }
        guard number >= now.oldestTicket else {
          return connection.answer("401 Authentication failed!")
        }
        return connection.data(#""\#(number)""#)
      }
      connection.sleep(now.delay)
      if request.field("new-format") != nil, !now.knowsNewFormat {
        return connection.answer(
          "400 Parameter verification failed.",
          #"{"data":null,"errors":{"new-format":"property is not defined in schema"}}"#)
      }
      let password = request.field("password") ?? ""
      let isRenewal = password.hasPrefix("PVE:root@pam:")
      if isRenewal, let status = now.renewalStatus { return connection.answer(status) }
      let fine =
        isRenewal
        ? !now.refuseRenewal
        : ["right", "totp:081804", "recovery:abc"].contains(password) && !now.refusePassword
          || request.field("response") == "081804"
      guard fine else { return connection.answer(Fixture("login-refused")) }
      if password == "right", let pending = now.pendingTicket {
        return connection.data(
          #"{"username":"root@pam","NeedTFA":1,"ticket":"\#(pending)","CSRFPreventionToken":"csrf-0"}"#
        )
      }
      let n = rules.nextTicket()
      connection.data(
        #"{"username":"root@pam","ticket":"PVE:root@pam:6B01E1A0::x-\#(n)","CSRFPreventionToken":"csrf-\#(n)","cap":{}}"#
      )
    }
    self.rules = rules
  }

  var logins: [ScriptedServer.Request] { server.requests.filter { $0.path.contains("/access/") } }
  var calls: [ScriptedServer.Request] { server.requests.filter { !$0.path.contains("/access/") } }
}

@Suite("Logging in", .timeLimit(.minutes(2)))
struct SessionTests {
  private func password(_ factor: SecondFactor? = nil) -> Credential {
    .password(user: "root@pam", password: Secret("right"), secondFactor: factor)
  }

  @Test("a hundred first calls at once make one login, before the first call")
  func singleFlight() async throws {
    let node = try LoginNode(.init(delay: 0.2))
    let client = client(node.server, credential: password())
    await withTaskGroup(of: JSONValue?.self) { group in
      for _ in 0..<100 { group.addTask { try? await client.call(.get, "/x") } }
      for await value in group { #expect(value?.int == 1) }
    }
    #expect(node.logins.count == 1)
    #expect(node.server.requests.first?.path == "/api2/json/access/ticket")
    #expect(node.calls.count == 100)
    client.shutdown()
  }

  @Test("one caller who gives up doesn't end the login of the others")
  func oneLeaves() async throws {
    let node = try LoginNode(.init(delay: 0.5))
    let client = client(node.server, credential: password())
    let first = Task { await failure { try await client.call(.get, "/x") } }
    let second = Task { try await client.call(.get, "/x") }
    #expect(await eventually { node.logins.count == 1 })
    first.cancel()
    #expect(await first.value?.kind == .cancelled)
    #expect(try await second.value.int == 1)
    #expect(node.logins.count == 1)
    client.shutdown()
  }

  @Test("the CSRF header goes with writes by ticket, and with nothing else")
  func csrf() async throws {
    let node = try LoginNode()
    let client = client(node.server, credential: password())
    for method in HTTPMethod.allCases { _ = try await client.call(method, "/x") }
    for call in node.calls {
      #expect((call.header("CSRFPreventionToken") != nil) == (call.method != "GET"))
      #expect(call.header("Authorization") == nil)
    }
    #expect(
      node.logins.allSatisfy {
        $0.header("CSRFPreventionToken") == nil && $0.header("Cookie") == nil
      })
    client.shutdown()
  }

  @Test("after an hour the ticket itself gets a new one; after two the password does")
  func renewal() async throws {
    let node = try LoginNode()
    let clock = TestClock()
    let client = client(node.server, credential: password(), clock: clock.login)
    #expect(try await client.call(.get, "/x").int == 1)
    clock.advance(3500)
    #expect(try await client.call(.get, "/x").int == 1)
    clock.advance(200)
    #expect(try await client.call(.get, "/x").int == 2)
    #expect(node.logins.last?.field("password") == "PVE:root@pam:6B01E1A0::x-1")
    clock.advance(8000)
    #expect(try await client.call(.get, "/x").int == 3)
    #expect(node.logins.last?.field("password") == "right")
    #expect(node.logins.count == 3)
    client.shutdown()
  }

  @Test("a refused renewal falls back to the password; trouble on the way keeps the old ticket")
  func renewalFails() async throws {
    let node = try LoginNode()
    let clock = TestClock()
    let client = client(node.server, credential: password(), clock: clock.login)
    _ = try await client.call(.get, "/x")
    clock.advance(3700)
    node.rules.withLock { $0.renewalStatus = "596 Broken pipe" }
    #expect(try await client.call(.get, "/x").int == 1)
    node.rules.withLock {
      $0.renewalStatus = nil
      $0.refuseRenewal = true
    }
    #expect(try await client.call(.get, "/x").int == 2)
    #expect(node.logins.last?.field("password") == "right")
    client.shutdown()
  }

  @Test("a 401 makes one new login and one more try, and no third")
  func relogin() async throws {
    let node = try LoginNode()
    let client = client(node.server, credential: password())
    _ = try await client.call(.get, "/x")
    node.rules.withLock { $0.oldestTicket = 2 }
    #expect(try await client.call(.post, "/x").int == 2)
    #expect(node.logins.count == 2)
    node.rules.withLock { $0.oldestTicket = 99 }
    let before = node.calls.count
    #expect(await failure { try await client.call(.get, "/x") }?.kind == .unauthenticated)
    #expect(node.calls.count == before + 2)
    #expect(node.logins.count == 3)
    client.shutdown()
  }

  @Test("a hundred calls that are refused at once make one new login")
  func reloginOnce() async throws {
    let node = try LoginNode()
    let client = client(node.server, credential: password())
    _ = try await client.call(.get, "/x")
    node.rules.withLock {
      $0.oldestTicket = 2
      $0.delay = 0.2
    }
    await withTaskGroup(of: JSONValue?.self) { group in
      for _ in 0..<100 { group.addTask { try? await client.call(.get, "/x") } }
      for await value in group { #expect(value?.int == 2) }
    }
    #expect(node.logins.count == 2)
    client.shutdown()
  }

  @Test("a wrong password is told as such, and not tried again at once")
  func wrongPassword() async throws {
    let node = try LoginNode(.init(refusePassword: true))
    let clock = TestClock()
    let client = client(node.server, credential: password(), clock: clock.login)
    for _ in 0..<3 {
      let error = await failure { try await client.call(.get, "/x") }
      #expect(error?.kind == .loginFailed)
      #expect(error?.path == "/access/ticket")
    }
    #expect(node.logins.count == 1 && node.calls.isEmpty)
    clock.advance(6)
    _ = await failure { try await client.call(.get, "/x") }
    #expect(node.logins.count == 2)
    client.shutdown()
  }

  @Test("a token is neither logged in nor tried again")
  func tokens() async throws {
    let node = try LoginNode()
    let client = client(node.server)
    #expect(await failure { try await client.call(.get, "/x") }?.kind == .unauthenticated)
    #expect(node.calls.count == 1 && node.logins.isEmpty)
    client.shutdown()
  }

  @Test(
    "a ticket from outside is used as it is, gets a CSRF token for a write, and is renewed by its own time"
  )
  func existing() async throws {
    let node = try LoginNode(.init(oldestTicket: 0))
    let clock = TestClock(0x6B01E1A0 + 60)
    let outside = Secret("PVE:root@pam:6B01E1A0::x-0")
    let client = client(node.server, credential: .ticket(outside, csrf: nil), clock: clock.login)
    #expect(try await client.call(.get, "/x").int == 0)
    #expect(node.logins.isEmpty)
    #expect(try await client.call(.post, "/x").int == 1)
    #expect(node.logins.last?.field("password") == outside.reveal())
    #expect(node.logins.last?.field("username") == "root@pam")
    clock.advance(3700)
    #expect(try await client.call(.get, "/x").int == 2)
    clock.advance(8000)
    let error = await failure { try await client.call(.get, "/x") }
    #expect(error?.kind == .unauthenticated && error?.hint.contains("new ticket") == true)
    client.shutdown()
  }

  @Test(
    "credentials that can't be right are refused before anything is sent",
    arguments: [
      Credential.token(id: "root@pam", secret: Secret("x")),
      .token(id: "root!tok", secret: Secret("x")),
      .token(id: "root@pam!t", secret: Secret("x\n")), .token(id: "root@pam!t", secret: Secret("")),
      .password(user: "root", password: Secret("x"), secondFactor: nil),
      .password(user: "root@pam", password: Secret(""), secondFactor: nil),
      .ticket(Secret("a\r\nX: y"), csrf: nil),
    ])
  func defects(_ credential: Credential) async throws {
    let server = try ScriptedServer { _, connection in connection.data("1") }
    let client = client(server, credential: credential)
    #expect(await failure { try await client.call(.get, "/x") }?.kind == .badConfiguration)
    #expect(server.connections == 0)
    client.shutdown()
  }

  // MARK: Second factors

  private static let pending =
    "PVE:!tfa!%7B%22totp%22%3Atrue%2C%22recovery%22%3A[0,3]%2C%22webauthn%22%3A%7B%7D%7D:6B01E1A0::c2ln"

  @Test("a pending ticket tells which factors there are")
  func challenge() {
    let challenge = TFAChallenge(pending: Secret(Self.pending))
    #expect(challenge == TFAChallenge(totp: true, recovery: [0, 3], webauthn: true))
    #expect(TFAChallenge(pending: Secret("PVE:root@pam:6B01E1A0::x")) == nil)
    #expect(TFAChallenge(pending: Secret("PVE:!tfa!%7B:6B::x")) == TFAChallenge())
  }

  @Test("the second step sends the code with the whole pending ticket")
  func totp() async throws {
    let node = try LoginNode(.init(pendingTicket: Self.pending))
    let factor = SecondFactor.totp(
      secret: Secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"), clock: WallClock { 1_111_111_109 })
    let client = client(node.server, credential: password(factor))
    #expect(try await client.call(.get, "/x").int == 1)
    let second = try #require(node.logins.last)
    #expect(node.logins.count == 2)
    #expect(second.field("tfa-challenge") == Self.pending)
    #expect(second.field("password") == "totp:081804")
    #expect(second.field("otp") == nil && second.field("username") == "root@pam")
    client.shutdown()
  }

  @Test("a closure is asked with the challenge, and may answer with a recovery code")
  func closure() async throws {
    let node = try LoginNode(.init(pendingTicket: Self.pending))
    let client = client(
      node.server,
      credential: password(
        SecondFactor { challenge in
          #expect(challenge.recovery == [0, 3])
          return Secret("recovery:abc")
        }))
    #expect(try await client.call(.get, "/x").int == 1)
    client.shutdown()
  }

  @Test("without a factor the error names those that the account has")
  func noFactor() async throws {
    let node = try LoginNode(.init(pendingTicket: Self.pending))
    let client = client(node.server, credential: password())
    let error = await failure { try await client.call(.get, "/x") }
    #expect(error?.kind == .secondFactorNeeded)
    #expect(error?.message.contains("totp, recovery, webauthn") == true)
    #expect(error?.description.contains("c2ln") == false)
    client.shutdown()
  }

  @Test("a wrong code is a failed login, and a closure that throws is a missing factor")
  func wrongCode() async throws {
    let node = try LoginNode(.init(pendingTicket: Self.pending))
    let wrong = client(
      node.server, credential: password(SecondFactor { _ in Secret("totp:000000") }))
    #expect(await failure { try await wrong.call(.get, "/x") }?.kind == .loginFailed)
    wrong.shutdown()
    struct NoPhone: Error {}
    let none = client(node.server, credential: password(SecondFactor { _ in throw NoPhone() }))
    #expect(await failure { try await none.call(.get, "/x") }?.kind == .secondFactorNeeded)
    none.shutdown()
  }

  @Test("PVE 7's old step and PVE 6's unknown parameter are lived with")
  func oldForms() async throws {
    let node = try LoginNode(
      .init(pendingTicket: "PVE:tfa!root@pam:6B01E1A0::x", knowsNewFormat: false))
    let client = client(
      node.server, credential: password(SecondFactor { _ in Secret("totp:081804") }))
    #expect(try await client.call(.get, "/x").int == 1)
    #expect(
      node.logins.map(\.path) == [
        "/api2/json/access/ticket", "/api2/json/access/ticket", "/api2/json/access/tfa",
      ])
    #expect(node.logins.last?.field("response") == "081804")
    #expect(node.logins.last?.header("CSRFPreventionToken") == "csrf-0")
    client.shutdown()
  }

  @Test("the recorded login is read")
  func recorded() async throws {
    let server = try ScriptedServer { request, connection in
      if request.path.hasSuffix("/access/ticket") { return connection.answer(Fixture("login")) }
      connection.data("1")
    }
    let client = client(server, credential: password())
    _ = try await client.call(.post, "/x")
    let call = try #require(server.requests.last)
    #expect(
      call.header("CSRFPreventionToken") == "6B01E1A0:w6fFUpHgF72n9YF6Qyq/T5xyvgarzXqWhXW6NaesUkw")
    #expect(call.header("Cookie")?.hasPrefix("PVEAuthCookie=PVE:root@pam:6B01E1A0::") == true)
    client.shutdown()
  }

  @Test("a login without a ticket says which field is missing")
  func noTicket() async throws {
    let server = try ScriptedServer { _, connection in connection.data(#"{"username":"root@pam"}"#)
    }
    let client = client(server, credential: password())
    #expect(
      await failure { try await client.call(.get, "/x") }?.kind == .malformedAnswer(field: "ticket")
    )
    client.shutdown()
  }
}
