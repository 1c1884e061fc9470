import ConsoleProtocol

/// One thing that a runner is told: a letter and its bytes.
struct RunnerMessage: Sendable, Equatable {
  /// `a` argument, `e` variable, `d` directory, `u` user, `t` terminal, `i` input follows, `l` time limit, `G` go;
  /// `D` input, `Z` its end, `A` output taken, `W` window size, `S` signal, `K` cancel, `Q` leave.
  var type: UInt8
  var payload: [UInt8]

  init(_ type: Unicode.Scalar, _ payload: [UInt8] = []) {
    self.type = UInt8(ascii: type)
    self.payload = payload
  }

  static func size(_ size: TerminalSize) -> [UInt8] {
    [
      UInt8(size.columns >> 8), UInt8(size.columns & 255), UInt8(size.rows >> 8),
      UInt8(size.rows & 255),
    ]
  }
}

/// What is on its way to a runner. One batch at a time: the next leaves when the runner has read the one before, so that
/// termproxy's buffer is empty whenever a header of its own arrives, and nothing is lost in it however slow the node
/// is.
struct RunnerSender: Sendable {
  /// The most input in one batch, in bytes.
  var largestPiece = 128 << 10
  /// The most input that the command has not taken, in bytes.
  var inputWindow = 512 << 10

  private var urgent: [RunnerMessage] = []
  private var input: [UInt8] = []
  private var inputHead = 0
  private var inputEnds = false
  private var inputEnded = false
  /// Bytes of input that were sent, and that the command took.
  private(set) var sent = 0
  private(set) var taken = 0
  private var outputTaken: Int?
  private var sequence = 0
  private var waitsFor: Int?

  /// Input that was given and has not left.
  var pendingInput: Int { input.count - inputHead }
  /// Whether a batch is under way.
  var isWaiting: Bool { waitsFor != nil }
  /// Batches that left.
  var batches: Int { sequence }

  /// Adds what goes before input.
  mutating func add(_ messages: [RunnerMessage]) { urgent += messages }

  /// Adds input. After its end it is dropped.
  mutating func give(_ bytes: [UInt8]) {
    guard !inputEnds else { return }
    if inputHead > 0, inputHead == input.count {
      input = bytes
      inputHead = 0
    } else {
      input += bytes
    }
  }

  /// The end of input, behind what was given.
  mutating func endInput() { inputEnds = true }

  /// We have taken so many bytes of output in all.
  mutating func took(output total: Int) { outputTaken = total }

  /// The runner has read a batch.
  mutating func acknowledge(_ number: Int) { if waitsFor == number { waitsFor = nil } }

  /// The command has taken so many bytes.
  mutating func commandTook(_ total: Int) { taken = max(taken, min(total, sent)) }

  /// The last batch, whatever is under way.
  mutating func farewell(_ coding: RunnerCoding) -> [UInt8] {
    sequence += 1
    return coding.encode(sequence, [RunnerMessage("Q")])
  }

  /// The next batch; nil where nothing is to be said or one is under way.
  /// - Parameter coding: as the way there needs it.
  mutating func next(_ coding: RunnerCoding) -> [UInt8]? {
    guard waitsFor == nil else { return nil }
    var messages = urgent
    urgent = []
    if let total = outputTaken {
      messages.append(RunnerMessage("A", Array("\(total)".utf8)))
      outputTaken = nil
    }
    let room = min(largestPiece, inputWindow - (sent - taken), pendingInput)
    if room > 0 {
      messages.append(RunnerMessage("D", Array(input[inputHead..<inputHead + room])))
      inputHead += room
      sent += room
      if inputHead == input.count {
        input.removeAll(keepingCapacity: true)
        inputHead = 0
      } else if inputHead > 1 << 20 {
        input.removeSubrange(..<inputHead)
        inputHead = 0
      }
    }
    if inputEnds, !inputEnded, pendingInput == 0 {
      inputEnded = true
      messages.append(RunnerMessage("Z"))
    }
    guard !messages.isEmpty else { return nil }
    sequence += 1
    waitsFor = sequence
    return coding.encode(sequence, messages)
  }
}

/// How batches are written.
enum RunnerCoding: Sendable {
  /// `B NUMBER(4) LENGTH(4)` and the messages, `TYPE LENGTH(4) PAYLOAD` each.
  case binary
  /// The same in hexadecimal on a line, for ways on which a byte can mean something (Ctrl-\ leaves `dtach`).
  case hexadecimal
  /// Lines of text, for runners that are shell scripts.
  case lines

  func encode(_ number: Int, _ messages: [RunnerMessage]) -> [UInt8] {
    switch self {
    case .binary: return Self.binary(number, messages)
    case .hexadecimal: return Hexadecimal.encode(Self.binary(number, messages)) + [10]
    case .lines:
      var out: [UInt8] = []
      for message in messages {
        // What stands behind the start of a command with this terminal would be its input.
        if message.type == UInt8(ascii: "G") { out += Array("b\(number)\n".utf8) }
        out.append(message.type)
        out += Base64.encode(message.payload)
        out.append(10)
      }
      let began = messages.contains { $0.type == UInt8(ascii: "G") }
      return began ? out : out + Array("b\(number)\n".utf8)
    }
  }

  private static func binary(_ number: Int, _ messages: [RunnerMessage]) -> [UInt8] {
    var out: [UInt8] = [UInt8(ascii: "B")]
    let length = messages.reduce(0) { $0 + 5 + $1.payload.count }
    out.reserveCapacity(9 + length)
    out += big(number)
    out += big(length)
    for message in messages {
      out.append(message.type)
      out += big(message.payload.count)
      out += message.payload
    }
    return out
  }

  private static func big(_ n: Int) -> [UInt8] {
    let n = UInt32(truncatingIfNeeded: n)
    return [
      UInt8(n >> 24), UInt8(n >> 16 & 255), UInt8(n >> 8 & 255), UInt8(n & 255),
    ]
  }
}
