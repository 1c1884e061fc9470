import ProxmoxClient

/// How long troubles on the way to a running command are borne.
struct AgentPatience {
  private let limit: Duration
  private var since: ContinuousClock.Instant?
  private var hasTold = false
  /// Whether an answer was lost: it may have been the one that told the end.
  private(set) var lostAnAnswer = false

  init(_ limit: Duration) { self.limit = limit }

  /// The agent answered.
  mutating func isOver() { since = nil }

  /// - Parameter hasFiles: whether the command's state is in the guest's files, and not in the agent's memory.
  /// - Returns: why the command is lost, or nil to ask again.
  mutating func meets(
    _ error: PVEError, link: AgentLink, events: EventQueue, hasFiles: Bool = false
  ) async -> String? {
    let began = since ?? .now
    since = began
    switch AgentTrouble(error) {
    case .unknownPID where !hasFiles:
      return lostAnAnswer
        ? "It has ended, but the answer that told how was lost on its way, and the agent gives it once only."
        : "The guest's agent doesn't know the command any more: the agent or the guest was restarted."
    case .stopped: return "The guest was stopped while the command ran."
    case .moved:
      if await link.follow() {
        events.put(.note("The guest has moved to the node \(link.place.node)."))
        return nil
      }
    case .unknown: lostAnAnswer = true
    case .unreachable where error.kind == .shutDown: return "This end was shut down."
    default: break
    }
    guard ContinuousClock.now - began < limit else {
      return
        "The guest's agent could not be asked for \(limit.components.seconds) s: "
        + ExecFailure.agent(error, place: link.place, version: nil).sentence
        + " The command may still run."
    }
    if !hasTold {
      hasTold = true
      events.put(.note("The guest's agent doesn't answer at the moment; it is asked again."))
    }
    _ = try? await Task.sleep(for: .milliseconds(300))
    return nil
  }
}
