import ConsoleProtocol

extension ProxmoxClient {
  /// Asks PVE to open a console and says how to dial it: on the same host, with the same credential, within ten seconds,
  /// once. The viewer has to be there before; a mint that nobody dials holds one of the node's hundred ports for ten
  /// seconds.
  ///
  /// Takes the second credential where the first can't open that console on that version.
  /// - Parameters:
  ///   - size: of a VNC shell's or container's screen; a VM has its own.
  ///   - user: the login (`root@pam`) whose ticket has to be the one that mints; nil for whichever credential can. PVE
  ///     opens a node's shell without asking for a password to root@pam's ticket only.
  /// - Throws: ``PVEError/Kind/tokenUnsupported`` where neither credential can, ``PVEError/Kind/noSuchConsole``, and
  ///   whatever PVE refuses. A mint isn't repeated once a byte of it was sent.
  public func mint(
    _ console: Console, of place: Place, size: ScreenSize? = nil, as user: String? = nil
  ) async throws(PVEError) -> UpstreamPlan {
    var last: PVEError?
    for host in connection.hostsInOrder {
      do throws(PVEError) {
        return try await mint(console, of: place, size: size, as: user, on: host)
      } catch {
        if error.kind == .guestNotFound { resources.forget() }
        guard error.nothingWasSent else { throw error }
        last = last ?? error
      }
    }
    throw last
      ?? APIRequest(method: .post, path: place.apiPath)
      .error(.badConfiguration, "cluster '\(configuration.name)' has no hosts")
  }

  private func mint(
    _ console: Console, of place: Place, size: ScreenSize?, as user: String?, on host: APIHost
  ) async throws(PVEError) -> UpstreamPlan {
    let version = try await version(of: host, by: primary)
    guard let call = MintCall(console, of: place, size: size, version: version) else {
      throw APIRequest(method: .post, path: place.apiPath).error(
        .noSuchConsole, "\(place) has no console '\(console)'",
        hint: "Serial ports belong to VMs; containers and nodes have 'terminal' and 'vnc'")
    }
    let identity = try identity(
      for: console, of: place, as: user, version: version, request: call.request)
    let (answer, _, authorization) = try await envelope(call.request, by: identity, on: host)
    return try plan(
      console, place: place, call: call, answer: answer, authorization: authorization, host: host,
      version: version)
  }

  /// The credential that opens the console.
  private func identity(
    for console: Console, of place: Place, as user: String?, version: PVEVersion,
    request: APIRequest
  ) throws(PVEError) -> Identity {
    if let user {
      let isTheirs = { (identity: Identity) in
        identity.credential.kind == .ticket && identity.credential.identity == user
      }
      if isTheirs(primary) { return primary }
      if let secondary, isTheirs(secondary) { return secondary }
      throw request.error(
        .tokenUnsupported, "PVE opens this console to a login of \(user) only",
        hint: "Configure \(user) with password (or a ticket) as consoleCredential")
    }
    func refusal(_ identity: Identity) -> ConsoleAccess.Refusal? {
      ConsoleAccess.refusal(
        of: console, on: place.kind, to: identity.credential.kind,
        identity: identity.credential.identity, version: version)
    }
    guard let first = refusal(primary) else { return primary }
    if let secondary, refusal(secondary) == nil { return secondary }
    throw request.error(.tokenUnsupported, first.reason, hint: first.remedy)
  }

  private func plan(
    _ console: Console, place: Place, call: MintCall, answer: AnswerReader,
    authorization: Identity.Authorization, host: APIHost, version: PVEVersion
  ) throws(PVEError) -> UpstreamPlan {
    let ticket = try answer.string("ticket")
    let user = try answer.string("user")
    let upid = try answer.string("upid")
    // An integer by the schema, a string on the wire.
    let port = try answer.int("port")
    guard (1...65535).contains(port) else { throw answer.error("port", "is no port: \(port)") }
    guard let credential = authorization.headers.first else {
      throw answer.request.error(.badConfiguration, "the call carried no credential")
    }
    let login: UpstreamPlan.Login
    if console == .vnc {
      // RFB's password has eight characters. Where none is given, PVE uses the ticket as the password.
      let password = answer.value["password"].string.flatMap { $0.isEmpty ? nil : $0 }
      login = .rfb(password: Secret(password ?? String(ticket.prefix(8))))
    } else {
      guard !user.contains("\n"), !ticket.contains("\n"), !user.contains(":") else {
        throw answer.error("user", "can't stand in termproxy's login line")
      }
      login = .termproxy(line: Secret("\(user):\(ticket)\n"))
    }
    return UpstreamPlan(
      host: host.host, port: host.port, tls: host.policy(configuration.tls),
      requestTarget: Secret(call.websocketTarget(port: port, ticket: ticket)),
      credentialHeader: credential, login: login,
      maximumFrame: version.capabilities.maximumFrame, upid: upid,
      node: UPID(upid)?.node ?? place.node)
  }
}
