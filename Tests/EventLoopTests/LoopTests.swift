import CSallyport
import ConsoleProtocol
import Foundation
import TestSupport
import Testing

@testable import EventLoop

@Suite("Loops, timers and streams", .serialized)
struct LoopTests {
  @Test("jobs from many threads run on the loop, each thread's in order")
  func jobs() async throws {
    let group = try LoopGroup(count: 2)
    defer { group.shutdown() }
    let loop = group.loops[0]
    let seen = Shared<[Int: [Int]]>([:])
    await withTaskGroup(of: Void.self) { tasks in
      for t in 0..<8 {
        tasks.addTask {
          for i in 0..<500 {
            loop.execute {
              #expect(loop.isInLoop)
              seen.withLock { $0[t, default: []].append(i) }
            }
          }
        }
      }
    }
    await eventually("all jobs ran") {
      seen.withLock { $0.values.map(\.count).reduce(0, +) } == 4000
    }
    for list in seen.withLock({ Array($0.values) }) { #expect(list == Array(0..<500)) }
  }

  @Test("timers fire in the order of their deadlines, and cancelled ones don't")
  func timers() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    let fired = Shared<[Int]>([])
    try await group.loops[0].result {
      let loop = group.loops[0]
      loop.schedule(after: .milliseconds(60)) { fired.withLock { $0.append(3) } }
      loop.schedule(after: .milliseconds(20)) { fired.withLock { $0.append(1) } }
      let cancelled = loop.schedule(after: .milliseconds(30)) { fired.withLock { $0.append(9) } }
      loop.schedule(after: .milliseconds(40)) { fired.withLock { $0.append(2) } }
      cancelled.cancel()
    }
    await eventually("three timers") { fired.withLock { $0.count } == 3 }
    #expect(fired.withLock { $0 } == [1, 2, 3])
  }

