import Glibc

/// Tells when the peer of a connection that libwebsockets serves goes away: while an answer is under way it doesn't look.
/// Loop thread only.
final class HangUpWatch: Loop.Pollable {
  /// EPOLLRDHUP, which isn't imported.
  private static let hangUp: UInt32 = 0x2000
  private let loop: Loop
  private var descriptor: Int32
  private var key: UInt64 = 0
  private var hungUp: (() -> Void)?

  /// Watches a connection until ``stop()`` or the hang-up. Nil where the system has no descriptor left.
  init?(_ connection: Int32, on loop: Loop, hungUp: @escaping () -> Void) {
    self.loop = loop
    self.hungUp = hungUp
    // The connection's own descriptor is in the set of libwebsockets, and may be closed there at any time.
    descriptor = fcntl(connection, F_DUPFD_CLOEXEC, 0)
    guard descriptor >= 0 else { return nil }
    do throws(LoopError) {
      key = try loop.poll(descriptor, events: Self.hangUp, item: self)
    } catch {
      close(descriptor)
      descriptor = -1
      return nil
    }
  }

  func ready(_ events: UInt32) {
    let call = hungUp
    stop()
    call?()
  }

  func loopEnds() { stop() }

  /// Looks no longer.
  func stop() {
    hungUp = nil
    guard descriptor >= 0 else { return }
    loop.unpoll(descriptor, key: key)
    close(descriptor)
    descriptor = -1
  }
}
