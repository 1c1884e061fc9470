/// A terminal of characters, drawn into a framebuffer: as much of a VT as a shell prompt needs (printable
/// characters, CR, LF, BS, TAB, cursor movement, erasing, colours, wrap and scroll).
struct TextScreen {
  private struct Cell: Equatable {
    var character: UInt8 = 32
    var color: UInt8 = 7
    var background: UInt8 = 0
  }

  private enum State {
    case ground, escape
    case control([UInt8])
    /// An operating system command (a window title …) up to its end.
    case command
    /// A two-byte escape whose second byte is skipped (character sets).
    case skip
  }

  /// The sixteen colours of a VGA text screen.
  static let palette: [UInt32] = [
    0x000000, 0xAA0000, 0x00AA00, 0xAA5500, 0x0000AA, 0xAA00AA, 0x00AAAA, 0xAAAAAA, 0x555555,
    0xFF5555, 0x55FF55, 0xFFFF55, 0x5555FF, 0xFF55FF, 0x55FFFF, 0xFFFFFF,
  ]

  let columns: Int
  let rows: Int
  private(set) var frame: Framebuffer
  /// What changed since ``takeDamage()`` and is already drawn.
  private var damage = Area(x: 0, y: 0, width: 0, height: 0)
  /// Columns by row that changed and aren't drawn yet: a program that scrolls fast is drawn once a look.
  private var stale: [Range<Int>?]
  private var cells: [Cell]
  private var x = 0
  private var y = 0
  private var pen = Cell()
  private var isReversed = false
  private var isBold = false
  private var state = State.ground
  private var saved = (x: 0, y: 0)

  init(width: Int, height: Int) {
    columns = max(1, width / Font.cellWidth)
    rows = max(1, height / Font.cellHeight)
    frame = Framebuffer(width: width, height: height)
    cells = [Cell](repeating: Cell(), count: columns * rows)
    stale = [Range<Int>?](repeating: nil, count: rows)
    damage = frame.area
  }

  /// The lines without spaces at their ends.
  var lines: [String] {
    (0..<rows).map { row in
      var line = (0..<columns).map { cells[row * columns + $0].character }
      while line.last == 32 { line.removeLast() }
      return String(decoding: line, as: UTF8.self)
    }
  }

  /// Draws what changed since the last call, and says where.
  mutating func takeDamage() -> Area {
    for row in 0..<rows {
      guard let range = stale[row] else { continue }
      stale[row] = nil
      for column in range { draw(column, row) }
    }
    defer { damage = Area(x: 0, y: 0, width: 0, height: 0) }
    return damage
  }

  /// Draws something else over the text.
  mutating func paint(_ body: (inout Framebuffer) -> Area) { damage = damage.union(body(&frame)) }

  /// Shows text.
  mutating func write(_ text: String) { write(Array(text.utf8)) }

  /// Shows bytes of a terminal.
  mutating func write(_ bytes: some Sequence<UInt8>) {
    mark(min(x, columns - 1), y)
    for byte in bytes { take(byte) }
    mark(min(x, columns - 1), y)
  }

  /// Puts text in a place without moving the cursor.
  mutating func put(_ text: String, column: Int, row: Int, color: UInt8, background: UInt8) {
    for (i, byte) in text.utf8.enumerated() {
      set(column + i, row, Cell(character: byte, color: color, background: background))
    }
  }

  // MARK: bytes

  private mutating func take(_ byte: UInt8) {
    switch state {
    case .ground: ground(byte)
    case .escape: escape(byte)
    case .control(var parameters):
      if (0x40...0x7E).contains(byte) {
        state = .ground
        control(byte, parameters)
      } else if parameters.count < 64 {
        parameters.append(byte)
        state = .control(parameters)
      } else {
        state = .ground
      }
    case .command: if byte == 7 || byte == 0x5C { state = .ground }
    case .skip: state = .ground
    }
  }

  private mutating func ground(_ byte: UInt8) {
    switch byte {
    case 7: break
    case 8: x = max(0, x - 1)
    case 9: x = min(columns - 1, (x / 8 + 1) * 8)
    case 10, 11, 12: lineFeed()
    case 13: x = 0
    case 27: state = .escape
    case 0..<32, 127: break
    case 0x80..<0xC0: break
    case 0xC0...0xFF: printable(0)  // one box for a character that the font hasn't
    default: printable(byte)
    }
  }

  private mutating func printable(_ byte: UInt8) {
    if x >= columns {
      x = 0
      lineFeed()
    }
    var cell = pen
    cell.character = byte == 0 ? 1 : byte
    if isBold, cell.color < 8 { cell.color += 8 }
    if isReversed { swap(&cell.color, &cell.background) }
    set(x, y, cell)
    x += 1
  }

