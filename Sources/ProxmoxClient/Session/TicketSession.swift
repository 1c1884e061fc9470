import ConsoleProtocol
import Synchronization

/// The clocks that a session looks at, from outside so that a test can turn them.
struct LoginClock: Sendable {
  /// Since any moment; goes on while the machine sleeps.
  var monotonic: @Sendable () -> Duration
  /// Seconds since 1970.
  var wall: WallClock

  static let system: LoginClock = {
    let start = ContinuousClock.now
    return LoginClock(monotonic: { ContinuousClock.now - start }, wall: .system)
  }()
}

/// Keeps one ticket alive: logs in before the first call (never after a 401, which takes PVE three seconds), renews by
/// the ticket itself before it is old, falls back to the password, and does each of these once for any number of callers.
final class TicketSession: Sendable {
  /// A ticket in use.
  struct Login: Sendable {
    var ticket: Secret
    var csrf: Secret?
    var user: String
    /// Whether it came with the configuration, perhaps without its CSRF token.
    var isFromOutside = false
    /// The clock when the ticket was zero seconds old; nil for a ticket that doesn't tell its age.
    var born: Duration?
  }

  private struct State {
    var login: Login?
    var refusal: (error: PVEError, until: Duration)?
  }

  /// PVE's tickets live two hours; half of that leaves time for trouble.
  static let renewalAge = Duration.seconds(3600)
  /// After this no renewal can work (two hours, less a margin for the way).
  static let lifetime = Duration.seconds(7200 - 60)
  /// How long a refused login isn't tried again: each try counts toward PVE's lock-outs.
  static let refusalHold = Duration.seconds(5)

  private let credential: Credential
  private let connection: APIConnection
  private let clock: LoginClock
  private let state: Mutex<State>
  private let flight = SingleFlight<Login>()

  init(_ credential: Credential, connection: APIConnection, clock: LoginClock) {
    self.credential = credential
    self.connection = connection
    self.clock = clock
    var initial = State()
    if case .ticket(let ticket, let csrf) = credential {
      let readable = Ticket(ticket)
      initial.login = Login(
        ticket: ticket, csrf: csrf, user: readable?.user ?? "", isFromOutside: true,
        born: readable.map {
          clock.monotonic() - .seconds(clock.wall.now() - $0.issued)
        })
    }
    state = Mutex(initial)
  }

  /// A ticket that is good to use.
  func login(forWriting: Bool, for request: APIRequest) async throws(PVEError) -> Login {
    if let login = fresh(forWriting: forWriting) { return login }
    let outcome = await flight.run(cancelled: request.error(.cancelled, "cancelled")) { [self] in
      if let login = fresh(forWriting: forWriting) { return .success(login) }
      do throws(PVEError) {
        let login = try await obtain(forWriting: forWriting)
        state.withLock {
          $0.login = login
          $0.refusal = nil
        }
        return .success(login)
      } catch {
        note(error)
        return .failure(error)
      }
    }
    return try outcome.get()
  }

  /// A call with this login was answered 401. True if another login may help. A ticket from outside is kept: a 401 may be
  /// the call's own, and there is nothing to put in its place.
  func discard(_ login: Login) -> Bool {
    guard case .password = credential else {
      return state.withLock { $0.login.map { $0.ticket != login.ticket } ?? false }
    }
    state.withLock { if $0.login?.ticket == login.ticket { $0.login = nil } }
    return true
  }

  private func fresh(forWriting: Bool) -> Login? {
    let now = clock.monotonic()
    return state.withLock { state in
      guard let login = state.login else { return nil }
      // A ticket without its CSRF token can read; its renewal brings one. An unreadable ticket can't be renewed.
      if forWriting, login.csrf == nil, login.isFromOutside, !login.user.isEmpty { return nil }
      guard let born = login.born else { return login }
      return now - born < Self.renewalAge ? login : nil
    }
  }

  private func note(_ error: PVEError) {
    guard error.kind == .loginFailed || error.kind == .secondFactorNeeded else { return }
    if case .password(_, _, let factor?) = credential, !factor.isAutomatic { return }
    let until = clock.monotonic() + Self.refusalHold
    state.withLock { $0.refusal = (error, until) }
  }

  // MARK: Getting one

  private func obtain(forWriting: Bool) async throws(PVEError) -> Login {
    let now = clock.monotonic()
    let (current, refusal) = state.withLock { ($0.login, $0.refusal) }
    if let current, !current.user.isEmpty {
      let age = current.born.map { now - $0 }
      if age.map({ $0 < Self.lifetime }) ?? true {
        do {
          return try await renew(current)
        } catch {
          // 401: the ticket is no good any more, the password may be. Anything else: the old ticket still lives.
          if error.kind == .cancelled || error.kind == .shutDown { throw error }
          if error.kind != .loginFailed, !(forWriting && current.csrf == nil) { return current }
          guard case .password = credential else { throw expired(error) }
        }
      }
    }
    guard case .password(let user, let password, let factor) = credential else {
      throw LoginCall.request.error(
        .unauthenticated, "the ticket is expired or was refused", host: nil,
        hint: "Get a new ticket, or configure a password or an API token")
    }
    if let refusal, now < refusal.until { throw refusal.error }
    return try await LoginCall(connection: connection, clock: clock)
      .withPassword(user: user, password: password, factor: factor)
  }

  private func renew(_ login: Login) async throws(PVEError) -> Login {
    try await LoginCall(connection: connection, clock: clock).renewing(login)
  }

  private func expired(_ error: PVEError) -> PVEError {
    var copy = error
    copy.kind = .unauthenticated
    copy.message = "the ticket can't be renewed: \(error.message)"
    copy.hint = "Get a new ticket, or configure a password or an API token"
    return copy
  }
}
