import EventLoop

/// A client's wish to become a websocket: a GET with an `Upgrade` whose path ends in `websocket`. `Connection` and
/// `Origin` are not looked at.
struct WebsocketUpgrade {
  private let protocolName: String
  private let version: String
  private let key: String
  /// Subprotocols, which the answer repeats as they came.
  private let subprotocols: String?
  private let minorVersion: Int

  init?(_ head: RequestHead) {
    guard head.method == "GET", head.path.hasSuffix("websocket"),
      let name = head.header("upgrade"), !name.isEmpty
    else { return nil }
    protocolName = name.lowercased()
    version = head.header("sec-websocket-version") ?? ""
    key = head.header("sec-websocket-key") ?? ""
    subprotocols = head.header("sec-websocket-protocol")
    minorVersion = head.minorVersion
  }

  /// What is wrong with it, in pveproxy's words.
  var complaint: String? {
    if protocolName != "websocket" { return "unable to upgrade to protocol '\(protocolName)'" }
    if version != "13" { return "unsupported websocket-version '\(version)'" }
    return key.isEmpty ? "missing websocket-key" : nil
  }

  /// The answer that begins the websocket.
  var acceptance: [UInt8] {
    let accept = base64(sha1(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
    var text = "HTTP/1.\(minorVersion) 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    text += "Connection: upgrade\r\nSec-WebSocket-Accept: \(accept)\r\n"
    if let subprotocols { text += "Sec-WebSocket-Protocol: \(subprotocols)\r\n" }
    return Array((text + "\r\n").utf8)
  }
}

extension Connection {
  /// Turns the connection into a websocket to a console.
  func upgrade(_ upgrade: WebsocketUpgrade, to dial: DialTarget) {
    guard let stream else { return }
    switch plan.console?.dial ?? node.behaviour.dialFault {
    case .neverAnswers:
      journal(status: 0, reason: "never answered (fault)")
      return
    case .answersGarbage:
      journal(status: 0, reason: "garbage (fault)")
      sendLast(randomBytes(64).map { $0 | 0x80 })
      return
    case .closesMidHandshake:
      journal(status: 101, reason: "cut (fault)")
      sendLast(Array("HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso".utf8))
      return
    case .none, .silentAfterUpgrade: break
    }
    let relay = WebsocketRelay(stream: stream, node: node, worker: process, plan: plan.console)
    guard node.dial(dial, relay) else {
      journal(status: 0, reason: "nobody listens on \(dial)")
      if plan.console?.deadPort ?? node.behaviour.deadPort == .killWorker { node.kill(process) }
      // Otherwise there is no answer, ever; the client has to give up by itself.
      return
    }
    let answer = upgrade.acceptance
    if case .statusAfter? = plan.ending {
      relay.connectionClosed()
      respond(.plain(500, "\n"))
      return
    }
    if let ending = plan.ending {
      cut(answer, ending)
      relay.connectionClosed()
      return
    }
    relay.journaled = journal(status: 101, reason: "Switching Protocols", bytes: answer.count)
    stream.write(answer)
    phase = .relay(relay)
    relay.start()
    // Bytes that came right behind the handshake are kept.
    var early = takeQueued()
    if !early.isEmpty { early.withUnsafeMutableBytes { relay.received($0) } }
  }
}
