import ConsoleDial
import ConsoleProtocol
import EventLoop

/// An open serial terminal, as its caller sees it.
final class SerialProcess: ExecProcess {
  let handle: ExecHandle? = nil
  private let events = EventQueue()
  private let line: OnLoop<TerminalLine>
  private let driver: SerialDriver

  init(_ line: OnLoop<TerminalLine>, typing first: [UInt8], outputLimit: Int?) {
    self.line = line
    let driver = SerialDriver(events: events, limiter: OutputLimiter(limit: outputLimit))
    self.driver = driver
    events.put(.note("A serial terminal has no exit status: leave it when you are done."))
    events.whenRoom { line.execute { $0.resumeReading() } }
    line.execute { line in
      driver.line = line
      line.attach(driver)
      if !first.isEmpty { line.send(first) }
    }
  }

  deinit {
    let driver = driver
    line.execute { _ in driver.leave(.cancelled) }
  }

  func next() async -> ExecEvent? { await events.next() }

  func write(_ bytes: [UInt8]) async throws(ExecFailure) {
    guard !bytes.isEmpty, !events.isOver else { return }
    let driver = driver
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      let once = Once(continuation)
      line.execute { _ in driver.write(bytes, then: once) }
    }
  }

  /// A terminal has no end of input but its key, Ctrl-D.
  func closeInput() async { line.execute { $0.send([4]) } }

  /// No size reaches a guest over a serial port.
  func resize(_ size: TerminalSize) async {}

  func signal(_ number: Int) async throws(ExecFailure) {
    guard let key = [2: UInt8(3), 3: 28, 20: 26][number] else {
      throw ExecFailure(
        .unsupported,
        "A serial port takes no signal but those that have a key: INT, QUIT and TSTP.",
        remedy: "Type what ends the program.")
    }
    line.execute { $0.send([key]) }
  }

  func cancel() async {
    let driver = driver
    line.execute { _ in driver.leave(.cancelled) }
  }

  func detach() async { await cancel() }
}

/// The loop's side of it.
///
/// Proof of `@unchecked Sendable`: every member but the constants is used in ``TerminalLineUser``'s calls and in jobs
/// of the line's loop, which is one thread.
final class SerialDriver: TerminalLineUser, @unchecked Sendable {
  private static let mostPending = 256 << 10

  private let events: EventQueue
  private var limiter: OutputLimiter
  private var writers: [Once<Void>] = []
  var line: TerminalLine?

  init(events: EventQueue, limiter: OutputLimiter) {
    self.events = events
    self.limiter = limiter
  }

  func line(received bytes: UnsafeRawBufferPointer) {
    guard let kept = limiter.stdout([UInt8](bytes)) else { return }
    if !events.put(.stdout(kept)) { line?.pauseReading() }
  }

  func write(_ bytes: [UInt8], then done: Once<Void>) {
    guard let line else { return done.resume(()) }
    line.send(bytes)
    if line.pendingBytes > Self.mostPending { writers.append(done) } else { done.resume(()) }
  }

  func lineDrained() { resumeWriters() }

  func lineEnded(_ failure: UpstreamFailure) {
    line = nil
    end(.lost("The serial terminal ended (\(failure.sentence)); it has no exit status."))
  }

  func leave(_ end: ExecEnd) {
    line?.close()
    line = nil
    self.end(end)
  }

  private func end(_ end: ExecEnd) {
    resumeWriters()
    events.put(.ended(limiter.result(end)))
  }

  private func resumeWriters() {
    let waiting = writers
    writers = []
    for writer in waiting { writer.resume(()) }
  }
}
