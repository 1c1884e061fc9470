import CLibwebsockets
import CSallyport
import Glibc
import Synchronization

/// An HTTP/1.1 and websocket server on all loops of a group, on libwebsockets.
///
/// Every loop has its own listening socket on the same port (`SO_REUSEPORT`): Debian's libwebsockets can't share one
/// between contexts. No websocket extension is ever registered: 4.1.6 corrupts compressed payloads.
public final class HTTPServer: Sendable {
  /// How to serve.
  public struct Options: Sendable {
    /// Where to listen.
    public var address: SocketAddress
    /// PEM files of certificate (with chain) and key, for TLS.
    public var tls: (certificateFile: String, keyFile: String)?
    /// The websocket subprotocols that may be agreed on.
    public var subprotocols: [String]
    /// The largest request body in bytes; more is answered with 413.
    public var maximumBody: Int

    /// Plain HTTP with 1 MiB bodies unless told otherwise.
    public init(
      address: SocketAddress, tls: (certificateFile: String, keyFile: String)? = nil,
      subprotocols: [String] = [], maximumBody: Int = 1 << 20
    ) {
      self.address = address
      self.tls = tls
      self.subprotocols = subprotocols
      self.maximumBody = maximumBody
    }
  }

  /// The port in use, also where 0 was asked for.
  public let port: Int
  private let group: LoopGroup

  /// Starts to listen on every loop. When it returns, connections are being accepted. A group has one server:
  /// libwebsockets tells virtual hosts of one context apart by port, and none of ours has one.
  /// - Throws: ``LoopError`` when the address is taken or a certificate can't be used.
  public init(on group: LoopGroup, options: Options, handler: any HTTPHandler)
    async throws(LoopError)
  {
    self.group = group
    // libwebsockets gives each websocket a receive buffer of 64 KiB, of which an idle one touches a page. In the heap,
    // between small allocations, they would tear it apart: mapped on their own they save 3 KiB a session.
    sp_map_allocations_from(Int32(Loop.readSize))
    // The first socket finds the port; the others join it.
    var sockets: [(descriptor: Int32, port: Int)] = []
    if options.address.port != 0 {
      // A port on which somebody else listens is refused here: SO_REUSEPORT alone would let two of our own processes
      // share it without noticing.
      let probe = try Listener.open(address: options.address, reusePort: false)
      close(probe.descriptor)
    }
    var address = options.address
    for _ in group.loops {
      do {
        let socket = try Listener.open(address: address, reusePort: true)
        sockets.append(socket)
        if address.port == 0, let fixed = SocketAddress(ip: address.ip, port: socket.port) {
          address = fixed
        }
      } catch {
        for socket in sockets { close(socket.descriptor) }
        throw error
      }
    }
    port = sockets.first?.port ?? 0
    for (loop, socket) in zip(group.loops, sockets) {
      let result: Result<Void, LoopError> = await withCheckedContinuation { continuation in
        loop.execute {
          do throws(LoopError) {
            guard loop.inside.http == nil else {
              throw .system(call: "HTTPServer", on: "this loop", reason: "it serves one already")
            }
            let http = try LoopHTTP(loop: loop, options: options, handler: handler)
            http.listener = try Listener.adopt(on: loop, socket: socket) { [weak http] fd, peer in
              if let http { http.adopt(fd, peer: peer) } else { close(fd) }
            }
            loop.inside.http = http
            continuation.resume(returning: .success(()))
          } catch {
            continuation.resume(returning: .failure(error))
          }
        }
      }
      try result.get()
    }
  }

  /// Accepts no new connections; those that are open go on.
  public func stopAccepting() {
    for loop in group.loops {
      loop.execute { loop.inside.http?.listener?.close() }
    }
  }
}
