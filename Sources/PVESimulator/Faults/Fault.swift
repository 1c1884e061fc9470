import ConsoleProtocol

/// Something that goes wrong on purpose: an effect, and when it comes.
///
/// ```swift
/// await pve.inject(Fault(.status(596, message: "Broken pipe"), when: .path("/nodes/*/agent/*", times: 1)))
/// await pve.inject("latency=200ms,jitter=50ms,path=/nodes/*")
/// ```
///
/// The same can be said as text (`--fault`, a string literal) and as JSON (`POST /simulator/faults`), with the same
/// words: `docs/faults.md` lists them.
public struct Fault: Sendable, Hashable {
  /// What goes wrong.
  public var effect: Effect
  /// For which requests, and how often.
  public var when: Trigger
  /// How long a condition (a node that is down, a clock that is wrong …) lasts; nil for as long as the fault is there.
  public var duration: Duration?
  /// By which it is found again; the node gives a number where there is none.
  public var id: String?

  /// An effect, by default for every request or from now on.
  public init(
    _ effect: Effect, when: Trigger = Trigger(), for duration: Duration? = nil, id: String? = nil
  ) {
    self.effect = effect
    self.when = when
    self.duration = duration
    self.id = id
  }

  /// What goes wrong.
  public enum Effect: Sendable, Hashable {
    // Of one answer. The requests that meet it are those that the trigger matches.

    /// The answer comes this much later, and up to `jitter` more.
    case latency(Duration, jitter: Duration = .zero)
    /// This answer instead of the right one; nothing is carried out, unless that is asked for.
    case status(Int, message: String, carriedOut: Bool = false)
    /// The request is carried out, and the connection closes without an answer.
    case dropAnswer
    /// The connection closes without an answer, and nothing is carried out.
    case dropRequest
    /// The request is carried out, and the connection closes after so many bytes of the answer.
    case truncate(bytes: Int)
    /// Nothing is carried out and nothing is ever answered; the connection stays open.
    case hang
    /// Nothing is carried out, and so many bytes come that are no HTTP.
    case garbage(bytes: Int)
    /// The request's ticket counts as expired. Requests with a token don't meet this fault.
    case expiredTicket

    // Of one console. The websocket upgrades that meet it are those that the trigger matches.

    /// A fault in the websocket handshake.
    case dial(Behaviour.DialFault)
    /// What a malformed frame does.
    case badFrame(Behaviour.BadFrame)
    /// What dialling a dead port does.
    case deadPort(Behaviour.DeadPort)
    /// How a terminal ends.
    case terminalEnding(TerminalEnding)
    /// The connection ends after so many bytes of the console.
    case cutConsole(afterBytes: Int)
    /// A piece of the console's output changes places with the next, at these odds (0 to 1).
    case reorderConsole(odds: Double)
    /// A piece of the console's output comes twice, at these odds.
    case repeatConsole(odds: Double)
    /// A piece of the console's output never comes, at these odds.
    case loseConsole(odds: Double)
    /// The console's output comes no faster than this.
    case consoleRate(bytesPerSecond: Int)

    // Conditions: they hold while the fault is there, or for its duration.

    /// A node is gone, for clients and for the other nodes. nil is the node that was asked.
    case nodeDown(String?, Reachability = .refused)
    /// A node shows another certificate, signed by nobody.
    case newCertificate(String?)
    /// The cluster's clock is off by this, against its clients'.
    case clockSkew(seconds: Int)
    /// No console port is free on a node; nil for all nodes.
    case fullPorts(String?)
    /// Guest agents answer this much later: of one VM, or of all.
    case agentDelay(Duration, vmid: Int? = nil)
    /// What guest agents do instead of answering: of one VM, or of all that there are.
    case agent(AgentState, vmid: Int? = nil)
    /// Tasks take so many times their time.
    case slowTasks(factor: Double)

    // Happenings: once, or at every request that the trigger matches.

    /// One of the three workers of a node's pveproxy dies with its connections; nil is the one that was asked.
    case workerDeath(String?, worker: Int? = nil)
    /// A node's pveproxy restarts: every connection ends, and new ones are refused for a moment (``Fault/duration``,
    /// else half a second).
    case proxyRestart(String?)
    /// Tickets that were issued until now stop being valid: of one user, or all.
    case revokedTickets(user: String?)
    /// A guest moves to another node, and its consoles end; nil is the next node that is up.
    case migration(vmid: Int, to: String?)
    /// A guest ends as by a crash of its QEMU or its init process.
    case guestCrash(vmid: Int)
  }

  /// Which requests meet a fault, and how often. All parts must fit.
  public struct Trigger: Sendable, Hashable {
    /// `GET`, `POST`, `PUT` or `DELETE`; nil for all.
    public var method: String?
    /// Of the API, e.g. `/nodes/*/qemu/100/agent/*`, where `*` stands for any run of characters. What begins with
    /// `/api2` is compared to the whole path.
    public var path: String?
    /// The full auth id, e.g. `root@pam!sallyport`; `*` works here too.
    public var user: String?
    /// The node that was asked, or to which the request was forwarded.
    public var node: String?
    /// So many fitting requests go by before the first that meets it.
    public var skip: Int
    /// So many requests meet it, then it is spent; nil for no limit.
    public var times: Int?
    /// The odds, 0 to 1, by which a fitting request meets it. Which ones follows from the seed.
    public var probability: Double

    /// Every request, or those that fit all of these.
    public init(
      method: String? = nil, path: String? = nil, user: String? = nil, node: String? = nil,
      skip: Int = 0, times: Int? = nil, probability: Double = 1
    ) {
      self.method = method
      self.path = path
      self.user = user
      self.node = node
      self.skip = skip
      self.times = times
      self.probability = probability
    }

    /// Requests for a path, e.g. `/nodes/*`.
    public static func path(_ path: String, times: Int? = nil) -> Trigger {
      Trigger(path: path, times: times)
    }

    /// The n-th request (the first is 1) that fits.
    public static func nth(_ n: Int, method: String? = nil, path: String? = nil) -> Trigger {
      Trigger(method: method, path: path, skip: max(n, 1) - 1, times: 1)
    }

    /// Whether it waits for a request, where the effect could also come at once.
    var isRequest: Bool {
      method != nil || path != nil || user != nil || node != nil || skip > 0 || times != nil
        || probability < 1
    }
  }
}

extension Fault.Effect {
  /// What an effect is tied to.
  enum Family {
    /// One answer.
    case answer
    /// One console.
    case console
    /// A time.
    case condition
    /// A moment.
    case happening
  }

  var family: Family {
    switch self {
    case .latency, .status, .dropAnswer, .dropRequest, .truncate, .hang, .garbage, .expiredTicket:
      .answer
    case .dial, .badFrame, .deadPort, .terminalEnding, .cutConsole, .reorderConsole, .repeatConsole,
      .loseConsole, .consoleRate:
      .console
    case .nodeDown, .newCertificate, .clockSkew, .fullPorts, .agentDelay, .agent, .slowTasks:
      .condition
    case .workerDeath, .proxyRestart, .revokedTickets, .migration, .guestCrash: .happening
    }
  }
}

/// Why a fault can't be injected: a sentence that names the field.
public struct FaultError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The sentence.
  public let description: String

  init(_ description: String) { self.description = description }
}
