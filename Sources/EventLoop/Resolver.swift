import Glibc
import Synchronization

/// Threads of its own for name look-ups, which block: neither a loop nor the pool that Swift's tasks run on may wait for
/// a slow name server. At most eight at a time; more wait in line.
final class Resolver: Sendable {
  static let shared = Resolver()
  private static let most = 8

  private struct State {
    var running = 0
    var waiting: [@Sendable () -> Void] = []
  }
  private let state = Mutex(State())

  /// Runs a blocking job soon.
  func run(_ job: @escaping @Sendable () -> Void) {
    let starts = state.withLock { state in
      state.waiting.append(job)
      guard state.running < Resolver.most else { return false }
      state.running += 1
      return true
    }
    guard starts else { return }
    var thread = pthread_t()
    if pthread_create(&thread, nil, resolverThread, nil) == 0 {
      pthread_detach(thread)
    } else {
      // No thread to be had: better slowly here than never.
      work()
    }
  }

  /// Works until nothing waits.
  fileprivate func work() {
    while true {
      let job = state.withLock { state -> (@Sendable () -> Void)? in
        guard !state.waiting.isEmpty else {
          state.running -= 1
          return nil
        }
        return state.waiting.removeFirst()
      }
      guard let job else { return }
      job()
    }
  }
}

private func resolverThread(_: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  Resolver.shared.work()
  return nil
}
