import ConsoleDial
import ConsoleProtocol
import EventLoop
import Gateway

/// A console without a gateway in between: minted with the cluster's credential and dialled from here. It is the
/// gateway's relay with a person at its other end.
final class DirectLine: ConsoleLine, UpstreamOwner {
  private enum State { case opening, open, over }

  private let loop: Loop
  private let services: any ConsoleServices
  private let grant: Grant
  private weak var user: (any ConsoleLineUser)?
  private var size: TerminalSize?
  private var state = State.opening
  private var attempt = 0
  private var minted: MintedConsole?
  private var leg: UpstreamLeg?
  private var input: TerminalInput?
  private var handshake: RFBViewerHandshake?
  private var inputTimer: LoopTimer?
  private var tick: LoopTimer?
  private var clock: SessionClock?
  private var rfb: RFBClientStream?

  init(
    grant: Grant, size: TerminalSize?, services: any ConsoleServices, loop: Loop,
    user: any ConsoleLineUser
  ) {
    self.grant = grant
    self.size = size
    self.services = services
    self.loop = loop
    self.user = user
  }

  func start() { mint() }

  // MARK: Opening

  private func mint() {
    guard state == .opening else { return }
    attempt += 1
    let (services, grant, attempt) = (services, grant, attempt)
    let size = size.map { (columns: $0.columns, rows: $0.rows) }
    let me = OnLoop(self, loop: loop)
    Task {
      do throws(Ending) {
        let minted = try await services.mint(grant, size: size, attempt: attempt)
        me.execute { $0.dial(minted) }
      } catch {
        me.execute { $0.finish(error) }
      }
    }
  }

  private func dial(_ minted: MintedConsole) {
    guard state == .opening else {
      minted.loginOver()
      services.release(minted)
      return
    }
    self.minted = minted
    let leg = UpstreamLeg(on: loop, to: minted, timeout: services.limits.dial, owner: self)
    self.leg = leg
    leg.dial()
  }

  func upstream(_ leg: UpstreamLeg, reached stage: ConsoleStage) {}

  func upstreamOpened(_ leg: UpstreamLeg) {
    guard state == .opening, let minted else { return }
    state = .open
    var policy = SessionClock.Policy()
    policy.pingInterval = services.limits.pingInterval
    policy.deadAfter = services.limits.deadAfter
    if grant.console.isTerminal {
      var queue = TerminalInput(maximumFrame: minted.plan.maximumFrame, size: size)
      queue.open(at: loop.now)
      input = queue
    } else {
      policy.rfbKeepAlive = services.limits.rfbKeepAlive
      handshake = RFBViewerHandshake()
      rfb = RFBClientStream(viewOnly: grant.readOnly)
    }
    clock = SessionClock(policy: policy, startingAt: loop.now)
    let place = minted.place
    user?.consoleOpened(
      ConsoleAbout(
        target: place.description, node: place.node.value, name: place.name, console: grant.console)
    )
    if !grant.console.isTerminal {
      var banner = RFBViewerHandshake.greeting
      banner.withUnsafeMutableBytes { user?.console(received: $0) }
    }
    pump()
    arm()
  }

  // MARK: Bytes

  func send(_ bytes: UnsafeRawBufferPointer) {
    guard state == .open, let leg else { return }
    if input != nil {
      if grant.readOnly { return }
      input?.enqueue(bytes)
      pump()
      return
    }
    // The machines of RFB change their buffer in place, so that they get one of their own.
    var copy = [UInt8](bytes)
    copy.withUnsafeMutableBytes { relay($0, to: leg) }
  }

