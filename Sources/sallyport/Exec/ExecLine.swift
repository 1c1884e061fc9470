import ConsoleProtocol
import GuestExec
import ProxmoxClient

/// A command that was started, whichever way: from here with the cluster's credential, or as a gateway's job.
struct ExecLine: Sendable {
  /// The command.
  var process: any ExecProcess
  private let known: ExecAbout

  init(process: any ExecProcess, about: ExecAbout) {
    self.process = process
    known = about
  }

  /// What is known of it; of a gateway's job it becomes more with time.
  var about: ExecAbout { (process as? GatewayJob)?.about ?? known }

  /// Why it was never started, which of a gateway's job becomes known only later.
  var startFailure: ExecFailure? { (process as? GatewayJob)?.startFailure }
}

/// Where a command runs and how it got there.
struct ExecAbout: Sendable {
  /// `qemu/100`
  var target: String
  /// `pve1`
  var node: String
  /// The guest's name, where it has one.
  var name: String?
  /// `agent`
  var transport: String
  /// One sentence: why this way.
  var reason: String
  /// The gateway's job; nil without a gateway.
  var job: String?

  /// `web1 (qemu/100 on pve1) by agent`
  var sentence: String {
    let where_ = target == "node/\(node)" ? target : "\(target) on \(node)"
    return (name.map { "\($0) (\(where_))" } ?? where_)
      + (transport.isEmpty ? "" : " by \(transport)")
  }
}

/// What a caller wants beside the request itself.
struct ExecWish: Sendable {
  /// What to run.
  var request: ExecRequest
  /// A transport by name; nil for the best.
  var via: TransportName?
  /// What a gateway does with it when we go away: `kill`, `keep`, or seconds to wait for us.
  var onDisconnect: DisconnectWish = .keepFor(60)
  /// Whether argv, or the environment, is kept out of logs and listings.
  var secretArgv = false
  var secretEnvironment = false
  /// How long to wait for a guest agent that is still booting, in seconds.
  var agentWait: Int?
  /// Whether nobody stays to watch.
  var detached = false
}

/// What happens to a job when its caller goes away.
enum DisconnectWish: Sendable, Hashable {
  case kill
  case keep
  /// Seconds until it is killed, unless somebody comes back.
  case keepFor(Int)
}

/// What one transport says of a request.
struct TransportOpinion: Sendable, Codable {
  var transport: String
  var possible: Bool
  /// Whether it would be taken. One that is possible by its name only is not.
  var chosen = false
  /// Why, or why not.
  var sentence: String
  var kind: String?
  var remedy: String?
}

/// A way to run commands on one cluster.
protocol ExecSource: Sendable {
  /// Starts a command. It is sent at most once.
  func start(_ wish: ExecWish, on target: Target) async throws -> ExecLine
  /// What each transport says, in the order in which they are tried; runs nothing.
  func explain(_ wish: ExecWish, on target: Target) async throws -> [TransportOpinion]
  /// The most output of one command that should be asked for; nil for no bound.
  var comfortableOutput: Int? { get }
  /// Forgets a command that ended, where something was kept of it.
  func forget(_ line: ExecLine) async
  /// Gives back what it holds.
  func close() async
}
