import EventLoop

/// Takes what websockets dial: a console's port, a tunnel's socket.
protocol ConsoleListener: AnyObject {
  /// Takes a connection; false where nobody listens (any more).
  func accept(_ relay: WebsocketRelay) -> Bool
}

/// The far end of a websocket's relay.
protocol RelayBackend: AnyObject {
  /// Bytes from the client.
  func receive(_ bytes: UnsafeRawBufferPointer)
  /// The client is gone.
  func clientClosed()
  /// The client took all that was queued for it.
  func clientDrained()
}

/// A worker task behind one console: it listens, takes a connection (or several), and ends.
///
/// Subclasses are termproxy, `qm vncproxy`, vncterm and the tunnel. All of it is the simulator's own process; the
/// connection between pveproxy and the worker is a ``WebsocketRelay``.
class ConsoleWorker: ConsoleListener {
  unowned let node: PVENode
  let upid: String
  let port: Int
  private(set) var isOver = false
  private var timer: LoopTimer?

  init(node: PVENode, upid: String, port: Int) {
    self.node = node
    self.upid = upid
    self.port = port
  }

  /// Begins to wait for a first connection.
  final func listen(for life: Duration) {
    node.workers[upid] = self
    openListener()
    timer = node.loop.schedule(after: life) { [weak self] in
      guard let self, !self.isOver else { return }
      self.nobodyCame()
    }
  }

  /// Somebody came: ``nobodyCame()`` won't be called.
  final func stopWaiting() { timer?.cancel() }

  /// Ends the task and its connections, with `OK` or an error's text, and lines for the log before it.
  final func finish(_ exit: String = "OK", log: [String] = []) {
    guard !isOver else { return }
    isOver = true
    timer?.cancel()
    closeListener()
    node.tasks.log(upid, log)
    node.tasks.end(upid, exit: exit)
    ended()
    node.workers[upid] = nil
  }

  /// Adds lines to the task's log.
  final func log(_ lines: String...) { node.tasks.log(upid, lines) }

  /// The task was stopped from outside.
  final func terminate() { finish("interrupted by signal") }

  // MARK: for subclasses

  /// Takes a connection; false where the worker wants none.
  func accept(_ relay: WebsocketRelay) -> Bool { false }
  /// Be reachable; a TCP port unless said otherwise.
  func openListener() { node.ports.listen(self, on: port) }
  /// Be unreachable again.
  func closeListener() { node.ports.unlisten(self, on: port) }
  /// Nobody connected in time.
  func nobodyCame() { finish("connection timed out") }
  /// Called once by ``finish(_:log:)``: let go of everything, connections included.
  func ended() {}
}

/// A worker that takes one connection, then stops listening, and ends with it.
class SingleClientWorker: ConsoleWorker, RelayBackend {
  private enum Phase { case listening, connected, ended }

  /// pveproxy's end of the connection.
  private(set) var client: WebsocketRelay?
  private var phase = Phase.listening

  final override func accept(_ relay: WebsocketRelay) -> Bool {
    guard phase == .listening, !isOver else { return false }
    stopWaiting()
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

  final override func ended() {
    phase = .ended
    let relay = client
    client = nil
    letGo()
    relay?.backendClosed()
  }

  /// Sends bytes to the client.
  final func send(_ bytes: UnsafeRawBufferPointer) { client?.send(bytes) }
  /// Sends bytes to the client.
  final func send(_ bytes: [UInt8]) { bytes.withUnsafeBytes { client?.send($0) } }

  final var isConnected: Bool { phase == .connected }

  // MARK: for subclasses

  /// The connection is there.
  func connected() {}
  func receive(_ bytes: UnsafeRawBufferPointer) {}
  func clientClosed() { finish() }
  func clientDrained() {}
  /// The worker ends: let go of everything but the connection.
  func letGo() {}
}
