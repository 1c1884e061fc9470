import EventLoop

/// An agent behind a unix socket: Debian's `qemu-ga`, or the one in a real QEMU's guest.
///
/// Each command has a connection of its own, begun with `guest-sync-delimited`: whatever an earlier, abandoned
/// command still sends ends before the 0xFF byte.
final class SocketAgent: GuestAgent, StreamHandler {
  private static let delimiter: UInt8 = 0xFF
  /// How often a socket that isn't there yet is tried again.
  private static let retry: Duration = .milliseconds(20)
  /// No answer is longer: 16 MiB of output of each stream in base64, and something.
  private static let longest = 64 << 20

  private enum Phase {
    case connecting
    case syncing
    case answering
  }

  private let path: String
  private let loop: Loop
  private var stream: EventLoop.Stream?
  private var phase = Phase.connecting
  private var name = ""
  private var command: JSON = .null
  private var done: ((AgentAnswer) -> Void)?
  private var received: [UInt8] = []
  private var syncID = 0
  private var retryTimer: LoopTimer?

  init(_ path: String, loop: Loop) {
    self.path = path
    self.loop = loop
  }

  func execute(_ command: String, _ arguments: JSON?, _ done: @escaping (AgentAnswer) -> Void) {
    giveUp()
    name = command
    self.command = ["execute": .string(command)]
    if let arguments { self.command = ["execute": .string(command), "arguments": arguments] }
    self.done = done
    connect()
  }

  private func connect() {
    phase = .connecting
    received = []
    do throws(LoopError) {
      stream = try Stream.connect(on: loop, to: .unix(path), handler: self)
    } catch {
      again()
    }
  }

  /// The agent may be on its way; the caller's patience ends this.
  private func again() {
    guard done != nil else { return }
    retryTimer = loop.schedule(after: SocketAgent.retry) { [weak self] in
      guard let self, self.done != nil else { return }
      self.connect()
    }
  }

  func giveUp() {
    done = nil
    retryTimer?.cancel()
    stream?.close()
    stream = nil
    received = []
  }

  func stop() { giveUp() }

  private func finish(_ answer: AgentAnswer) {
    let done = done
    giveUp()
    done?(answer)
  }

  // MARK: stream

  func streamConnected(_ stream: EventLoop.Stream) {
    guard stream === self.stream else { return }
    phase = .syncing
    syncID = Int.random(in: 1..<1 << 31)
    let sync: JSON = [
      "execute": "guest-sync-delimited", "arguments": ["id": .int(syncID)],
    ]
    // The first byte ends what an earlier client may have left unfinished in the agent's parser.
    stream.write([SocketAgent.delimiter] + sync.bytes + [10])
  }

  func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    guard stream === self.stream else { return }
    switch phase {
    case .connecting: break
    case .syncing:
      received.append(contentsOf: bytes)
      sync()
    case .answering:
      let hasEnd = bytes.contains(10)
      received.append(contentsOf: bytes)
      if hasEnd { answer() }
      if received.count > SocketAgent.longest { finish(.unreachable) }
    }
  }

  private func sync() {
    while let start = received.firstIndex(of: SocketAgent.delimiter),
      let end = received[start...].firstIndex(of: 10)
    {
      let line = try? JSONReader.read(Array(received[(start + 1)..<end]))
      received.removeSubrange(...end)
      guard line?["return"] == .int(syncID) else { continue }
      phase = .answering
      received = []
      stream?.write(command.bytes + [10])
      return
    }
  }

  private func answer() {
    guard let end = received.lastIndex(of: 10) else { return }
    let line = received.prefix(upTo: end)
    guard let answer = try? JSONReader.read(Array(line)) else {
      finish(.unreachable)
      return
    }
    if let error = answer["error"] {
      finish(
        .refused(
          class: error["class"]?.string ?? "GenericError", text: error["desc"]?.string ?? ""))
    } else {
      finish(.value(answer["return"] ?? .null))
    }
  }

  func streamDrained(_ stream: EventLoop.Stream) {}

  func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {
    guard stream === self.stream else { return }
    self.stream = nil
    guard case .answering = phase else { return again() }
    // These have no answer where they succeed. For the others the caller's patience has to end.
    if name == "guest-shutdown" || name.hasPrefix("guest-suspend") { finish(.value(.object([]))) }
  }
}

extension JSON {
  /// The text, where it is one.
  var string: String? { if case .string(let text) = self { text } else { nil } }
  /// The number, where it is a whole one.
  var integer: Int? { if case .int(let number) = self { number } else { nil } }
  /// The truth value, where it is one.
  var boolean: Bool? { if case .bool(let value) = self { value } else { nil } }
}
