import Glibc
import Synchronization

/// Where the process's signals go: to whoever is in charge at the moment. What comes while nobody is waits.
final class SignalHub: Sendable {
  typealias Handler = @Sendable (Int32) async -> Void

  private struct State {
    var handler: Handler?
    var waiting: [Int32] = []
  }
  private let state = Mutex(State())

  /// Catches these signals from now on, for ever. One per process.
  init(_ signals: [Int32] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGCONT]) {
    let stream = SignalStream(signals)
    Task {
      for await number in stream.numbers {
        let handler = state.withLock { state in
          if state.handler == nil { state.waiting.append(number) }
          return state.handler
        }
        // Not awaited: a second Ctrl-C must not wait for what the first one started.
        if let handler { Task { await handler(number) } }
      }
    }
  }

  /// Who is in charge from now on; nil for nobody.
  func handle(_ handler: Handler?) {
    let waiting = state.withLock { state in
      state.handler = handler
      guard handler != nil else { return [Int32]() }
      defer { state.waiting = [] }
      return state.waiting
    }
    for number in waiting { Task { await handler?(number) } }
  }

  /// Does something that a signal of the ending kind gives up, and a second one doesn't wait for.
  func interruptible<T: Sendable>(
    _ body: @escaping @Sendable () async throws -> T
  ) async throws -> T {
    let task = Task { try await body() }
    let count = Counter()
    handle { number in
      guard [SIGINT, SIGTERM, SIGHUP, SIGQUIT].contains(number) else { return }
      if count.next() > 1 {
        LocalTerminal.restore()
        exit(128 + number)
      }
      task.cancel()
      // What doesn't listen isn't waited for either.
      try? await Task.sleep(for: .seconds(5))
      if !count.isOver {
        LocalTerminal.restore()
        exit(128 + number)
      }
    }
    defer {
      count.end()
      handle(nil)
    }
    return try await task.value
  }

  private final class Counter: Sendable {
    private let state = Mutex((count: 0, isOver: false))
    var isOver: Bool { state.withLock { $0.isOver } }
    func end() { state.withLock { $0.isOver = true } }
    func next() -> Int {
      state.withLock { state in
        state.count += 1
        return state.count
      }
    }
  }
}
