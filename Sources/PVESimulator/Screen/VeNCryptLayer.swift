/// vncterm's login without a websocket's password: security type 19 (VeNCrypt 0.2) with X509Plain or TLSPlain, a user
/// name and a ticket inside TLS. After it everything is inside TLS.
///
/// It stands between the connection and an ``RFBSession`` that begins where the login ended.
final class VeNCryptLayer {
  private enum Stage { case version, type, layerVersion, subtype, credentials, open, over }

  private static let x509Plain: UInt32 = 262
  private static let tlsPlain: UInt32 = 259
  private static let longest = 4096

  private let certificates: CertificateSet
  private let check: (String, String) -> Bool
  private let send: ([UInt8]) -> Void
  private let received: ([UInt8]) -> Void
  private let failed: () -> Void
  private var stage = Stage.version
  private var queue = ByteQueue()
  /// What came out of TLS and isn't understood yet.
  private var inner = ByteQueue()
  private var tls: MemoryTLS?

  /// - Parameters:
  ///   - check: whether a user and a ticket are welcome.
  ///   - send: bytes for the connection.
  ///   - received: bytes of the viewer after its login, from ClientInit on.
  ///   - failed: to be closed after what was sent.
  init(
    _ certificates: CertificateSet, check: @escaping (String, String) -> Bool,
    send: @escaping ([UInt8]) -> Void, received: @escaping ([UInt8]) -> Void,
    failed: @escaping () -> Void
  ) {
    self.certificates = certificates
    self.check = check
    self.send = send
    self.received = received
    self.failed = failed
  }

  /// Sends the banner.
  func start() { send(RFBHandshake.banner) }

  /// Bytes of the session for the viewer.
  func sendInside(_ bytes: [UInt8]) {
    guard let sealed = tls?.seal(bytes), !sealed.isEmpty else { return }
    send(sealed)
  }

  /// Bytes from the connection.
  func receive(_ bytes: UnsafeRawBufferPointer) {
    if tls == nil {
      queue.append(bytes)
      negotiate()
      guard tls != nil, !queue.isEmpty else { return }
      let early = queue.removeFirst(queue.count)
      early.withUnsafeBytes { throughTLS($0) }
    } else {
      throughTLS(bytes)
    }
  }

  /// Everything up to TLS.
  private func negotiate() {
    while true {
      switch stage {
      case .version:
        guard queue.count >= 12 else { return }
        guard queue.removeFirst(12) == RFBHandshake.banner else { return fail() }
        send([1, 19])
        stage = .type
      case .type:
        guard queue.count >= 1 else { return }
        guard queue.removeFirst(1) == [19] else { return fail() }
        send([0, 2])
        stage = .layerVersion
      case .layerVersion:
        guard queue.count >= 2 else { return }
        guard queue.removeFirst(2) == [0, 2] else {
          send([255])
          return fail()
        }
        send([0, 2] + four(VeNCryptLayer.x509Plain) + four(VeNCryptLayer.tlsPlain))
        stage = .subtype
      case .subtype:
        guard queue.count >= 4 else { return }
        let type = number(queue.removeFirst(4))
        let set: CertificateSet?
        switch type {
        case VeNCryptLayer.x509Plain: set = certificates
        case VeNCryptLayer.tlsPlain: set = nil
        default:
          send([0])
          return fail()
        }
        guard let tls = MemoryTLS(set) else { return fail() }
        self.tls = tls
        send([1])
        stage = .credentials
        return
      case .credentials, .open, .over: return
      }
    }
  }

  private func throughTLS(_ bytes: UnsafeRawBufferPointer) {
    guard let tls, stage != .over else { return }
    let (plain, reply) = tls.open(bytes)
    if !reply.isEmpty { send(reply) }
    if stage == .open {
      if !plain.isEmpty { received(plain) }
    } else {
      plain.withUnsafeBytes { inner.append($0) }
      login()
    }
    if tls.isOver { fail() }
  }

  /// Two lengths, a name, a ticket.
  private func login() {
    guard stage == .credentials, inner.count >= 8 else { return }
    let head = Array(inner.bytes.prefix(8))
    let name = Int(number(Array(head.prefix(4))))
    let secret = Int(number(Array(head.suffix(4))))
    guard name <= VeNCryptLayer.longest, secret <= VeNCryptLayer.longest else { return fail() }
    guard inner.count >= 8 + name + secret else { return }
    inner.drop(8)
    let user = String(decoding: inner.removeFirst(name), as: UTF8.self)
    let ticket = String(decoding: inner.removeFirst(secret), as: UTF8.self)
    guard check(user, ticket) else {
      let reason = Array("Authentication failed".utf8)
      sendInside([0, 0, 0, 1] + four(UInt32(reason.count)) + reason)
      return fail()
    }
    stage = .open
    sendInside([0, 0, 0, 0])
    if !inner.isEmpty { received(inner.removeFirst(inner.count)) }
  }

  private func fail() {
    guard stage != .over else { return }
    stage = .over
    failed()
  }

  private func four(_ n: UInt32) -> [UInt8] {
    [UInt8(n >> 24), UInt8(n >> 16 & 255), UInt8(n >> 8 & 255), UInt8(n & 255)]
  }

  private func number(_ bytes: [UInt8]) -> UInt32 { bytes.reduce(0) { $0 << 8 | UInt32($1) } }
}
