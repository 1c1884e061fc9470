import EventLoop

/// pveproxy's relay between one websocket and one backend connection.
///
/// There is no back-pressure: what the client doesn't read is queued without bound (up to a limit of ours, said
/// at ``Behaviour/relayBuffer``), and when the backend ends, what is still queued is lost.
final class WebsocketRelay {
  private unowned let node: PVENode
  private let stream: Stream
  private var reader = FrameReader()
  private var writer: FrameWriter
  private var scratch: [UInt8] = []
  /// The worker's end of the connection; set when it accepts.
  weak var backend: ConsoleWorker?
  /// Backend bytes from before the 101 went out.
  private var early: [UInt8]? = []
  private var isOver = false

  init(stream: Stream, node: PVENode) {
    self.stream = stream
    self.node = node
    writer = FrameWriter(cuts: node.behaviour.frameCuts)
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
        if isWholeFrame, isFirst {
          backend?.receive(payload)
        } else {
          joined.append(contentsOf: payload)
        }
        isFirst = false
      case .ping(let payload): stream.write(FrameWriter.pong(payload))
      case .close:
        flush(&joined)
        over()
      case .malformed:
        flush(&joined)
        if node.behaviour.badFrame == .killWorker { node.killAllConnections() }
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
    isOver = true
    backend?.clientClosed()
    backend = nil
  }

  /// Everything queued has left.
  func drained() { backend?.clientDrained() }

  // MARK: from the backend

  /// Bytes for the client.
  func send(_ bytes: UnsafeRawBufferPointer) {
    guard !isOver, !bytes.isEmpty, node.behaviour.dialFault != .silentAfterUpgrade else { return }
    if early != nil {
      early?.append(contentsOf: bytes)
      return
    }
    scratch.removeAll(keepingCapacity: true)
    writer.binary(bytes, into: &scratch)
    scratch.withUnsafeBytes { stream.write($0) }
    if scratch.capacity > 1 << 20 { scratch = [] }
    if stream.pendingBytes > node.behaviour.relayBuffer, node.behaviour.overflow == .kill { over() }
  }

  /// How many bytes wait for a client that doesn't read.
  var queuedBytes: Int { stream.pendingBytes + (early?.count ?? 0) }

  /// The backend's connection is gone: the client's ends at once, and what is queued with it.
  func backendClosed() {
    backend = nil
    over()
  }

  private func over() {
    guard !isOver else { return }
    isOver = true
    backend?.clientClosed()
    backend = nil
    stream.close()
  }
}
