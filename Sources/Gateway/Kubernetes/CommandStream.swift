import ConsoleProtocol
import EventLoop
import GuestExec
import Logging

/// One client on one job: the streams of a command in a websocket, framed as Kubernetes does (``RemoteCommand``). It
/// belongs to the loop that accepted the websocket.
///
/// Both ways are held back by the slower side: a client that doesn't read stops the job's follower, which reads from
/// files; a command that doesn't read stops the reading of the websocket. A client that goes away is told to the job,
/// which then does what its order says.
final class CommandStream: WebSocketHandler {
  /// What is to be streamed.
  enum Work: Sendable {
    /// A new job.
    case order(JobOrder)
    /// A job that there is, from a position on.
    case attach(id: String, from: ExecPosition)
  }

  /// Which streams the client wants.
  struct Wanted: Sendable, Hashable {
    var stdin = false
    var stdout = true
    var stderr = true
    var terminal = false
  }

  /// Times, which tests shorten.
  struct Timings: Sendable {
    /// A terminal's first size is waited for this long, where the order has none: kubectl sends it right after the start.
    var firstSize = Duration.seconds(1)
    /// Between pings of ours.
    var ping = Duration.seconds(25)
    /// A client from which nothing came for so long, while it could have answered, is gone.
    var dead = Duration.seconds(75)
    /// Between pongs that nobody asked for, while reading rests. Kubernetes' clients give up after 61 seconds without
    /// one.
    var pong = Duration.seconds(5)
  }

  private enum State { case opening, sizing, running, ended }

  private let loop: Loop
  private let engine: JobEngine
  /// Whoever asks.
  let key: APIKey
  private let wanted: Wanted
  private let timings: Timings
  private var work: Work
  private var reader: RemoteCommandReader
  private var state = State.opening
  private var socket: WebSocket?
  private let gate = CommandStreamGate()
  private var input: CommandStreamInput?
  private var attachment: JobAttachment?
  private var follower: Task<Void, Never>?
  private var timer: LoopTimer?
  private var heard = Duration.zero
  private var isPaused = false
  private var id: String?
  private var size: TerminalSize?
  private var isResizing = false

  /// A stream for a websocket that is about to open on `loop`.
  init(
    _ work: Work, _ wanted: Wanted, version: RemoteCommand.Version, by key: APIKey,
    engine: JobEngine, on loop: Loop, timings: Timings = Timings()
  ) {
    self.work = work
    self.wanted = wanted
    self.key = key
    self.engine = engine
    self.loop = loop
    self.timings = timings
    reader = RemoteCommandReader(version)
  }

  // MARK: The websocket

  func webSocketOpened(_ socket: WebSocket) {
    self.socket = socket
    heard = loop.now
    let handle = OnLoop(self, loop: loop)
    input = CommandStreamInput { handle.execute { $0.adjustReading(full: false) } }
    if case .order(let order) = work, wanted.terminal, order.request.terminal == nil {
      state = .sizing
      timer = loop.schedule(after: timings.firstSize) { [self] in begin() }
    } else {
      begin()
    }
  }

  func webSocket(
    _ socket: WebSocket, received bytes: UnsafeMutableRawBufferPointer, isText: Bool, isFirst: Bool,
    isFinal: Bool
  ) {
    heard = loop.now
    // What a client sends on behind the end is taken and dropped, so that the end reaches it.
    guard state != .ended else { return }
    switch reader.take(UnsafeRawBufferPointer(bytes), isFinal: isFinal) {
    case nil: break
    case .stdin(let range):
      guard wanted.stdin, let input else { return }
      adjustReading(full: !input.put(bytes[range]))
    case .stdinClosed: input?.close()
    case .resize(let size):
      if case .order = work, !wanted.terminal { return }
      self.size = size
      if state == .sizing { begin() } else { pumpSize() }
    case .violation(let what):
      finish(
        .failed(
          "BadRequest", "The client broke the protocol: \(what).", code: 400,
          causes: [.init("Sallyport", "protocol-violation")]), code: 1002)
    }
  }

  func webSocketPong(_ socket: WebSocket) { heard = loop.now }

  func webSocketDrained(_ socket: WebSocket) {
    heard = loop.now
    gate.open()
  }

  func webSocketClosed(_ socket: WebSocket, code: UInt16?, reason: String) {
    self.socket = nil
    end()
  }

  /// Holds the client back while its input can't leave.
  private func adjustReading(full: Bool) {
    guard full != isPaused, let socket else { return }
    isPaused = full
    if full {
      socket.pauseReading()
      armPing()
    } else {
      heard = loop.now
      socket.resumeReading()
      armPing()
    }
  }

  // MARK: The job

  private func begin() {
    guard state == .opening || state == .sizing else { return }
    state = .running
    timer?.cancel()
    armPing()
    if case .order(var order) = work, wanted.terminal {
      order.request.terminal =
        size ?? order.request.terminal ?? TerminalSize(columns: 80, rows: 24)
      size = nil
      work = .order(order)
    }
    let handle = OnLoop(self, loop: loop)
    let follow = Follow(
      engine: engine, key: key, work: work, wanted: wanted, gate: gate,
      tell: { body in handle.execute(body) })
    follower = Task { await follow.run() }
  }

  /// The job is there, and knows that somebody looks on.
  fileprivate func attached(_ id: String, _ attachment: JobAttachment) {
    guard state == .running else {
      // The client left while the job was being made.
      attachment.release()
      follower?.cancel()
      return
    }
    self.id = id
    self.attachment = attachment
  }