  private func relay(_ bytes: UnsafeMutableRawBufferPointer, to leg: UpstreamLeg) {
    var position = 0
    while handshake != nil {
      switch handshake?.next(bytes, &position) {
      case .send(var answer): answer.withUnsafeMutableBytes { user?.console(received: $0) }
      case .passThrough: handshake = nil
      case .violation(let what): return broken(what)
      case .needMore, nil: return
      }
    }
    let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[position...])
    guard !rest.isEmpty else { return }
    switch rfb?.filter(rest) {
    case .keep(let count):
      guard count > 0 else { return }
      clock?.note(.sentUpstream, at: loop.now)
      leg.send(UnsafeRawBufferPointer(rebasing: rest[..<count]))
    case .violation(let what): broken(what)
    case nil: break
    }
  }

  private func broken(_ what: String) {
    finish(
      Ending(
        hop: .viewer, kind: .viewerViolation, sentence: "The viewer broke the protocol: \(what).",
        remedy: "Use a VNC viewer that speaks RFB 3.3 to 3.8 without extensions of its own."))
  }

  var pendingBytes: Int { (leg?.pendingBytes ?? 0) + (input?.pendingBytes ?? 0) }

  func resize(_ size: TerminalSize) {
    self.size = size
    input?.resize(size, at: loop.now)
    pump()
  }

  func consumed(_ count: Int) {}
  func pauseReading() {
    leg?.pauseReading()
    clock?.note(.paused(.upstream), at: loop.now)
  }
  func resumeReading() {
    leg?.resumeReading()
    clock?.note(.resumed(.upstream), at: loop.now)
  }

  private func pump() {
    guard state == .open, let leg, var queue = input.take() else { return }
    inputTimer?.cancel()
    inputTimer = nil
    let now = loop.now
    let next = leg.pump(&queue, at: now)
    input = queue
    if let next {
      inputTimer = loop.schedule(after: max(.zero, next - now)) { [weak self] in
        self?.pump()
        self?.user?.consoleDrained()
      }
    }
  }

  func upstream(_ leg: UpstreamLeg, received bytes: UnsafeMutableRawBufferPointer) {
    clock?.note(.received(.upstream), at: loop.now)
    user?.console(received: bytes)
  }

  func upstreamAlive(_ leg: UpstreamLeg) { clock?.note(.alive(.upstream), at: loop.now) }

  func upstreamDrained(_ leg: UpstreamLeg) {
    pump()
    user?.consoleDrained()
  }

  // MARK: Time

  private func arm() {
    guard state == .open, let deadline = clock?.nextDeadline else { return }
    tick = loop.schedule(after: max(.milliseconds(1), deadline - loop.now)) { [weak self] in
      self?.ring()
    }
  }

  private func ring() {
    // The viewer is this process: it is never silent.
    clock?.note(.alive(.viewer), at: loop.now)
    for action in clock?.due(at: loop.now) ?? [] {
      switch action {
      case .ping(.upstream): leg?.ping()
      case .rfbKeepAlive:
        if rfb?.isAtBoundary == true, handshake == nil {
          RFBClientStream.keepAlive.withUnsafeBytes { leg?.send($0) }
        }
      case .dead(.upstream):
        return finish(
          Ending(
            hop: .api, kind: .nodeUnreachable,
            sentence: "The Proxmox VE host stopped answering on the open console.",
            remedy: "Check the host and the network to it."))
      default: break
      }
    }
    arm()
  }

  // MARK: The end

  func upstreamEnded(_ leg: UpstreamLeg, _ failure: UpstreamFailure) {
    self.leg = nil
    guard state != .over else { return }
    let over = minted
    minted = nil
    if let over { services.release(over) }
    if state == .opening, attempt < services.limits.attempts, failure.deservesAnotherMint {
      tick = loop.schedule(after: .milliseconds(300 * attempt)) { [weak self] in self?.mint() }
      return
    }
    let (services, grant) = (services, grant)
    let me = OnLoop(self, loop: loop)
    Task {
      let ending = await services.diagnose(failure, of: grant, minted: over)
      me.execute { $0.finish(ending) }
    }
  }

  private func finish(_ ending: Ending) {
    guard state != .over else { return }
    let last = user
    leave()
    last?.consoleEnded(ending)
  }

  func leave() {
    guard state != .over else { return }
    state = .over
    inputTimer?.cancel()
    tick?.cancel()
    leg?.close()
    leg = nil
    if let minted { services.release(minted) }
    minted = nil
    user = nil
  }
}
