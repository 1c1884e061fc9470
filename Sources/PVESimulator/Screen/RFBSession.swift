import EventLoop

/// What viewers look at.
protocol RFBDisplay: AnyObject {
  /// The picture.
  var frame: Framebuffer { get }
  /// The desktop's name.
  var name: String { get }
  /// The pixel format that is offered.
  var pixelFormat: PixelFormat { get }
  /// A key went down or up.
  func key(_ keysym: UInt32, isDown: Bool)
  /// The pointer moved or a button changed.
  func pointer(x: Int, y: Int, buttons: UInt8)
  /// The viewer's clipboard.
  func clipboard(_ text: [UInt8])
  /// A viewer that will not share the screen came in: all others have to go.
  func takeExclusively(_ session: RFBSession)
}

/// One viewer's session with a screen of ours. Strict: a message that isn't in the protocol ends it.
final class RFBSession {
  private enum Phase { case handshake, clientInit, running, over }

  /// What the viewer said it can.
  private struct Abilities {
    var hextile = false
    var desktopSize = false
    var extendedKeys = false
  }

  private static let clipboardLimit = 1 << 20

  private let loop: Loop
  private weak var display: (any RFBDisplay)?
  private let password: () -> [UInt8]?
  private let send: ([UInt8]) -> Void
  private let close: () -> Void
  private var phase = Phase.handshake
  private var handshake = RFBHandshake()
  private var queue = ByteQueue()
  private var format: PixelFormat
  private var abilities = Abilities()
  private var wanted: Area?
  private var damage: [Area] = []
  private var hasNewSize = false
  private var owesColorMap: Bool
  private var owesKeyAnswer = false
  private var isFlushing = false

  /// - Parameters:
  ///   - isLoggedIn: whether the login went on before, and the viewer's ClientInit is the first to come.
  ///   - password: asked when the viewer's response is checked.
  ///   - send: bytes for the viewer.
  ///   - close: ends the connection after what was sent.
  init(
    loop: Loop, display: any RFBDisplay, isLoggedIn: Bool = false,
    password: @escaping () -> [UInt8]?,
    send: @escaping ([UInt8]) -> Void, close: @escaping () -> Void
  ) {
    self.loop = loop
    self.display = display
    self.password = password
    self.send = send
    self.close = close
    format = display.pixelFormat
    owesColorMap = !display.pixelFormat.isTrueColor
    if isLoggedIn { phase = .clientInit }
  }

  /// Sends the banner.
  func start() { send(RFBHandshake.banner) }

  /// The session is over; nothing is sent any more.
  func end() { phase = .over }

  // MARK: from the viewer

  func receive(_ bytes: UnsafeRawBufferPointer) {
    queue.append(bytes)
    while step() {}
  }

  private func step() -> Bool {
    switch phase {
    case .handshake:
      var out: [UInt8] = []
      let outcome = handshake.advance(&queue, into: &out, password: password)
      if !out.isEmpty { send(out) }
      switch outcome {
      case .pending: return false
      case .accepted:
        phase = .clientInit
        return true
      case .refused:
        leave()
        return false
      }
    case .clientInit:
      guard let shared = queue[0], let display else { return false }
      queue.drop(1)
      if shared == 0 { display.takeExclusively(self) }
      phase = .running
      let title = Array(display.name.utf8)
      send(
        sixteen(display.frame.width) + sixteen(display.frame.height) + format.bytes
          + [0, 0, UInt8(title.count >> 8 & 255), UInt8(title.count & 255)] + title)
      return true
    case .running: return message()
    case .over: return false
    }
  }

  /// Ends the session from this side.
  func leave() {
    guard phase != .over else { return }
    phase = .over
    close()
  }

  private func number(_ offset: Int, bytes: Int) -> Int {
    (0..<bytes).reduce(0) { $0 << 8 | Int(queue[offset + $1] ?? 0) }
  }

