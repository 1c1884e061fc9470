import COpenSSL
import EventLoop

/// Sends back what it gets.
final class EchoProgram: TerminalProgram {
  private weak var sink: (any TerminalSink)?
  func start(_ sink: any TerminalSink, columns: Int, rows: Int) { self.sink = sink }
  func input(_ bytes: UnsafeRawBufferPointer) { sink?.output(bytes) }
  func close() { sink = nil }
}

/// Sends a known pattern, no faster than it is taken.
final class SourceProgram: TerminalProgram {
  private static let chunk = 128 * 1024
  /// So many chunks go out before the loop turns to others.
  private static let chunksPerTurn = 4

  private let loop: Loop
  private let total: Int
  private var sent = 0
  private var isWaiting = false
  private weak var sink: (any TerminalSink)?

  init(loop: Loop, total: Int) {
    self.loop = loop
    self.total = total
  }

  func start(_ sink: any TerminalSink, columns: Int, rows: Int) {
    self.sink = sink
    turn()
  }

  private func turn() {
    isWaiting = false
    for _ in 0..<SourceProgram.chunksPerTurn {
      guard let sink, sent < total else { return }
      let n = min(SourceProgram.chunk, total - sent)
      let bytes = SimulatedTerminal.pattern(from: sent, count: n)
      sent += n
      bytes.withUnsafeBytes { sink.output($0) }
    }
    isWaiting = true
    // Where everything was taken at once there is no `drained`; go on then as well.
    loop.schedule(after: .milliseconds(1)) { [weak self] in
      guard let self, self.isWaiting, self.sink?.backlog == 0 else { return }
      self.turn()
    }
  }

  func drained() { if isWaiting { turn() } }
  func input(_ bytes: UnsafeRawBufferPointer) {}
  func close() { sink = nil }
}

/// What a sink has taken.
final class SinkCounter {
  private(set) var bytes = 0
  private let context = EVP_MD_CTX_new()

  init() {
    if let context { EVP_DigestInit_ex(context, EVP_sha256(), nil) }
  }

  deinit { EVP_MD_CTX_free(context) }

  func add(_ data: UnsafeRawBufferPointer) {
    bytes += data.count
    if let context { EVP_DigestUpdate(context, data.baseAddress, data.count) }
  }

  /// Bytes so far and their SHA-256.
  var report: (bytes: Int, sha256: String) {
    guard let context, let copy = EVP_MD_CTX_new() else { return (bytes, "") }
    defer { EVP_MD_CTX_free(copy) }
    var out = [UInt8](repeating: 0, count: 32)
    var length: UInt32 = 0
    guard EVP_MD_CTX_copy_ex(copy, context) == 1, EVP_DigestFinal_ex(copy, &out, &length) == 1
    else { return (bytes, "") }
    return (bytes, lowerHex(out))
  }
}

/// Takes everything.
final class SinkProgram: TerminalProgram {
  private let counter: SinkCounter
  init(_ counter: SinkCounter) { self.counter = counter }
  func start(_ sink: any TerminalSink, columns: Int, rows: Int) {}
  func input(_ bytes: UnsafeRawBufferPointer) { counter.add(bytes) }
  func close() {}
}

/// Says something and ends.
final class TextProgram: TerminalProgram {
  private let text: String
  private let loop: Loop
  private weak var sink: (any TerminalSink)?

  init(_ text: String, loop: Loop) {
    self.text = text
    self.loop = loop
  }

  func start(_ sink: any TerminalSink, columns: Int, rows: Int) {
    self.sink = sink
    loop.schedule(after: .milliseconds(10)) { [weak self] in
      guard let self, let sink = self.sink else { return }
      sink.output(self.text)
      self.loop.schedule(after: .milliseconds(10)) { [weak self] in
        self?.sink?.programEnded(exitStatus: 255)
      }
    }
  }

  func input(_ bytes: UnsafeRawBufferPointer) {}
  func close() { sink = nil }
}

/// A line, then another program.
final class BannerProgram: TerminalProgram {
  private let text: String
  private let program: any TerminalProgram

  init(_ text: String, then program: any TerminalProgram) {
    self.text = text
    self.program = program
  }

  func start(_ sink: any TerminalSink, columns: Int, rows: Int) {
    sink.output(text)
    program.start(sink, columns: columns, rows: rows)
  }

  func input(_ bytes: UnsafeRawBufferPointer) { program.input(bytes) }
  func drained() { program.drained() }
  func pause() { program.pause() }
  func close() { program.close() }
}