  @Test(
    "32 MiB go through an echo and come back whole, plain and with TLS", arguments: [false, true])
  func echo(tls: Bool) async throws {
    let group = try LoopGroup(count: 2)
    defer { group.shutdown() }
    let certificate = try TestCertificate()
    let server =
      tls
      ? try TLSContext.server(certificatePEM: certificate.pem, keyPEM: Secret(certificate.key))
      : nil
    let client =
      tls ? try TLSContext.client(TLSPolicy(trust: .caFile(certificate.certificateFile))) : nil
    let echoes = Shared<[Recorder]>([])
    let a = group.loops[0]
    let b = group.loops[1]
    let port = try await a.result {
      try Listener.tcp(on: a, address: .loopback(port: 0)) { fd, _ in
        let echo = Recorder { s, bytes in
          s.write(UnsafeRawBufferPointer(bytes))
          if s.pendingBytes > 1 << 20 { s.pauseReading() }
        }
        echoes.withLock { $0.append(echo) }
        let s = try? Stream.adopt(
          on: a, descriptor: fd, tls: server, handler: Resumer(echo))
        if s == nil { Issue.record("not adopted") }
      }.port
    }
    let count = 32 << 20
    let recorder = Recorder()
    let sent = (0..<count).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 13) }
    try await b.result {
      let s = try Stream.connect(
        on: b, to: .loopback(port: port), tls: client, serverName: "127.0.0.1", handler: recorder)
      s.write(sent)
    }
    await eventually("everything came back", within: .seconds(60)) { recorder.bytes.count == count }
    let same = recorder.bytes == sent
    #expect(same)
  }

  @Test("a wrong pin ends the connection before a byte is sent, and shows both fingerprints")
  func pin() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    let certificate = try TestCertificate()
    let server = try TLSContext.server(
      certificatePEM: certificate.pem, keyPEM: Secret(certificate.key))
    let wrong = try #require(Fingerprint(bytes: [UInt8](repeating: 7, count: 32)))
    let client = try TLSContext.client(TLSPolicy(trust: .fingerprint(wrong)))
    let loop = group.loops[0]
    let peer = Recorder()
    let port = try await loop.result {
      try Listener.tcp(on: loop, address: .loopback(port: 0)) { fd, _ in
        _ = try? Stream.adopt(on: loop, descriptor: fd, tls: server, handler: peer)
      }.port
    }
    let recorder = Recorder()
    try await loop.result {
      let s = try Stream.connect(
        on: loop, to: .loopback(port: port), tls: client, serverName: "127.0.0.1", handler: recorder
      )
      s.write(Array("GET / HTTP/1.1\r\n".utf8))
    }
    await eventually("it ended") { recorder.end != nil }
    guard case .tlsUntrusted(let mismatch) = recorder.end else {
      Issue.record("ended as \(String(describing: recorder.end))")
      return
    }
    #expect(mismatch.expected == wrong)
    #expect(mismatch.seen != nil)
    await eventually("the server saw the end") { peer.end != nil }
    #expect(peer.bytes.isEmpty)
    #expect(!recorder.isConnected)
  }

  @Test("an unknown authority and a wrong name are refused")
  func authority() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    let certificate = try TestCertificate()
    let server = try TLSContext.server(
      certificatePEM: certificate.pem, keyPEM: Secret(certificate.key))
    let loop = group.loops[0]
    let port = try await loop.result {
      try Listener.tcp(on: loop, address: .loopback(port: 0)) { fd, _ in
        _ = try? Stream.adopt(on: loop, descriptor: fd, tls: server, handler: Recorder())
      }.port
    }
    for (policy, name) in [
      (TLSPolicy(), "localhost"),
      (TLSPolicy(trust: .caFile(certificate.certificateFile)), "elsewhere"),
    ] {
      let recorder = Recorder()
      let client = try TLSContext.client(policy)
      try await loop.result {
        _ = try Stream.connect(
          on: loop, to: .loopback(port: port), tls: client, serverName: name, handler: recorder)
      }
      await eventually("refused") { recorder.end != nil }
      guard case .tlsUntrusted = recorder.end else {
        Issue.record("ended as \(String(describing: recorder.end))")
        return
      }
    }
  }

  @Test("a refused connection and a silent peer have their own ends")
  func refused() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    let loop = group.loops[0]
    let (fd, port) = try Listener.open(address: .loopback(port: 0))
    close(fd)
    let recorder = Recorder()
    try await loop.result {
      _ = try Stream.connect(on: loop, to: .loopback(port: port), handler: recorder)
    }
    await eventually("refused") { recorder.end != nil }
    guard case .connectFailed = recorder.end else {
      Issue.record("ended as \(String(describing: recorder.end))")
      return
    }
    let silent = try Listener.open(address: .loopback(port: 0))
    defer { close(silent.descriptor) }
    let waiting = Recorder()
    try await loop.result {
      let tls = try TLSContext.client(TLSPolicy(trust: .insecure))
      _ = try Stream.connect(
        on: loop, to: .loopback(port: silent.port), tls: tls, timeout: .milliseconds(200),
        handler: waiting)
    }
    await eventually("timed out") { waiting.end == .connectTimedOut }
  }

  @Test("a terminal runs a program and reports its end")
  func terminal() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    let loop = group.loops[0]
    let recorder = Recorder()
    let pid = try await loop.result { () -> pid_t in
      var master: Int32 = -1
      var slave: Int32 = -1
      #expect(sp_open_pty(&master, &slave, 100, 30) == 0)
      let arguments: [UnsafeMutablePointer<CChar>?] =
        ["sh", "-c", "stty size; exit 3"].map { (word: String) in strdup(word) } + [nil]
      defer { arguments.forEach { free($0) } }
      let pid = sp_spawn_on_pty(slave, "/bin/sh", arguments, environ, "/")
      close(slave)
      _ = try Stream.adopt(on: loop, descriptor: master, handler: recorder)
      return pid
    }
    #expect(pid > 0)
    await eventually("the end") { recorder.end == .endOfStream }
    #expect(recorder.text == "30 100\r\n")
    var status: Int32 = 0
    #expect(waitpid(pid, &status, 0) == pid)
    #expect(sp_exit_status(status) == 3)
  }

  @Test("a paused stream costs nothing when its peer hangs up, and reads the rest on resume")
  func paused() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    let loop = group.loops[0]
    let recorder = Recorder()
    var pair: [Int32] = [0, 0]
    #expect(socketpair(AF_UNIX, sp_stream_type(), 0, &pair) == 0)
    let mine = pair[0]
    let theirs = pair[1]
    let handle = try await loop.result { () -> OnLoop<EventLoop.Stream> in
      let s = try Stream.adopt(on: loop, descriptor: mine, handler: recorder)
      s.pauseReading()
      return OnLoop(s, loop: loop)
    }
    _ = write(theirs, "hello", 5)
    close(theirs)
    let before = try await loop.result { threadSeconds() }
    try await Task.sleep(for: .milliseconds(300))
    let after = try await loop.result { threadSeconds() }
    #expect(after - before < 0.1, "the loop spins on a hang-up")
    #expect(recorder.bytes.isEmpty && recorder.end == nil)
    handle.execute { $0.resumeReading() }
    await eventually("the rest and the end") { recorder.end == .endOfStream }
    #expect(recorder.text == "hello")
  }

  @Test("names resolve off the loop; nonsense has its error")
  func resolve() async throws {
    #expect(
      try await SocketAddress.resolve(host: "[::1]", port: 80).first?.description == "[::1]:80")
    #expect(try await SocketAddress.resolve(host: "localhost", port: 80).isEmpty == false)
    await #expect(throws: LoopError.self) {
      _ = try await SocketAddress.resolve(host: "no.such.host.invalid", port: 80)
    }
    #expect(SocketAddress(ip: "127.0.0.1", port: 70000) == nil)
    #expect(SocketAddress(ip: "::1", port: 1)?.isLoopback == true)
  }
}

/// Resumes a paused echo when its queue is empty.
final class Resumer: StreamHandler {
  let inner: Recorder
  init(_ inner: Recorder) { self.inner = inner }
  func streamConnected(_ s: EventLoop.Stream) { inner.streamConnected(s) }
  func stream(_ s: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    inner.stream(s, received: bytes)
  }
  func streamDrained(_ s: EventLoop.Stream) { s.resumeReading() }
  func streamClosed(_ s: EventLoop.Stream, _ end: StreamEnd) { inner.streamClosed(s, end) }
}

/// CPU seconds of the calling thread.
func threadSeconds() -> Double {
  var t = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t)
  return Double(t.tv_sec) + Double(t.tv_nsec) / 1e9
}
