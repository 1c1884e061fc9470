import ConsoleProtocol
import GuestExec
import ProxmoxClient

/// What somebody orders: a command, where it runs, and what becomes of it when they go away.
package struct JobOrder: Sendable {
  /// Where.
  package var target: Target
  /// In which cluster; needed only where several have the target.
  package var cluster: String?
  /// The command. Its ``ExecRequest/hasInput`` goes with ``input``.
  package var request: ExecRequest
  /// By which way; nil for the best that the configuration and the key's rules allow.
  package var transport: TransportName?
  /// Where the way isn't named: those that the key's rules allow; nil for all.
  package var allowedTransports: Set<TransportName>?
  /// What happens when nobody looks on any longer.
  package var onDisconnect = DisconnectRule.keep
  /// Standard input.
  package var input = JobInput.none
  /// Whether the arguments must not be shown, logged or stored.
  package var secretArgv = false
  /// Whether the environment's names must not be shown, logged or stored. Values never are.
  package var secretEnvironment = false
  /// What the caller wants to find again; shown as given.
  package var labels: [String: String] = [:]
  /// The fleet job that it belongs to.
  package var fleet: String?

  /// Orders a command.
  package init(target: Target, cluster: String? = nil, request: ExecRequest) {
    self.target = target
    self.cluster = cluster
    self.request = request
    if request.hasInput { input = .streamed }
  }
}

/// What a job reads from standard input.
package enum JobInput: Sendable, Hashable {
  /// Nothing: an end of file at once.
  case none
  /// These bytes, then the end. They are kept in memory only.
  case given([UInt8])
  /// What ``JobEngine/write(_:_:at:)`` brings, until ``JobEngine/closeInput(_:)``.
  case streamed

  /// `none`, `given` or `streamed`.
  var word: String {
    switch self {
    case .none: "none"
    case .given: "given"
    case .streamed: "streamed"
    }
  }
}

/// What happens to a job when the last one who looked on has gone.
package enum DisconnectRule: Sendable, Hashable {
  /// It goes on.
  case keep
  /// It is cancelled. Somebody has to come within ``JobEngine/attachGrace`` of the start.
  case kill
  /// It is cancelled unless somebody comes back within that time.
  case keepFor(Duration)
}

/// Where a job's target was found.
package struct JobPlace: Sendable {
  /// The cluster's name.
  package var cluster: String
  /// Node or guest, and where it is.
  package var place: Place
  /// Tags, pool and state, where they are known; nil to look them up where a rule needs them.
  var candidate: SelectorCandidate?

  /// Puts the parts together.
  package init(cluster: String, place: Place) {
    self.cluster = cluster
    self.place = place
  }
}