  /// The command runs: what was typed goes in.
  fileprivate func started() {
    guard state == .running, let id, let input else { return }
    pumpSize()
    guard wanted.stdin else { return }
    let engine = engine
    let handle = OnLoop(self, loop: loop)
    Task {
      while let item = await input.next() {
        do throws(Problem) {
          switch item {
          case .bytes(let bytes): _ = try await engine.write(id, bytes, at: nil)
          case .end: try await engine.closeInput(id)
          }
        } catch {
          input.finish()
          // A command that is over takes no more, as with a pipe.
          if error.kind == "job-over" { return }
          handle.execute { $0.inputRefused(error) }
          return
        }
      }
    }
  }

  /// A command whose input is incomplete must not pass for one that ran as it was meant.
  private func inputRefused(_ problem: Problem) {
    guard state == .running, let id else { return }
    guard case .order = work else {
      // Somebody else's command goes on.
      finish(
        RemoteCommandStatus(problem, before: "Standard input could not be delivered. "))
      return
    }
    let engine = engine
    Task { try? await engine.cancel(id) }
    finish(
      RemoteCommandStatus(
        problem, before: "The command was cancelled: its standard input could not be delivered. "))
  }

  /// The latest size goes to the command; those that came meanwhile are passed over.
  private func pumpSize() {
    guard state == .running, let id, let size, !isResizing else { return }
    self.size = nil
    isResizing = true
    let engine = engine
    let handle = OnLoop(self, loop: loop)
    Task {
      try? await engine.resize(id, size)
      handle.execute {
        $0.isResizing = false
        $0.pumpSize()
      }
    }
  }

  /// Output, in one message; the gate opens when it has left.
  fileprivate func send(_ message: [UInt8]) {
    guard state == .running, let socket else {
      gate.open()
      return
    }
    socket.sendBinary(message)
    if !socket.isBacklogged { gate.open() }
  }

  // MARK: Time

  private func armPing() {
    timer?.cancel()
    guard state == .running else { return }
    timer = loop.schedule(after: isPaused ? timings.pong : timings.ping) { [self] in
      guard state == .running, let socket else { return }
      if isPaused {
        socket.sendPong()
      } else if socket.isBacklogged {
        // It is alive as long as the kernel gets its acknowledgements: a pager may rest for hours.
        heard = loop.now
      } else if loop.now - heard > timings.dead {
        socket.kill()
        return
      } else {
        socket.sendPing()
      }
      armPing()
    }
  }

  // MARK: The end

  /// The last message, then the websocket closes: with 1000 also for refusals, because kubectl shows the status after no
  /// other.
  fileprivate func finish(_ status: RemoteCommandStatus, code: UInt16 = 1000) {
    guard state != .ended, let socket else { return }
    socket.sendBinary(RemoteCommand.message(.status, Array(status.json.utf8)))
    end()
    socket.close(code: code, reason: code == 1000 ? "" : status.message)
  }

  private func end() {
    state = .ended
    timer?.cancel()
    timer = nil
    gate.finish()
    input?.finish()
    attachment?.release()
    attachment = nil
    // Before the job is there the task goes on until it has released what it makes.
    if id != nil { follower?.cancel() }
  }
}

/// The part of a ``CommandStream`` that isn't on the loop: makes the job, and follows it.
private struct Follow: Sendable {
  let engine: JobEngine
  let key: APIKey
  let work: CommandStream.Work
  let wanted: CommandStream.Wanted
  let gate: CommandStreamGate
  let tell: @Sendable (@escaping @Sendable (CommandStream) -> Void) -> Void

  func run() async {
    let follower: JobFollower
    do throws(Problem) {
      let id: String
      var position = ExecPosition()
      switch work {
      case .order(let order): id = try await engine.submit(order, by: key).id
      case .attach(let wanted, let from):
        let summary = try await engine.summary(wanted)
        guard summary.key == key.name || key.has(.execAll) else { throw JobEngine.unknown(wanted) }
        id = wanted
        position = from
      }
      let attachment = try await engine.attachViewer(id)
      follower = try await engine.follow(id, from: position)
      tell { $0.attached(id, attachment) }
    } catch {
      let status = RemoteCommandStatus(error)
      tell { $0.finish(status) }
      return
    }
    var isStarted = false
    while let event = await follower.next() {
      switch event {
      case .state(let summary):
        guard summary.state == .running, !isStarted else { continue }
        isStarted = true
        tell { $0.started() }
      case .stdout(_, let bytes):
        guard wanted.stdout else { continue }
        guard await send(.stdout, bytes) else { return }
      case .stderr(_, let bytes):
        guard wanted.stderr else { continue }
        guard await send(.stderr, bytes) else { return }
      case .note: continue
      case .ended(let summary):
        await close(summary)
        return
      }
    }
  }

  private func send(_ channel: RemoteCommand.Channel, _ bytes: [UInt8]) async -> Bool {
    gate.close()
    let message = RemoteCommand.message(channel, bytes)
    tell { $0.send(message) }
    return await gate.pass()
  }

  private func close(_ summary: JobSummary) async {
    // kubectl shows no message of a success: what is missing is said where a person looks.
    if wanted.stderr {
      let cut = [summary.stdoutTruncated ? "output" : nil, summary.stderrTruncated ? "error" : nil]
        .compactMap { $0 }
      if !cut.isEmpty {
        let line =
          "sallyport: standard \(cut.joined(separator: " and standard ")) is not whole: it was over its limit.\n"
        guard await send(.stderr, Array(line.utf8)) else { return }
      }
    }
    let status = RemoteCommandStatus(summary)
    tell { $0.finish(status) }
  }
}
