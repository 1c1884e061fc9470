import CSallyport
import Glibc

/// An address that a socket connects to or listens on: IPv4, IPv6 or a unix path.
public struct SocketAddress: Sendable, Hashable, CustomStringConvertible {
  private enum Form: Sendable, Hashable {
    case v4([UInt8], Int)
    case v6([UInt8], Int, UInt32)
    case unix(String)
  }
  private let form: Form

  /// From an IP address in text form, without brackets. Nil for anything else, names included.
  public init?(ip: String, port: Int) {
    guard (0...65535).contains(port) else { return nil }
    var four = in_addr()
    var six = in6_addr()
    if inet_pton(AF_INET, ip, &four) == 1 {
      form = .v4(withUnsafeBytes(of: four) { Array($0) }, port)
    } else if inet_pton(AF_INET6, ip, &six) == 1 {
      form = .v6(withUnsafeBytes(of: six) { Array($0) }, port, 0)
    } else {
      return nil
    }
  }

  private init(_ form: Form) { self.form = form }

  init?(_ storage: UnsafePointer<sockaddr>?) {
    guard let storage else { return nil }
    switch Int32(storage.pointee.sa_family) {
    case AF_INET:
      form = storage.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { a in
        .v4(
          withUnsafeBytes(of: a.pointee.sin_addr) { Array($0) },
          Int(UInt16(bigEndian: a.pointee.sin_port)))
      }
    case AF_INET6:
      form = storage.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { a in
        .v6(
          withUnsafeBytes(of: a.pointee.sin6_addr) { Array($0) },
          Int(UInt16(bigEndian: a.pointee.sin6_port)), a.pointee.sin6_scope_id)
      }
    default: return nil
    }
  }

  /// 127.0.0.1 with a port.
  public static func loopback(port: Int) -> SocketAddress {
    SocketAddress(.v4([127, 0, 0, 1], port))
  }

  /// A unix socket's path, at most 107 bytes.
  public static func unix(_ path: String) throws(LoopError) -> SocketAddress {
    guard (1...107).contains(path.utf8.count), !path.utf8.contains(0) else {
      throw .badAddress("unix:\(path)")
    }
    return SocketAddress(.unix(path))
  }

  /// All addresses of a host, in the system's order of preference. Looked up on a thread of its own, never on a
  /// loop. An IP address (with or without brackets) needs no look-up.
  public static func resolve(host: String, port: Int) async throws(LoopError) -> [SocketAddress] {
    let bare =
      host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
    if let address = SocketAddress(ip: bare, port: port) { return [address] }
    guard (0...65535).contains(port), !bare.isEmpty, !bare.utf8.contains(0) else {
      throw .badAddress("\(host):\(port)")
    }
    let result: Result<[SocketAddress], LoopError> = await withCheckedContinuation { continuation in
      Resolver.shared.run { continuation.resume(returning: SocketAddress.lookUp(bare, port)) }
    }
    return try result.get()
  }

  private static func lookUp(_ host: String, _ port: Int) -> Result<[SocketAddress], LoopError> {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = sp_stream_type()
    hints.ai_flags = Int32(AI_ADDRCONFIG | AI_NUMERICSERV)
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(port), &hints, &list)
    defer { if let list { freeaddrinfo(list) } }
    guard code == 0 else {
      return .failure(.unresolved(host: host, reason: String(cString: gai_strerror(code))))
    }
    var found: [SocketAddress] = []
    var entry = list
    while let e = entry {
      if let a = SocketAddress(UnsafePointer(e.pointee.ai_addr)), !found.contains(a) {
        found.append(a)
      }
      entry = e.pointee.ai_next
    }
    guard !found.isEmpty else {
      return .failure(.unresolved(host: host, reason: "it has no address"))
    }
    return .success(found)
  }

  /// The port, 0 for unix sockets.
  public var port: Int {
    switch form {
    case .v4(_, let p), .v6(_, let p, _): p
    case .unix: 0
    }
  }

  /// The IP address without brackets, or the unix path.
  public var ip: String {
    switch form {
    case .v4(let b, _): b.map(String.init).joined(separator: ".")
    case .v6(let b, _, _):
      b.withUnsafeBytes { raw in
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { out in
          inet_ntop(AF_INET6, raw.baseAddress, out.baseAddress, 64) == nil
            ? "?" : out.baseAddress.map { String(cString: $0) } ?? "?"
        }
      }
    case .unix(let p): p
    }
  }

  /// Whether only this machine can reach it: 127.0.0.0/8, ::1 or a unix socket.
  public var isLoopback: Bool {
    switch form {
    case .v4(let b, _): b.first == 127
    case .v6(let b, _, _): b.dropLast().allSatisfy { $0 == 0 } && b.last == 1
    case .unix: true
    }
  }

  /// `1.2.3.4:80`, `[::1]:80` or `unix:/path`.
  public var description: String {
    switch form {
    case .v4: "\(ip):\(port)"
    case .v6: "[\(ip)]:\(port)"
    case .unix(let p): "unix:\(p)"
    }
  }

  var family: Int32 {
    switch form {
    case .v4: AF_INET
    case .v6: AF_INET6
    case .unix: AF_UNIX
    }
  }

  /// The address as the system calls take it.
  func withSockaddr<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
    switch form {
    case .v4(let bytes, let port):
      var a = sockaddr_in()
      a.sin_family = sa_family_t(AF_INET)
      a.sin_port = UInt16(port).bigEndian
      withUnsafeMutableBytes(of: &a.sin_addr) { $0.copyBytes(from: bytes) }
      return withUnsafePointer(to: &a) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    case .v6(let bytes, let port, let scope):
      var a = sockaddr_in6()
      a.sin6_family = sa_family_t(AF_INET6)
      a.sin6_port = UInt16(port).bigEndian
      a.sin6_scope_id = scope
      withUnsafeMutableBytes(of: &a.sin6_addr) { $0.copyBytes(from: bytes) }
      return withUnsafePointer(to: &a) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
        }
      }
    case .unix(let path):
      var a = sockaddr_un()
      a.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &a.sun_path) { $0.copyBytes(from: path.utf8) }
      return withUnsafePointer(to: &a) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
    }
  }
}
