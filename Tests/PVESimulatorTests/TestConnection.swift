import COpenSSL
import CSallyport
import Dispatch
import Glibc

@testable import PVESimulator

/// Runs blocking code away from the threads that Swift's tasks share.
func blocking<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
  try await withCheckedThrowingContinuation { done in
    DispatchQueue.global().async { done.resume(with: Result { try body() }) }
  }
}

/// What went wrong in a test's own client.
struct ClientFailure: Error, CustomStringConvertible {
  let description: String
}

/// A TLS connection with blocking calls: nothing of the client under test is in it.
final class TestConnection {
  private let descriptor: Int32
  private let context: OpaquePointer
  private let ssl: OpaquePointer
  private var waiting: [UInt8] = []

  init(port: Int, seconds: Double = 15) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    self.descriptor = descriptor
    // A server that never begins TLS must not hold the test.
    var patience = timeval(tv_sec: Int(seconds), tv_usec: 0)
    setsockopt(
      descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let connected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard connected == 0, let context = SSL_CTX_new(TLS_client_method()), let ssl = SSL_new(context)
    else { throw ClientFailure(description: "can't connect") }
    self.context = context
    self.ssl = ssl
    sp_ssl_ctx_ignore_eof(context)
    SSL_set_fd(ssl, descriptor)
    // SSL_MODE_AUTO_RETRY off: a session ticket alone must not make a read wait for data behind it.
    SSL_ctrl(ssl, 78, 4, nil)
    guard SSL_connect(ssl) == 1 else { throw ClientFailure(description: "no TLS") }
  }

  deinit {
    close(descriptor)
    SSL_free(ssl)
    SSL_CTX_free(context)
  }

  /// SHA-256 of the certificate that the node showed.
  var peerFingerprint: String {
    guard let certificate = SSL_get1_peer_certificate(ssl) else { return "" }
    defer { X509_free(certificate) }
    var digest = [UInt8](repeating: 0, count: 32)
    var length: UInt32 = 0
    X509_digest(certificate, EVP_sha256(), &digest, &length)
    return digest.map { hex(Int($0), digits: 2) }.joined(separator: ":")
  }

  func write(_ bytes: [UInt8]) throws {
    var at = 0
    while at < bytes.count {
      let n = bytes[at...].withUnsafeBytes {
        SSL_write(ssl, $0.baseAddress, Int32(min($0.count, 1 << 20)))
      }
      guard n > 0 else { throw ClientFailure(description: "can't write") }
      at += Int(n)
    }
  }

  func write(_ text: String) throws { try write(Array(text.utf8)) }

  /// More bytes; nil at the end, empty when nothing came in time.
  func readSome(seconds: Double) -> [UInt8]? {
    if !waiting.isEmpty {
      defer { waiting = [] }
      return waiting
    }
    let deadline = ContinuousClock.now + .milliseconds(Int(seconds * 1000))
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      if SSL_pending(ssl) == 0 {
        let left = (deadline - ContinuousClock.now) / .milliseconds(1)
        var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&poller, 1, Int32(max(0, left))) > 0 else { return [] }
      }
      let n = SSL_read(ssl, &chunk, Int32(chunk.count))
      if n > 0 { return Array(chunk.prefix(Int(n))) }
      // A record without data, e.g. a session ticket.
      guard SSL_get_error(ssl, n) == SSL_ERROR_WANT_READ else { return nil }
    }
  }

  /// Exactly so many bytes.
  func read(_ count: Int, seconds: Double = 15) throws -> [UInt8] {
    while waiting.count < count {
      let held = waiting
      waiting = []
      guard let more = readSome(seconds: seconds), !more.isEmpty else {
        waiting = held
        throw ClientFailure(description: "\(count) bytes did not come, only \(held.count)")
      }
      waiting = held + more
    }
    defer { waiting.removeFirst(count) }
    return Array(waiting.prefix(count))
  }

  /// Up to and with a marker.
  func read(upTo marker: String, seconds: Double = 15) throws -> String {
    let wanted = Array(marker.utf8)
    while true {
      if let range = waiting.firstRange(of: wanted) {
        defer { waiting.removeFirst(range.upperBound) }
        return String(decoding: waiting[..<range.upperBound], as: UTF8.self)
      }
      let held = waiting
      waiting = []
      guard let more = readSome(seconds: seconds), !more.isEmpty else {
        throw ClientFailure(description: "'\(marker)' did not come after \(held.count) bytes")
      }
      waiting = held + more
    }
  }

  /// Everything up to the end; nil where the end doesn't come in time.
  func readToEnd(seconds: Double) -> [UInt8]? {
    var all: [UInt8] = []
    while true {
      guard let more = readSome(seconds: seconds) else { return all }
      if more.isEmpty { return nil }
      all += more
    }
  }
}

