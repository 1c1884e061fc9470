import CSallyport
import EventLoop
import Glibc

/// A real program on a pseudo terminal, in a session of its own: of this machine, or in a guest's room.
final class PTYProgram: TerminalProgram, StreamHandler {
  private unowned let node: PVENode
  private let command: Command
  private let room: Room?
  private let mark = randomUUID()
  private weak var sink: (any TerminalSink)?
  private var stream: EventLoop.Stream?
  private var descriptor: Int32 = -1
  private var pid: pid_t = -1
  private var exitStatus: Int?
  private var isAtEnd = false
  private var isClosed = false

  /// - Parameter room: where it runs; nil for this machine as it is. In a room with walls, what it leaves running
  ///   in the background stays when it ends; everywhere else that ends with it.
  init(node: PVENode, command: Command, room: Room? = nil) {
    self.node = node
    self.command = command
    self.room = room
  }

  func start(_ sink: any TerminalSink, columns: Int, rows: Int) {
    self.sink = sink
    guard let (master, slave) = open(columns, rows) else {
      fail("no pseudo terminal: \(String(cString: strerror(errno)))")
      return
    }
    var command = command
    let isWalled = room?.isWalled ?? false
    if !isWalled { command.environment[ChildKeeper.variable] = mark }
    let result =
      room?.spawn(command, in: slave, out: slave, err: slave, terminal: true)
      ?? command.spawn(in: slave, out: slave, err: slave, terminal: true)
    Glibc.close(slave)
    switch result {
    case .failure(let error):
      Glibc.close(master)
      fail("can't run \(command.path): \(error.reason)")
      return
    case .success(let started): pid = started
    }
    node.children.watch(pid, mark: isWalled ? nil : "\(ChildKeeper.variable)=\(mark)") {
      [weak self] end in self?.exited(end.status)
    }
    descriptor = master
    do throws(LoopError) {
      stream = try Stream.adopt(on: node.loop, descriptor: master, handler: self)
    } catch {
      Glibc.close(master)
      descriptor = -1
      node.children.end(session: pid)
      fail("\(error)")
    }
  }

  private func open(_ columns: Int, _ rows: Int) -> (Int32, Int32)? {
    if let room { return room.openTerminal(columns: columns, rows: rows) }
    var master: Int32 = -1
    var slave: Int32 = -1
    return sp_open_pty(&master, &slave, UInt16(clamping: columns), UInt16(clamping: rows)) == 0
      ? (master, slave) : nil
  }

  private func fail(_ reason: String) {
    sink?.output("\(reason)\r\n")
    node.loop.schedule(after: .zero) { [weak self] in
      guard let self, !self.isClosed else { return }
      self.sink?.programEnded(exitStatus: 127)
    }
  }

  func input(_ bytes: UnsafeRawBufferPointer) {
    guard let stream, stream.pendingBytes < node.behaviour.relayBuffer else { return }
    stream.write(bytes)
  }

  func resize(columns: Int, rows: Int) {
    guard descriptor >= 0 else { return }
    _ = sp_set_window_size(descriptor, UInt16(clamping: columns), UInt16(clamping: rows))
  }

  /// Tells the program in the foreground that the window changed, even where it didn't: it draws itself again.
  func redraw() {
    guard descriptor >= 0 else { return }
    let group = tcgetpgrp(descriptor)
    if group > 1 { kill(-group, SIGWINCH) }
  }

  func pause() { stream?.pauseReading() }
  func drained() { stream?.resumeReading() }

  func close() {
    guard !isClosed else { return }
    isClosed = true
    sink = nil
    if pid > 0 { node.children.end(session: pid) }
    stream?.close()
    stream = nil
    descriptor = -1
  }

  private func exited(_ status: Int) {
    exitStatus = status
    report()
  }

  private func report() {
    guard isAtEnd, let exitStatus, !isClosed else { return }
    let sink = sink
    self.sink = nil
    isClosed = true
    sink?.programEnded(exitStatus: exitStatus)
  }

  // MARK: stream

  func streamConnected(_ stream: EventLoop.Stream) {}

  func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    sink?.output(UnsafeRawBufferPointer(bytes))
  }

  func streamDrained(_ stream: EventLoop.Stream) {}

  func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {
    descriptor = -1
    self.stream = nil
    isAtEnd = true
    guard !isClosed else { return }
    sink?.hungUp()
    node.children.reapSoon()
    // A program may close its terminal and live on; it doesn't live on here.
    if exitStatus == nil {
      node.loop.schedule(after: .milliseconds(20)) { [weak self] in
        guard let self, self.exitStatus == nil, self.pid > 0 else { return }
        self.node.children.reapSoon()
        if self.exitStatus == nil { self.node.children.end(session: self.pid) }
      }
    }
    report()
  }
}
