import ConsoleProtocol

/// `/bin/login`: asks for name and password, as everybody but root@pam with a ticket sees it. Users of the realm
/// pam get in with their password.
final class LoginPrompt: TerminalProgram, TerminalSink {
  private enum Phase {
    case name, password(String), refused, shell(any TerminalProgram)
  }

  /// What a refused login costs, as with PAM's default delay.
  private static let penalty: Duration = .seconds(2)
  private static let longestLine = 256

  private unowned let node: PVENode
  private weak var sink: (any TerminalSink)?
  private var phase = Phase.name
  private var line: [UInt8] = []
  private var columns = 80
  private var rows = 20

  init(node: PVENode) { self.node = node }

  func start(_ sink: any TerminalSink, columns: Int, rows: Int) {
    self.sink = sink
    self.columns = columns
    self.rows = rows
    sink.output("\(node.name) login: ")
  }

  func input(_ bytes: UnsafeRawBufferPointer) {
    if case .shell(let shell) = phase {
      shell.input(bytes)
      return
    }
    for (i, byte) in bytes.enumerated() {
      type(byte)
      if case .shell(let shell) = phase {
        shell.input(UnsafeRawBufferPointer(rebasing: bytes[(i + 1)...]))
        return
      }
    }
  }

  private func type(_ byte: UInt8) {
    let echoes = if case .name = phase { true } else { false }
    switch (phase, byte) {
    case (.refused, _), (.shell, _): break
    case (_, 13), (_, 10):
      sink?.output("\r\n")
      enter(String(decoding: line, as: UTF8.self))
      line = []
    case (_, 127), (_, 8):
      if !line.isEmpty {
        line.removeLast()
        if echoes { sink?.output("\u{8} \u{8}") }
      }
    case (_, 21):
      if echoes { sink?.output(String(repeating: "\u{8} \u{8}", count: line.count)) }
      line = []
    case (_, 3), (_, 4): sink?.programEnded(exitStatus: 1)
    default:
      guard line.count < LoginPrompt.longestLine, byte >= 32 else { return }
      line.append(byte)
      if echoes { [byte].withUnsafeBytes { sink?.output($0) } }
    }
  }

  private func enter(_ text: String) {
    switch phase {
    case .name:
      if text.isEmpty {
        sink?.output("\(node.name) login: ")
      } else {
        phase = .password(text)
        sink?.output("Password: ")
      }
    case .password(let name):
      if node.access.isPassword(text, of: "\(name)@pam") {
        let shell = node.loginShell()
        phase = .shell(shell)
        shell.start(self, columns: columns, rows: rows)
        return
      }
      phase = .refused
      node.loop.schedule(after: LoginPrompt.penalty) { [weak self] in
        guard let self, let sink = self.sink else { return }
        self.phase = .name
        sink.output("\r\nLogin incorrect\r\n\(self.node.name) login: ")
      }
    case .refused, .shell: break
    }
  }

  func resize(columns: Int, rows: Int) {
    self.columns = columns
    self.rows = rows
    if case .shell(let shell) = phase { shell.resize(columns: columns, rows: rows) }
  }

  func pause() { if case .shell(let shell) = phase { shell.pause() } }
  func drained() { if case .shell(let shell) = phase { shell.drained() } }

  func close() {
    sink = nil
    if case .shell(let shell) = phase { shell.close() }
  }

  var backlog: Int { sink?.backlog ?? 0 }
  func output(_ bytes: UnsafeRawBufferPointer) { sink?.output(bytes) }
  func programEnded(exitStatus: Int) { sink?.programEnded(exitStatus: exitStatus) }
}
