import ConsoleProtocol

/// Users and tokens, from the program that runs the simulator.
extension Simulator {
  /// Adds a user with tokens, roles and second factors, or replaces the one of that name.
  /// - Throws: ``SimulatorError/configuration(_:)`` for a name, role or path that PVE wouldn't have.
  public func add(_ user: SimulatedUser) async throws(SimulatorError) {
    let outcome: Result<Void, SimulatorError> = await onCluster(
      or: .failure(.configuration("the simulator is shut down"))
    ) { cluster in
      do throws(SimulatorError) {
        return .success(try cluster.access.add(user))
      } catch {
        return .failure(error)
      }
    }
    try outcome.get()
  }

  /// Gives a user another password; false where there is no such user. It is the way for users of LDAP and Active
  /// Directory realms, whose passwords are not PVE's to change.
  @discardableResult
  public func setPassword(_ password: Secret, of user: String) async -> Bool {
    await onCluster(or: false) { $0.access.setPassword(password, of: user) }
  }

  /// Gives a user a token, or another secret to the token of that name.
  /// - Returns: the secret; nil where there is no such user or no token can be named so.
  @discardableResult
  public func setToken(
    _ name: String, of user: String, _ token: SimulatedUser.Token = SimulatedUser.Token()
  ) async -> Secret? {
    await onCluster(or: nil) { $0.access.setToken(name, of: user, token) }
  }

  /// Takes a token away by its full id, e.g. `alice@pve!ci`; false where there is none.
  @discardableResult
  public func revokeToken(_ id: String) async -> Bool {
    await onCluster(or: false) { $0.access.revokeToken(id) }
  }

  /// Ends every login that a user has, or that anybody has where none is named. Logins after it are good.
  public func revokeLogins(of user: String? = nil) async {
    await onCluster(or: ()) { $0.tickets.revocations.revoke(user: user, now: $0.clock.now) }
  }

  /// Puts a new key in the place of the one that signs tickets, as PVE does once a day: logins stay good, consoles and
  /// tunnels that were minted and not opened yet are refused.
  public func rotateAuthKey() async {
    await withCheckedContinuation { done in
      Task {
        let isThere = await onCluster(or: false) { cluster in
          cluster.tickets.rotateAuthKey { done.resume() }
          return true
        }
        if !isThere { done.resume() }
      }
    }
  }
}
