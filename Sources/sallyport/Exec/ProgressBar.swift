import Dispatch
import Glibc
import Synchronization

/// How far a copy is, in one line that is written over; nothing where standard error is no terminal.
final class ProgressBar: Sendable {
  private struct State {
    var label: String
    var done = 0
    var total: Int?
    /// Bytes that an earlier try had brought: they don't count for the rate.
    var before = 0
    var begin = ContinuousClock.now
    var last: ContinuousClock.Instant?
    var isShown = false
    /// Times and bytes of the last seconds, for a rate that follows.
    var samples: [(at: ContinuousClock.Instant, done: Int)] = []
  }
  private let state: Mutex<State>
  private let isWanted: Bool

  init(_ label: String, quiet: Bool) {
    state = Mutex(State(label: label))
    isWanted = !quiet && isatty(2) == 1
  }

  /// A new piece of work begins, of which so much is there already.
  func begin(total: Int?, before: Int = 0) {
    state.withLock {
      $0.total = total
      $0.before = before
      $0.done = before
      $0.begin = .now
      $0.samples = [(.now, before)]
    }
    draw(always: true)
  }

  /// So many more bytes are done.
  func add(_ count: Int) {
    state.withLock { $0.done += count }
    draw(always: false)
  }

  /// So many bytes are done in all.
  func set(_ done: Int) {
    state.withLock { $0.done = done }
    draw(always: false)
  }

  /// The line goes away.
  func clear() {
    let isShown = state.withLock { state in
      defer { state.isShown = false }
      return state.isShown
    }
    if isShown { printError("\r\u{1b}[K") }
  }

  private func draw(always: Bool) {
    guard isWanted else { return }
    let width = LocalTerminal.size?.columns ?? 80
    let text = state.withLock { state -> String? in
      let now = ContinuousClock.now
      if !always, let last = state.last, now - last < .milliseconds(100) { return nil }
      state.last = now
      state.isShown = true
      state.samples.append((now, state.done))
      state.samples.removeAll { now - $0.at > .seconds(5) }
      return Self.line(state, at: now, width: width)
    }
    // One write: a terminal shows it without flicker.
    if let text { printError("\r\(text)\u{1b}[K") }
  }

  private static func line(_ state: State, at now: ContinuousClock.Instant, width: Int) -> String {
    let first = state.samples.first ?? (state.begin, state.before)
    let time = (now - first.at).seconds
    let rate = time > 0.3 ? Double(state.done - first.done) / time : 0
    var parts: [String] = []
    if let total = state.total {
      let share = total > 0 ? min(1, Double(state.done) / Double(total)) : 1
      parts.append("\(Int(share * 100))%")
      parts.append("\(Quantity.bytes(state.done)) of \(Quantity.bytes(total))")
      if rate > 0 {
        parts.append("\(Quantity.bytes(Int(rate)))/s")
        parts.append(Quantity.clock(Double(max(0, total - state.done)) / rate))
      }
    } else {
      parts.append(Quantity.bytes(state.done))
      if rate > 0 { parts.append("\(Quantity.bytes(Int(rate)))/s") }
    }
    let numbers = parts.joined(separator: "  ")
    var label = state.label
    var bar = ""
    let room = width - 1 - numbers.count - 2
    if let total = state.total, room - label.count > 14 {
      let cells = min(30, room - label.count - 4)
      let filled = total > 0 ? min(cells, cells * state.done / total) : cells
      bar =
        "[" + String(repeating: "#", count: filled)
        + String(repeating: ".", count: cells - filled) + "]  "
    }
    if label.count > room { label = String(label.prefix(max(0, room - 1))) + "…" }
    return String((label + "  " + bar + numbers).prefix(max(1, width - 1)))
  }
}
