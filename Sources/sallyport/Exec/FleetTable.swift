import Glibc
import ProxmoxClient
import Synchronization

/// The state of a fleet job in some lines at the bottom of the terminal, drawn anew in one write each time. Nothing where
/// there is no terminal.
final class FleetTable: Sendable {
  private struct State {
    var whole = JSONValue.null
    var running: [Int: (title: String, since: ContinuousClock.Instant)] = [:]
    var failures: [String] = []
    var lines = 0
    var note = ""
    var begin = ContinuousClock.now
  }
  private let state = Mutex(State())
  private let isLive: Bool

  init(isLive: Bool) { self.isLive = isLive }

  /// The whole has changed.
  func set(_ json: JSONValue) {
    state.withLock { $0.whole = json }
    draw()
  }

  /// A target has changed.
  func note(_ json: JSONValue) {
    state.withLock { state in
      let index = json["index"].int ?? -1
      if let progress = json["progress"].object, var fields = state.whole.object {
        fields["targets"] = .object(progress)
        state.whole = .object(fields)
      }
      switch json["state"].string {
      case "running":
        if state.running[index] == nil { state.running[index] = (FleetOutput.title(json), .now) }
      case "failed", "lost":
        state.running[index] = nil
        state.failures.append("\(FleetOutput.title(json)): \(Self.outcome(json))")
      default: state.running[index] = nil
      }
    }
    draw()
  }

  /// Something for the person.
  func say(_ sentence: String) {
    if isLive {
      state.withLock { $0.note = sentence }
      draw()
    } else if isatty(2) == 1 {
      printError("sallyport: \(sentence)\n")
    }
  }

  /// How a target ended, in a few words.
  static func outcome(_ json: JSONValue) -> String {
    let end = json["end"]
    switch end["kind"].string {
    case "exited": return "exit code \(end["code"].int ?? -1)"
    case "signalled": return "signal \(end["signal"].int ?? -1)"
    case "lost": return "lost: \(end["why"].string ?? "")"
    case let kind?: return kind
    case nil: break
    }
    let failure = json["failure"]["sentence"].string
    return failure.map { "not started: \($0)" } ?? json["outcome"].string
      ?? json["state"].string ?? "?"
  }

  /// Takes the lines away, so that something else can be printed; the next drawing brings them again.
  func clear() {
    guard isLive else { return }
    let text = state.withLock { state -> String in
      defer { state.lines = 0 }
      return Self.up(state.lines) + (state.lines > 0 ? "\u{1b}[J" : "")
    }
    if !text.isEmpty { writeAll(1, Array(text.utf8)) }
  }

  /// Draws it.
  func draw() {
    guard isLive else { return }
    let size = LocalTerminal.size
    let (width, height) = (size?.columns ?? 80, size?.rows ?? 24)
    let text = state.withLock { state -> String in
      let lines = Self.lines(state, width: width, height: height)
      // Each line is written over and its rest cleared, never the whole screen: nothing flickers.
      var out = Self.up(state.lines)
      for line in lines { out += line + "\u{1b}[K\n" }
      if lines.count < state.lines { out += "\u{1b}[J" }
      state.lines = lines.count
      return out
    }
    writeAll(1, Array(text.utf8))
  }

  private static func up(_ lines: Int) -> String { lines > 0 ? "\r\u{1b}[\(lines)A" : "" }

  private static func lines(_ state: State, width: Int, height: Int) -> [String] {
    func count(_ name: String) -> Int { state.whole["targets"][name].int ?? 0 }
    let total = count("total")
    let over = count("succeeded") + count("failed") + count("lost") + count("skipped")
    let elapsed = (ContinuousClock.now - state.begin).seconds
    var parts = ["\(over)/\(total)", "\(count("running")) running", "\(count("succeeded")) ok"]
    for name in ["failed", "lost", "skipped"] where count(name) > 0 {
      parts.append("\(count(name)) \(name)")
    }
    parts.append(Quantity.clock(elapsed))
    if over > 0, over < total {
      parts.append("\(Quantity.clock(elapsed / Double(over) * Double(total - over))) to go")
    }
    var lines: [String] = []
    let cells = max(0, min(30, width - 4))
    let filled = total > 0 ? cells * over / total : 0
    lines.append(
      "[" + String(repeating: "#", count: filled) + String(repeating: ".", count: cells - filled)
        + "]")
    lines.append(parts.joined(separator: "  "))
    if !state.note.isEmpty { lines.append(state.note) }
    let room = max(1, min(10, height / 2 - 4))
    let running = state.running.values.sorted { $0.since < $1.since }
    for one in running.prefix(room) {
      lines.append("  \(one.title)  \(Quantity.clock((ContinuousClock.now - one.since).seconds))")
    }
    if running.count > room { lines.append("  … and \(running.count - room) more") }
    if count("waiting") > 0 { lines.append("  \(count("waiting")) wait") }
    return lines.map { String($0.prefix(max(1, width - 1))) }
  }
}
