import CSallyport
import EventLoop
import Glibc

/// A program that the built-in agent started: its output as qemu-ga keeps it, and its end.
///
/// As with qemu-ga, 16 MiB of each stream are kept and the rest is read and dropped, and the program counts as ended
/// only when both of its output streams have closed as well: a child in the background that holds one keeps
/// `exited` at 0.
final class AgentProcess {
  /// What qemu-ga keeps of a stream.
  static let capture = 16 << 20

  /// One output stream.
  private final class Output: StreamHandler {
    var kept: [UInt8] = []
    var isTruncated = false
    var isOpen = true
    var closed: (() -> Void)?

    func streamConnected(_ stream: EventLoop.Stream) {}
    func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
      let room = AgentProcess.capture - kept.count
      if bytes.count > room { isTruncated = true }
      kept.append(contentsOf: bytes.prefix(room))
    }
    func streamDrained(_ stream: EventLoop.Stream) {}
    func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {
      isOpen = false
      closed?()
    }
  }

  /// Writes the input and closes.
  private final class Input: StreamHandler {
    func streamConnected(_ stream: EventLoop.Stream) {}
    func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {}
    func streamDrained(_ stream: EventLoop.Stream) { stream.close() }
    func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {}
  }

  private let out = Output()
  private let err = Output()
  private let capturesOutput: Bool
  private var end: ChildEnd?
  private(set) var pid: pid_t = 0

  private init(capturesOutput: Bool) { self.capturesOutput = capturesOutput }

  /// Starts a program in a room.
  static func start(
    _ command: Command, room: Room, input: [UInt8]?, capturesOutput: Bool, children: ChildKeeper,
    loop: Loop
  ) -> Result<AgentProcess, SpawnError> {
    let process = AgentProcess(capturesOutput: capturesOutput)
    var pipes: [Int32] = []
    // Whatever of these is still open here at the end is the child's side, or of no use to anybody.
    defer { for descriptor in pipes { Glibc.close(descriptor) } }
    func pipe() -> (reading: Int32, writing: Int32)? {
      var reading: Int32 = -1
      var writing: Int32 = -1
      guard sp_pipe(&reading, &writing) == 0 else { return nil }
      pipes += [reading, writing]
      return (reading, writing)
    }
    func take(_ descriptor: Int32) -> Int32 {
      pipes.removeAll { $0 == descriptor }
      return descriptor
    }
    let null = Glibc.open("/dev/null", O_RDWR | O_CLOEXEC)
    guard null >= 0 else { return .failure(SpawnError(code: errno)) }
    pipes.append(null)
    var source = null
    var feed: Int32?
    var outputs: [(Output, Int32)] = []
    var targets = [null, null]
    if input != nil {
      guard let (reading, writing) = pipe() else { return .failure(SpawnError(code: errno)) }
      source = reading
      feed = writing
    }
    if capturesOutput {
      guard let first = pipe(), let second = pipe() else {
        return .failure(SpawnError(code: errno))
      }
      targets = [first.writing, second.writing]
      outputs = [(process.out, first.reading), (process.err, second.reading)]
    }
    switch room.spawn(command, in: source, out: targets[0], err: targets[1], terminal: false) {
    case .failure(let error): return .failure(error)
    case .success(let pid): process.pid = pid
    }
    // What it leaves in the background goes on, as it does under qemu-ga; the room's end is its end.
    children.watch(process.pid, mark: nil) { process.end = $0 }
    for (output, descriptor) in outputs {
      output.closed = { children.reapSoon() }
      do throws(LoopError) {
        _ = try Stream.adopt(on: loop, descriptor: take(descriptor), handler: output)
      } catch {
        output.isOpen = false
      }
    }
    if !capturesOutput {
      process.out.isOpen = false
      process.err.isOpen = false
    }
    if let input, let feed {
      do throws(LoopError) {
        let stream = try Stream.adopt(on: loop, descriptor: take(feed), handler: Input())
        stream.write(input)
        // What fits into the pipe is gone already, and nothing will say so.
        if stream.pendingBytes == 0 { stream.close() }
      } catch {}
    }
    return .success(process)
  }

  /// Whether `exec-status` reports its end, and forgets it.
  var isOver: Bool { end != nil && !out.isOpen && !err.isOpen }

  /// `exec-status`.
  var status: JSON {
    guard isOver, let end else { return ["exited": .bool(false)] }
    var members: [JSON.Member] = [.init(key: "exited", value: .bool(true))]
    switch end {
    case .exited(let code): members.append(.init(key: "exitcode", value: .int(code)))
    case .signalled(let signal): members.append(.init(key: "signal", value: .int(signal)))
    }
    for (name, output) in [("out", out), ("err", err)] where !output.kept.isEmpty {
      members.append(.init(key: "\(name)-data", value: .string(base64(output.kept))))
      members.append(.init(key: "\(name)-truncated", value: .bool(output.isTruncated)))
    }
    return .object(members)
  }
}
