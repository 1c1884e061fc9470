import EventLoop

/// A worker task behind one console: it listens on a port, takes one connection, and ends.
///
/// Subclasses are termproxy, `qm vncproxy` and vncterm. All of it is the simulator's own process; the connection
/// between pveproxy and the worker is this object.
class ConsoleWorker {
  private enum Phase { case listening, connected, ended }

  unowned let node: PVENode
  let upid: String
  let port: Int
  /// pveproxy's end of the connection.
  private(set) var client: WebsocketRelay?
  private var phase = Phase.listening
  private var timer: LoopTimer?

  init(node: PVENode, upid: String, port: Int) {
    self.node = node
    self.upid = upid
    self.port = port
  }

  /// Begins to wait for the one connection.
  func listen(for life: Duration) {
    node.workers[upid] = self
    openListener()
    timer = node.loop.schedule(after: life) { [weak self] in
      guard let self, self.phase == .listening else { return }
      self.nobodyCame()
    }
  }

  /// Takes the connection; false when there was one already.
  func accept(_ relay: WebsocketRelay) -> Bool {
    guard phase == .listening else { return false }
    timer?.cancel()
    closeListener()
    phase = .connected
    client = relay
    relay.backend = self
    let delay = node.timings.workerStart
    if delay > .zero {
      node.loop.schedule(after: delay) { [weak self] in
        guard let self, self.phase == .connected else { return }
        self.connected()
      }
    } else {
      connected()
    }
    return true
  }

  /// Sends bytes to the client.
  final func send(_ bytes: UnsafeRawBufferPointer) { client?.send(bytes) }
  /// Sends bytes to the client.
  final func send(_ bytes: [UInt8]) { bytes.withUnsafeBytes { client?.send($0) } }

  /// Ends the task and the connection, with `OK` or an error's text, and lines for the log before it.
  final func finish(_ exit: String = "OK", log: [String] = []) {
    guard phase != .ended else { return }
    phase = .ended
    timer?.cancel()
    closeListener()
    node.tasks.log(upid, log)
    node.tasks.end(upid, exit: exit)
    let relay = client
    client = nil
    ended()
    relay?.backendClosed()
    node.workers[upid] = nil
  }

  /// The task was stopped from outside.
  final func terminate() { finish("interrupted by signal") }

  final var isConnected: Bool { phase == .connected }

  // MARK: for subclasses

  /// Be reachable; a TCP port unless said otherwise.
  func openListener() { node.ports.listen(self, on: port) }
  /// Be unreachable again.
  func closeListener() { node.ports.unlisten(port) }
  /// The connection is there.
  func connected() {}
  /// Bytes from the client.
  func receive(_ bytes: UnsafeRawBufferPointer) {}
  /// The client is gone.
  func clientClosed() { finish() }
  /// The client took all that was queued for it.
  func clientDrained() {}
  /// Nobody connected in time.
  func nobodyCame() { finish("connection timed out") }
  /// Called once by ``finish(_:log:)``: let go of everything.
  func ended() {}
}
