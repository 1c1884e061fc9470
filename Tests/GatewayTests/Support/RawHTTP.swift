import Foundation
import Glibc

/// A failure of the test's own sockets.
struct RawFailure: Error, CustomStringConvertible {
  let description: String
}

/// Runs blocking work on a thread of its own: a test that blocks a thread of the cooperative pool would stop the gateway,
/// whose tasks need it. (On Linux that pool and Dispatch's global queues share their threads.)
func blocking<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
  try await withCheckedThrowingContinuation { continuation in
    Thread.detachNewThread { continuation.resume(with: Result { try work() }) }
  }
}

/// A blocking TCP connection to 127.0.0.1.
final class RawSocket: @unchecked Sendable {
  // Proof: used by one thread at a time; the tests await every call.
  private let descriptor: Int32
  private var buffer: [UInt8] = []

  init(port: Int) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var timeout = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(
      descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard result == 0 else { throw RawFailure(description: "connect: errno \(errno)") }
  }

  deinit { close(descriptor) }

  func write(_ bytes: [UInt8]) throws {
    var sent = 0
    while sent < bytes.count {
      let n = bytes[sent...].withUnsafeBytes {
        send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard n > 0 else { throw RawFailure(description: "send: errno \(errno)") }
      sent += n
    }
  }

  /// Reads more; false at the end of the stream.
  private func fill() throws -> Bool {
    var room = [UInt8](repeating: 0, count: 65536)
    let n = recv(descriptor, &room, room.count, 0)
    guard n >= 0 else { throw RawFailure(description: "recv: errno \(errno)") }
    buffer += room[..<n]
    return n > 0
  }

  func read(_ count: Int) throws -> [UInt8] {
    while buffer.count < count {
      guard try fill() else { throw RawFailure(description: "the peer closed early") }
    }
    defer { buffer.removeFirst(count) }
    return Array(buffer[..<count])
  }

  /// One HTTP answer's head: status and headers by lower-case name.
  func readHead() throws -> (status: Int, headers: [String: String]) {
    let end: [UInt8] = [13, 10, 13, 10]
    while true {
      if let at = buffer.indices.first(where: { buffer[$0...].starts(with: end) }) {
        let text = String(decoding: try read(at + 4), as: UTF8.self)
        let lines = text.split(separator: "\r\n")
        let words = (lines.first ?? "").split(separator: " ")
        guard words.count >= 2, let status = Int(words[1]) else {
          throw RawFailure(description: "no status line: \(text.prefix(80))")
        }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
          let parts = line.split(separator: ":", maxSplits: 1)
          guard parts.count == 2 else { continue }
          headers[parts[0].lowercased()] = String(parts[1].drop { $0 == " " })
        }
        return (status, headers)
      }
      guard try fill() else { throw RawFailure(description: "the peer closed before an answer") }
    }
  }
}

/// An HTTP answer as a test looks at it.
struct RawAnswer: Sendable {
  var status: Int
  var headers: [String: String]
  var body: [UInt8]
  var text: String { String(decoding: body, as: UTF8.self) }
}

/// One request on a connection of its own.
func http(
  _ port: Int, _ method: String, _ path: String, headers: [String: String] = [:],
  body: [UInt8]? = nil
) async throws -> RawAnswer {
  try await blocking {
    let socket = try RawSocket(port: port)
    var head = "\(method) \(path) HTTP/1.1\r\n"
    if headers["Host"] == nil { head += "Host: 127.0.0.1:\(port)\r\n" }
    for (name, value) in headers { head += "\(name): \(value)\r\n" }
    if let body { head += "Content-Length: \(body.count)\r\n" }
    try socket.write(Array((head + "\r\n").utf8) + (body ?? []))
    let (status, answer) = try socket.readHead()
    let length = Int(answer["content-length"] ?? "") ?? 0
    let silent = method == "HEAD" || status == 304 || status == 204
    return RawAnswer(
      status: status, headers: answer, body: silent ? [] : try socket.read(length))
  }
}
