import ConsoleProtocol
import EventLoop

/// One client's connection to the node: HTTP/1.1 with pveproxy's manners, then perhaps a websocket.
final class Connection: StreamHandler {
  enum Phase {
    /// Between requests or inside a head.
    case head
    /// The head is read, so many bytes of body are to come.
    case body(RequestHead, Identity?, length: Int)
    /// A request is being dealt with; what arrives meanwhile waits.
    case busy
    /// A websocket.
    case relay(WebsocketRelay)
    /// Nothing that arrives matters any more.
    case deaf
  }

  private static let methods: Set<String> = ["GET", "POST", "PUT", "DELETE"]
  private static let requestsPerConnection = 100

  unowned let node: PVENode
  let key: UInt64
  private(set) var stream: Stream?
  var phase: Phase = .head
  private var queue = ByteQueue()
  private var parser = RequestHeadParser()
  private var idle: LoopTimer?
  private var served = 0
  private var keepAlive = false
  var began: Duration = .zero
  var entry: Journal.Entry?
  /// What the faults make of the request that is being dealt with.
  var plan = RequestPlan()
  /// Its parameters, for what the journal must not repeat.
  var parameters = Parameters()
  /// Which of pveproxy's three workers serves it.
  let worker: Int

  init(node: PVENode, key: UInt64) {
    self.node = node
    self.key = key
    worker = Int(key % 3)
  }

  /// Takes over an accepted socket.
  func start(descriptor: Int32, tls: TLSContext) throws(LoopError) {
    stream = try Stream.adopt(on: node.loop, descriptor: descriptor, tls: tls, handler: self)
    armIdle()
  }

