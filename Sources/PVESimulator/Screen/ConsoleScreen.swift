import EventLoop

/// vncterm's screen: a terminal's output as a picture, a keyboard's keys as a terminal's input.
final class ConsoleScreen: RFBDisplay, TerminalSink {
  let name = "VNC Command Terminal"
  let pixelFormat = PixelFormat.vncterm
  private var screen: TextScreen
  private let program: any TerminalProgram
  private let loop: Loop
  private let typed: () -> Void
  private let ended: () -> Void
  private var viewers: [RFBSession] = []
  private var isControlDown = false
  private var isAltDown = false
  private var isDrawing = false

  /// - Parameters:
  ///   - typed: told of every key.
  ///   - ended: told when the program ended by itself.
  init(
    width: Int, height: Int, program: any TerminalProgram, loop: Loop,
    typed: @escaping () -> Void, ended: @escaping () -> Void
  ) {
    screen = TextScreen(width: width, height: height)
    self.program = program
    self.loop = loop
    self.typed = typed
    self.ended = ended
  }

  var frame: Framebuffer { screen.frame }

  /// Starts the program.
  func start() { program.start(self, columns: screen.columns, rows: screen.rows) }

  /// Somebody looks.
  func attach(_ session: RFBSession) { viewers.append(session) }

  /// And looks no more.
  func detach(_ session: RFBSession) { viewers.removeAll { $0 === session } }

  func close() { program.close() }

  func takeExclusively(_ session: RFBSession) {}
  func pointer(x: Int, y: Int, buttons: UInt8) {}

  func clipboard(_ text: [UInt8]) { text.withUnsafeBytes { program.input($0) } }

  func output(_ bytes: UnsafeRawBufferPointer) {
    screen.write(bytes)
    guard !isDrawing else { return }
    isDrawing = true
    loop.schedule(after: .milliseconds(10)) { [weak self] in
      guard let self else { return }
      self.isDrawing = false
      let area = self.screen.takeDamage()
      for viewer in self.viewers { viewer.damaged(area) }
    }
  }

  func programEnded(exitStatus: Int) { ended() }

  func key(_ keysym: UInt32, isDown: Bool) {
    typed()
    switch keysym {
    case 0xFFE3, 0xFFE4: isControlDown = isDown
    case 0xFFE9, 0xFFEA: isAltDown = isDown
    default:
      guard isDown, var bytes = ConsoleScreen.bytes(of: keysym, control: isControlDown) else {
        return
      }
      if isAltDown { bytes.insert(27, at: 0) }
      bytes.withUnsafeBytes { program.input($0) }
    }
  }

  /// What a terminal sends for a key.
  static func bytes(of keysym: UInt32, control: Bool) -> [UInt8]? {
    switch keysym {
    case 0x20...0x7E:
      let byte = UInt8(keysym)
      guard control else { return [byte] }
      return byte == 32 ? [0] : (0x40...0x7E).contains(byte) ? [byte & 0x1F] : [byte]
    case 0xA0...0xFF: return Unicode.Scalar(keysym).map { Array(String($0).utf8) }
    case 0x0100_0000...0x0110_FFFF:
      return Unicode.Scalar(keysym - 0x0100_0000).map { Array(String($0).utf8) }
    case 0xFF0D, 0xFF8D: return [13]
    case 0xFF08: return [127]
    case 0xFF09: return [9]
    case 0xFF1B: return [27]
    case 0xFF50: return Array("\u{1B}[H".utf8)
    case 0xFF51: return Array("\u{1B}[D".utf8)
    case 0xFF52: return Array("\u{1B}[A".utf8)
    case 0xFF53: return Array("\u{1B}[C".utf8)
    case 0xFF54: return Array("\u{1B}[B".utf8)
    case 0xFF55: return Array("\u{1B}[5~".utf8)
    case 0xFF56: return Array("\u{1B}[6~".utf8)
    case 0xFF57: return Array("\u{1B}[F".utf8)
    case 0xFFFF: return Array("\u{1B}[3~".utf8)
    default: return nil
    }
  }
}
