import CSallyport
import ConsoleProtocol
import Glibc

/// The descriptors of a child's three streams, both ends. Belongs to the child's thread.
struct ChildStreams {
  private(set) var theirInput: Int32 = -1
  private(set) var theirOutput: Int32 = -1
  private(set) var theirErrors: Int32 = -1
  private var input: Int32 = -1
  private var output: Int32 = -1
  private var errors: Int32 = -1
  private let isTerminal: Bool

  /// Whether input waits until the child takes more.
  var hasInputWaiting = false
  /// Bytes that were in its pipes when it ended and haven't been read.
  var leftAtEnd = 0

  /// What is ready.
  struct Ready: OptionSet {
    let rawValue: Int
    static let stdout = Ready(rawValue: 1)
    static let stderr = Ready(rawValue: 2)
  }

  init(_ program: ChildProgram) throws(ChildFailure) {
    isTerminal = program.terminal != nil
    var done = true
    if let size = program.terminal {
      done =
        sp_open_pty(&output, &theirOutput, UInt16(size.columns), UInt16(size.rows)) == 0
      input = output
      theirInput = theirOutput
      if program.separateErrors {
        done = done && sp_pipe(&errors, &theirErrors) == 0
      } else {
        theirErrors = theirOutput
      }
    } else {
      done =
        sp_pipe(&theirInput, &input) == 0 && sp_pipe(&output, &theirOutput) == 0
        && sp_pipe(&errors, &theirErrors) == 0
    }
    guard done else {
      let code = errno
      closeAll()
      throw ChildFailure(step: .preparing, code: code)
    }
    for descriptor in Set([input, output, errors]) where descriptor >= 0 {
      _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    }
  }

  private mutating func shut(_ descriptors: WritableKeyPath<ChildStreams, Int32>...) {
    let numbers = Set(descriptors.map { self[keyPath: $0] }).filter { $0 >= 0 }
    for number in numbers { close(number) }
    for path in descriptors { self[keyPath: path] = -1 }
  }

  /// Closes the child's ends here.
  mutating func closeTheirs() { shut(\.theirInput, \.theirOutput, \.theirErrors) }

  mutating func closeAll() {
    closeTheirs()
    shut(\.input, \.output, \.errors)
  }

  /// Whether there is anything to read from, still.
  var isReading: Bool { output >= 0 || errors >= 0 }

  /// Whether input can be given.
  var takesInput: Bool { input >= 0 }

  func resize(_ size: TerminalSize) {
    guard isTerminal, output >= 0 else { return }
    sp_set_window_size(output, UInt16(size.columns), UInt16(size.rows))
  }

  /// At the child's end: what it wrote and isn't read yet is waited for, whoever else holds the pipe.
  mutating func noteWhatIsLeft() {
    for descriptor in [output, errors] where descriptor >= 0 {
      leftAtEnd += Int(sp_readable(descriptor))
    }
  }

  /// Waits for any of the descriptors.
  mutating func wait(
    wake: Int32, pidfd: Int32, held: Set<Child.Output>, timeout: Int64
  ) -> Ready {
    let readable = Int16(POLLIN)
    // A negative descriptor is passed over.
    var set = [
      pollfd(fd: wake, events: readable, revents: 0),
      pollfd(fd: pidfd, events: readable, revents: 0),
      pollfd(fd: held.contains(.stdout) ? -1 : output, events: readable, revents: 0),
      pollfd(fd: held.contains(.stderr) ? -1 : errors, events: readable, revents: 0),
      pollfd(
        fd: hasInputWaiting || !isTerminal ? input : -1,
        events: hasInputWaiting ? Int16(POLLOUT) : 0, revents: 0),
    ]
    let count = poll(&set, nfds_t(set.count), Int32(clamping: timeout))
    guard count > 0 else { return [] }
    if set[0].revents != 0 {
      var value: UInt64 = 0
      _ = Glibc.read(wake, &value, 8)
    }
    // The child has closed its input: nobody will read what is given.
    if !isTerminal, set[4].revents & Int16(POLLERR | POLLHUP) != 0 { shut(\.input) }
    var ready: Ready = []
    if set[2].revents != 0 { ready.insert(.stdout) }
    if set[3].revents != 0 { ready.insert(.stderr) }
    return ready
  }

  /// What has come; nil for nothing, or the end.
  mutating func read(_ stream: Child.Output) -> [UInt8]? {
    let descriptor = stream == .stdout ? output : errors
    guard descriptor >= 0 else { return nil }
    var count = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, used in
      count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
      used = max(count, 0)
    }
    if count > 0 {
      leftAtEnd -= count
      return bytes
    }
    if count < 0, errno == EAGAIN || errno == EINTR { return nil }
    // The end; of a terminal's, EIO.
    if stream == .stderr {
      shut(\.errors)
    } else if isTerminal {
      shut(\.output, \.input)
    } else {
      shut(\.output)
    }
    return nil
  }

  /// How many of the bytes were taken; -1 where nobody reads any more.
  mutating func write(_ bytes: [UInt8]) -> Int {
    guard input >= 0 else { return -1 }
    while true {
      let count = bytes.withUnsafeBytes { Glibc.write(input, $0.baseAddress, $0.count) }
      if count >= 0 { return count }
      if errno == EINTR { continue }
      if errno == EAGAIN { return 0 }
      if !isTerminal { shut(\.input) }
      return -1
    }
  }

  /// The end of the input.
  mutating func endInput() {
    guard input >= 0 else { return }
    // A terminal stays open for the output; its input ends by a character, as when a person types it.
    guard !isTerminal else { return }
    shut(\.input)
  }
}
