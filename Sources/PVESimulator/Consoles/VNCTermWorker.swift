import EventLoop

/// vncterm: a terminal as a picture. Unlike the others it takes several viewers of its one terminal; it ends ten
/// seconds after the last one left, or after half an hour without a key.
final class VNCTermWorker: ConsoleWorker {
  /// How a viewer proves that it may look.
  enum Login {
    /// RFB's own password login, as with `websocket=1`.
    case password([UInt8])
    /// User name and ticket inside TLS, as without `websocket`: whether they are welcome.
    case plain((String, String) -> Bool)
  }

  /// One viewer's connection.
  private final class Seat: RelayBackend {
    let relay: WebsocketRelay
    var session: RFBSession?
    var layer: VeNCryptLayer?
    unowned let worker: VNCTermWorker

    init(_ relay: WebsocketRelay, worker: VNCTermWorker) {
      self.relay = relay
      self.worker = worker
    }

    func receive(_ bytes: UnsafeRawBufferPointer) {
      if let layer { layer.receive(bytes) } else { session?.receive(bytes) }
    }

    func clientClosed() { worker.left(self) }
    func clientDrained() {}
  }

  private let login: Login
  private let width: Int
  private let height: Int
  private let makeProgram: () -> any TerminalProgram
  private var screen: ConsoleScreen?
  private var seats: [Seat] = []
  /// Runs while nobody looks.
  private var lingering: LoopTimer?
  /// Runs while nobody types.
  private var idle: LoopTimer?

  init(
    node: PVENode, upid: String, port: Int, login: Login, width: Int, height: Int,
    program: @escaping () -> any TerminalProgram
  ) {
    self.login = login
    self.width = width
    self.height = height
    makeProgram = program
    super.init(node: node, upid: upid, port: port)
  }

  override func accept(_ relay: WebsocketRelay) -> Bool {
    guard !isOver else { return false }
    stopWaiting()
    lingering?.cancel()
    let seat = Seat(relay, worker: self)
    seats.append(seat)
    relay.backend = seat
    let screen = self.screen ?? openScreen()
    switch login {
    case .password(let password):
      let session = session(of: seat, on: screen, password: password) { [weak relay] bytes in
        bytes.withUnsafeBytes { relay?.send($0) }
      }
      seat.session = session
      session.start()
    case .plain(let check):
      let layer = layer(of: seat, check)
      seat.layer = layer
      seat.session = session(of: seat, on: screen, password: nil) { [weak layer] bytes in
        layer?.sendInside(bytes)
      }
      layer.start()
    }
    return true
  }

  private func session(
    of seat: Seat, on screen: ConsoleScreen, password: [UInt8]?,
    send: @escaping ([UInt8]) -> Void
  ) -> RFBSession {
    let session = RFBSession(
      loop: node.loop, display: screen, isLoggedIn: password == nil, password: { password },
      send: send, close: { [weak self, weak seat] in self?.dismiss(seat) })
    screen.attach(session)
    return session
  }

  private func layer(of seat: Seat, _ check: @escaping (String, String) -> Bool) -> VeNCryptLayer {
    VeNCryptLayer(
      node.certificates, check: check,
      send: { [weak seat] bytes in bytes.withUnsafeBytes { seat?.relay.send($0) } },
      received: { [weak seat] bytes in bytes.withUnsafeBytes { seat?.session?.receive($0) } },
      failed: { [weak self, weak seat] in self?.dismiss(seat) })
  }

  /// Closes a viewer's connection; what was said last is still sent.
  private func dismiss(_ seat: Seat?) {
    node.loop.schedule(after: .milliseconds(5)) { [weak self, weak seat] in
      guard let self, let seat else { return }
      seat.relay.backendClosed()
      self.left(seat)
    }
  }

  private func openScreen() -> ConsoleScreen {
    let screen = ConsoleScreen(
      width: width, height: height, program: makeProgram(), loop: node.loop,
      typed: { [weak self] in self?.typed() },
      ended: { [weak self] in
        // The last lines stay visible for a moment.
        self?.node.loop.schedule(after: .milliseconds(200)) { [weak self] in self?.finish() }
      })
    self.screen = screen
    screen.start()
    typed()
    return screen
  }

  private func typed() {
    idle?.cancel()
    idle = node.loop.schedule(after: node.timings.keyboardSilence) { [weak self] in self?.finish() }
  }

  private func left(_ seat: Seat) {
    guard !isOver, seats.contains(where: { $0 === seat }) else { return }
    close(seat)
    seats.removeAll { $0 === seat }
    guard seats.isEmpty else { return }
    lingering?.cancel()
    lingering = node.loop.schedule(after: node.timings.listenerLife) { [weak self] in
      self?.finish()
    }
  }

  private func close(_ seat: Seat) {
    guard let session = seat.session else { return }
    session.end()
    screen?.detach(session)
    seat.session = nil
  }

  override func nobodyCame() { finish() }

  override func ended() {
    lingering?.cancel()
    idle?.cancel()
    let all = seats
    seats = []
    for seat in all {
      close(seat)
      seat.relay.backendClosed()
    }
    screen?.close()
    screen = nil
  }
}
