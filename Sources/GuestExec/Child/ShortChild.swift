import Synchronization
import Glibc

/// A child whose output is little and doesn't matter, and that ends soon.
final class ShortChild: ChildHandler {
  private struct State {
    var end: Child.End?
    var said: [UInt8] = []
    var waiter: CheckedContinuation<Void, Never>?
  }
  private let state = Mutex(State())

  func child(_ child: Child, wrote bytes: [UInt8], to stream: Child.Output) -> Bool {
    state.withLock { $0.said = Array(($0.said + bytes).suffix(4096)) }
    return true
  }

  func child(_ child: Child, ended: Child.End) {
    let waiter = state.withLock { state in
      state.end = ended
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }

  /// Runs it to its end.
  /// - Returns: nil where it took too long and was killed, or could not be started.
  static func run(_ program: ChildProgram, limit: Duration) async -> Child.End? {
    let handler = ShortChild()
    let child: Child
    do throws(ChildFailure) {
      child = try await Child.start(program, handler: handler)
    } catch {
      return nil
    }
    child.closeInput()
    let clock = Task {
      guard (try? await Task.sleep(for: limit)) != nil else { return }
      child.signal(SIGKILL)
    }
    defer { clock.cancel() }
    await withCheckedContinuation { continuation in
      let isOver = handler.state.withLock { state -> Bool in
        if state.end != nil { return true }
        state.waiter = continuation
        return false
      }
      if isOver { continuation.resume() }
    }
    return handler.state.withLock { $0.end }
  }
}

/// Marks and keys that nobody guesses.
enum RandomMark {
  /// 32 hexadecimal digits.
  static func make() -> String {
    var generator = SystemRandomNumberGenerator()
    return (0..<2).map { _ in
      let text = String(generator.next(), radix: 16)
      return String(repeating: "0", count: 16 - text.count) + text
    }.joined()
  }
}