  /// Ends the connection as a dying worker process does.
  func kill() {
    if case .relay(let relay) = phase { relay.connectionClosed() }
    phase = .deaf
    stream?.close()
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
      if queue.count > RequestHeadParser.maximumLine { stream.pauseReading() }
    case .head, .body:
      queue.append(UnsafeRawBufferPointer(bytes))
      armIdle()
      advance()
    }
  }

  func streamDrained(_ stream: Stream) {
    if case .relay(let relay) = phase { relay.drained() }
  }

  func streamClosed(_ stream: Stream, _ end: StreamEnd) {
    if case .relay(let relay) = phase { relay.connectionClosed() }
    phase = .deaf
    idle?.cancel()
    self.stream = nil
    node.connectionClosed(key)
  }

  private func armIdle() {
    idle?.cancel()
    idle = node.loop.schedule(after: node.timings.idleTimeout) { [weak self] in
      self?.stream?.close()
    }
  }

  // MARK: requests

  private func advance() {
    while true {
      switch phase {
      case .head:
        switch parser.parse(&queue) {
        case .needsMore: return
        case .stuck:
          // The idle timer, armed by the last bytes that counted, ends it.
          phase = .deaf
          return
        case .refused(let status, let reason):
          begin(RequestHead(method: "?", target: "?", minorVersion: 1))
          respond(.plain(status, reason))
        case .complete(let head): dispatch(head)
        }
      case .body(let head, let identity, let length):
        guard queue.count >= length else { return }
        let body = queue.removeFirst(length)
        phase = .busy
        handle(head, identity, body)
      case .busy, .relay, .deaf: return
      }
    }
  }

  private func begin(_ head: RequestHead) {
    began = node.loop.now
    served += 1
    let connection = head.header("connection")?.lowercased() ?? ""
    keepAlive =
      served < Connection.requestsPerConnection && !connection.contains("close")
      && (head.minorVersion >= 1 || connection.contains("keep-alive"))
    plan = RequestPlan()
    parameters = Parameters(form: head.query.utf8)
    // Whoever steers the simulator doesn't leave traces in what the others did.
    guard !ControlDesk.owns(head.rawPath) else {
      entry = nil
      return
    }
    var entry = Journal.Entry(time: node.clock.now, method: head.method, path: head.path)
    entry.node = node.name
    entry.connection = Int(key)
    entry.request = served
    self.entry = entry
  }

  /// What pveproxy checks before the body is read.
  private func dispatch(_ head: RequestHead) {
    begin(head)
    phase = .busy
    idle?.cancel()
    guard Connection.methods.contains(head.method) else {
      respond(.bare(501, "method '\(head.method)' not available"))
      return
    }
    if let encoding = head.header("transfer-encoding") {
      respond(
        .plain(
          501,
          encoding.lowercased() == "chunked"
            ? "chunked transfer encoding not supported"
            : "Unknown transfer encoding '\(encoding)'"))
      return
    }
    var identity: Identity?
    var refusal: Authenticator.Refusal?
    if let address = APIAddress(head.path) {
      do throws(Authenticator.Refusal) {
        identity = try node.authenticator.identify(head, path: address.path, access: node.access)
      } catch {
        refusal = error
      }
    }
    entry?.user = identity?.authID
    guard let plan = drawFaults(head, identity) else {
      journal(status: 0, reason: "the worker died (fault)")
      return
    }
    self.plan = plan
    if plan.ticketHasExpired { refusal = Authenticator.Refusal(reason: "Authentication failed!") }
    if let refusal, plan.ending?.isCarriedOut ?? true {
      respond(.bare(401, refusal.reason))
      return
    }
    let text = head.header("content-length") ?? "0"
    guard let length = Int(text), length >= 0 else {
      respond(.plain(400, "bad request"))
      return
    }
    guard length > 0 else {
      handle(head, identity, [])
      return
    }
    guard head.method == "POST" || head.method == "PUT" else {
      respond(.plain(501, "Unexpected content for method '\(head.method)'"))
      return
    }
    guard length <= node.era.maximumBody else {
      respond(
        Response(status: 501, reason: "for data too large", body: Array("for data too large".utf8)))
      return
    }
    if let type = head.header("content-type"), BodyKind(type) == nil {
      respond(
        Response(
          status: 506, reason: "upload 'Content-Type '\(type)' not implemented",
          body: Array("upload 'Content-Type '\(type)' not implemented".utf8)))
      return
    }
    phase = .body(head, identity, length: length)
    armIdle()
  }

  private enum BodyKind {
    case form, json
    init?(_ contentType: String) {
      let word = contentType.prefix { $0 != ";" && $0 != " " }.lowercased()
      switch word {
      case "application/x-www-form-urlencoded": self = .form
      case "application/json": self = .json
      default: return nil
      }
    }
  }

  private func handle(_ head: RequestHead, _ identity: Identity?, _ body: [UInt8]) {
    idle?.cancel()
    if ControlDesk.owns(head.rawPath) {
      respond(node.cluster.control.answer(head, body))
      return
    }
    entry?.bytesIn = body.count
    var parameters = Parameters()
    if !body.isEmpty {
      if let type = head.header("content-type"), BodyKind(type) == .json {
        do throws(JSONReader.Malformed) {
          parameters = try Parameters(json: body)
        } catch {
          respond(
            .plain(
              500, "\(error.message) at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 934."))
          return
        }
      } else {
        parameters = Parameters(form: body)
      }
    }
    parameters = parameters.overridden(by: Parameters(form: head.query.utf8))
    self.parameters = parameters
    let delay = node.behaviour.latency + plan.delay
    if delay > .zero {
      node.loop.schedule(after: delay) { [weak self] in
        self?.answer(head, identity, parameters)
      }
    } else {
      answer(head, identity, parameters)
    }
  }

  private func answer(_ head: RequestHead, _ identity: Identity?, _ parameters: Parameters) {
    guard stream != nil else { return }
    if let ending = plan.ending, !ending.isCarriedOut {
      spoil(ending, head)
      return
    }
    if let failure = node.behaviour.failEverything {
      respond(.plain(failure.status, failure.message))
      return
    }
    guard let address = APIAddress(head.path) else {
      respond(
        head.path == "/" && head.method == "GET" ? node.frontPage : node.noSuchFile(head.path))
      return
    }
    guard let formatter = Formatter(address.format) else {
      respond(.plain(501, "no formatter for uri \(head.path)"))
      return
    }
    let call = APICall(
      method: head.method, path: address.path, identity: identity, parameters: parameters,
      isForwarded: head.header("pvedisableproxy") != nil)
    do throws(APIError) {
      finish(head, formatter, .success(try node.perform(call)))
    } catch {
      finish(head, formatter, .failure(error))
    }
  }

  /// Answers with what a call came to, when it has come to something.
  private func finish(
    _ head: RequestHead, _ formatter: Formatter, _ outcome: Result<APIResult, APIError>
  ) {
    guard stream != nil else { return }
    switch outcome {
    case .success(let result):
      if let later = result.later {
        later { [weak self] in self?.finish(head, formatter, $0) }
      } else if head.method == "GET", let protocolName = head.header("upgrade"),
        let dial = result.dial
      {
        upgrade(head, to: protocolName, dial: dial)
      } else {
        respond(formatter.success(result))
      }
    case .failure(let error):
      respond(
        error.isBare
          ? .bare(error.status, error.message)
          : formatter.failure(error, hasMessages: node.era.errorBodiesHaveMessages))
    }
  }

  /// Sends an answer: a 401 no sooner than three seconds after the request began.
  func respond(_ response: Response) {
    phase = .busy
    idle?.cancel()
    guard response.status == 401 else {
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
          failure.map { .plain(500, "unable to save the cluster's state - \($0)") } ?? response)
      }
    } else {
      transmit(response)
    }
  }

  private func transmit(_ response: Response) {
    guard let stream else { return }
    let stays = keepAlive && response.status < 400 && plan.ending == nil
    let bytes = response.serialized(keepAlive: stays, now: node.clock.now)
    if let ending = plan.ending, ending.isCarriedOut {
      cut(bytes, ending)
      return
    }
    journal(status: response.status, reason: response.reason, bytes: bytes.count)
    stream.write(bytes)
    guard stays else {
      phase = .deaf
      stream.closeAfterFlush()
      return
    }
    phase = .head
    stream.resumeReading()
    armIdle()
    // Not from here: `advance` may be the caller.
    node.loop.schedule(after: .zero) { [weak self] in self?.advance() }
  }

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

  // MARK: websocket

  private func upgrade(_ head: RequestHead, to protocolName: String, dial: DialTarget) {
    func refuse(_ text: String) -> Response {
      Response(status: 500, reason: text, body: Array((text + "\n").utf8))
    }
    guard protocolName.lowercased() == "websocket" else {
      respond(refuse("unable to upgrade to protocol '\(protocolName)'"))
      return
    }
    guard let key = head.header("sec-websocket-key"), !key.isEmpty else {
      respond(refuse("missing websocket-key"))
      return
    }
    let version = head.header("sec-websocket-version") ?? ""
    guard version == "13" else {
      respond(refuse("unsupported websocket-version '\(version)'"))
      return
    }
    guard let stream else { return }
    switch plan.console?.dial ?? node.behaviour.dialFault {
    case .neverAnswers:
      journal(status: 0, reason: "never answered (fault)")
      return
    case .answersGarbage:
      journal(status: 0, reason: "garbage (fault)")
      phase = .deaf
      stream.write(randomBytes(64).map { $0 | 0x80 })
      stream.closeAfterFlush()
      return
    case .closesMidHandshake:
      journal(status: 101, reason: "cut (fault)")
      phase = .deaf
      stream.write(Array("HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso".utf8))
      stream.closeAfterFlush()
      return
    case .none, .silentAfterUpgrade: break
    }
    let relay = WebsocketRelay(stream: stream, node: node, worker: worker, plan: plan.console)
    guard node.dial(dial, relay) else {
      journal(status: 0, reason: "nobody listens on \(dial)")
      if plan.console?.deadPort ?? node.behaviour.deadPort == .killWorker {
        node.killWorker(worker)
      }
      // Otherwise there is no answer, ever; the client has to give up by itself.
      return
    }
    var text = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    let accept = base64(sha1(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
    text += "Sec-WebSocket-Accept: \(accept)\r\n"
    if let protocols = head.header("sec-websocket-protocol") {
      text += "Sec-WebSocket-Protocol: \(protocols)\r\n"
    }
    let answer = Array((text + "\r\n").utf8)
    if let ending = plan.ending {
      cut(answer, ending)
      relay.connectionClosed()
      return
    }
    relay.journaled = journal(status: 101, reason: "Switching Protocols", bytes: answer.count)
    stream.write(answer)
    phase = .relay(relay)
    relay.start()
    if !queue.isEmpty {
      // Bytes that came right behind the handshake are kept.
      var early = queue.removeFirst(queue.count)
      early.withUnsafeMutableBytes { relay.received($0) }
    }
  }
}
