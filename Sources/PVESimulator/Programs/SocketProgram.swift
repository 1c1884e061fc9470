import EventLoop

/// What is behind a unix socket: a real machine's serial port.
final class SocketProgram: TerminalProgram, StreamHandler {
  private let path: String
  private let loop: Loop
  private weak var sink: (any TerminalSink)?
  private var stream: EventLoop.Stream?
  private var isClosed = false

  init(_ path: String, loop: Loop) {
    self.path = path
    self.loop = loop
  }

  func start(_ sink: any TerminalSink, columns: Int, rows: Int) {
    self.sink = sink
    do throws(LoopError) {
      stream = try Stream.connect(on: loop, to: .unix(path), handler: self)
    } catch {
      end("\(error)\r\n")
    }
  }

  func input(_ bytes: UnsafeRawBufferPointer) { stream?.write(bytes) }
  func pause() { stream?.pauseReading() }
  func drained() { stream?.resumeReading() }

  func close() {
    isClosed = true
    sink = nil
    stream?.close()
    stream = nil
  }

  private func end(_ text: String) {
    loop.schedule(after: .zero) { [weak self] in
      guard let self, !self.isClosed, let sink = self.sink else { return }
      self.isClosed = true
      self.sink = nil
      if !text.isEmpty { sink.output(text) }
      sink.programEnded(exitStatus: 0)
    }
  }

  func streamConnected(_ stream: EventLoop.Stream) {}
  func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    sink?.output(UnsafeRawBufferPointer(bytes))
  }
  func streamDrained(_ stream: EventLoop.Stream) {}
  func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {
    self.stream = nil
    if case .connectFailed(let why) = end {
      self.end("can't connect to the serial port: \(why)\r\n")
    } else {
      self.end("")
    }
  }
}
