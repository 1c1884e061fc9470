import EventLoop
import Glibc

/// `remote_migrate`: the call is checked as PVE checks it, and then the other cluster can't be reached. Only addresses
/// of this machine are tried at all.
extension PVENode {
  static let remoteMigrationOperations: [Operation] = [
    remoteMigration(of: .qemu), remoteMigration(of: .lxc),
  ]

  private static func remoteMigration(of kind: SimulatedGuest.Kind) -> Operation {
    Operation("POST", "/nodes/{node}/\(kind.rawValue)/{vmid}/remote_migrate") {
      node, arguments throws(APIError) in
      try node.remoteMigrate(arguments, try node.guest(arguments, kind))
    }
  }

  private func remoteMigrate(_ arguments: Arguments, _ guest: Guest) throws(APIError) -> APIResult {
    let isMachine = guest.description.kind == .qemu
    let remote = RemoteEndpoint(arguments.text("target-endpoint") ?? "")
    let storage = arguments.text("target-storage") ?? ""
    guard storage != "1" else {
      throw .died("remote migration requires explicit storage mapping!")
    }
    if guest.isRunning, !arguments.flag("online"), !arguments.flag("restart") {
      throw .died(
        isMachine
          ? "can't migrate running VM without --online"
          : "can't migrate running container without --online or --restart")
    }
    if !isMachine, arguments.flag("online"), guest.isRunning, !arguments.flag("restart") {
      throw .died("lxc live migration is currently not implemented")
    }
    // Without a fingerprint the certificate is asked for first, and the call itself fails.
    guard remote.fingerprint != nil else {
      return .later { [self] done in
        probe(remote) { done(.failure(.died($0))) }
      }
    }
    let upid = tasks.begin(
      node: name, type: isMachine ? "qmigrate" : "vzmigrate", id: "\(arguments.vmid)",
      user: arguments.authID)
    probe(remote) { [weak self] why in
      guard let self else { return }
      let time = isoTime(self.clock.now)
      self.tasks.log(
        upid, ["\(time) ERROR: migration aborted (duration 00:00:00): \(why)"])
      self.tasks.end(upid, exit: "migration aborted")
    }
    return APIResult(.string(upid))
  }

  /// Tries to connect, and tells why that or what would come next fails.
  private func probe(_ remote: RemoteEndpoint, _ told: @escaping (String) -> Void) {
    let place = "\(remote.host):\(remote.port)"
    guard ["localhost", "127.0.0.1", "::1", "[::1]"].contains(remote.host) else {
      loop.schedule(after: .zero) { told("500 Can't connect to \(place) (No route to host)") }
      return
    }
    let probe = ConnectionProbe { outcome in
      told(
        outcome.map { "500 Can't connect to \(place) (\($0))" }
          ?? "remote: migration to another cluster is not simulated")
    }
    probe.begin(on: loop, port: remote.port)
  }
}

/// `YYYY-MM-DD HH:MM:SS`, UTC.
private func isoTime(_ seconds: Int) -> String {
  var when = time_t(seconds)
  var parts = tm()
  gmtime_r(&when, &parts)
  func two(_ n: Int32) -> String { n < 10 ? "0\(n)" : "\(n)" }
  return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday)) "
    + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))"
}

/// The property string `host=…,apitoken=…[,port=…][,fingerprint=…]`, which the schema has seen.
private struct RemoteEndpoint {
  let host: String
  let port: Int
  let fingerprint: String?

  init(_ text: String) {
    var parts: [Substring: String] = [:]
    for piece in text.split(separator: ",") {
      let pair = piece.split(separator: "=", maxSplits: 1)
      if pair.count == 2 { parts[pair[0]] = String(pair[1]) }
    }
    host = parts["host"] ?? ""
    port = parts["port"].flatMap { Int($0) } ?? 8006
    fingerprint = parts["fingerprint"]
  }
}

/// Connects to a port of this machine and hangs up.
private final class ConnectionProbe: StreamHandler {
  /// Called once: nil where somebody took the connection, else why not.
  private var told: ((String?) -> Void)?
  private var stream: EventLoop.Stream?

  init(_ told: @escaping (String?) -> Void) { self.told = told }

  func begin(on loop: Loop, port: Int) {
    do throws(LoopError) {
      stream = try Stream.connect(
        on: loop, to: .loopback(port: port), timeout: .seconds(5), handler: self)
    } catch {
      loop.schedule(after: .zero) { self.tell("\(error)") }
    }
  }

  private func tell(_ outcome: String?) {
    let told = told
    self.told = nil
    told?(outcome)
    stream?.close()
    stream = nil
  }

  func streamConnected(_ stream: EventLoop.Stream) { tell(nil) }
  func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {}
  func streamDrained(_ stream: EventLoop.Stream) {}

  func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {
    guard case .connectFailed(let why) = end else { return tell("Connection timed out") }
    tell(why)
  }
}