/// An HTTP answer.
struct TestAnswer: Sendable {
  var status: Int
  var reason: String
  var headers: [(String, String)]
  var body: String

  func header(_ name: String) -> String? { headers.first { $0.0 == name }?.1 }
  var json: JSON { (try? JSONReader.read(Array(body.utf8))) ?? .null }
  var data: JSON { json["data"] ?? .null }
}

/// How a request shows who asks.
enum TestCredential: Sendable {
  case none
  case header(String, String)
  case ticket(String, csrf: String)
  static func token(_ pve: Simulator) -> TestCredential {
    .header("Authorization", "PVEAPIToken=\(pve.tokenID)=\(pve.tokenSecret.reveal())")
  }
  var lines: String {
    switch self {
    case .none: ""
    case .header(let name, let value): "\(name): \(value)\r\n"
    case .ticket(let ticket, let csrf):
      "Cookie: PVEAuthCookie=\(percentEncoded(ticket))\r\nCSRFPreventionToken: \(csrf)\r\n"
    }
  }
}

extension Simulator {
  /// One request on a connection of its own.
  func call(
    _ method: String, _ path: String, _ form: [String: String] = [:],
    as credential: TestCredential = .none, headers: String = "", port: Int? = nil,
    seconds: Double = 15
  ) async throws -> TestAnswer {
    let body = form.map { "\(percentEncoded($0.key))=\(percentEncoded($0.value))" }
      .joined(separator: "&")
    let target = path.hasPrefix("/api2") ? path : "/api2/json" + path
    var text =
      "\(method) \(target) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(credential.lines)\(headers)"
    if method == "POST" || method == "PUT" { text += "Content-Length: \(body.utf8.count)\r\n" }
    let raw = text + "\r\n" + body
    return try await self.raw(raw, port: port, seconds: seconds)
  }

  /// Bytes on a connection of their own, and the answer up to its end.
  func raw(_ text: String, port: Int? = nil, seconds: Double = 15) async throws -> TestAnswer {
    let port = port ?? self.port
    return try await blocking {
      let connection = try TestConnection(port: port, seconds: seconds)
      try connection.write(text)
      guard let bytes = connection.readToEnd(seconds: seconds) else {
        throw ClientFailure(description: "no end")
      }
      return try TestAnswer(bytes)
    }
  }

  /// Logs in and gives the ticket.
  func login(_ user: String = "root@pam") async throws -> TestCredential {
    let answer = try await call(
      "POST", "/access/ticket", ["username": user, "password": password(of: user)?.reveal() ?? ""])
    guard case .string(let ticket)? = answer.data["ticket"],
      case .string(let csrf)? = answer.data["CSRFPreventionToken"]
    else { throw ClientFailure(description: "no login: \(answer.reason)") }
    return .ticket(ticket, csrf: csrf)
  }
}

extension TestAnswer {
  init(_ bytes: [UInt8]) throws {
    let text = String(decoding: bytes, as: UTF8.self)
    guard let end = text.firstRange(of: "\r\n\r\n") else {
      throw ClientFailure(description: "no HTTP: \(text.prefix(80))")
    }
    let lines = text[..<end.lowerBound].split(separator: "\r\n")
    let first = lines[0].split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
    self.init(
      status: Int(first[1]) ?? 0, reason: String(first.last ?? ""),
      headers: lines.dropFirst().map { line in
        let parts = line.split(separator: ":", maxSplits: 1)
        return (String(parts[0]), String(parts[1].dropFirst()))
      }, body: String(text[end.upperBound...]))
  }
}

extension JSON {
  var asText: String? { if case .string(let s) = self { s } else { nil } }
  var number: Int? { if case .int(let n) = self { n } else { nil } }
  var items: [JSON] { if case .array(let a) = self { a } else { [] } }
}
