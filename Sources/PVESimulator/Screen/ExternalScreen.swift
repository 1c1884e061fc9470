import EventLoop

/// A VM's screen that is somebody else's VNC server: a real QEMU's, behind the node.
///
/// With a QMP socket the node sets the password there, as `qm vncproxy` does, and relays bytes untouched. Without
/// one the VNC server offers security type None; then the node asks the viewer for the password itself, logs in
/// upstream without one, and relays from there.
final class ExternalScreen: StreamHandler {
  private enum Phase {
    case idle
    /// Talking to QMP: the commands that are left.
    case qmp([JSON], [UInt8])
    /// Both logins, until both are done.
    case logins
    case relaying
    case over
  }

  private let description: ExternalDisplay
  private let loop: Loop
  private let password: [UInt8]
  private let validPassword: () -> [UInt8]?
  private let send: ([UInt8]) -> Void
  /// Tells why it ended; nil for an ordinary end.
  private let ended: (String?) -> Void
  private var phase = Phase.idle
  private var stream: EventLoop.Stream?
  private var handshake = RFBHandshake()
  private var fromViewer = ByteQueue()
  private var fromServer = ByteQueue()
  private var viewerIsIn = false
  private var serverStep = 0
  private var serverIsIn = false

  /// - Parameters:
  ///   - password: what QMP is told.
  ///   - validPassword: asked without QMP when the viewer's response is checked.
  init(
    _ description: ExternalDisplay, loop: Loop, password: [UInt8],
    validPassword: @escaping () -> [UInt8]?, send: @escaping ([UInt8]) -> Void,
    ended: @escaping (String?) -> Void
  ) {
    self.description = description
    self.loop = loop
    self.password = password
    self.validPassword = validPassword
    self.send = send
    self.ended = ended
  }

  func start() {
    guard let path = description.qmpSocket else {
      phase = .logins
      connect(description.address)
      send(RFBHandshake.banner)
      return
    }
    let secret = String(decoding: password, as: UTF8.self)
    phase = .qmp(
      [
        ["execute": "qmp_capabilities"],
        [
          "execute": "set_password",
          "arguments": ["protocol": "vnc", "password": .string(secret)],
        ],
        ["execute": "expire_password", "arguments": ["protocol": "vnc", "time": "+30"]],
      ], [])
    connect(.unix(path))
  }

  func close() {
    phase = .over
    stream?.close()
  }

  func receive(_ bytes: UnsafeRawBufferPointer) {
    if case .relaying = phase, let stream, stream.isOpen {
      stream.write(bytes)
      return
    }
    fromViewer.append(bytes)
    logins()
  }

  private func connect(_ address: ExternalDisplay.Address) {
    do throws(LoopError) {
      let place: SocketAddress =
        switch address {
        case .tcp(let port): .loopback(port: port)
        case .unix(let path): try .unix(path)
        }
      stream = try Stream.connect(on: loop, to: place, handler: self)
    } catch {
      fail("\(error)")
    }
  }

  private func fail(_ reason: String?) {
    if case .over = phase { return }
    phase = .over
    stream?.close()
    // Not from inside a stream's event: the owner takes everything apart.
    let ended = ended
    loop.schedule(after: .zero) { ended(reason) }
  }

  // MARK: both logins without QMP

  private func logins() {
    guard case .logins = phase else { return }
    if !viewerIsIn {
      var out: [UInt8] = []
      let outcome = handshake.advance(&fromViewer, into: &out, password: validPassword)
      if !out.isEmpty { send(out) }
      if outcome == .refused {
        fail(nil)
        return
      }
      viewerIsIn = outcome == .accepted
    }
    serverLogin()
    guard viewerIsIn, serverIsIn, let stream else { return }
    phase = .relaying
    let early = fromViewer.removeFirst(fromViewer.count)
    if !early.isEmpty { stream.write(early) }
    let answer = fromServer.removeFirst(fromServer.count)
    if !answer.isEmpty { send(answer) }
  }

  private func serverLogin() {
    guard let stream, stream.isOpen else { return }
    if serverStep == 0, fromServer.count >= 12 {
      fromServer.drop(12)
      stream.write(RFBHandshake.banner)
      serverStep = 1
    }
    if serverStep == 1, let count = fromServer[0] {
      guard count > 0 else { return fail("the VNC server refuses") }
      guard fromServer.count > Int(count) else { return }
      let types = fromServer.removeFirst(1 + Int(count)).dropFirst()
      guard types.contains(1) else { return fail("the VNC server wants a password") }
      stream.write([1])
      serverStep = 2
    }
    if serverStep == 2, fromServer.count >= 4 {
      guard fromServer.removeFirst(4) == [0, 0, 0, 0] else {
        return fail("the VNC server refuses")
      }
      serverStep = 3
      serverIsIn = true
    }
  }

  // MARK: stream

  func streamConnected(_ stream: EventLoop.Stream) {
    guard case .relaying = phase else { return }
    let early = fromViewer.removeFirst(fromViewer.count)
    if !early.isEmpty { stream.write(early) }
  }

  func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    switch phase {
    case .relaying: send(Array(bytes))
    case .logins:
      fromServer.append(UnsafeRawBufferPointer(bytes))
      logins()
    case .qmp(let left, let text): qmp(left, text + Array(bytes))
    case .idle, .over: break
    }
  }

  /// One line in, the next command out; the first line is QMP's greeting.
  private func qmp(_ commands: [JSON], _ text: [UInt8]) {
    var left = commands
    var rest = text[...]
    while let end = rest.firstIndex(of: 10) {
      let line = try? JSONReader.read(Array(rest[..<end]))
      rest = rest[(end + 1)...]
      if line?["event"] != nil { continue }
      if let error = line?["error"]?["desc"], case .string(let why) = error {
        return fail("qmp command failed - \(why)")
      }
      guard let next = left.first else {
        // Everything is set: now the screen itself.
        phase = .relaying
        self.stream?.close()
        self.stream = nil
        connect(description.address)
        return
      }
      left.removeFirst()
      stream?.write(next.bytes + [10])
    }
    phase = .qmp(left, Array(rest))
  }

  func streamDrained(_ stream: EventLoop.Stream) {}

  func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {
    guard stream === self.stream else { return }
    self.stream = nil
    if case .connectFailed(let why) = end {
      return fail("unable to connect to VNC server - \(why)")
    }
    fail(nil)
  }
}
