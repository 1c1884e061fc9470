/// One upstream console, from the websocket's request to its last byte: upgrade, frames, the login inside, and then
/// bytes both ways. No I/O: the driver owns socket and buffers, feeds what it read, and does what it is told.
///
/// ```swift
/// var position = 0
/// reading: while true {
///   switch upstream.next(buffer, &position) {
///   case .needMore: break reading
///   case .send(let bytes): socket.write(bytes)
///   case .challenge(let password, let bytes): socket.write(upstream.answerChallenge(des(password, bytes)))
///   case .bytes(let range): viewer.write(buffer[range])
///   …
/// ```
/// One buffer has to be pulled empty before the next is fed: the machine remembers ranges of it between calls.
package struct ConsoleUpstream: Sendable {
  /// What comes next.
  package enum Event: Sendable, Equatable {
    /// The buffer is used up.
    case needMore
    /// Bytes for the socket, framed already.
    case send([UInt8])
    /// Encrypt these 16 bytes with ``RFBLogin/vncKey(password:)`` and call ``answerChallenge(_:)``.
    case challenge(password: Secret, [UInt8])
    /// A stage was reached.
    case stage(ConsoleStage)
    /// Logged in. For RFB: ClientInit is next, and it is the viewer's. For terminals: input may flow.
    case opened
    /// Console bytes, in place in the buffer (neighbouring frames' payloads may have been moved together).
    case bytes(Range<Int>)
    /// The answer to a ping of ours.
    case pong
    /// Over. Repeated when asked again.
    case failed(ConsoleFailure)
  }

  private enum State: Sendable {
    case upgrade(WebSocketUpgrade)
    case rfb(RFBLogin, password: Secret)
    case termproxy(TermproxyLogin)
    case open
    case failed(ConsoleFailure)
  }

  /// Payloads up to this size are moved next to the ones before them: one write to the viewer instead of several.
  private static let worthMoving = 8 << 10

  private var state: State
  private var decoder = FrameDecoder()
  /// Forgotten (with its secret) once the login has begun.
  private var login: UpstreamPlan.Login
  /// Payload of the current buffer that was decoded and not used yet.
  private var rest: Range<Int> = 0..<0
  /// Events that follow the one just returned, the next one last.
  private var following: [Event] = []

  /// - Parameters:
  ///   - plan: used for this one dial.
  ///   - key: 16 random bytes in base64.
  ///   - expectedAccept: base64 of SHA-1 of the key and RFC 6455's GUID.
  ///   - mask: gives an unpredictable value for each frame. Not asked on verified TLS, where the mask is zero.
  package init(
    plan: UpstreamPlan, key: String, expectedAccept: String, mask: @escaping @Sendable () -> UInt32
  ) {
    let host = plan.host.contains(":") && !plan.host.hasPrefix("[") ? "[\(plan.host)]" : plan.host
    state = .upgrade(
      WebSocketUpgrade(
        requestTarget: plan.requestTarget, hostHeader: "\(host):\(plan.port)",
        credential: plan.credentialHeader, subprotocol: "binary", key: key,
        expectedAccept: expectedAccept))
    writer = UpstreamWriter(
      maximumFrame: plan.maximumFrame, zeroMask: plan.tls.map(\.isVerified) ?? false, mask: mask)
    login = plan.login
  }

  /// The upgrade request, to be sent once the connection (and the host's certificate) is good. Empty after the
  /// upgrade: the credential is not kept for longer than it is needed.
  package func requestBytes() -> [UInt8] {
    if case .upgrade(let upgrade) = state { upgrade.request() } else { [] }
  }

  /// How far it has come; nil when it has failed.
  package var stage: ConsoleStage? {
    switch state {
    case .upgrade: .upgrade
    case .rfb, .termproxy: .login
    case .open: .open
    case .failed: nil
    }
  }

  /// Reads on from `position`, which moves behind what was taken.
  package mutating func next(
    _ bytes: UnsafeMutableRawBufferPointer, _ position: inout Int
  ) -> Event {
    while true {
      if let event = following.popLast() { return event }
      switch state {
      case .failed(let failure): return .failed(failure)
      case .open:
        guard let event = nextOpen(bytes, &position) else { continue }
        return event
      case .upgrade(var upgrade):
        let event = upgrade.next(bytes, &position)
        state = .upgrade(upgrade)
        switch event {
        case .needMore: return .needMore
        case .upgraded: beginLogin()
        case .refused(let status, let reason, let body):
          return fail(.upgradeRefused(status: status, reason: reason, body: body))
        case .violation(let sentence): return fail(.upgradeViolation(sentence))
        }
      case .rfb, .termproxy:
        if let event = nextLogin(bytes, &position) { return event }
      }
    }
  }

  /// Gives the encrypted challenge; returns bytes for the socket.
  package mutating func answerChallenge(_ response: [UInt8]) -> [UInt8] {
    guard case .rfb(var login, let password) = state else { return [] }
    let answer = login.answer(response)
    state = .rfb(login, password: password)
    return answer.isEmpty ? [] : writer.frame(.binary, answer)
  }

  /// To be called when the connection ended and the last buffer was pulled empty: says what that means.
  package mutating func closed() -> ConsoleFailure {
    let failure: ConsoleFailure
    switch state {
    case .failed(let earlier): return earlier
    case .open: failure = decoder.isBetweenFrames ? .ended : .closedEarly(.open)
    case .termproxy: failure = .termproxyRefused
    case .upgrade(var upgrade):
      switch upgrade.closed() {
      case .refused(let status, let reason, let body):
        failure = .upgradeRefused(status: status, reason: reason, body: body)
      default: failure = .closedEarly(.upgrade)
      }
    case .rfb(var login, _):
      if let event = login.closed(), let known = Self.failure(event) {
        failure = known
      } else {
        failure = login.hasHeardServer ? .closedEarly(.login) : .closedBeforeGreeting
      }
    }
    state = .failed(failure)
    return failure
  }

  // MARK: Towards PVE

  /// Frames what goes to PVE. A value of its own that never changes, so that the driver can keep a copy: sending then
  /// does not touch the machine.
  package let writer: UpstreamWriter

  // MARK: Inside

  private mutating func fail(_ failure: ConsoleFailure) -> Event {
    state = .failed(failure)
    following = []
    rest = 0..<0
    return .failed(failure)
  }

  private mutating func beginLogin() {
    defer { login = .none }
    switch login {
    case .none:
      state = .open
      following = [.opened, .stage(.login)]
    case .rfb(let password):
      state = .rfb(RFBLogin(hasPassword: !password.isEmpty), password: password)
      following = [.stage(.login)]
    case .termproxy(let line):
      let login = TermproxyLogin(line: line)
      state = .termproxy(login)
      following = [.send(writer.frame(.text, login.lineBytes())), .stage(.login)]
    }
  }

  /// Gives the login the payload that is there, or fetches more. Nil: go on.
  private mutating func nextLogin(
    _ bytes: UnsafeMutableRawBufferPointer, _ position: inout Int
  ) -> Event? {
    // Even an empty payload is offered: before RFB 3.8 a login can be over without another byte of the server.
    if let event = offerLogin(UnsafeRawBufferPointer(rebasing: bytes[rest])) { return event }
    guard rest.isEmpty else { return fail(.rfbViolation("bytes came before their time")) }
    switch decoder.next(bytes, &position) {
    case .data(let range, _, _):
      rest = range.isEmpty ? 0..<0 : range
      return nil
    case let other: return control(other)
    }
  }

  /// Lets the login take from the front of ``rest``. Nil: it wants more.
  private mutating func offerLogin(_ payload: UnsafeRawBufferPointer) -> Event? {
    var used = 0
    switch state {
    case .termproxy(var login):
      let event = login.next(payload, &used)
      consume(used)
      state = .termproxy(login)
      switch event {
      case .needMore: return nil
      case .garbage: return fail(.termproxyRefused)
      case .loggedIn:
        state = .open
        return .opened
      }
    case .rfb(var login, let password):
      let event = login.next(payload, &used)
      consume(used)
      state = .rfb(login, password: password)
      switch event {
      case .needMore: return nil
      case .send(let answer): return .send(writer.frame(.binary, answer))
      case .challenge(let challenge): return .challenge(password: password, challenge)
      case .authenticated:
        state = .open
        return .opened
      default: return fail(Self.failure(event) ?? .rfbViolation("unexpected event"))
      }
    default: return nil
    }
  }

  /// Moves the front of ``rest``. Used up, it must not point behind the end of a shorter next buffer.
  private mutating func consume(_ used: Int) {
    rest = used == rest.count ? 0..<0 : rest.lowerBound + used..<rest.upperBound
  }

  private static func failure(_ event: RFBLogin.Event) -> ConsoleFailure? {
    switch event {
    case .refused(let reason): .rfbRefused(reason: reason)
    case .failed(let reason): .rfbAuthFailed(reason: reason)
    case .notRFB(let first): .notRFB(first)
    case .violation(let sentence): .rfbViolation(sentence)
    default: nil
    }
  }

  /// Console bytes: as many as lie next to each other, small neighbours moved together.
  private mutating func nextOpen(
    _ bytes: UnsafeMutableRawBufferPointer, _ position: inout Int
  ) -> Event? {
    var run = rest
    rest = 0..<0
    while true {
      switch decoder.next(bytes, &position) {
      case .data(let range, _, _):
        if range.isEmpty { continue }
        if run.isEmpty {
          run = range
        } else if range.count <= Self.worthMoving, let base = bytes.baseAddress {
          // Overlap is fine: copyMemory moves.
          (base + run.upperBound).copyMemory(from: base + range.lowerBound, byteCount: range.count)
          run = run.lowerBound..<run.upperBound + range.count
        } else {
          rest = range
          return .bytes(run)
        }
      case .needMore:
        return run.isEmpty ? .needMore : .bytes(run)
      case let other:
        let event = control(other)
        if run.isEmpty { return event }
        if let event { following.append(event) }
        return .bytes(run)
      }
    }
  }

  /// What a frame that holds no data leads to. Nil: nothing.
  private mutating func control(_ event: FrameDecoder.Event) -> Event? {
    switch event {
    case .needMore: return .needMore
    case .data: return nil
    case .ping(let payload): return .send(writer.pong(payload))
    case .pong: return .pong
    case .close(let code, let reason):
      _ = fail(.closedByPeer(code: code, reason: reason))
      // 1005 (nothing given) can't be sent; the polite answer repeats the code.
      return .send(writer.close(code: code ?? 1000))
    case .violation(let sentence): return fail(.frameViolation(sentence))
    }
  }
}
