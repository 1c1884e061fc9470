import ConsoleProtocol
import EventLoop

/// What an upstream leg tells its owner, on the loop's thread.
package protocol UpstreamOwner: AnyObject {
  /// Connected, or upgraded: the login goes on.
  func upstream(_ leg: UpstreamLeg, reached stage: ConsoleStage)
  /// Console bytes may flow.
  func upstreamOpened(_ leg: UpstreamLeg)
  /// Console bytes, in place; the 16 bytes in front may be overwritten. Valid during the call only.
  func upstream(_ leg: UpstreamLeg, received bytes: UnsafeMutableRawBufferPointer)
  /// A pong.
  func upstreamAlive(_ leg: UpstreamLeg)
  /// All that was sent has left.
  func upstreamDrained(_ leg: UpstreamLeg)
  /// The last call, exactly once, unless the owner closed the leg itself.
  func upstreamEnded(_ leg: UpstreamLeg, _ failure: UpstreamFailure)
}

/// One dial of one minted console: a socket with TLS on a loop, and the machine that speaks PVE's websocket and login
/// over it. Used once; another attempt is another mint and another leg.
package final class UpstreamLeg: StreamHandler {
  private let loop: Loop
  private var minted: MintedConsole
  /// Strong until the leg is over, which breaks the cycle: a weak reference would cost every chunk of bytes.
  private var owner: (any UpstreamOwner)?
  private var machine: ConsoleUpstream
  private let writer: UpstreamWriter
  private var stream: EventLoop.Stream?
  private var timer: LoopTimer?
  private var nextAddress = 0
  private var isOver = false
  private let timeout: Duration

  /// Prepares a dial.
  /// - Parameter timeout: for everything from TCP to the end of the inner login.
  package init(
    on loop: Loop, to minted: MintedConsole, timeout: Duration, owner: any UpstreamOwner
  ) {
    self.loop = loop
    self.minted = minted
    self.owner = owner
    self.timeout = timeout
    let (key, accept) = RelayCrypto.webSocketKey()
    machine = ConsoleUpstream(
      plan: minted.plan, key: key, expectedAccept: accept, mask: RelayCrypto.mask)
    writer = machine.writer
  }

  /// Begins. Every outcome arrives at the owner, never during this call.
  package func dial() {
    timer = loop.schedule(after: timeout) { self.timedOut() }
    connect()
  }

  private func connect() {
    guard nextAddress < minted.addresses.count else {
      failLater(.notConnected(.connectFailed("the host has no address")))
      return
    }
    let address = minted.addresses[nextAddress]
    nextAddress += 1
    do {
      stream = try Stream.connect(
        on: loop, to: address, tls: minted.tls, serverName: minted.plan.host, timeout: timeout,
        handler: self)
    } catch {
      if nextAddress < minted.addresses.count {
        connect()
      } else {
        failLater(.notConnected(.connectFailed("\(error)")))
      }
    }
  }

  private func failLater(_ failure: UpstreamFailure) {
    loop.schedule(after: .zero) { [self] in fail(failure) }
  }

  // MARK: Used by the owner

  /// Whether console bytes flow.
  package private(set) var isOpen = false

  /// Bytes that the kernel did not take yet: the owner stops its source meanwhile.
  package var pendingBytes: Int { stream?.pendingBytes ?? 0 }

  /// Sends console bytes as whole masked frames. At most 64 KiB at a time are copied.
  package func send(_ bytes: UnsafeRawBufferPointer) {
    guard isOpen, let stream else { return }
    var rest = bytes
    while !rest.isEmpty {
      let count = min(rest.count, writer.payloadThatFits(loop.scratch.count))
      let piece = UnsafeRawBufferPointer(rebasing: rest[..<count])
      let n = writer.encode(piece, into: loop.scratch)
      stream.write(UnsafeRawBufferPointer(rebasing: loop.scratch[..<n]))
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
  }

  /// Sends what a terminal's queue has ready. Returns when to ask again; nil when the socket is full (`upstreamDrained`
  /// follows) or the leg isn't open.
  package func pump(_ input: inout TerminalInput, at now: Duration) -> Duration? {
    while isOpen, let stream, stream.pendingBytes == 0 {
      switch writer.encode(&input, at: now, into: loop.scratch) {
      case .encoded(let n):
        stream.write(UnsafeRawBufferPointer(rebasing: loop.scratch[..<n]))
      case .wait(let until): return until
      case .idle: return nil
      }
    }
    return nil
  }

  /// Sends a websocket ping.
  package func ping() {
    if isOpen { stream?.write(writer.ping()) }
  }

  /// Stops and goes on reading from PVE.
  package func pauseReading() { stream?.pauseReading() }
  /// Reads again.
  package func resumeReading() { stream?.resumeReading() }

  /// Closes in good order: a close frame (pveproxy closes the console's backend on it), then the connection. The owner
  /// hears no more.
  package func close() {
    guard !isOver else { return }
    let wasOpen = isOpen || machine.stage == .login
    finish()
    guard let stream else { return }
    if wasOpen, stream.isOpen {
      stream.write(writer.close())
      stream.closeAfterFlush()
    } else {
      stream.close()
    }
    // A peer that takes nothing more would keep the socket open for as long as it likes.
    if stream.pendingBytes > 0 {
      loop.schedule(after: .seconds(2)) { stream.close() }
    }
    self.stream = nil
  }

  // MARK: Stream events

  package func streamConnected(_ stream: EventLoop.Stream) {
    guard !isOver else { return }
    stream.write(machine.requestBytes())
    owner?.upstream(self, reached: .upgrade)
  }

  package func stream(
    _ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer
  ) {
    var position = 0
    while !isOver {
      switch machine.next(bytes, &position) {
      case .needMore: return
      case .bytes(let range):
        owner?.upstream(self, received: UnsafeMutableRawBufferPointer(rebasing: bytes[range]))
      case .send(let answer): stream.write(answer)
      case .pong: owner?.upstreamAlive(self)
      case .challenge(let password, let challenge):
        guard let response = RelayCrypto.vncResponse(password: password, challenge: challenge)
        else {
          fail(.console(.rfbViolation("DES is not available")))
          return
        }
        stream.write(machine.answerChallenge(response))
      case .stage(let stage): owner?.upstream(self, reached: stage)
      case .opened:
        timer?.cancel()
        timer = nil
        minted.loginOver()
        minted = minted.spent
        isOpen = true
        owner?.upstreamOpened(self)
      case .failed(let failure):
        fail(.console(failure))
        return
      }
    }
  }

  package func streamDrained(_ stream: EventLoop.Stream) {
    if !isOver { owner?.upstreamDrained(self) }
  }

  package func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {
    guard !isOver else { return }
    switch end {
    case .connectFailed where nextAddress < minted.addresses.count:
      // Nothing was sent, so the minted port is untouched; the next address of the same host may do.
      connect()
    case .connectFailed, .connectTimedOut, .tlsUntrusted: fail(.notConnected(end))
    case .tlsFailed where machine.stage == .upgrade: fail(.notConnected(end))
    default:
      let wasOpen = isOpen
      let failure = machine.closed()
      fail(wasOpen ? .endedOpen(end) : .console(failure))
    }
  }

  private func timedOut() {
    guard !isOver else { return }
    switch machine.stage {
    case .login: fail(.silent(stage: "login"))
    default: fail(.silent(stage: stream?.isOpen == true ? "upgrade" : "connect"))
    }
  }

  private func fail(_ failure: UpstreamFailure) {
    guard !isOver else { return }
    let owner = owner
    finish()
    stream?.close()
    stream = nil
    owner?.upstreamEnded(self, failure)
  }

  private func finish() {
    isOver = true
    isOpen = false
    owner = nil
    timer?.cancel()
    timer = nil
    minted.loginOver()
  }
}
