import CSallyport
import Glibc

/// A TCP connection without TLS, with blocking calls.
final class PlainConnection {
  private let descriptor: Int32

  init(port: Int) throws {
    descriptor = socket(AF_INET, sp_stream_type(), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let connected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard connected == 0 else { throw ClientFailure(description: "can't connect") }
  }

  deinit { close(descriptor) }

  func write(_ bytes: [UInt8]) throws {
    guard send(descriptor, bytes, bytes.count, 0x4000 /* MSG_NOSIGNAL */) == bytes.count else {
      throw ClientFailure(description: "can't write")
    }
  }

  func write(_ text: String) throws { try write(Array(text.utf8)) }

  /// Everything up to the end; nil where the end doesn't come in time.
  func readToEnd(seconds: Int) -> [UInt8]? {
    var all: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      guard poll(&poller, 1, Int32(seconds * 1000)) > 0 else { return nil }
      let n = recv(descriptor, &chunk, chunk.count, 0)
      guard n > 0 else { return all }
      all += chunk.prefix(n)
    }
  }
}
