/// What is on the other side of a terminal: a shell, a prompt, a pattern for tests.
protocol TerminalProgram: AnyObject {
  /// Begins. Output and end go to the sink, which the program holds weakly.
  func start(_ sink: any TerminalSink, columns: Int, rows: Int)
  /// Typed bytes.
  func input(_ bytes: UnsafeRawBufferPointer)
  /// The window's size changed.
  func resize(columns: Int, rows: Int)
  /// The reader has taken all that was queued (for programs that produce without end).
  func drained()
  /// The reader can't take more for now.
  func pause()
  /// Nobody looks any more: end, and take what was started along.
  func close()
}

extension TerminalProgram {
  func resize(columns: Int, rows: Int) {}
  func drained() {}
  func pause() {}
}

/// Who shows a terminal's output.
protocol TerminalSink: AnyObject {
  /// Output.
  func output(_ bytes: UnsafeRawBufferPointer)
  /// The terminal is hung up: nothing more is written, and the program's end follows.
  func hungUp()
  /// The program ended by itself.
  func programEnded(exitStatus: Int)
  /// Output that is still on its way to a reader; a polite program waits for it.
  var backlog: Int { get }
}

extension TerminalSink {
  var backlog: Int { 0 }
  func hungUp() {}

  /// Output.
  func output(_ text: String) { Array(text.utf8).withUnsafeBytes { output($0) } }
}
