import EventLoop

/// termproxy: a line with the ticket, `OK`, then a terminal.
final class TermproxyWorker: SingleClientWorker, TerminalSink {
  private enum Phase {
    case line([UInt8])
    case running(any TerminalProgram)
    case programEnded
    case over
  }

  /// The line's limit, newline included.
  private static let maximumLine = 4096
  /// Below this a read is taken at once; above, termproxy (a process of its own) is still busy when more arrives,
  /// and reads it in one go.
  private static let burst = 256

  /// How long output waits where the last of it will be lost.
  private static let tailLife: Duration = .milliseconds(25)

  private let ticket: String
  private let order: MintOrder
  private let makeProgram: () -> any TerminalProgram
  private var phase = Phase.line([])
  private var parser = TermproxyParser()
  private var inbox: [UInt8] = []
  private var inboxTimer: LoopTimer?
  private var lineTimer: LoopTimer?
  /// Output that waits a moment, so that it can be lost (``TerminalEnding/losesTail``).
  private var tail: [UInt8] = []
  private var tailTimer: LoopTimer?
  /// `OK` waits for the first output, which often comes in the same read.
  private var okPending = false

  init(
    node: PVENode, upid: String, port: Int, ticket: String, order: MintOrder,
    program: @escaping () -> any TerminalProgram
  ) {
    self.ticket = ticket
    self.order = order
    makeProgram = program
    super.init(node: node, upid: upid, port: port)
  }

  /// Decided once, when the program starts.
  private var ending = TerminalEnding.clean

  override func connected() {
    lineTimer = node.loop.schedule(after: node.timings.loginLine) { [weak self] in
      self?.fail("failed reading ticket: timed out")
    }
  }

  override func nobodyCame() { fail("failed waiting for client: timed out") }

  private func fail(_ reason: String) {
    let flags = node.era.termproxyFlags(order.check)
    finish(
      "command '/usr/bin/termproxy \(port) --path \(order.path) --perm \(order.privilege)\(flags) "
        + "-- \(order.command)' failed: exit code 1",
      log: [reason])
  }

  // MARK: client to program

  override func receive(_ bytes: UnsafeRawBufferPointer) {
    switch phase {
    case .line(var line):
      // Only the line is looked for here; what follows it in the same read is kept.
      let room = TermproxyWorker.maximumLine - line.count
      if let end = bytes.prefix(room).firstIndex(of: 10) {
        line.append(contentsOf: bytes[..<end])
        login(line)
        if end + 1 < bytes.count { receive(UnsafeRawBufferPointer(rebasing: bytes[(end + 1)...])) }
      } else if bytes.count >= room {
        fail("failed reading ticket: connection closed before authentication")
      } else {
        line.append(contentsOf: bytes)
        phase = .line(line)
      }
    case .running:
      if inbox.isEmpty, inboxTimer == nil, bytes.count < TermproxyWorker.burst {
        parse(bytes)
      } else {
        inbox.append(contentsOf: bytes)
        if inbox.count > node.behaviour.relayBuffer {
          finish("interrupted by signal", log: ["the program doesn't read"])
          return
        }
        guard inboxTimer == nil else { return }
        inboxTimer = node.loop.schedule(after: .milliseconds(1)) { [weak self] in
          self?.parseInbox()
        }
      }
    case .programEnded, .over: break
    }
  }

  private func parseInbox() {
    inboxTimer = nil
    let bytes = inbox
    inbox = []
    bytes.withUnsafeBytes { parse($0) }
  }

  private func parse(_ bytes: UnsafeRawBufferPointer) {
    guard case .running(let program) = phase else { return }
    parser.feed(bytes) { event in
      switch event {
      case .input(let data): data.withUnsafeBytes { program.input($0) }
      case .resize(let columns, let rows):
        program.resize(columns: min(columns, 65_535), rows: min(rows, 65_535))
      }
    }
  }

  private func login(_ line: [UInt8]) {
    lineTimer?.cancel()
    // Split at the first colon: an auth id holds none, a ticket holds many.
    let parts = line.split(separator: 58, maxSplits: 1, omittingEmptySubsequences: false)
    let shown = parts.count == 2 ? Array(parts[1]) : []
    let who = String(decoding: parts.first ?? [], as: UTF8.self)
    let isPinned =
      !node.era.termproxyPinsTicket || constantTimeEqual(shown, Array(ticket.utf8))
    guard parts.count == 2, isPinned,
      node.isWelcome(who, String(decoding: shown, as: UTF8.self), order, port: port)
    else {
      fail("authentication request failed")
      return
    }
    ending = node.consoles.nextEnding(
      client?.plan?.terminalEnding ?? node.behaviour.terminalEnding ?? node.era.terminalEnding,
      seed: node.behaviour.endingSeed)
    let program = makeProgram()
    phase = .running(program)
    okPending = true
    program.start(self, columns: 80, rows: 20)
    node.loop.schedule(after: .milliseconds(5)) { [weak self] in self?.sendOK() }
  }

  private func sendOK() {
    guard okPending, isConnected else { return }
    okPending = false
    send(Array("OK".utf8))
  }

  // MARK: program to client

  func output(_ bytes: UnsafeRawBufferPointer) {
    guard isConnected else { return }
    if okPending {
      okPending = false
      send(Array("OK".utf8) + Array(bytes))
    } else if ending == .losesTail {
      tail.append(contentsOf: bytes)
      if tailTimer == nil {
        tailTimer = node.loop.schedule(after: TermproxyWorker.tailLife) { [weak self] in
          guard let self else { return }
          self.tailTimer = nil
          self.send(self.tail)
          self.tail = []
        }
      }
    } else {
      send(bytes)
    }
    if case .running(let program) = phase, node.behaviour.overflow == .pause,
      (client?.queuedBytes ?? 0) > 1 << 20
    {
      program.pause()
    }
  }

  var backlog: Int { client?.queuedBytes ?? 0 }

  /// What wasn't sent by now is lost, where the ending is of that kind.
  func hungUp() {
    guard ending == .losesTail else { return }
    tailTimer?.cancel()
    tail = []
  }

  func programEnded(exitStatus: Int) {
    guard isConnected else { return }
    switch ending {
    case .staysOpen, .mixed:
      // The hang-up of the terminal is not noticed: the connection stays, and nothing comes any more.
      sendOK()
      phase = .programEnded
    case .losesTail:
      tailTimer?.cancel()
      tail = []
      fail("error reading from pty: Input/output error (os error 5)")
    case .clean:
      sendOK()
      // The relay drops what it hasn't sent when the backend ends; give the loop a turn to send it.
      node.loop.schedule(after: .milliseconds(1)) { [weak self] in self?.finish() }
    }
  }

  /// What was sent before the end is still delivered.
  override func clientClosed() {
    inboxTimer?.cancel()
    parseInbox()
    super.clientClosed()
  }

  override func clientDrained() {
    if case .running(let program) = phase { program.drained() }
  }

  override func letGo() {
    lineTimer?.cancel()
    inboxTimer?.cancel()
    tailTimer?.cancel()
    if case .running(let program) = phase { program.close() }
    phase = .over
  }
}
