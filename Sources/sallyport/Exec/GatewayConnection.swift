import ConsoleProtocol
import EventLoop
import Synchronization

/// A connection to a gateway: one call after the other, or one answer of server-sent events. Lives on one loop.
final class GatewayConnection: StreamHandler {
  /// How a connection ended.
  struct Broken: Error {
    var end: StreamEnd
    /// Whether not one byte of an answer came.
    var nothingCame: Bool
  }
  typealias Answered = @Sendable (Result<(GatewayAnswer, reusable: Bool), Broken>) -> Void
  typealias Opened = @Sendable (Result<GatewayAnswer?, Broken>) -> Void

  private let address: GatewayAddress
  private let loop: Loop
  private let tls: TLSContext?
  private var remaining: [SocketAddress]
  private var stream: EventLoop.Stream?
  private var isConnected = false
  private var isOver = false
  private var reader = HTTPAnswerReader()
  private var outgoing: [UInt8] = []
  private var timer: LoopTimer?
  private var answered: Answered?
  private var opened: Opened?
  private weak var events: GatewayEvents?
  private var isStreaming = false
  private var head: HTTPAnswerHeader?
  private var body: [UInt8] = []

  /// More than this is no answer of a gateway, in bytes.
  private static let maximumAnswer = 64 << 20

  init(_ address: GatewayAddress, addresses: [SocketAddress], tls: TLSContext?, loop: Loop) {
    self.address = address
    self.loop = loop
    self.tls = tls
    remaining = addresses
  }

  // MARK: Calls

  /// Sends a call and waits for its whole answer.
  func ask(_ request: [UInt8], patience: Duration, _ done: @escaping Answered) {
    guard !isOver else { return done(.failure(Broken(end: .endOfStream, nothingCame: true))) }
    answered = done
    begin(request, patience: patience)
  }

  /// Sends a call whose answer is a stream of events; an answer that is none is given whole.
  func follow(_ request: [UInt8], into events: GatewayEvents, _ done: @escaping Opened) {
    opened = done
    self.events = events
    begin(request, patience: .seconds(60))
  }

  private func begin(_ request: [UInt8], patience: Duration) {
    head = nil
    body = []
    arm(patience)
    if isConnected {
      stream?.write(request)
    } else {
      outgoing = request
      connectNext(after: .connectFailed("it has no address"))
    }
  }

  private func arm(_ patience: Duration) {
    timer?.cancel()
    timer = loop.schedule(after: patience) { [weak self] in self?.fail(.connectTimedOut) }
  }

  /// Nobody wants the rest.
  func drop() {
    events = nil
    timer?.cancel()
    isOver = true
    stream?.close()
  }

  /// There is room for more events.
  func resume() { stream?.resumeReading() }

  // MARK: The stream

  /// Tries the next address: `localhost` has two as a rule, and a gateway listens on one.
  private func connectNext(after end: StreamEnd) {
    guard !remaining.isEmpty else { return fail(end) }
    do {
      stream = try Stream.connect(
        on: loop, to: remaining.removeFirst(), tls: tls, serverName: address.host, handler: self)
    } catch {
      connectNext(after: .connectFailed("\(error)"))
    }
  }

  func streamConnected(_ stream: EventLoop.Stream) {
    isConnected = true
    stream.write(outgoing)
    outgoing = []
  }

