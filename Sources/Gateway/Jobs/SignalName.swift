import ProxmoxClient
import Synchronization

/// Signals by name, as Linux numbers them.
enum SignalName {
  private static let numbers: [String: Int] = [
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9,
    "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "CHLD": 17,
    "CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24,
    "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29, "PWR": 30, "SYS": 31,
  ]

  /// `2`, `"2"`, `"INT"`, `"SIGINT"`; nil for what is no signal.
  static func number(_ value: JSONValue) -> Int? {
    switch value {
    case .int(let n): return (1...64).contains(n) ? n : nil
    case .string(let text):
      if let n = Int(text) { return (1...64).contains(n) ? n : nil }
      let upper = text.uppercased()
      return numbers[upper.hasPrefix("SIG") ? String(upper.dropFirst(3)) : upper]
    default: return nil
    }
  }
}

/// A value that comes once, or is given up on.
final class OnceGate<T: Sendable>: Sendable {
  private struct State {
    var value: T?
    var isOver = false
    var waiting: CheckedContinuation<T?, Never>?
  }
  private let state = Mutex(State())

  /// The value is there.
  func open(_ value: T) { settle(value) }

  /// Nobody waits any longer.
  func giveUp() { settle(nil) }

  private func settle(_ value: T?) {
    let waiting = state.withLock { state -> CheckedContinuation<T?, Never>? in
      guard !state.isOver else { return nil }
      state.isOver = true
      state.value = value
      defer { state.waiting = nil }
      return state.waiting
    }
    waiting?.resume(returning: value)
  }

  /// The value, or nil once it was given up on. One caller.
  func value() async -> T? {
    await withCheckedContinuation { continuation in
      let (now, value) = state.withLock { state -> (Bool, T?) in
        if state.isOver { return (true, state.value) }
        state.waiting = continuation
        return (false, nil)
      }
      if now { continuation.resume(returning: value) }
    }
  }
}
