/// A socket that a migration tunnel opened beside its command channel: for a disk's stream, for a VM's memory, for
/// NBD. Whatever comes is counted; NBD's comes back as it came, since there is no NBD server here.
final class TunnelSocket: ConsoleListener {
  /// What becomes of what comes.
  enum Manner {
    /// Taken and counted.
    case sink
    /// Sent back.
    case echo
  }

  /// One websocket's connection to it.
  private final class Seat: RelayBackend {
    let relay: WebsocketRelay
    unowned let socket: TunnelSocket

    init(_ relay: WebsocketRelay, socket: TunnelSocket) {
      self.relay = relay
      self.socket = socket
    }

    func receive(_ bytes: UnsafeRawBufferPointer) {
      socket.counter.add(bytes)
      if socket.manner == .echo { relay.send(bytes) }
    }

    func clientClosed() { socket.left(self) }
    func clientDrained() {}
  }

  let path: String
  let counter = SinkCounter()
  private let manner: Manner
  private let ended: () -> Void
  private var seats: [Seat] = []

  /// - Parameter ended: told when a connection ends.
  init(path: String, manner: Manner, ended: @escaping () -> Void = {}) {
    self.path = path
    self.manner = manner
    self.ended = ended
  }

  func accept(_ relay: WebsocketRelay) -> Bool {
    let seat = Seat(relay, socket: self)
    seats.append(seat)
    relay.backend = seat
    return true
  }

  private func left(_ seat: Seat) {
    guard seats.contains(where: { $0 === seat }) else { return }
    seats.removeAll { $0 === seat }
    ended()
  }

  /// Ends its connections.
  func close() {
    let all = seats
    seats = []
    for seat in all { seat.relay.backendClosed() }
  }
}