  func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    if isStreaming { arm(.seconds(75)) }
    for event in reader.feed(UnsafeRawBufferPointer(bytes)) {
      switch event {
      case .head(let head):
        self.head = head
        let type = head.values("content-type").first ?? ""
        if let opened, head.status == 200, type.hasPrefix("text/event-stream") {
          self.opened = nil
          isStreaming = true
          arm(.seconds(75))
          opened(.success(nil))
        }
      case .body(let piece):
        if isStreaming {
          if events?.put(piece) == false { stream.pauseReading() }
        } else if body.count + piece.count <= Self.maximumAnswer {
          body += piece
        } else {
          return fail(.failed("its answer is too large"))
        }
      case .end(let reusable): complete(reusable)
      case .malformed(let why): return fail(.failed(why))
      }
    }
  }

  func streamDrained(_ stream: EventLoop.Stream) {}

  func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {
    isConnected = false
    if case .end(let reusable) = reader.closed() { complete(reusable) }
    // Until it is connected nothing was sent.
    if case .connectFailed = end, !outgoing.isEmpty { return connectNext(after: end) }
    fail(end)
  }

  private func complete(_ reusable: Bool) {
    timer?.cancel()
    if isStreaming {
      events?.finish(.endOfStream)
      return drop()
    }
    guard let head else { return }
    var headers: [String: String] = [:]
    for name in [
      "sallyport-offset", "sallyport-next-offset", "sallyport-ended", "sallyport-truncated",
      "content-type", "retry-after", "idempotency-replayed",
    ] {
      if let value = head.values(name).first { headers[name] = value }
    }
    let answer = GatewayAnswer(status: head.status, body: body, headers: headers)
    body = []
    let (answered, opened) = (answered, opened)
    self.answered = nil
    self.opened = nil
    if !reusable || opened != nil { drop() }
    answered?(.success((answer, reusable)))
    opened?(.success(answer))
  }

  private func fail(_ end: StreamEnd) {
    let (answered, opened, events) = (answered, opened, events)
    let broken = Broken(end: end, nothingCame: !reader.hasBegun && head == nil)
    self.answered = nil
    self.opened = nil
    drop()
    answered?(.failure(broken))
    opened?(.failure(broken))
    events?.finish(end)
  }
}

/// The events of an answer on their way from the loop to a task. Bounded.
final class GatewayEvents: Sendable {
  private struct State {
    var parser = ServerSentEvents()
    var events: [ServerSentEvents.Event] = []
    var bytes = 0
    var isPaused = false
    var end: StreamEnd?
    var waiting: CheckedContinuation<Void, Never>?
  }
  private static let bound = 1 << 20
  private let state = Mutex(State())
  private let connection: OnLoop<GatewayConnection>

  init(_ connection: OnLoop<GatewayConnection>) { self.connection = connection }

  deinit { connection.execute { $0.drop() } }

  /// Takes bytes of the answer.
  /// - Returns: whether more may come at once.
  func put(_ bytes: [UInt8]) -> Bool {
    let (goOn, waiting) = state.withLock { state -> (Bool, CheckedContinuation<Void, Never>?) in
      for event in state.parser.feed(bytes) {
        state.bytes += event.data.utf8.count
        state.events.append(event)
      }
      defer { if !state.events.isEmpty { state.waiting = nil } }
      // It stays paused until the reader has made room, however little of this call was left to come.
      state.isPaused = state.isPaused || state.bytes >= Self.bound
      return (!state.isPaused, state.events.isEmpty ? nil : state.waiting)
    }
    waiting?.resume()
    return goOn
  }

  /// Nothing follows.
  func finish(_ end: StreamEnd) {
    let waiting = state.withLock { state in
      if state.end == nil { state.end = end }
      defer { state.waiting = nil }
      return state.waiting
    }
    waiting?.resume()
  }

  /// The next event; nil at the connection's end, or when the calling task is cancelled. One caller at a time.
  func next() async -> ServerSentEvents.Event? {
    while !Task.isCancelled {
      let (event, isOver, resumes) = state.withLock {
        state -> (ServerSentEvents.Event?, Bool, Bool) in
        guard !state.events.isEmpty else { return (nil, state.end != nil, false) }
        let event = state.events.removeFirst()
        state.bytes -= event.data.utf8.count
        guard state.isPaused, state.bytes < Self.bound / 2 else { return (event, false, false) }
        state.isPaused = false
        return (event, false, true)
      }
      if resumes { connection.execute { $0.resume() } }
      if let event { return event }
      if isOver { return nil }
      await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
          let now = state.withLock { state -> Bool in
            if !state.events.isEmpty || state.end != nil || Task.isCancelled { return true }
            state.waiting = continuation
            return false
          }
          if now { continuation.resume() }
        }
      } onCancel: {
        let waiting = state.withLock { state in
          defer { state.waiting = nil }
          return state.waiting
        }
        waiting?.resume()
      }
    }
    return nil
  }

  /// How the connection ended.
  var end: StreamEnd? { state.withLock { $0.end } }

  /// Nobody wants more.
  func close() {
    finish(.closedByUs)
    connection.execute { $0.drop() }
  }
}
