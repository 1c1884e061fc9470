import EventLoop

/// pveproxy's relay between one websocket and one backend connection.
///
/// There is no back-pressure: what the client doesn't read is queued without bound (up to a limit of ours, said
/// at ``Behaviour/relayBuffer``), and when the backend ends, what is still queued is lost.
final class WebsocketRelay {
  private unowned let node: PVENode
  private let stream: Stream
  private let worker: ProxyWorker
  private var reader: FrameReader
  private var writer: FrameWriter
  private var scratch: [UInt8] = []
  /// The worker's end of the connection; set when it accepts.
  weak var backend: (any RelayBackend)?
  /// Backend bytes from before the 101 went out.
  private var early: [UInt8]? = []
  private var isOver = false
  /// What faults make of it.
  let plan: ConsolePlan?
  private var spoiler: ConsoleSpoiler?
  /// Its number in the journal, and what will stand there.
  var journaled: Int?
  private var record = Journal.Websocket()
  private let began: Duration

  init(stream: Stream, node: PVENode, worker: ProxyWorker, plan: ConsolePlan?) {
    self.stream = stream
    self.node = node
    self.worker = worker
    self.plan = plan
    reader = FrameReader(buffer: node.era.websocketBuffer)
    began = node.loop.now
    writer = FrameWriter(cuts: node.behaviour.frameCuts)
    guard let plan, plan.spoilsBytes else { return }
    spoiler = ConsoleSpoiler(
      plan, loop: node.loop, send: { [weak self] in self?.frame($0) },
      cut: { [weak self] in self?.over("fault") })
  }

  /// The 101 is on its way: frames may follow.
  func start() {
    guard let bytes = early else { return }
    early = nil
    if !bytes.isEmpty { bytes.withUnsafeBytes { send($0) } }
  }

  // MARK: from the client

  func received(_ bytes: UnsafeMutableRawBufferPointer) {
    // pveproxy writes frame by frame, and the kernel joins what it writes: the backend sees the payloads of one
    // read as one run of bytes. Only a single frame goes through without being copied.
    var joined: [UInt8] = []
    var isFirst = true
    let isWholeFrame = WebsocketRelay.isOneFrame(bytes)
    reader.feed(bytes) { event in
      switch event {
      case .payload(let payload):
        record.bytesIn += payload.count
        if isWholeFrame, isFirst {
          backend?.receive(payload)
        } else {
          joined.append(contentsOf: payload)
        }
        isFirst = false
      case .ping(let payload): stream.write(FrameWriter.pong(payload))
      case .close:
        flush(&joined)
        over("client", abruptly: true)
      case .overflow:
        flush(&joined)
        over("overflow", abruptly: true)
      case .malformed:
        flush(&joined)
        if plan?.badFrame ?? node.behaviour.badFrame == .killWorker { node.kill(worker) }
      }
    }
    flush(&joined)
  }

  private func flush(_ joined: inout [UInt8]) {
    guard !joined.isEmpty else { return }
    joined.withUnsafeBytes { backend?.receive($0) }
    joined.removeAll()
  }

  /// Whether the bytes are exactly one frame, which then needs no joining.
  private static func isOneFrame(_ bytes: UnsafeMutableRawBufferPointer) -> Bool {
    guard bytes.count >= 6 else { return false }
    switch bytes[1] & 0x7F {
    case 126: return bytes.count >= 8 && bytes.count - 8 == Int(bytes[2]) << 8 | Int(bytes[3])
    case 127: return false
    case let n: return bytes.count - 6 == Int(n)
    }
  }

  /// The client's connection is gone.
  func connectionClosed() {
    guard !isOver else { return }
    ended("client")
    backend?.clientClosed()
    backend = nil
  }

  /// Writes down how it ended.
  private func ended(_ who: String) {
    isOver = true
    spoiler?.stop()
    record.ending = who
    record.duration = node.loop.now - began
    if let journaled { node.journal.end(journaled, record) }
  }

  /// Everything queued has left.
  func drained() { backend?.clientDrained() }

  // MARK: from the backend

  /// Bytes for the client.
  func send(_ bytes: UnsafeRawBufferPointer) {
    guard !isOver, !bytes.isEmpty,
      plan?.dial ?? node.behaviour.dialFault != .silentAfterUpgrade
    else { return }
    if early != nil {
      early?.append(contentsOf: bytes)
      return
    }
    if let spoiler {
      spoiler.output(bytes)
    } else {
      frame(bytes)
    }
  }

  private func frame(_ bytes: UnsafeRawBufferPointer) {
    guard !isOver else { return }
    record.bytesOut += bytes.count
    scratch.removeAll(keepingCapacity: true)
    writer.binary(bytes, into: &scratch)
    scratch.withUnsafeBytes { stream.write($0) }
    if scratch.capacity > 1 << 20 { scratch = [] }
    if stream.pendingBytes > node.behaviour.relayBuffer, node.behaviour.overflow == .kill {
      over("overflow")
    }
  }

  /// How many bytes wait for a client that doesn't read.
  var queuedBytes: Int {
    stream.pendingBytes + (early?.count ?? 0) + (spoiler?.waiting ?? 0)
  }

  /// The backend's connection is gone: the client's ends at once, and what is queued with it.
  func backendClosed() {
    backend = nil
    over("backend")
  }

  /// - Parameter abruptly: whether the end is TCP's only, as after a client's close frame; where the backend ended,
  ///   TLS says goodbye.
  private func over(_ who: String, abruptly: Bool = false) {
    guard !isOver else { return }
    ended(who)
    backend?.clientClosed()
    backend = nil
    if abruptly { stream.closeAbruptly() } else { stream.close() }
  }
}
