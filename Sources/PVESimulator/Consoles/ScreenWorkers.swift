import EventLoop

/// `qm vncproxy`: a VM's screen. It sets the VM's one VNC password when its client connects, relays, and ends after
/// fifteen minutes of silence.
final class VNCProxyWorker: ConsoleWorker {
  private let guest: Guest
  private let password: [UInt8]
  private var session: RFBSession?
  private var external: ExternalScreen?
  private var silence: LoopTimer?

  init(node: PVENode, upid: String, port: Int, guest: Guest, password: String) {
    self.guest = guest
    self.password = Array(password.utf8)
    super.init(node: node, upid: upid, port: port)
  }

  override func connected() {
    guard guest.isRunning else {
      // Not at once: the upgrade is answered first, then the connection ends without a banner.
      node.loop.schedule(after: .milliseconds(20)) { [weak self] in
        guard let self else { return }
        let vmid = self.guest.description.vmid
        self.finish(
          "Failed to run vncproxy.",
          log: ["VM \(vmid) qmp command 'set_password' failed - VM \(vmid) not running"])
      }
      return
    }
    heard()
    guest.attached(self)
    switch guest.display {
    case .builtIn: startBuiltIn()
    case .external(let description):
      let screen = ExternalScreen(
        description, loop: node.loop, password: password,
        send: { [weak self] in
          self?.heard()
          self?.send($0)
        },
        ended: { [weak self] reason in
          guard let self else { return }
          if let reason {
            self.finish("Failed to run vncproxy.", log: [reason])
          } else {
            self.finish()
          }
        })
      external = screen
      screen.start()
    }
  }

  private func startBuiltIn() {
    guest.setPassword(password, life: node.timings.screenPasswordLife)
    let screen = guest.screen
    let session = RFBSession(
      loop: node.loop, display: screen, password: { [weak guest] in guest?.validPassword },
      send: { [weak self] in
        self?.heard()
        self?.send($0)
      },
      close: { [weak self] in
        guard let self else { return }
        self.node.loop.schedule(after: .milliseconds(5)) { [weak self] in self?.finish() }
      })
    self.session = session
    screen.attach(session)
    session.start()
  }

  /// Bytes went by: the silence begins anew.
  private func heard() {
    silence?.cancel()
    silence = node.loop.schedule(after: node.timings.screenSilence) { [weak self] in
      self?.finish("connection timed out")
    }
  }

  override func receive(_ bytes: UnsafeRawBufferPointer) {
    heard()
    session?.receive(bytes)
    external?.receive(bytes)
  }

  override func ended() {
    silence?.cancel()
    guest.detached(self)
    external?.close()
    external = nil
    if let session {
      session.end()
      guest.screen.detach(session)
    }
    session = nil
  }
}

/// vncterm: a container's or the node's terminal as a picture.
final class VNCTermWorker: ConsoleWorker {
  private let password: [UInt8]
  private let width: Int
  private let height: Int
  private let makeProgram: () -> any TerminalProgram
  private var session: RFBSession?
  private var screen: ConsoleScreen?

  init(
    node: PVENode, upid: String, port: Int, password: String, width: Int, height: Int,
    program: @escaping () -> any TerminalProgram
  ) {
    self.password = Array(password.utf8)
    self.width = width
    self.height = height
    makeProgram = program
    super.init(node: node, upid: upid, port: port)
  }

  override func connected() {
    let screen = ConsoleScreen(
      width: width, height: height, program: makeProgram(), loop: node.loop,
      ended: { [weak self] in
        // The last lines stay visible for a moment.
        self?.node.loop.schedule(after: .milliseconds(200)) { [weak self] in self?.finish() }
      })
    self.screen = screen
    let session = RFBSession(
      loop: node.loop, display: screen, password: { [password] in password },
      send: { [weak self] in self?.send($0) },
      close: { [weak self] in
        guard let self else { return }
        self.node.loop.schedule(after: .milliseconds(5)) { [weak self] in self?.finish() }
      })
    self.session = session
    session.start()
    screen.start(session)
  }

  override func receive(_ bytes: UnsafeRawBufferPointer) { session?.receive(bytes) }

  override func nobodyCame() { finish() }

  override func ended() {
    session?.end()
    session = nil
    screen?.close()
    screen = nil
  }
}
