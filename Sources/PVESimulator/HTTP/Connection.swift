import ConsoleProtocol
import EventLoop

/// One client's connection to the node: HTTP/1.1 with pveproxy's manners, then perhaps a websocket.
///
/// This file is the connection: its phases, its idle timer, what is read and written. What a request is and what
/// comes of it is in `Connection+Requests.swift`.
final class Connection: StreamHandler {
  enum Phase {
    /// Between requests or inside a head.
    case head
    /// The head is read, so many bytes of body are to come.
    case body(ClientRequest, length: Int)
    /// The head is read, and a file comes.
    case upload(ClientRequest, UploadReader)
    /// A request is being dealt with; what arrives meanwhile waits.
    case busy
    /// A websocket.
    case relay(WebsocketRelay)
    /// Nothing that arrives matters any more.
    case deaf
  }

  /// Requests that a connection serves.
  static let maximumRequests = 100

  unowned let node: PVENode
  /// The pveproxy process that holds it.
  let process: ProxyWorker
  let key: UInt64
  private(set) var stream: Stream?
  var phase: Phase = .head
  private(set) var queue = ByteQueue()
  private var parser = RequestHeadParser()
  /// How many more requests may come; 0 when the next answer is the last.
  var requestsLeft: Int
  /// Of the request that is being dealt with.
  var manner = ResponseWriter.Manner()
  var began: Duration = .zero
  var entry: Journal.Entry?
  /// What the faults make of it.
  var plan = RequestPlan()
  /// Its parameters, for what the journal must not repeat.
  var parameters = Parameters()
  private(set) var served = 0
  private var isAdvancing = false
  private var idleSince: Duration?
  private var idleTimer: LoopTimer?
  /// What the client had not read at the idle timer's last look.
  private var unread = 0

  init(node: PVENode, process: ProxyWorker, key: UInt64) {
    self.node = node
    self.process = process
    self.key = key
    requestsLeft = process.keepsAlive ? Connection.maximumRequests : 0
  }

  /// Which of pveproxy's workers serves it.
  var worker: Int { process.index }

  /// Takes over an accepted socket.
  func start(descriptor: Int32, tls: TLSContext) throws(LoopError) {
    stream = try Stream.adopt(
      on: node.loop, descriptor: descriptor, tls: tls, plainToo: true, handler: self)
    watchIdleness()
  }

  /// Ends the connection as a dying worker process does.
  func kill() {
    if case .relay(let relay) = phase { relay.connectionClosed() }
    phase = .deaf
    stream?.closeAbruptly()
  }

  // MARK: stream

  func streamConnected(_ stream: Stream) {}

  func stream(_ stream: Stream, received bytes: UnsafeMutableRawBufferPointer) {
    switch phase {
    case .relay(let relay): relay.received(bytes)
    case .deaf: break
    case .busy:
      // A client that pipelines without end is stopped by the read buffer's size, as pveproxy's is.
      queue.append(UnsafeRawBufferPointer(bytes))
      if queue.count > readBuffer { stream.pauseReading() }
    case .head, .body:
      queue.append(UnsafeRawBufferPointer(bytes))
      watchIdleness()
      advance()
    case .upload(let request, let reader):
      watchIdleness()
      proceed(request, reader, UnsafeRawBufferPointer(bytes))
    }
  }

  func streamDrained(_ stream: Stream) {
    if case .relay(let relay) = phase { relay.drained() }
    if idleSince != nil { watchIdleness() }
  }

  func streamClosed(_ stream: Stream, _ end: StreamEnd) {
    if case .relay(let relay) = phase { relay.connectionClosed() }
    phase = .deaf
    idleTimer?.cancel()
    self.stream = nil
    node.connectionClosed(key)
  }

  /// The size of pveproxy's read buffer: a whole body and its head fit.
  var readBuffer: Int { node.era.maximumBody + 8 * 1024 }

  // MARK: idleness

  /// From now on, nothing may come or go for five seconds at most. One timer serves the connection's life: it is
  /// set anew when it finds that something has happened since.
  func watchIdleness() {
    idleSince = node.loop.now
    if idleTimer == nil { armIdleTimer(node.timings.idleTimeout) }
  }

  /// While a request is dealt with, no time runs.
  func ignoreIdleness() { idleSince = nil }

