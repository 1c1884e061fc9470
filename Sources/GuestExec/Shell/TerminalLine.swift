import ConsoleDial
import ConsoleProtocol
import EventLoop

/// What a terminal's line tells, on the loop's thread.
protocol TerminalLineUser: AnyObject {
  /// Bytes of the terminal. Valid during the call only.
  func line(received bytes: UnsafeRawBufferPointer)
  /// All input that was given has left.
  func lineDrained()
  /// The connection is over; the last call.
  func lineEnded(_ failure: UpstreamFailure)
}

/// One open terminal of PVE, as bytes both ways: input leaves by termproxy's rules, the connection is watched, and
/// output that comes before somebody listens is kept. Belongs to a loop.
final class TerminalLine: UpstreamOwner {
  /// Between pings, and the silence after which the host counts as gone.
  private static let pingInterval: Duration = .seconds(20)
  private static let deadAfter: Duration = .seconds(60)

  let loop: Loop
  private let leg: LegHolder
  private var input: TerminalInput
  private weak var user: (any TerminalLineUser)?
  private var early: [UInt8] = []
  private var inputTimer: LoopTimer?
  private var tick: LoopTimer?
  private var lastHeard: Duration
  private var opened: ((UpstreamFailure?) -> Void)?
  private var isOpen = false
  private var isOver = false
  private var isPaused = false
  private var failure: UpstreamFailure?

  /// The leg needs its owner to be made.
  private final class LegHolder { var leg: UpstreamLeg? }

  /// Dials. `opened` is called once, with nil or why not.
  init(
    on loop: Loop, to minted: MintedConsole, timeout: Duration, size: TerminalSize?,
    opened: @escaping (UpstreamFailure?) -> Void
  ) {
    self.loop = loop
    self.opened = opened
    lastHeard = loop.now
    input = TerminalInput(maximumFrame: minted.plan.maximumFrame, size: size)
    leg = LegHolder()
    let dialled = UpstreamLeg(on: loop, to: minted, timeout: timeout, owner: self)
    leg.leg = dialled
    dialled.dial()
  }

  /// Who hears the rest; what came before is told at once.
  func attach(_ user: any TerminalLineUser) {
    self.user = user
    let kept = early
    early = []
    if !kept.isEmpty { kept.withUnsafeBytes { user.line(received: $0) } }
    if let failure { user.lineEnded(failure) }
  }

  /// Types bytes.
  func send(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { input.enqueue($0) }
    pump()
  }

  /// Bytes of input that have not left yet.
  var pendingBytes: Int { input.pendingBytes + (leg.leg?.pendingBytes ?? 0) }

  /// The terminal's size.
  func resize(_ size: TerminalSize) {
    input.resize(size, at: loop.now)
    pump()
  }

  /// Stops and goes on reading.
  func pauseReading() {
    isPaused = true
    leg.leg?.pauseReading()
  }
  func resumeReading() {
    guard isPaused else { return }
    isPaused = false
    lastHeard = loop.now
    leg.leg?.resumeReading()
  }

  /// Closes; nobody is told.
  func close() {
    guard !isOver else { return }
    finish()
    leg.leg?.close()
    leg.leg = nil
  }

  private func finish() {
    isOver = true
    isOpen = false
    opened = nil
    user = nil
    inputTimer?.cancel()
    tick?.cancel()
    inputTimer = nil
    tick = nil
  }

  private func pump() {
    guard isOpen, let leg = leg.leg else { return }
    inputTimer?.cancel()
    inputTimer = nil
    let next = leg.pump(&input, at: loop.now)
    if let next {
      inputTimer = loop.schedule(after: max(.zero, next - loop.now)) { [weak self] in self?.pump() }
    }
    if input.pendingBytes == 0 { user?.lineDrained() }
  }

  private func arm() {
    tick = loop.schedule(after: Self.pingInterval) { [weak self] in
      guard let self, self.isOpen else { return }
      if !self.isPaused, self.loop.now - self.lastHeard > Self.deadAfter {
        self.end(.silent(stage: "open"))
        return
      }
      self.leg.leg?.ping()
      self.arm()
    }
  }

  private func end(_ failure: UpstreamFailure) {
    guard !isOver else { return }
    let user = user
    let opened = opened
    let leg = leg.leg
    self.failure = failure
    finish()
    leg?.close()
    self.leg.leg = nil
    if let opened { opened(failure) } else { user?.lineEnded(failure) }
  }

  // MARK: UpstreamOwner

  func upstream(_ leg: UpstreamLeg, reached stage: ConsoleStage) {}

  func upstreamOpened(_ leg: UpstreamLeg) {
    guard !isOver else { return }
    isOpen = true
    lastHeard = loop.now
    input.open(at: loop.now)
    arm()
    let opened = opened
    self.opened = nil
    opened?(nil)
    pump()
  }

  func upstream(_ leg: UpstreamLeg, received bytes: UnsafeMutableRawBufferPointer) {
    lastHeard = loop.now
    if let user {
      user.line(received: UnsafeRawBufferPointer(bytes))
    } else if !isOver {
      early.append(contentsOf: bytes)
    }
  }

  func upstreamAlive(_ leg: UpstreamLeg) { lastHeard = loop.now }
  func upstreamDrained(_ leg: UpstreamLeg) { pump() }
  func upstreamEnded(_ leg: UpstreamLeg, _ failure: UpstreamFailure) { end(failure) }
}
