import EventLoop

/// `qm vncproxy`: a VM's screen. It sets the VM's one VNC password when its client connects, relays, and ends after
/// fifteen minutes of silence.
final class VNCProxyWorker: SingleClientWorker {
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
    if let why = obstacle {
      // Not at once: the upgrade is answered first, then the connection ends without a banner.
      node.loop.schedule(after: .milliseconds(20)) { [weak self] in
        self?.finish("Failed to run vncproxy.", log: [why])
      }
      return
    }
    heard()
    guest.attached(self)
    switch guest.display {
    case .builtIn: startBuiltIn()
    case .external(let description): startExternal(description)
    }
  }

  /// Why there is nothing to see; the mint doesn't look.
  private var obstacle: String? {
    if guest.node !== node, let why = guest.node.sshFailure { return why }
    let vmid = guest.description.vmid
    return guest.isRunning
      ? nil : "VM \(vmid) qmp command 'set_password' failed - VM \(vmid) not running"
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

  private func startExternal(_ description: ExternalDisplay) {
    // Where QEMU has no password of its own, the node keeps it as QEMU would: one a VM.
    if description.qmpSocket == nil {
      guest.setPassword(password, life: node.timings.screenPasswordLife)
    }
    let screen = ExternalScreen(
      description, loop: node.loop, password: password,
      validPassword: { [weak guest] in guest?.validPassword },
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

  override func letGo() {
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