  private func armIdleTimer(_ delay: Duration) {
    idleTimer = node.loop.schedule(after: delay) { [weak self] in self?.idleTimerFired() }
  }

  private func idleTimerFired() {
    idleTimer = nil
    guard let idleSince, let stream else { return }
    guard stream.pendingBytes == 0 || stream.pendingBytes == unread else {
      // A slow reader is not an idle one.
      unread = stream.pendingBytes
      watchIdleness()
      return
    }
    let left = idleSince + node.timings.idleTimeout - node.loop.now
    if left > .zero {
      armIdleTimer(left)
    } else {
      stream.close()
    }
  }

  // MARK: reading

  private func advance() {
    guard !isAdvancing else { return }
    isAdvancing = true
    defer { isAdvancing = false }
    while true {
      switch phase {
      case .head:
        switch parser.parse(&queue) {
        case .needsMore:
          if queue.count > readBuffer { stream?.close() }
          return
        case .stuck:
          // The idle timer, set by the last bytes that counted, ends it.
          phase = .deaf
          queue.removeAll()
          return
        case .refused(let status, let reason): refuse(status, reason)
        case .complete(let head): dispatch(head)
        }
      case .body(let request, let length):
        guard queue.count >= length else { return }
        let body = queue.removeFirst(length)
        phase = .busy
        handle(request, body)
      case .upload(let request, let reader):
        guard !queue.isEmpty else { return }
        let bytes = queue.removeFirst(queue.count)
        bytes.withUnsafeBytes { proceed(request, reader, $0) }
      case .busy, .relay, .deaf: return
      }
    }
  }

  /// What came behind the request that is being dealt with.
  func takeQueued() -> [UInt8] { queue.removeFirst(queue.count) }

  // MARK: writing

  /// Sends an answer: what is delayed no sooner than three seconds after the request began.
  func respond(_ given: Response) {
    let response = replaced(given)
    phase = .busy
    ignoreIdleness()
    guard response.isDelayed else {
      send(response)
      return
    }
    let left = node.timings.failureDelay - (node.loop.now - began)
    node.loop.schedule(after: max(left, .zero)) { [weak self] in self?.send(response) }
  }

  private func send(_ response: Response) {
    // What an answer says has happened is in the state file first.
    if let store = node.cluster.store, store.isDirty {
      store.whenCommitted { [weak self] failure in
        self?.transmit(
          failure.map { .plain(500, "unable to save the cluster's state - \($0)\n") } ?? response)
      }
    } else {
      transmit(response)
    }
  }

  private func transmit(_ response: Response) {
    guard let stream else { return }
    if response.status >= 400 || process.isRetired || plan.ending != nil { requestsLeft = 0 }
    manner.keepsAlive = requestsLeft > 0
    let stays = manner.keepsAlive && stream.isEncrypted
    node.writer.write(response, manner, now: node.clock.now) { bytes in
      if let ending = plan.ending, ending.isCarriedOut {
        cut(Array(bytes), ending)
      } else {
        journal(status: response.status, reason: response.reason, bytes: bytes.count)
        stream.write(bytes)
      }
    }
    watchIdleness()
    guard stays else {
      if case .deaf = phase { return }
      phase = .deaf
      stream.closeAfterFlush()
      return
    }
    phase = .head
    stream.resumeReading()
    advance()
  }

  /// Notes that a request begins.
  func count() { served += 1 }

  /// Adds the request to the journal, once; gives its number.
  @discardableResult
  func journal(status: Int, reason: String, bytes: Int = 0) -> Int? {
    guard var entry else { return nil }
    entry.arguments = Journal.Argument.list(parameters)
    entry.status = status
    entry.reason = status < 400 ? reason : Journal.redacted(reason, hiding: parameters)
    entry.duration = node.loop.now - began
    entry.bytesOut = bytes
    if status == 101 { entry.websocket = Journal.Websocket() }
    self.entry = nil
    return node.journal.add(entry)
  }

  /// Writes bytes as they are and closes.
  func sendLast(_ bytes: [UInt8]) {
    phase = .deaf
    stream?.write(bytes)
    stream?.closeAfterFlush()
  }

  /// Ends the connection without another word.
  func cut() {
    phase = .deaf
    stream?.close()
  }
}
