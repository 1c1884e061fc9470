import ConsoleDial
import ConsoleProtocol
import EventLoop
import Foundation

/// One viewer on one console: the viewer's websocket, the upstream leg, and what passes between them. Both live on
/// the loop that accepted the viewer; nothing here is touched from elsewhere.
///
/// In order: the viewer's first message names its link; only then is the console minted and dialled (anew, with a
/// back-off, when a dial fails); then bytes flow; then there is exactly one ending.
package final class ViewerSession: WebSocketHandler, UpstreamOwner {
  private enum State { case greeting, opening, open, diagnosing, ended }

  private let loop: Loop
  private let services: any ConsoleServices
  private let peer: String
  private let limits: RelayLimits
  private var state = State.greeting
  private var socket: WebSocket?
  private var leg: UpstreamLeg?
  private var record: SessionRecord?
  private var grant: Grant?
  private var isTerminal = false
  private var isReadOnly = false
  private var minted: MintedConsole?
  private var opening: Task<Void, Never>?
  private var attempt = 0
  private var text: [UInt8] = []
  private var wantsNotices = false
  private var acknowledges = false
  private var size: TerminalSize?
  private var timer: LoopTimer?

  // While open.
  private var clock: SessionClock?
  private var input: TerminalInput?
  private var inputTimer: LoopTimer?
  private var credit: TerminalCredit?
  private var handshake: RFBViewerHandshake?
  private var rfb: RFBClientStream?
  private var upstreamPaused = false
  /// When reading from PVE last rested: a flood may have piled up there since.
  private var lastPaused: Duration?
  private var skip: InterruptSkip?
  private var skipTimer: LoopTimer?
  private var viewerPaused = false

  /// Input that waits for PVE before the viewer is held back.
  private static let inputBound = 256 << 10

  /// A session for a websocket that is about to open on `loop`.
  package init(loop: Loop, services: any ConsoleServices, peer: String) {
    self.loop = loop
    self.services = services
    self.peer = peer
    limits = services.limits
  }

  // MARK: The viewer's websocket

  package func webSocketOpened(_ socket: WebSocket) {
    self.socket = socket
    timer = loop.schedule(after: limits.firstMessage) { [self] in
      finish(
        Ending(
          hop: .viewer, kind: .viewerViolation,
          sentence: "The viewer did not say which link it has.",
          remedy: "Send the opening message within ten seconds."))
    }
  }

  package func webSocket(
    _ socket: WebSocket, received bytes: UnsafeMutableRawBufferPointer, isText: Bool, isFirst: Bool,
    isFinal: Bool
  ) {
    guard state != .ended else { return }
    clock?.note(.received(.viewer), at: loop.now)
    if !isText {
      fromViewer(bytes)
      return
    }
    guard text.count + bytes.count <= ViewerMessage.maximumLength else {
      violation("a text message is over \(ViewerMessage.maximumLength) bytes")
      return
    }
    text.append(contentsOf: bytes)
    guard isFinal else { return }
    let message = text
    text = []
    do throws(ViewerMessage.Malformed) {
      handle(try ViewerMessage.parse(message))
    } catch {
      violation(error.description)
    }
  }

  package func webSocketPong(_ socket: WebSocket) {
    clock?.note(.alive(.viewer), at: loop.now)
  }

  package func webSocketDrained(_ socket: WebSocket) {
    clock?.note(.alive(.viewer), at: loop.now)
    adjustUpstream()
  }

  package func webSocketClosed(_ socket: WebSocket, code: UInt16?, reason: String) {
    self.socket = nil
    finish(
      Ending(
        hop: .viewer, kind: .viewerLeft,
        sentence: code == nil
          ? "The viewer's connection was cut." : "The viewer closed the console."))
  }

  private func violation(_ what: String) {
    finish(
      Ending(
        hop: .viewer, kind: .viewerViolation, sentence: "The viewer broke the protocol: \(what).",
        remedy: "See the description of the viewer's websocket in the API documentation."))
  }

  private func handle(_ message: ViewerMessage) {
    switch message {
    case .open(let open):
      guard state == .greeting else {
        violation("a second opening message")
        return
      }
      begin(open)
    case .ping(let id):
      guard state != .greeting else {
        violation("a message before the opening one")
        return
      }
      if mayNotify { socket?.sendText(GatewayMessage.pong(id: id).json) }
    case .resize(let new):
      size = new
      input?.resize(new, at: loop.now)
      pumpInput()
    case .ack(let total):
      do throws(TerminalCredit.Violation) {
        try credit?.acknowledge(total)
      } catch {
        violation("an acknowledgement that can't be true")
        return
      }
      adjustUpstream()
    }
  }

  // MARK: Opening

  private func begin(_ open: ViewerMessage.Open) {
    timer?.cancel()
    timer = nil
    wantsNotices = open.notices
    acknowledges = open.acks
    size = open.size
    switch services.redeem(open.token, peer: peer) {
    case .failure(let ending): finish(ending)
    case .success(let grant):
      self.grant = grant
      isTerminal = grant.console.isTerminal
      isReadOnly = grant.readOnly
      state = .opening
      let handle = OnLoop(self, loop: loop)
      record = services.opened(grant, peer: peer) { ending in
        handle.execute { $0.finish(ending) }
      }
      mint()
    }
  }

  private func mint() {
    guard let grant, state == .opening else { return }
    attempt += 1
    tell(.stage(.minting, target: grant.target.description, console: grant.console))
    let attempt = attempt
    let services = services
    let size = size.map { (columns: $0.columns, rows: $0.rows) }
    let handle = OnLoop(self, loop: loop)
    opening = Task {
      do throws(Ending) {
        let minted = try await services.mint(grant, size: size, attempt: attempt)
        handle.execute { $0.dial(minted) }
      } catch {
        handle.execute { $0.finish(error) }
      }
    }
  }

  private func dial(_ minted: MintedConsole) {
    opening = nil
    guard state == .opening else {
      // The viewer left while PVE was minting: the worker must not wait for nobody.
      minted.loginOver()
      services.release(minted)
      return
    }
    self.minted = minted
    record?.update { $0.place = minted.place }
    tell(.stage(.dialling))
    let leg = UpstreamLeg(on: loop, to: minted, timeout: limits.dial, owner: self)
    self.leg = leg
    leg.dial()
  }

  package func upstream(_ leg: UpstreamLeg, reached stage: ConsoleStage) {
    if stage == .login { tell(.stage(.login)) }
  }

  package func upstreamOpened(_ leg: UpstreamLeg) {
    guard state == .opening, let grant, let minted, let socket else { return }
    state = .open
    let now = loop.now
    var policy = SessionClock.Policy()
    policy.pingInterval = limits.pingInterval
    policy.deadAfter = limits.deadAfter
    policy.idleLimit = grant.idle
    policy.maximumDuration = grant.maxDuration
    policy.slowViewerLimit = limits.slowViewer
    if grant.console.isTerminal {
      // A guest's serial port is slower than a pseudo terminal: pastes are given more time between headers.
      let isSerial = minted.place.isVirtualMachine
      var queue = TerminalInput(
        maximumFrame: minted.plan.maximumFrame, rate: isSerial ? 2 << 20 : TerminalInput.usualRate,
        size: size)
      queue.open(at: now)
      input = queue
      if acknowledges { credit = TerminalCredit() }
    } else {
      policy.rfbKeepAlive = limits.rfbKeepAlive
      handshake = RFBViewerHandshake()
      rfb = RFBClientStream(viewOnly: grant.readOnly)
    }
    clock = SessionClock(policy: policy, startingAt: now)
    self.minted = minted.spent
    record?.update {
      $0.state = .open
      $0.opened = Date()
    }
    socket.sendText(
      GatewayMessage.ready(
        session: grant.id, target: minted.place.description, node: minted.place.node.value,
        name: minted.place.name, console: grant.console, readOnly: grant.readOnly
      ).json)
    if !grant.console.isTerminal { socket.sendBinary(RFBViewerHandshake.greeting) }
    pumpInput()
    armClock()
  }

  // MARK: Bytes

  package func upstream(_ leg: UpstreamLeg, received bytes: UnsafeMutableRawBufferPointer) {
    guard state == .open, let socket else { return }
    clock?.note(.received(.upstream), at: loop.now)
    if skip != nil {
      skip?.take(UnsafeRawBufferPointer(bytes), at: loop.now)
      return
    }
    record?.count(toViewer: bytes.count)
    socket.sendBinary(inPlace: bytes)
    credit?.note(sent: bytes.count)
    adjustUpstream()
  }

  /// An interrupt was typed against a flood that a slow viewer held back: see ``InterruptSkip``.
  private func beginSkip(at now: Duration) {
    guard skip == nil, let paused = lastPaused, upstreamPaused || now - paused < .milliseconds(500)
    else { return }
    skip = InterruptSkip(at: now)
    if upstreamPaused {
      upstreamPaused = false
      leg?.resumeReading()
      clock?.note(.resumed(.upstream), at: now)
    }
    watchSkip()
  }

  private func watchSkip() {
    guard state == .open, let skip else { return }
    let now = loop.now
    guard skip.isOver(at: now) else {
      skipTimer = loop.schedule(after: skip.deadline - now) { [self] in watchSkip() }
      return
    }
    self.skip = nil
    skipTimer = nil
    let shown = skip.shown()
    guard !shown.isEmpty else { return }
    record?.count(toViewer: shown.count)
    socket?.sendBinary(shown)
    credit?.note(sent: shown.count)
    adjustUpstream()
  }

  package func upstreamAlive(_ leg: UpstreamLeg) {
    clock?.note(.alive(.upstream), at: loop.now)
  }

  package func upstreamDrained(_ leg: UpstreamLeg) {
    pumpInput()
    adjustViewer()
  }

  private func fromViewer(_ bytes: UnsafeMutableRawBufferPointer) {
    guard state == .open, let leg else {
      violation("console bytes before the console was ready")
      return
    }
    record?.count(fromViewer: bytes.count)
    if isTerminal {
      guard !isReadOnly else { return }
      let now = loop.now
      clock?.note(.input, at: now)
      if InterruptSkip.isInterrupt(UnsafeRawBufferPointer(bytes)) { beginSkip(at: now) }
      input?.enqueue(UnsafeRawBufferPointer(bytes))
      pumpInput()
    } else {
      relayRFB(bytes, to: leg)
    }
    adjustViewer()
  }

  private func relayRFB(_ bytes: UnsafeMutableRawBufferPointer, to leg: UpstreamLeg) {
    var position = 0
    while handshake != nil {
      switch handshake?.next(bytes, &position) {
      case .send(let answer): socket?.sendBinary(answer)
      case .passThrough: handshake = nil
      case .violation(let what):
        violation(what)
        return
      case .needMore, nil: return
      }
    }
    let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[position...])
    guard !rest.isEmpty else { return }
    switch rfb?.filter(rest) {
    case .keep(let count):
      let now = loop.now
      if rfb?.takeSawInput() == true { clock?.note(.input, at: now) }
      guard count > 0 else { return }
      clock?.note(.sentUpstream, at: now)
      leg.send(UnsafeRawBufferPointer(rebasing: rest[..<count]))
    case .violation(let what): violation(what)
    case nil: break
    }
  }

  private func pumpInput() {
    guard state == .open, let leg, input != nil else { return }
    inputTimer?.cancel()
    inputTimer = nil
    let now = loop.now
    // Taken out for the call, so that the queue is not accessed twice at a time.
    guard var queue = input.take() else { return }
    let next = leg.pump(&queue, at: now)
    input = queue
    if let next {
      inputTimer = loop.schedule(after: max(.zero, next - now)) { [self] in
        pumpInput()
        adjustViewer()
      }
    }
  }

  /// Holds the viewer back while its input can't leave.
  private func adjustViewer() {
    guard state == .open, let leg, let socket else { return }
    let waiting = input?.pendingBytes ?? 0
    let full = leg.pendingBytes > 0 && waiting == 0 || waiting > ViewerSession.inputBound
    guard full != viewerPaused else { return }
    viewerPaused = full
    if full {
      socket.pauseReading()
      clock?.note(.paused(.viewer), at: loop.now)
    } else {
      socket.resumeReading()
      clock?.note(.resumed(.viewer), at: loop.now)
    }
  }

  /// Holds PVE back while the viewer can't take more.
  private func adjustUpstream() {
    guard state == .open, skip == nil, let leg, let socket else { return }
    let full = socket.isBacklogged || credit?.shouldPause == true
    guard full != upstreamPaused else { return }
    upstreamPaused = full
    lastPaused = loop.now
    if full {
      leg.pauseReading()
      clock?.note(.paused(.upstream), at: loop.now)
      armClock()
    } else {
      leg.resumeReading()
      clock?.note(.resumed(.upstream), at: loop.now)
    }
  }

  // MARK: Time

  private func armClock() {
    guard state == .open, let deadline = clock?.nextDeadline else { return }
    if let timer, timer.isPending, timer.deadline <= deadline { return }
    timer?.cancel()
    timer = loop.schedule(after: max(.zero, deadline - loop.now)) { [self] in tick() }
  }

  private func tick() {
    guard state == .open else { return }
    for action in clock?.due(at: loop.now) ?? [] {
      perform(action)
      guard state == .open else { return }
    }
    armClock()
  }

  private func perform(_ action: SessionClock.Action) {
    switch action {
    case .ping(.viewer): socket?.sendPing()
    case .ping(.upstream): leg?.ping()
    case .rfbKeepAlive:
      if rfb?.isAtBoundary == true, let leg {
        RFBClientStream.keepAlive.withUnsafeBytes { leg.send($0) }
      }
    case .idleWarning(let seconds): tell(.notice(.idleWarning, seconds: seconds))
    case .maximumDurationWarning(let seconds): tell(.notice(.maxDurationWarning, seconds: seconds))
    case .idle:
      finish(
        Ending(
          hop: .gateway, kind: .idle, sentence: "Nothing was typed for too long.",
          remedy: "Open the console again."))
    case .maximumDuration:
      finish(
        Ending(
          hop: .gateway, kind: .maxDuration, sentence: "The time that this link grants is over.",
          remedy: "Ask for a new link."))
    case .dead(.viewer):
      finish(
        Ending(
          hop: .viewer, kind: .viewerLost, sentence: "The viewer stopped answering.",
          remedy: "Check the viewer's network and open the console again."))
    case .dead(.upstream):
      finish(
        Ending(
          hop: .api, kind: .nodeUnreachable,
          sentence: "The Proxmox VE host stopped answering on the open console.",
          remedy: "Check the host and the network to it."))
    case .slowViewer:
      finish(
        Ending(
          hop: .viewer, kind: .slowViewer,
          sentence: "The viewer took nothing for too long, and Proxmox VE buffers without bound.",
          remedy: "Use a faster connection, or a smaller screen."))
    }
  }

  // MARK: The end

  package func upstreamEnded(_ leg: UpstreamLeg, _ failure: UpstreamFailure) {
    self.leg = nil
    guard state == .opening || state == .open, let grant else { return }
    let over = minted
    if let over { services.release(over) }
    minted = nil
    if state == .opening, attempt < limits.attempts, failure.deservesAnotherMint {
      // The worker of the failed dial needs a moment to give up its listener, and a node to catch its breath.
      timer = loop.schedule(after: .milliseconds(300 * (1 << (attempt - 1)))) { [self] in mint() }
      return
    }
    state = .diagnosing
    let services = services
    let handle = OnLoop(self, loop: loop)
    opening = Task {
      let ending = await services.diagnose(failure, of: grant, minted: over)
      handle.execute { $0.finish(ending) }
    }
  }

  private func finish(_ ending: Ending) {
    guard state != .ended else { return }
    state = .ended
    timer?.cancel()
    inputTimer?.cancel()
    skipTimer?.cancel()
    timer = nil
    inputTimer = nil
    skipTimer = nil
    opening?.cancel()
    opening = nil
    record?.update {
      $0.state = .ended
      $0.ended = Date()
      $0.ending = ending
    }
    if let leg {
      leg.close()
      self.leg = nil
    }
    if let minted {
      services.release(minted)
      self.minted = nil
    }
    input = nil
    guard let socket else { return }
    if mayNotify { socket.sendText(GatewayMessage.ended(ending).json) }
    socket.close(code: ending.kind.closeCode, reason: ending.closeReason)
    self.socket = nil
  }

  /// Whether a text frame would be understood: always before the console is open and on terminals; on a screen once it
  /// is open only where the viewer said so, since a plain RFB client takes everything for RFB.
  private var mayNotify: Bool {
    wantsNotices || grant == nil || grant?.console.isTerminal == true || clock == nil
  }

  private func tell(_ message: GatewayMessage) {
    if mayNotify { socket?.sendText(message.json) }
  }
}

extension UpstreamFailure {
  /// Whether a fresh mint may do better. What would only fail again, or what an operator has to mend, is not retried.
  package var deservesAnotherMint: Bool {
    switch self {
    case .notConnected(let end):
      switch end {
      case .connectFailed, .connectTimedOut: true
      default: false
      }
    case .console(let failure):
      switch failure {
      case .upgradeRefused(let status, _, _): status == 401 || status >= 500
      case .closedEarly(.upgrade), .closedEarly(.login), .closedBeforeGreeting, .rfbAuthFailed: true
      default: false
      }
    case .silent(let stage): stage != "login"
    case .endedOpen: false
    }
  }
}