  private func message() -> Bool {
    guard let type = queue[0] else { return false }
    switch type {
    case 0:
      guard queue.count >= 20 else { return false }
      guard let wish = PixelFormat(bytes: Array(queue.bytes.prefix(20).dropFirst(4))) else {
        leave()
        return false
      }
      format = wish
      owesColorMap = !wish.isTrueColor
      queue.drop(20)
    case 2:
      guard queue.count >= 4 else { return false }
      let count = number(2, bytes: 2)
      guard queue.count >= 4 + 4 * count else { return false }
      encodings((0..<count).map { Int32(truncatingIfNeeded: number(4 + 4 * $0, bytes: 4)) })
      queue.drop(4 + 4 * count)
    case 3:
      guard queue.count >= 10 else { return false }
      let area = Area(
        x: number(2, bytes: 2), y: number(4, bytes: 2), width: number(6, bytes: 2),
        height: number(8, bytes: 2))
      request(area, isIncremental: queue[1] != 0)
      queue.drop(10)
    case 4:
      guard queue.count >= 8 else { return false }
      display?.key(UInt32(number(4, bytes: 4)), isDown: queue[1] != 0)
      queue.drop(8)
    case 5:
      guard queue.count >= 6 else { return false }
      display?.pointer(x: number(2, bytes: 2), y: number(4, bytes: 2), buttons: queue[1] ?? 0)
      queue.drop(6)
    case 6:
      guard queue.count >= 8 else { return false }
      // A negative length is the extended clipboard's, which isn't offered.
      let length = number(4, bytes: 4)
      guard length <= RFBSession.clipboardLimit else {
        leave()
        return false
      }
      guard queue.count >= 8 + length else { return false }
      display?.clipboard(Array(queue.bytes.prefix(8 + length).dropFirst(8)))
      queue.drop(8 + length)
    case 255:
      // QEMU's own messages; the extended key event is the one that was offered.
      guard queue.count >= 2 else { return false }
      guard queue[1] == 0 else {
        leave()
        return false
      }
      guard queue.count >= 12 else { return false }
      display?.key(UInt32(number(4, bytes: 4)), isDown: number(2, bytes: 2) != 0)
      queue.drop(12)
    default:
      leave()
      return false
    }
    return phase == .running
  }

  private func encodings(_ list: [Int32]) {
    abilities.hextile = list.contains(5)
    abilities.desktopSize = list.contains(-223)
    if list.contains(-258), !abilities.extendedKeys {
      abilities.extendedKeys = true
      owesKeyAnswer = true
    }
  }

  private func request(_ area: Area, isIncremental: Bool) {
    guard let display else { return }
    let visible = area.intersection(display.frame.area)
    wanted = wanted.map { $0.union(visible) } ?? visible
    if !isIncremental, !visible.isEmpty { add(visible) }
    flushSoon()
  }

  // MARK: to the viewer

  /// Part of the picture changed.
  func damaged(_ area: Area) {
    guard phase == .running, !area.isEmpty else { return }
    add(area)
    flushSoon()
  }

  /// The picture has another size.
  func resized() {
    guard phase == .running, let display else { return }
    hasNewSize = true
    damage = [display.frame.area]
    flushSoon()
  }

  /// A sound.
  func bell() { if phase == .running { send([2]) } }

  private func add(_ area: Area) {
    damage.append(area)
    if damage.count > 12 { damage = [damage.reduce(damage[0]) { $0.union($1) }] }
  }

  /// Changes within a few milliseconds go out together.
  private func flushSoon() {
    guard wanted != nil, !damage.isEmpty || owesKeyAnswer || hasNewSize, !isFlushing else { return }
    isFlushing = true
    loop.schedule(after: .milliseconds(4)) { [weak self] in
      self?.isFlushing = false
      self?.flush()
    }
  }

  private func flush() {
    guard phase == .running, let display, let wanted else { return }
    var rectangles: [[UInt8]] = []
    if owesKeyAnswer {
      owesKeyAnswer = false
      rectangles.append(header(Area(x: 0, y: 0, width: 0, height: 0), encoding: -258))
    }
    let full = display.frame.area
    if hasNewSize {
      hasNewSize = false
      if abilities.desktopSize { rectangles.append(header(full, encoding: -223)) }
    }
    var rest: [Area] = []
    for area in damage {
      let visible = area.intersection(full)
      let part = visible.intersection(wanted)
      if part.isEmpty {
        if !visible.isEmpty { rest.append(visible) }
        continue
      }
      let encoding = abilities.hextile ? 5 : 0
      var out = header(part, encoding: Int32(encoding))
      if abilities.hextile {
        Hextile.encode(display.frame, part, format, into: &out)
      } else {
        for y in part.y..<part.y + part.height {
          for x in part.x..<part.x + part.width {
            format.write(display.frame.pixel(x: x, y: y), into: &out)
          }
        }
      }
      rectangles.append(out)
    }
    damage = rest
    guard !rectangles.isEmpty else { return }
    self.wanted = nil
    if owesColorMap {
      owesColorMap = false
      send(RFBSession.colorMap)
    }
    send([0, 0] + sixteen(rectangles.count) + rectangles.flatMap { $0 })
  }

  /// The sixteen colours as vncterm sends them.
  private static let colorMap: [UInt8] =
    [1, 1, 0, 0, 0, 16]
    + TextScreen.palette.flatMap { c in
      [0, UInt8(c >> 16 & 255), 0, UInt8(c >> 8 & 255), 0, UInt8(c & 255)]
    }

  private func header(_ area: Area, encoding: Int32) -> [UInt8] {
    let code = UInt32(bitPattern: encoding)
    return sixteen(area.x) + sixteen(area.y) + sixteen(area.width) + sixteen(area.height)
      + sixteen(Int(code >> 16)) + sixteen(Int(code & 0xFFFF))
  }

  private func sixteen(_ n: Int) -> [UInt8] { [UInt8(n >> 8 & 255), UInt8(n & 255)] }
}
