import ConsoleDial
import ConsoleProtocol
import EventLoop
import Foundation
import Gateway

/// A console through a gateway: what a browser does, without the browser. The websocket's machines are the same as
/// toward PVE.
final class GatewayLine: ConsoleLine, StreamHandler {
  private enum State { case upgrading, opening, open, over }

  private let address: GatewayAddress
  private let origin: String
  private let token: Secret
  private let size: TerminalSize?
  private let loop: Loop
  private var addresses: [SocketAddress]
  private let tls: TLSContext?
  private weak var user: (any ConsoleLineUser)?
  private var state = State.upgrading
  private var upgrade: WebSocketUpgrade
  private var decoder = FrameDecoder()
  private let encoder = FrameEncoder(maximumFrame: 32 << 10, zeroMask: false)
  private var stream: EventLoop.Stream?
  private var text: [UInt8] = []
  private var isTerminal = true
  private var bytesConsumed: UInt64 = 0
  private var bytesAcknowledged: UInt64 = 0
  private var ending: Ending?
  private var tick: LoopTimer?
  private var lastHeard: Duration

  /// Bytes after which an acknowledgement goes out.
  private static let acknowledgeEvery: UInt64 = 64 << 10

  init(
    address: GatewayAddress, origin: String, token: Secret, size: TerminalSize?,
    addresses: [SocketAddress], tls: TLSContext?, loop: Loop, user: any ConsoleLineUser
  ) {
    self.address = address
    self.origin = origin
    self.token = token
    self.size = size
    self.addresses = addresses
    self.tls = tls
    self.loop = loop
    self.user = user
    lastHeard = loop.now
    let (key, accept) = RelayCrypto.webSocketKey()
    upgrade = WebSocketUpgrade(
      requestTarget: Secret(address.prefix + "/v1/viewer"), hostHeader: address.hostHeader,
      credential: ("Origin", Secret(origin)), subprotocol: "sallyport.v1", key: key,
      expectedAccept: accept)
  }

  func start() { connect(after: .connectFailed("it has no address")) }

  /// Tries the next address.
  private func connect(after end: StreamEnd) {
    guard !addresses.isEmpty else {
      loop.schedule(after: .zero) { self.fail(self.address.unreachable(end)) }
      return
    }
    do {
      stream = try Stream.connect(
        on: loop, to: addresses.removeFirst(), tls: tls, serverName: address.host, handler: self)
    } catch {
      connect(after: .connectFailed("\(error)"))
    }
  }

  // MARK: The websocket

  func streamConnected(_ stream: EventLoop.Stream) { stream.write(upgrade.request()) }

