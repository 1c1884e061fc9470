import EventLoop

/// What a mint's answer and its worker task are made of.
struct MintOrder {
  /// Who asks: the full auth id.
  let authID: String
  /// What the ticket is signed for: `/vms/100`, `/nodes/pve1`.
  let path: String
  /// The worker task's type and id.
  let type: String
  let id: String
  /// How termproxy has its ticket line checked.
  let check: Era.LineCheck
  /// What termproxy runs, for the task's log.
  let command: String
  /// Of a terminal as a picture, in pixels.
  let width: Int
  let height: Int
  /// Whether the client comes through a websocket.
  let isWebsocket: Bool
  /// Whether the client wants a password of its own (`generate-password`, which VMs' screens have).
  let wantsPassword: Bool
  /// What the caller must be allowed to.
  let privilege: String

  /// - Parameter privilege: what the worker asks for; the mint's own unless said otherwise.
  init(
    _ arguments: Arguments, path: String, type: String, id: String,
    check: Era.LineCheck = .consoleTicket, command: String = "", privilege: String? = nil
  ) {
    authID = arguments.authID
    self.path = path
    self.type = type
    self.id = id
    self.check = check
    self.command = command
    width = arguments.integer("width") ?? 1024
    height = arguments.integer("height") ?? 768
    isWebsocket = arguments.flag("websocket")
    wantsPassword = arguments.flag("generate-password")
    self.privilege = privilege ?? (path.hasPrefix("/nodes") ? "Sys.Console" : "VM.Console")
  }

  /// For a guest's console.
  init(
    guest arguments: Arguments, check: Era.LineCheck = .consoleTicket, command: String = "",
    privilege: String? = nil
  ) {
    self.init(
      arguments, path: "/vms/\(arguments.vmid)", type: "vncproxy", id: "\(arguments.vmid)",
      check: check, command: command, privilege: privilege)
  }
}

extension PVENode {
  /// A console worker's question to the API: is this who minted, or (before April 2026) a user at all?
  func isWelcome(_ who: String, _ ticket: String, _ order: MintOrder, port: Int) -> Bool {
    // The parameter's limit, in both calls.
    guard who.utf8.count <= 64 else { return false }
    var values = Parameters()
    values.set("path", .text(order.path))
    values.set("privs", .text(order.privilege))
    do throws(APIError) {
      switch order.check {
      case .consoleTicket:
        values.set("authid", .text(who))
        values.set("vncticket", .text(ticket))
        if era.consoleTicketsBindPort { values.set("port", .text(String(port))) }
        try checkConsoleTicket(Arguments(identity: nil, values: values))
      case .accessTicket:
        // A token's name is no user name, and is refused.
        guard !who.contains("!") else { return false }
        values.set("username", .text(who))
        values.set("password", .text(ticket))
        _ = try login(Arguments(identity: nil, values: values))
      }
      return true
    } catch {
      return false
    }
  }
}

/// Opening consoles: a port, a ticket, a worker task, an answer.
extension PVENode {
  private func nextPort() throws(APIError) -> Int {
    guard !portsAreFull, let port = ports.next() else {
      throw .died("unable to find free port (5900-6000)")
    }
    return port
  }

  /// The fields that every mint answers, in PVE's types: `port` is a text although the schema says integer (seen on a
  /// 9.2 node; the schema's type is the older statement, and clients have to take both).
  private func answer(_ order: MintOrder, port: Int, ticket: String, upid: String) -> [JSON.Member]
  {
    [
      .init(key: "user", value: .string(order.authID)),
      .init(key: "ticket", value: .string(ticket)),
      .init(key: "port", value: .string(String(port))), .init(key: "upid", value: .string(upid)),
    ]
  }

  private func ticket(_ order: MintOrder, _ port: Int) -> String {
    tickets.console(
      authID: order.authID, path: order.path, port: era.consoleTicketsBindPort ? port : nil)
  }

  /// Mints a termproxy console. Its ticket is bare in every era.
  func mintTerminal(_ order: MintOrder, _ program: @escaping () -> any TerminalProgram)
    throws(APIError) -> APIResult
  {
    let port = try nextPort()
    let ticket = ticket(order, port)
    let upid = tasks.begin(node: name, type: order.type, id: order.id, user: order.authID)
    TermproxyWorker(
      node: self, upid: upid, port: port, ticket: ticket, order: order, program: program
    ).listen(for: timings.listenerLife)
    return APIResult(.object(answer(order, port: port, ticket: ticket, upid: upid)))
  }

  /// Mints a VM's screen.
  func mintScreen(_ arguments: Arguments, _ guest: Guest) throws(APIError) -> APIResult {
    let order = MintOrder(guest: arguments)
    let port = try nextPort()
    let password = password(
      bare: ticket(order, port),
      wanted: era.mintsAlwaysHavePasswords || order.wantsPassword)
    let upid = tasks.begin(node: name, type: order.type, id: order.id, user: order.authID)
    VNCProxyWorker(node: self, upid: upid, port: port, guest: guest, password: password.effective)
      .listen(for: timings.listenerLife)
    return screenAnswer(order, port: port, password, upid: upid)
  }

  /// Mints a terminal as a picture.
  func mintTextScreen(_ order: MintOrder, _ program: @escaping () -> any TerminalProgram)
    throws(APIError) -> APIResult
  {
    let port = try nextPort()
    // Without `websocket` vncterm asks for user name and ticket, inside TLS, instead of a password.
    let password = password(
      bare: ticket(order, port),
      wanted: order.isWebsocket && (era.mintsAlwaysHavePasswords || order.wantsPassword))
    let upid = tasks.begin(node: name, type: order.type, id: order.id, user: order.authID)
    let login: VNCTermWorker.Login =
      order.isWebsocket
      ? .password(Array(password.effective.utf8))
      : .plain { [weak self] user, ticket in
        self?.isWelcome(user, ticket, order, port: port) ?? false
      }
    VNCTermWorker(
      node: self, upid: upid, port: port, login: login, width: order.width, height: order.height,
      program: program
    ).listen(for: timings.listenerLife * 2)
    return screenAnswer(order, port: port, password, upid: upid)
  }

  /// A ticket, the password that RFB's login takes, and whether the answer tells it.
  private struct ScreenPassword {
    var ticket: String
    var effective: String
    var isTold: Bool
  }

  private func password(bare: String, wanted: Bool) -> ScreenPassword {
    guard wanted else {
      // The whole ticket is the password, and RFB's login looks at eight characters of it.
      return ScreenPassword(ticket: bare, effective: String(bare.prefix(8)), isTold: false)
    }
    let password = randomVNCPassword()
    return ScreenPassword(
      ticket: era.mintsAlwaysHavePasswords ? password + ":" + bare : bare, effective: password,
      isTold: true)
  }

  private func screenAnswer(
    _ order: MintOrder, port: Int, _ password: ScreenPassword, upid: String
  ) -> APIResult {
    var members = answer(order, port: port, ticket: password.ticket, upid: upid)
    if password.isTold {
      members.append(.init(key: "password", value: .string(password.effective)))
    }
    members.append(.init(key: "cert", value: .string(certificates.caPEM)))
    return APIResult(.object(members))
  }
}
