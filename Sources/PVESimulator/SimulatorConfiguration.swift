import ConsoleProtocol

/// What the node is like. The defaults are a Proxmox VE 9.2 node with the demo's guests on a free port.
public struct SimulatorConfiguration: Sendable {
  /// The version whose manners it has.
  public var era: Era = .v9_2
  /// The TCP port on 127.0.0.1; 0 lets the kernel choose.
  public var port: Int = 0
  /// The node's name.
  public var nodeName: String = "pve1"
  /// The names of the cluster's other nodes. Each listens on a port of its own.
  public var otherNodes: [String] = []
  /// The cluster's name in login answers; nil for a node that is in no cluster.
  public var clusterName: String?
  /// Who may log in. `root@pam` is always there, and added where missing.
  public var users: [SimulatedUser] = SimulatedUser.demo
  /// Realms besides `pam` and `pve`.
  public var realms: [SimulatedRealm] = []
  /// root@pam's password; random per start where nil.
  public var rootPassword: Secret?
  /// The secret of the token `root@pam!sallyport`; random per start where nil.
  public var tokenSecret: Secret?
  /// The VMs and containers.
  public var guests: [SimulatedGuest] = SimulatedGuest.demo
  /// What the node's shell is for root@pam (others get a login prompt, and this after a login as root).
  public var nodeShell: SimulatedTerminal = .shell
  /// How long things take.
  public var timings = Timings()
  /// Quirks and faults that can be switched.
  public var behaviour = Behaviour()
  /// The wall clock that tickets and codes follow.
  public var clock = SimulatorClock()
  /// A certificate of its own, instead of the one that the simulators of a process share.
  public var freshCertificate = false
  /// What goes wrong from the start.
  public var faults: [Fault] = []
  /// From which the faults' odds follow: the same seed and the same requests meet the same faults.
  public var faultSeed: UInt64 = 1
  /// What nodes and guests were made of, where they were made of a seed.
  public internal(set) var seed: ClusterSeed?
  /// An SQLite file that keeps the cluster beyond the end of the process; nil keeps it in memory. What a file that
  /// exists holds (nodes, guests, users, keys) wins over what stands here; a file of other nodes or of another seed than
  /// those that were asked for is refused.
  public var stateFile: String?
  /// Whether a state file's version of Proxmox VE wins over ``era``.
  public var adoptsEra = false
  /// A file to which the journal is added, a JSON object a line.
  public var journalFile: String?
  /// What `/simulator` asks for as `Authorization: Bearer …`; nil asks for nothing.
  public var controlToken: Secret?

  /// A node with every default.
  public init() {}
}

/// How long things take on the node. The defaults are PVE's.
public struct Timings: Sendable {
  /// Every 401 comes this long after the request began (3 s).
  public var failureDelay: Duration = .seconds(3)
  /// A connection without a request, or with one that makes no progress, is closed after this (5 s).
  public var idleTimeout: Duration = .seconds(5)
  /// How long a console's listener waits for its one connection (10 s).
  public var listenerLife: Duration = .seconds(10)
  /// How long termproxy waits for the line with the ticket (10 s).
  public var loginLine: Duration = .seconds(10)
  /// How long a port stays reserved after it was handed out (5 s).
  public var portReservation: Duration = .seconds(5)
  /// `qm vncproxy` ends a screen after this long without a byte in either direction (15 min).
  public var screenSilence: Duration = .seconds(900)
  /// vncterm (a terminal as a picture) ends after this long without a key (30 min).
  public var keyboardSilence: Duration = .seconds(1800)
  /// How long a screen's password is good after the viewer connected (30 s).
  public var screenPasswordLife: Duration = .seconds(30)
  /// How long `qm` and `vncterm` take to start before the first byte. PVE needs up to 0.9 s; here 0.
  public var workerStart: Duration = .zero
  /// How long a node waits for another one to answer a call that it passed on (30 s).
  public var forwarding: Duration = .seconds(30)
  /// How long an ordinary task takes (starting a guest, a snapshot); copies take a few times as long. PVE needs
  /// seconds; here 20 ms.
  public var task: Duration = .milliseconds(20)
  /// How long spiceterm waits for a viewer (40 s).
  public var spiceWait: Duration = .seconds(40)
  /// How long a migration tunnel's worker waits for its first connection (300 s).
  public var tunnelWait: Duration = .seconds(300)

