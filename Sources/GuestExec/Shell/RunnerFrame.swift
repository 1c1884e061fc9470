/// What a runner says: `MAGIC TYPE LENGTH PAYLOAD`, where the magic is of this session alone and the length is four
/// bytes, the highest first.
enum RunnerFrame: Sendable, Equatable {
  /// It has taken over the terminal: what it is, e.g. `perl 5.036`.
  case ready(String)
  /// The command runs, with this process id on the node.
  case started(Int)
  /// The command can't be run: at which step (`exec`, `chdir`, `user`, `fork`, `pty`), and the system's error number.
  case failed(step: String, code: Int)
  /// A batch of ours was read whole.
  case batch(Int)
  /// So many bytes of input have reached the command, or were dropped since it closed its input.
  case taken(Int)
  /// The end.
  case ended(RunnerEnd)

  /// Control frames of runners; nil for what no runner says.
  init?(type: UInt8, payload: [UInt8]) {
    let text = String(decoding: payload, as: UTF8.self)
    let words = text.split(separator: " ", omittingEmptySubsequences: false)
    switch type {
    case UInt8(ascii: "r"): self = .ready(text)
    case UInt8(ascii: "s"):
      guard let pid = Int(text) else { return nil }
      self = .started(pid)
    case UInt8(ascii: "f"):
      guard words.count == 2, let code = Int(words[1]) else { return nil }
      self = .failed(step: String(words[0]), code: code)
    case UInt8(ascii: "b"):
      guard let n = Int(text) else { return nil }
      self = .batch(n)
    case UInt8(ascii: "i"):
      guard let n = Int(text) else { return nil }
      self = .taken(n)
    case UInt8(ascii: "x"):
      guard let end = RunnerEnd(words) else { return nil }
      self = .ended(end)
    default: return nil
    }
  }
}

/// How a runner saw its command end.
struct RunnerEnd: Sendable, Equatable {
  /// What the system said.
  enum How: Sendable, Equatable {
    case exited(Int)
    case signalled(Int)
    /// It was killed and has not gone.
    case stuck
  }
  /// Why it was ended, where we ended it.
  enum Cause: String, Sendable {
    case none = ""
    case cancelled
    case timedOut = "timed-out"
  }
  var how: How
  /// Bytes of each stream that were sent.
  var stdout: Int
  var stderr: Int
  var cause: Cause

  /// `exit 0 12 0 `, `signal 9 0 0 cancelled`.
  init?(_ words: [Substring]) {
    guard words.count == 5, let number = Int(words[1]), let stdout = Int(words[2]),
      let stderr = Int(words[3]), let cause = Cause(rawValue: String(words[4])), number >= 0
    else { return nil }
    switch words[0] {
    case "exit" where number <= 255: how = .exited(number)
    case "signal" where (1...127).contains(number): how = .signalled(number)
    case "stuck": how = .stuck
    default: return nil
    }
    self.stdout = stdout
    self.stderr = stderr
    self.cause = cause
  }
}

/// Reads frames out of a terminal's bytes. What stands between frames (a broadcast to all terminals, an echo) is
/// skipped; what stands inside a frame is never looked at, so output that looks like a frame is output.
struct RunnerFrameReader: Sendable {
  /// What was read.
  enum Event {
    /// Output: the next bytes of a frame's payload, valid during the call.
    case stdout(UnsafeRawBufferPointer)
    case stderr(UnsafeRawBufferPointer)
    /// Output in base64, as shell runners send it.
    case encoded([UInt8], isError: Bool)
    case frame(RunnerFrame)
    /// Bytes that belong to no frame.
    case noise(UnsafeRawBufferPointer)
    /// A frame that no runner sends.
    case violation
  }

  private enum State {
    case magic(matched: Int)
    case head([UInt8])
    case stream(isError: Bool, left: Int)
    case control(type: UInt8, [UInt8], left: Int)
  }

  /// Longer than any frame of a runner.
  static let longestOutput = 1 << 24
  static let longestControl = 4096

  private let magic: [UInt8]
  private var state = State.magic(matched: 0)

  /// - Parameter magic: its first byte occurs in it once, so that a search never has to go back.
  init(magic: [UInt8]) { self.magic = magic }

  /// A magic for one session.
  static func randomMagic(using generator: inout some RandomNumberGenerator) -> [UInt8] {
    [1] + (0..<11).map { _ in UInt8.random(in: 2...255, using: &generator) }
  }

  /// Reads on.
  mutating func feed(_ bytes: UnsafeRawBufferPointer, _ event: (Event) -> Void) {
    var at = 0
    while at < bytes.count {
      switch state {
      case .magic(var matched):
        // Bytes that began like a magic and went on otherwise are noise; those that may still become one wait.
        var start = at
        while at < bytes.count, matched < magic.count {
          let byte = bytes[at]
          if byte == magic[matched] {
            if matched == 0 { tell(bytes[start..<at], event) }
            matched += 1
          } else {
            if matched > 0 {
              magic[..<matched].withUnsafeBytes { event(.noise($0)) }
              start = at
              matched = byte == magic[0] ? 1 : 0
            }
          }
          at += 1
        }
        if matched == 0 { tell(bytes[start..<at], event) }
        state = matched == magic.count ? .head([]) : .magic(matched: matched)
      case .head(var head):
        let n = min(5 - head.count, bytes.count - at)
        head.append(contentsOf: bytes[at..<at + n])
        at += n
        guard head.count == 5 else {
          state = .head(head)
          return
        }
        begin(head, event)
      case .stream(let isError, let left):
        let n = min(left, bytes.count - at)
        let piece = UnsafeRawBufferPointer(rebasing: bytes[at..<at + n])
        at += n
        state = n == left ? .magic(matched: 0) : .stream(isError: isError, left: left - n)
        event(isError ? .stderr(piece) : .stdout(piece))
      case .control(let type, var payload, let left):
        let n = min(left, bytes.count - at)
        payload.append(contentsOf: bytes[at..<at + n])
        at += n
        guard n == left else {
          state = .control(type: type, payload, left: left - n)
          return
        }
        state = .magic(matched: 0)
        finish(type, payload, event)
      }
    }
  }

  private func tell(_ bytes: Slice<UnsafeRawBufferPointer>, _ event: (Event) -> Void) {
    if !bytes.isEmpty { event(.noise(UnsafeRawBufferPointer(rebasing: bytes))) }
  }

  private mutating func begin(_ head: [UInt8], _ event: (Event) -> Void) {
    let length = head.dropFirst().reduce(0) { $0 << 8 | Int($1) }
    let type = head[0]
    let isOutput = type == UInt8(ascii: "O") || type == UInt8(ascii: "E")
    let isEncoded = type == UInt8(ascii: "P") || type == UInt8(ascii: "R")
    guard length <= (isOutput || isEncoded ? Self.longestOutput : Self.longestControl) else {
      state = .magic(matched: 0)
      event(.violation)
      return
    }
    if isOutput {
      state =
        length == 0
        ? .magic(matched: 0) : .stream(isError: type == UInt8(ascii: "E"), left: length)
    } else if length == 0 {
      state = .magic(matched: 0)
      finish(type, [], event)
    } else {
      state = .control(type: type, [], left: length)
    }
  }

  private func finish(_ type: UInt8, _ payload: [UInt8], _ event: (Event) -> Void) {
    if type == UInt8(ascii: "P") || type == UInt8(ascii: "R") {
      event(.encoded(payload, isError: type == UInt8(ascii: "R")))
    } else if let frame = RunnerFrame(type: type, payload: payload) {
      event(.frame(frame))
    } else {
      event(.violation)
    }
  }
}
