import EventLoop

/// One program that outlives those who look at it: a container's console under `dtach`, or a VM's serial port.
final class SharedTerminal: TerminalSink {
  private let loop: Loop
  private let make: () -> any TerminalProgram
  private var program: (any TerminalProgram)?
  private var viewers: [SharedViewer] = []
  /// Told when the program ended by itself.
  var ended: (() -> Void)?

  /// - Parameter make: starts the program; called again when it ended and somebody attaches.
  init(loop: Loop, make: @escaping () -> any TerminalProgram) {
    self.loop = loop
    self.make = make
  }

  /// How many look.
  var viewerCount: Int { viewers.count }

  fileprivate func attach(_ viewer: SharedViewer, columns: Int, rows: Int) {
    viewers.append(viewer)
    if let program {
      program.resize(columns: columns, rows: rows)
      (program as? PTYProgram)?.redraw()
    } else {
      let fresh = make()
      program = fresh
      fresh.start(self, columns: columns, rows: rows)
    }
  }

  fileprivate func detach(_ viewer: SharedViewer) {
    viewers.removeAll { $0 === viewer }
    // Output for nobody is dropped, so nobody must keep the program waiting.
    program?.drained()
  }

  fileprivate func input(_ bytes: UnsafeRawBufferPointer) { program?.input(bytes) }
  fileprivate func resize(columns: Int, rows: Int) { program?.resize(columns: columns, rows: rows) }
  fileprivate func pause() { program?.pause() }
  fileprivate func drained() { program?.drained() }

  var backlog: Int { viewers.reduce(0) { max($0, $1.backlog) } }

  /// Ends the program and everybody's view of it.
  func stop() {
    program?.close()
    program = nil
    let all = viewers
    viewers = []
    for viewer in all { viewer.terminated() }
  }

  func output(_ bytes: UnsafeRawBufferPointer) {
    for viewer in viewers { viewer.show(bytes) }
  }

  func programEnded(exitStatus: Int) {
    program = nil
    let all = viewers
    viewers = []
    for viewer in all { viewer.terminated() }
    ended?()
  }
}

/// One client of a shared terminal.
final class SharedViewer: TerminalProgram {
  /// How the client behaves.
  enum Manner {
    /// `dtach -A … -r winch`: clears the screen, makes the program draw itself again, and goes at Ctrl-\.
    case dtach
    /// `qm terminal`: one line, then the port's bytes; no size reaches the guest.
    case serial(interface: String)
  }

  private static let detachCharacter: UInt8 = 0x1C

  private let terminal: SharedTerminal
  private let manner: Manner
  private let loop: Loop
  private weak var sink: (any TerminalSink)?

  init(_ terminal: SharedTerminal, manner: Manner, loop: Loop) {
    self.terminal = terminal
    self.manner = manner
    self.loop = loop
  }

  func start(_ sink: any TerminalSink, columns: Int, rows: Int) {
    self.sink = sink
    switch manner {
    case .dtach: sink.output("\u{1B}[H\u{1B}[J")
    case .serial(let interface):
      sink.output("starting serial terminal on interface \(interface)\r\n")
    }
    terminal.attach(self, columns: columns, rows: rows)
  }

  func input(_ bytes: UnsafeRawBufferPointer) {
    // dtach looks at the first byte of a read only.
    if case .dtach = manner, bytes.first == SharedViewer.detachCharacter {
      end("\r\n[detached]\r\n", status: 0)
      return
    }
    terminal.input(bytes)
  }

  func resize(columns: Int, rows: Int) {
    if case .dtach = manner { terminal.resize(columns: columns, rows: rows) }
  }

  func pause() { terminal.pause() }
  func drained() { terminal.drained() }

  func close() {
    sink = nil
    terminal.detach(self)
  }

  fileprivate var backlog: Int { sink?.backlog ?? 0 }

  fileprivate func show(_ bytes: UnsafeRawBufferPointer) { sink?.output(bytes) }

  /// The program is gone.
  fileprivate func terminated() {
    switch manner {
    case .dtach: end("\r\n[EOF - dtach terminating]\r\n", status: 0)
    case .serial: end("", status: 0)
    }
  }

  private func end(_ text: String, status: Int) {
    terminal.detach(self)
    guard let last = sink else { return }
    sink = nil
    if !text.isEmpty { last.output(text) }
    loop.schedule(after: .milliseconds(10)) { [weak last] in last?.programEnded(exitStatus: status)
    }
  }
}