  private mutating func lineFeed() {
    guard y >= rows - 1 else {
      y += 1
      return
    }
    cells.removeFirst(columns)
    cells += [Cell](repeating: Cell(), count: columns)
    for row in 0..<rows { stale[row] = 0..<columns }
  }

  private mutating func escape(_ byte: UInt8) {
    state = .ground
    switch byte {
    case UInt8(ascii: "["): state = .control([])
    case UInt8(ascii: "]"): state = .command
    case UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "#"): state = .skip
    case UInt8(ascii: "7"): saved = (x, y)
    case UInt8(ascii: "8"): (x, y) = saved
    case UInt8(ascii: "M"): y = max(0, y - 1)
    case UInt8(ascii: "c"):
      pen = Cell()
      erase(from: 0, to: columns * rows)
      (x, y) = (0, 0)
    default: break
    }
  }

  private mutating func control(_ final: UInt8, _ parameters: [UInt8]) {
    // Private modes (`?25h`, `?2004h`) change nothing here.
    guard parameters.first != UInt8(ascii: "?") else { return }
    let numbers = parameters.split(separator: 59, omittingEmptySubsequences: false).map {
      Int(String(decoding: $0, as: UTF8.self)) ?? 0
    }
    let first = min(numbers.first ?? 0, 10_000)
    let count = max(1, first)
    switch final {
    case UInt8(ascii: "A"): y = max(0, y - count)
    case UInt8(ascii: "B"): y = min(rows - 1, y + count)
    case UInt8(ascii: "C"): x = min(columns - 1, x + count)
    case UInt8(ascii: "D"): x = max(0, x - count)
    case UInt8(ascii: "G"): x = min(columns - 1, count - 1)
    case UInt8(ascii: "d"): y = min(rows - 1, count - 1)
    case UInt8(ascii: "H"), UInt8(ascii: "f"):
      y = min(rows - 1, count - 1)
      x = min(columns - 1, max(1, min(numbers.count > 1 ? numbers[1] : 1, 10_000)) - 1)
    case UInt8(ascii: "J"):
      let here = min(y * columns + x, columns * rows)
      switch first {
      case 0: erase(from: here, to: columns * rows)
      case 1: erase(from: 0, to: here)
      default: erase(from: 0, to: columns * rows)
      }
    case UInt8(ascii: "K"):
      let row = y * columns
      switch first {
      case 0: erase(from: row + min(x, columns), to: row + columns)
      case 1: erase(from: row, to: row + min(x, columns))
      default: erase(from: row, to: row + columns)
      }
    case UInt8(ascii: "P"):
      for column in min(x, columns)..<columns {
        let from = column + count
        set(column, y, from < columns ? cells[y * columns + from] : Cell())
      }
    case UInt8(ascii: "@"):
      for column in stride(from: columns - 1, through: min(x, columns - 1), by: -1) {
        let from = column - count
        set(column, y, from >= x ? cells[y * columns + from] : Cell())
      }
    case UInt8(ascii: "m"): graphics(numbers)
    default: break
    }
  }

  private mutating func graphics(_ numbers: [Int]) {
    for n in numbers {
      switch n {
      case 0:
        pen = Cell()
        isReversed = false
        isBold = false
      case 1: isBold = true
      case 22: isBold = false
      case 7: isReversed = true
      case 27: isReversed = false
      case 30...37: pen.color = UInt8(n - 30)
      case 39: pen.color = 7
      case 40...47: pen.background = UInt8(n - 40)
      case 49: pen.background = 0
      case 90...97: pen.color = UInt8(n - 82)
      case 100...107: pen.background = UInt8(n - 92)
      case 38, 48: return  // 256 colours and more: the rest belongs to it
      default: break
      }
    }
  }

  // MARK: cells

  private mutating func erase(from: Int, to: Int) {
    guard from < to else { return }
    for i in from..<to { set(i % columns, i / columns, Cell()) }
  }

  private mutating func set(_ column: Int, _ row: Int, _ cell: Cell) {
    guard column >= 0, row >= 0, column < columns, row < rows else { return }
    cells[row * columns + column] = cell
    mark(column, row)
  }

  private mutating func mark(_ column: Int, _ row: Int) {
    let known = stale[row] ?? column..<column + 1
    stale[row] = min(known.lowerBound, column)..<max(known.upperBound, column + 1)
  }

  private mutating func draw(_ column: Int, _ row: Int) {
    let cell = cells[row * columns + column]
    let reversed = row == y && column == min(x, columns - 1)
    let left = column * Font.cellWidth
    let top = row * Font.cellHeight
    let ink = TextScreen.palette[Int(cell.color & 15)]
    let paper = TextScreen.palette[Int(cell.background & 15)]
    frame.draw(
      cell.character, x: left, y: top, color: reversed ? paper : ink,
      background: reversed ? ink : paper)
    damage = damage.union(
      Area(x: left, y: top, width: Font.cellWidth, height: Font.cellHeight))
  }
}