  /// How long a VM's agent has to answer the ping before every command (3 s).
  public var agentPing: Duration = .seconds(3)
  /// How long a VM's agent has for a command (5 s).
  public var agentCommand: Duration = .seconds(5)
  /// How much later than it could each answer of an agent comes. PVE's take 0.1 to 0.2 s in all; here 0.
  public var agentLatency: Duration = .zero
  /// How long after a VM's start its agent begins to answer.
  public var agentBoot: Duration = .zero
  /// How long pveproxy waits for the daemon that died of an agent's error text, before its 596 (5 s).
  public var daemonDeath: Duration = .seconds(5)

  /// PVE's times.
  public init() {}

  /// The same with 401s after 50 ms and without port reservations (PVE hands out no more than a hundred ports in
  /// five seconds), for tests that provoke many of either.
  public static var impatient: Timings {
    var timings = Timings()
    timings.failureDelay = .milliseconds(50)
    timings.portReservation = .zero
    timings.daemonDeath = .milliseconds(50)
    return timings
  }
}

/// What can be switched about the node: both sides of what was seen of PVE, and faults. It may be changed while
/// the node runs (``Simulator/change(_:)``).
public struct Behaviour: Sendable {
  /// What a malformed websocket frame does to pveproxy. Which of the two depends on an optional package.
  public enum BadFrame: String, Sendable, Hashable, CaseIterable {
    /// The connection stays open and stuck on that frame for ever (libev is installed).
    case freeze
    /// The worker process dies, and every connection that it serves with it (pure-Perl loop). It is one of three.
    case killWorker
  }

  /// What dialling a console's port does when nobody listens there (any more).
  public enum DeadPort: String, Sendable, Hashable, CaseIterable {
    /// No HTTP answer at all, for ever (libev is installed).
    case hang
    /// The worker process dies, and every connection that it serves with it. It is one of three.
    case killWorker
  }

  /// How console bytes are cut into frames.
  public enum FrameCuts: Sendable, Hashable {
    /// As they come.
    case natural
    /// At random places, reproducibly, into pieces of 1 to `maximum` bytes.
    case random(seed: UInt64, maximum: Int)
  }

  /// What happens when a console's queue toward a client that doesn't read is full. pveproxy has no bound at
  /// all; something has to give before this machine's memory does.
  public enum Overflow: String, Sendable, Hashable, CaseIterable {
    /// The connection is killed.
    case kill
    /// The program on the other side is paused. Friendlier than PVE; for the demo.
    case pause
  }

  /// A fault between `GET …websocket` and the first byte of the console, for testing what a relay does about it.
  public enum DialFault: String, Sendable, Hashable, CaseIterable {
    /// None.
    case none
    /// The upgrade is never answered.
    case neverAnswers
    /// The answer is no HTTP.
    case answersGarbage
    /// The connection closes in the middle of the answer's header.
    case closesMidHandshake
    /// The answer is complete, and then nothing ever comes.
    case silentAfterUpgrade
  }

  /// What a malformed frame does.
  public var badFrame: BadFrame = .freeze
  /// What dialling a dead port does.
  public var deadPort: DeadPort = .hang
  /// How console bytes are cut into frames.
  public var frameCuts: FrameCuts = .natural
  /// How many bytes are queued for a client that doesn't read, and for a program that doesn't. 256 MiB.
  public var relayBuffer: Int = 256 * 1024 * 1024
  /// What happens there.
  public var overflow: Overflow = .kill
  /// What a terminal does when its program ends; nil means as the era does.
  public var terminalEnding: TerminalEnding?
  /// Decides the order of ``TerminalEnding/mixed``.
  public var endingSeed: UInt64 = 0
  /// Whether `unable to find free port` is the answer to every mint.
  public var portsExhausted = false
  /// A fault in the websocket handshake.
  public var dialFault: DialFault = .none
  /// Every answer comes this much later.
  public var latency: Duration = .zero
  /// What guest agents do at the moment, by vmid; those that are not in here answer.
  public var agents: [Int: AgentState] = [:]
  /// How `agent/exec-status` says that output was cut.
  public var agentTruncation: TruncationFlags = .always
  /// Whether an agent's error text with a character above U+00FF (the quotes around the name of a program that
  /// doesn't exist) kills the daemon: a 596 without a body instead of a 500 with the text.
  public var wideErrorsKillDaemon = true
  /// Answer every request (but none of the journal's) with this status and message, where set.
  public var failEverything: Failure?

  /// A status and its message.
  public struct Failure: Sendable, Hashable {
    /// HTTP status, e.g. 500 or 596.
    public var status: Int
    /// PVE's message.
    public var message: String
    /// Puts the two together.
    public init(status: Int, message: String) {
      self.status = status
      self.message = message
    }
  }

  /// PVE's manners and no fault.
  public init() {}
}
