import EventLoop

/// The worker of a migration tunnel: JSON lines over a unix socket, strictly request and reply.
///
/// It takes one connection, the command channel. Sockets that commands open (``TunnelSocket``) are reached by further
/// websockets. The guest that is to come exists, locked, from the mint on.
final class TunnelWorker: SingleClientWorker {
  private static let longestLine = 16 << 20

  /// The socket's path, by which websockets find it.
  let socket: String
  let kind: SimulatedGuest.Kind
  let vmid: Int
  let authID: String
  /// The lock that the guest must have while commands are handled.
  var lock: String? = "create"
  /// Sockets that commands opened, by path.
  var sockets: [String: TunnelSocket] = [:]
  var diskImport: DiskImport?
  /// Volumes that a clean-up frees.
  var volumes: [String] = []
  var isLeaving = false

  private var line: [UInt8] = []
  /// Lines that wait for a reply that takes its time.
  private var queue: [[UInt8]] = []
  private var isBusy = false

  init(
    node: PVENode, upid: String, socket: String, kind: SimulatedGuest.Kind, vmid: Int,
    authID: String
  ) {
    self.socket = socket
    self.kind = kind
    self.vmid = vmid
    self.authID = authID
    super.init(node: node, upid: upid, port: 0)
  }

  /// `VM` or `CT`.
  var word: String { kind == .qemu ? "VM" : "CT" }

  override func openListener() {
    node.tunnels[socket] = self
    log("mtunnel started")
  }

  override func closeListener() {
    if node.tunnels[socket] === self { node.tunnels[socket] = nil }
  }

  override func nobodyCame() {
    node.removeTunnelGuest(vmid)
    finish(
      "Exiting mtunnel",
      log: [
        "Failed to accept tunnel connection - got timeout", "Removing tunnel socket..",
        "Removing temporary \(word) config..",
      ])
  }

  override func clientClosed() {
    if isLeaving {
      finish(log: ["mtunnel exited"])
    } else {
      // The guest stays as it is, with its lock.
      finish("mtunnel exited unexpectedly")
    }
  }

  override func letGo() {
    for socket in sockets.values { close(socket) }
    sockets = [:]
    diskImport?.cancel()
    diskImport = nil
  }

  // MARK: sockets

  /// Opens a further socket.
  func open(_ socket: TunnelSocket) {
    sockets[socket.path] = socket
    node.tunnels[socket.path] = socket
  }

  /// Takes one away, with its connections.
  func close(_ socket: TunnelSocket) {
    if node.tunnels[socket.path] === socket { node.tunnels[socket.path] = nil }
    sockets[socket.path] = nil
    socket.close()
  }

  // MARK: lines

  override func receive(_ bytes: UnsafeRawBufferPointer) {
    var rest = bytes[...]
    while let end = rest.firstIndex(of: 10) {
      line.append(contentsOf: rest[..<end])
      rest = rest[(end + 1)...]
      queue.append(line)
      line = []
    }
    line.append(contentsOf: rest)
    guard line.count <= TunnelWorker.longestLine else {
      finish("mtunnel exited unexpectedly")
      return
    }
    next()
  }

  private func next() {
    while !isBusy, isConnected, !queue.isEmpty { answer(queue.removeFirst()) }
  }

  private func answer(_ text: [UInt8]) {
    let command: JSON
    do throws(JSONReader.Malformed) {
      command = try JSONReader.read(text)
    } catch {
      refuse("failed to parse command - \(error.message) at /usr/share/perl5/JSON.pm line 190.\n")
      return
    }
    guard case .object(let members) = command, case .string(let name)? = command["cmd"] else {
      refuse("'cmd' missing")
      return
    }
    if isLeaving {
      refuse("tunnel is in exit-mode, processing '\(name)' cmd not possible")
      return
    }
    guard let known = TunnelCommand.table(kind)[name] else {
      refuse("unknown command '\(name)' given")
      return
    }
    log("received command '\(name)'")
    do throws(TunnelCommand.Failure) {
      let arguments = try known.check(
        members.filter { $0.key != "cmd" }, era: node.era, kind: kind)
      try checkLock()
      isBusy = true
      try known.run(self, arguments) { [weak self] reply in self?.reply(reply) }
    } catch {
      isBusy = false
      refuse("failed to handle '\(name)' command - \(error.text)")
    }
  }

  private func checkLock() throws(TunnelCommand.Failure) {
    guard lock == nil || guestLock == lock else {
      throw .init("Encountered wrong lock - aborting mtunnel command handling.\n")
    }
  }

  private func reply(_ members: [JSON.Member]) {
    isBusy = false
    guard isConnected else { return }
    send(JSON.object(members + [.init(key: "success", value: .bool(true))]).bytes + [10])
    next()
  }

  private func refuse(_ text: String) {
    let answer: JSON = ["success": .bool(false), "msg": .string(text)]
    send(answer.bytes + [10])
  }
}
