import ConsoleProtocol

/// What faults know about a request.
struct RequestFacts {
  var method: String
  /// The whole path, decoded.
  var path: String
  /// The full auth id.
  var user: String?
  /// The node that was asked.
  var node: String
  /// The node to which that one passes the request on.
  var forwardedTo: String?
  /// Which of its pveproxy's workers was.
  var worker = 0
  /// Whether a login ticket was shown.
  var hasTicket = false
  /// Whether it wants to become a websocket.
  var isUpgrade = false
}

/// What the faults make of one request. The default is: nothing.
struct RequestPlan {
  /// How an answer goes wrong.
  enum Ending: Equatable {
    /// Nothing is carried out; this is the answer.
    case status(Int, message: String)
    /// Nothing is carried out; the connection closes.
    case dropRequest
    /// Nothing is carried out; nothing is ever answered.
    case hang
    /// Nothing is carried out; these bytes come, then the connection closes.
    case garbage([UInt8])
    /// It is carried out; this is the answer.
    case statusAfter(Int, message: String)
    /// It is carried out; the connection closes instead of an answer.
    case dropAnswer
    /// It is carried out; so many bytes of the answer come, then the connection closes.
    case truncate(Int)

    /// Whether the request is carried out.
    var isCarriedOut: Bool {
      switch self {
      case .statusAfter, .dropAnswer, .truncate: true
      case .status, .dropRequest, .hang, .garbage: false
      }
    }

    /// What the journal says instead of a reason phrase.
    var note: String {
      switch self {
      case .status(_, let message), .statusAfter(_, let message): message
      case .dropRequest: "request dropped (fault)"
      case .hang: "never answered (fault)"
      case .garbage: "garbage (fault)"
      case .dropAnswer: "answer dropped (fault)"
      case .truncate(let bytes): "cut after \(bytes) bytes (fault)"
      }
    }

    /// What the node that passed the request on makes of it.
    var behindProxy: Ending {
      switch self {
      case .status, .statusAfter: self
      case .dropRequest, .garbage: .status(596, message: "Broken pipe")
      case .hang: .status(596, message: "Connection timed out")
      case .dropAnswer: .statusAfter(596, message: "Broken pipe")
      case .truncate: .statusAfter(597, message: "Unexpected end-of-file")
      }
    }
  }

  /// The request's method.
  var method = ""
  /// The request's whole path.
  var path = ""
  /// The answer waits this long.
  var delay: Duration = .zero
  /// How it goes wrong; nil for well.
  var ending: Ending?
  /// Whether it goes wrong between two nodes: the one that was asked answers for the other.
  var isBehindProxy = false
  /// The ticket counts as expired.
  var ticketHasExpired = false
  /// For a websocket, what happens to it.
  var console: ConsolePlan?
  /// The faults that were met.
  var faults: [String] = []
}

/// What the faults make of one console.
struct ConsolePlan {
  var dial: Behaviour.DialFault?
  var badFrame: Behaviour.BadFrame?
  var deadPort: Behaviour.DeadPort?
  var terminalEnding: TerminalEnding?
  /// The connection ends after so many bytes of the console.
  var cutAfter: Int?
  var reorder: (odds: Double, dice: Dice)?
  var repetition: (odds: Double, dice: Dice)?
  var loss: (odds: Double, dice: Dice)?
  /// Bytes a second.
  var rate: Int?

  /// Whether the console's bytes go through ``ConsoleSpoiler``.
  var spoilsBytes: Bool {
    cutAfter != nil || reorder != nil || repetition != nil || loss != nil || rate != nil
  }
}
