import CSallyport
import Glibc

/// A listening socket on one loop. Several loops may listen on the same port with `reusePort`: the kernel spreads
/// connections over them.
public final class Listener: Loop.Pollable {
  private let loop: Loop
  private var descriptor: Int32
  private var key: UInt64 = 0
  private let accepted: (Int32, SocketAddress) -> Void
  /// The port in use, also where 0 was asked for. 0 for unix sockets.
  public let port: Int

  private init(
    loop: Loop, descriptor: Int32, port: Int, accepted: @escaping (Int32, SocketAddress) -> Void
  ) {
    self.loop = loop
    self.descriptor = descriptor
    self.port = port
    self.accepted = accepted
  }

  /// Opens a listening socket without giving it to a loop, so that a taken port is an error before anything starts.
  public static func open(
    address: SocketAddress, reusePort: Bool = false
  ) throws(LoopError) -> (descriptor: Int32, port: Int) {
    let descriptor = sp_stream_socket(address.family)
    guard descriptor >= 0 else { throw .last("socket", on: "\(address)") }
    var on: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, 4)
    if reusePort { setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, 4) }
    if address.family == AF_INET6 {
      sp_v6_only(descriptor)
    }
    guard address.withSockaddr({ a, n in bind(descriptor, a, n) }) == 0,
      listen(descriptor, 1024) == 0
    else {
      let error = LoopError.last("listen", on: "\(address)")
      Glibc.close(descriptor)
      throw error
    }
    var storage = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let port = withUnsafeMutablePointer(to: &storage) { p in
      p.withMemoryRebound(to: sockaddr.self, capacity: 1) { a -> Int in
        getsockname(descriptor, a, &size) == 0 ? SocketAddress(UnsafePointer(a))?.port ?? 0 : 0
      }
    }
    return (descriptor, port)
  }

  /// Takes a port without listening on it: connections are refused, and nobody else gets the port. `listen` makes it
  /// a socket for ``adopt(on:socket:accepted:)``.
  public static func reserve(address: SocketAddress) throws(LoopError) -> Int32 {
    let descriptor = sp_stream_socket(address.family)
    guard descriptor >= 0 else { throw .last("socket", on: "\(address)") }
    var on: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, 4)
    guard address.withSockaddr({ a, n in bind(descriptor, a, n) }) == 0 else {
      let error = LoopError.last("bind", on: "\(address)")
      Glibc.close(descriptor)
      throw error
    }
    return descriptor
  }

  /// Listens. `accepted` gets a non-blocking descriptor, which is the callee's to close, and the peer's address.
  /// Loop thread only.
  public static func tcp(
    on loop: Loop, address: SocketAddress, reusePort: Bool = false,
    accepted: @escaping (Int32, SocketAddress) -> Void
  ) throws(LoopError) -> Listener {
    let socket = try open(address: address, reusePort: reusePort)
    return try adopt(on: loop, socket: socket, accepted: accepted)
  }

  /// Serves a socket of ``open(address:reusePort:)``. Loop thread only.
  public static func adopt(
    on loop: Loop, socket: (descriptor: Int32, port: Int),
    accepted: @escaping (Int32, SocketAddress) -> Void
  ) throws(LoopError) -> Listener {
    let listener = Listener(
      loop: loop, descriptor: socket.descriptor, port: socket.port, accepted: accepted)
    do {
      listener.key = try loop.poll(socket.descriptor, events: EPOLLIN.rawValue, item: listener)
    } catch {
      Glibc.close(socket.descriptor)
      throw error
    }
    return listener
  }

  func ready(_ events: UInt32) {
    // A few at a time, so that a burst of new connections doesn't hold up the established ones.
    for _ in 0..<16 {
      guard descriptor >= 0 else { return }
      let fd = sp_accept(descriptor)
      guard fd >= 0 else {
        if errno == EMFILE || errno == ENFILE { pauseForDescriptors() }
        return
      }
      var storage = sockaddr_storage()
      var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
      let peer = withUnsafeMutablePointer(to: &storage) { p in
        p.withMemoryRebound(to: sockaddr.self, capacity: 1) { a in
          getpeername(fd, a, &size) == 0 ? SocketAddress(UnsafePointer(a)) : nil
        }
      }
      accepted(fd, peer ?? .loopback(port: 0))
    }
  }

  /// Out of descriptors: waiting connections stay in the kernel's queue, and the loop doesn't spin on them.
  private func pauseForDescriptors() {
    loop.repoll(descriptor, key: key, events: 0)
    loop.schedule(after: .milliseconds(200)) { [weak self] in
      guard let self, self.descriptor >= 0 else { return }
      self.loop.repoll(self.descriptor, key: self.key, events: EPOLLIN.rawValue)
    }
  }

  func loopEnds() { close() }

  /// Stops listening. Loop thread only.
  public func close() {
    guard descriptor >= 0 else { return }
    loop.unpoll(descriptor, key: key)
    Glibc.close(descriptor)
    descriptor = -1
  }
}
