import EventLoop

/// The node's console ports, 5900 to 5999. They are not TCP ports of this machine (several simulators may run
/// side by side): they are the numbers by which websockets find their workers.
struct PortTable {
  /// What PVE's `next_vnc_port` hands out.
  static let range = 5900...5999

  private let loop: Loop
  private let reservation: Duration
  private var listeners: [Int: any ConsoleListener] = [:]
  private var reservedUntil: [Int: Duration] = [:]

  init(loop: Loop, reservation: Duration) {
    self.loop = loop
    self.reservation = reservation
  }

  /// The first free port, counting up; nil when all hundred are taken.
  mutating func next() -> Int? {
    let now = loop.now
    guard
      let port = PortTable.range.first(where: {
        listeners[$0] == nil && (reservedUntil[$0] ?? .zero) <= now
      })
    else { return nil }
    reservedUntil[port] = now + reservation
    return port
  }

  /// A worker begins to listen.
  mutating func listen(_ worker: any ConsoleListener, on port: Int) { listeners[port] = worker }

  /// It has its connection, or gave up. The port may be another worker's by now, which keeps it.
  mutating func unlisten(_ worker: any ConsoleListener, on port: Int) {
    if listeners[port] === worker { listeners[port] = nil }
  }

  /// Who listens on a port.
  func listener(on port: Int) -> (any ConsoleListener)? { listeners[port] }

  /// How many listen.
  var count: Int { listeners.count }
}