  func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    lastHeard = loop.now
    var position = 0
    if state == .upgrading {
      switch upgrade.next(bytes, &position) {
      case .needMore: return
      case .upgraded: begin()
      case .refused(let status, _, let body):
        let problem = try? JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any]
        let words =
          problem?["detail"] as? String ?? "The gateway answered \(status) to the websocket."
        return fail(
          Failure(
            kind: "refused", sentence: words,
            remedy: problem?["remedy"] as? String
              ?? "Check that what is in front of the gateway passes websockets.",
            status: .violation))
      case .violation(let what):
        return fail(
          Failure(
            kind: "protocol-violation", sentence: "The gateway's websocket failed: \(what).",
            remedy: "Check that what is in front of the gateway passes websockets.",
            status: .violation))
      }
    }
    while state != .over {
      switch decoder.next(bytes, &position) {
      case .needMore: return
      case .data(let range, .binary, _):
        if state == .open, !range.isEmpty {
          user?.console(received: UnsafeMutableRawBufferPointer(rebasing: bytes[range]))
        }
      case .data(let range, .text, let isFinal):
        text.append(contentsOf: bytes[range])
        if isFinal {
          let message = text
          text = []
          handle(message)
        }
      case .ping(let payload): stream.write(encoder.pong(payload, mask: RelayCrypto.mask))
      case .pong: break
      case .close(let code, let reason):
        stream.write(encoder.close(code: code ?? 1000, mask: RelayCrypto.mask))
        return finish(ending ?? GatewayLine.ending(code: code, reason: reason))
      case .violation(let what):
        return finish(
          Ending(
            hop: .gateway, kind: .protocolViolation,
            sentence: "The gateway broke the websocket protocol: \(what)."))
      }
    }
  }

  func streamDrained(_ stream: EventLoop.Stream) { user?.consoleDrained() }

  func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {
    guard state != .over else { return }
    if state == .upgrading {
      if case .connectFailed = end { return connect(after: end) }
      return fail(address.unreachable(end))
    }
    finish(
      ending
        ?? Ending(
          hop: .gateway, kind: .viewerLost, sentence: "The connection to the gateway was lost.",
          remedy: "Check the network, and open the console again."))
  }

  /// What a close code says when no JSON came with it.
  private static func ending(code: UInt16?, reason: String) -> Ending {
    let kind = Ending.Kind.allCases.first { $0.closeCode == code } ?? .serverShutdown
    let prefix = kind.rawValue + ": "
    let sentence = reason.hasPrefix(prefix) ? String(reason.dropFirst(prefix.count)) : reason
    return Ending(
      hop: .gateway, kind: kind,
      sentence: sentence.isEmpty ? "The gateway closed the console." : sentence)
  }

  private func begin() {
    state = .opening
    var message: [String: Any] = [
      "type": "open", "token": token.reveal(), "acks": true, "notices": false,
    ]
    if let size {
      message["columns"] = size.columns
      message["rows"] = size.rows
    }
    tell(message)
    beat()
  }

  /// A ping now and then, so that a gateway that has gone is noticed.
  private func beat() {
    tick = loop.schedule(after: .seconds(25)) { [weak self] in
      guard let self, self.state != .over else { return }
      if self.loop.now - self.lastHeard > .seconds(60), self.stream?.isReadingPaused == false {
        return self.finish(
          Ending(
            hop: .gateway, kind: .viewerLost, sentence: "The gateway stopped answering.",
            remedy: "Check the network, and open the console again."))
      }
      self.stream?.write(self.encoder.ping(mask: RelayCrypto.mask))
      self.beat()
    }
  }

  private func tell(_ message: [String: Any]) {
    guard let json = try? JSONSerialization.data(withJSONObject: message) else { return }
    stream?.write(encoder.frame(.text, Array(json), mask: RelayCrypto.mask))
  }

  /// A message of the gateway's: the fields of all of them.
  private struct Message: Decodable {
    var type: String
    var target: String?
    var node: String?
    var name: String?
    var console: String?
    var kind: String?
    var hop: String?
    var sentence: String?
    var remedy: String?
    var details: [String]?
    var seconds: Int?
  }

  private func handle(_ json: [UInt8]) {
    guard let message = try? JSONDecoder().decode(Message.self, from: Data(json)) else { return }
    switch message.type {
    case "ready":
      guard state == .opening else { return }
      state = .open
      let console = message.console.flatMap { Console($0) } ?? .terminal
      isTerminal = console.isTerminal
      user?.consoleOpened(
        ConsoleAbout(
          target: message.target ?? "", node: message.node ?? "", name: message.name,
          console: console))
    case "notice":
      let why = message.kind == "idle-warning" ? "without input" : "for its time is over"
      user?.consoleNotice("The console ends in \(message.seconds ?? 0) s \(why).")
    case "ended":
      ending = Ending(
        hop: message.hop.flatMap(Ending.Hop.init) ?? .gateway,
        kind: message.kind.flatMap(Ending.Kind.init) ?? .serverShutdown,
        sentence: message.sentence ?? "The console ended.", remedy: message.remedy ?? "",
        details: message.details ?? [])
    default: break
    }
  }

  // MARK: Used by the console's user

  func send(_ bytes: UnsafeRawBufferPointer) {
    guard state == .open, let stream, !bytes.isEmpty else { return }
    stream.write(encoder.frame(.binary, [UInt8](bytes), mask: RelayCrypto.mask))
  }

  var pendingBytes: Int { stream?.pendingBytes ?? 0 }

  func resize(_ size: TerminalSize) {
    guard state == .open else { return }
    tell(["type": "resize", "columns": size.columns, "rows": size.rows])
  }

  func consumed(_ count: Int) {
    bytesConsumed += UInt64(count)
    guard isTerminal, state == .open,
      bytesConsumed - bytesAcknowledged >= GatewayLine.acknowledgeEvery
    else { return }
    bytesAcknowledged = bytesConsumed
    tell(["type": "ack", "bytes": bytesConsumed])
  }

  func pauseReading() { stream?.pauseReading() }
  func resumeReading() { stream?.resumeReading() }

  func leave() {
    guard state != .over else { return }
    if let stream, stream.isOpen, state != .upgrading {
      stream.write(encoder.close(code: 1000, mask: RelayCrypto.mask))
      stream.closeAfterFlush()
    } else {
      stream?.close()
    }
    release()
  }

  private func finish(_ ending: Ending) {
    guard state != .over else { return }
    let last = user
    stream?.closeAfterFlush()
    release()
    last?.consoleEnded(ending)
  }

  private func fail(_ failure: Failure) {
    finish(
      Ending(
        hop: .gateway, kind: failure.kind == "tls-untrusted" ? .tlsUntrusted : .apiUnreachable,
        sentence: failure.sentence, remedy: failure.remedy))
  }

  private func release() {
    state = .over
    tick?.cancel()
    stream = nil
    user = nil
  }
}
