import EventLoop

/// A VM's built-in screen: what is typed appears, the pointer draws, a clock runs. All viewers see the same.
///
/// It is there so that a person and a test can see that keyboard, pointer and picture work; it runs no programs.
final class GuestScreen: RFBDisplay {
  /// The desktop's sizes: after power-on as a graphics card has it, and the text mode that `mode` switches to.
  private static let graphics = (width: 800, height: 600)
  private static let text = (width: 720, height: 400)
  private static let inkByButton: [UInt32] = [0xFFD75F, 0x5FD7FF, 0xFF5F87]

  let name: String
  let pixelFormat = PixelFormat.qemu
  private let title: String
  private let loop: Loop
  private var screen: TextScreen
  private var viewers: [RFBSession] = []
  private var timer: LoopTimer?
  private var started: Duration
  private var line = ""
  private var isControlDown = false
  private var isAltDown = false
  private var pointer = (x: 0, y: 0)

  init(name: String, vmid: Int, node: String, loop: Loop) {
    self.name = "QEMU (\(name))"
    self.loop = loop
    title = " \(name)  VM \(vmid) on \(node)"
    started = loop.now
    screen = TextScreen(width: GuestScreen.graphics.width, height: GuestScreen.graphics.height)
    powerOn()
  }

  var frame: Framebuffer { screen.frame }
  /// What is written, line by line.
  var lines: [String] { screen.lines }
  /// How many look.
  var viewerCount: Int { viewers.count }

  // MARK: viewers

  func attach(_ session: RFBSession) {
    viewers.append(session)
    if timer == nil { tick() }
  }

  func detach(_ session: RFBSession) {
    viewers.removeAll { $0 === session }
    if viewers.isEmpty {
      timer?.cancel()
      timer = nil
    }
  }

  func takeExclusively(_ session: RFBSession) {
    for other in viewers where other !== session { other.leave() }
  }

  private func show() {
    let changed = screen.takeDamage()
    for viewer in viewers { viewer.damaged(changed) }
  }

  private func tick() {
    clock()
    show()
    timer = loop.schedule(after: .seconds(1)) { [weak self] in self?.tick() }
  }

  // MARK: picture

  private func powerOn() {
    started = loop.now
    line = ""
    screen.write("\u{1B}[2J\u{1B}[3;1H")
    screen.write("This is the screen of a simulated virtual machine.\r\n")
    screen.write("Type, and it appears. Drag with a button, and it draws.\r\n")
    screen.write("Commands: help  clear  mode  bell\r\n\r\n> ")
    clock()
    _ = screen.takeDamage()
  }

  private func clock() {
    let seconds = Int((loop.now - started).components.seconds)
    func two(_ n: Int) -> String { n < 10 ? "0\(n)" : "\(n)" }
    let time = "up \(two(seconds / 3600)):\(two(seconds / 60 % 60)):\(two(seconds % 60)) "
    let room = max(0, screen.columns - title.utf8.count - time.utf8.count)
    screen.put(
      title + String(repeating: " ", count: room) + time, column: 0, row: 0, color: 15,
      background: 4)
    // The bar goes to the edge, which is no whole character away.
    let columns = screen.columns
    screen.paint { frame in
      let edge = Area(
        x: columns * Font.cellWidth, y: 0, width: frame.width, height: Font.cellHeight
      ).intersection(frame.area)
      frame.fill(edge, TextScreen.palette[4])
      return edge
    }
  }

  private func resize(_ size: (width: Int, height: Int)) {
    screen = TextScreen(width: size.width, height: size.height)
    powerOn()
    for viewer in viewers { viewer.resized() }
  }

  // MARK: keyboard

  func key(_ keysym: UInt32, isDown: Bool) {
    switch keysym {
    case 0xFFE3, 0xFFE4: isControlDown = isDown
    case 0xFFE9, 0xFFEA: isAltDown = isDown
    default: if isDown { press(keysym) }
    }
    show()
  }

  private func press(_ keysym: UInt32) {
    switch keysym {
    case 0xFFFF where isControlDown && isAltDown:
      powerOn()
      screen.write("\r\nCtrl-Alt-Del: restarted\r\n> ")
      for viewer in viewers { viewer.damaged(screen.frame.area) }
    case 0xFF0D, 0xFF8D: enter()
    case 0xFF08:
      if !line.isEmpty {
        line.removeLast()
        screen.write("\u{8} \u{8}")
      }
    case 0x20...0x7E:
      let character = Character(Unicode.Scalar(UInt8(keysym)))
      if isControlDown {
        screen.write("^\(character.uppercased())\r\n> ")
        line = ""
      } else {
        line.append(character)
        screen.write(String(character))
      }
    case 0xA0...0xFF, 0x0100_0000...0x0110_FFFF:
      // Letters that the font hasn't are shown as a box.
      line.append("?")
      screen.write("é")
    default: break
    }
  }

  private func enter() {
    let command = line
    line = ""
    screen.write("\r\n")
    switch command {
    case "": break
    case "clear": screen.write("\u{1B}[2J\u{1B}[3;1H")
    case "help": screen.write("help: this; clear: wipes; mode: other resolution; bell: rings\r\n")
    case "bell": for viewer in viewers { viewer.bell() }
    case "mode":
      resize(
        screen.frame.width == GuestScreen.graphics.width ? GuestScreen.text : GuestScreen.graphics)
      return
    default: screen.write("\(command.count) characters: \(command)\r\n")
    }
    clock()
    screen.write("> ")
  }

  // MARK: pointer

  func pointer(x: Int, y: Int, buttons: UInt8) {
    let before = pointer
    pointer = (min(x, frame.width - 1), min(y, frame.height - 1))
    if let button = (0..<3).first(where: { buttons & 1 << $0 != 0 }) {
      let here = pointer
      screen.paint { $0.line(from: before, to: here, GuestScreen.inkByButton[button]) }
    }
    screen.put(
      " pointer \(pointer.x),\(pointer.y)       ", column: 0, row: 1, color: 8, background: 0)
    show()
  }

  func clipboard(_ text: [UInt8]) {
    screen.write("\r\nclipboard: \(text.count) bytes\r\n> ")
    show()
  }
}
