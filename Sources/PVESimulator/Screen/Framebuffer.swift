/// A rectangle of pixels.
struct Area: Equatable {
  var x: Int
  var y: Int
  var width: Int
  var height: Int

  var isEmpty: Bool { width <= 0 || height <= 0 }

  /// The part that both cover.
  func intersection(_ other: Area) -> Area {
    let left = max(x, other.x)
    let top = max(y, other.y)
    return Area(
      x: left, y: top, width: max(0, min(x + width, other.x + other.width) - left),
      height: max(0, min(y + height, other.y + other.height) - top))
  }

  /// The smallest area that covers both.
  func union(_ other: Area) -> Area {
    if isEmpty { return other }
    if other.isEmpty { return self }
    let left = min(x, other.x)
    let top = min(y, other.y)
    return Area(
      x: left, y: top, width: max(x + width, other.x + other.width) - left,
      height: max(y + height, other.y + other.height) - top)
  }
}

/// Pixels as 0x00RRGGBB.
struct Framebuffer {
  private(set) var width: Int
  private(set) var height: Int
  private(set) var pixels: [UInt32]

  init(width: Int, height: Int, color: UInt32 = 0) {
    self.width = width
    self.height = height
    pixels = [UInt32](repeating: color, count: width * height)
  }

  var area: Area { Area(x: 0, y: 0, width: width, height: height) }

  mutating func fill(_ area: Area, _ color: UInt32) {
    let visible = area.intersection(self.area)
    guard !visible.isEmpty else { return }
    for y in visible.y..<visible.y + visible.height {
      let start = y * width + visible.x
      for i in start..<start + visible.width { pixels[i] = color }
    }
  }

  mutating func set(x: Int, y: Int, _ color: UInt32) {
    guard x >= 0, y >= 0, x < width, y < height else { return }
    pixels[y * width + x] = color
  }

  func pixel(x: Int, y: Int) -> UInt32 {
    x >= 0 && y >= 0 && x < width && y < height ? pixels[y * width + x] : 0
  }

  /// Draws a character into a cell's place.
  mutating func draw(_ character: UInt8, x: Int, y: Int, color: UInt32, background: UInt32) {
    fill(Area(x: x, y: y, width: Font.cellWidth, height: Font.cellHeight), background)
    guard character != 32 else { return }
    for row in 0..<7 {
      for column in 0..<5 where Font.dot(character, column: column, row: row) {
        fill(Area(x: x + 1 + column * 2, y: y + 2 + row * 2, width: 2, height: 2), color)
      }
    }
  }

  /// A thick line; gives the area it touched.
  mutating func line(from a: (x: Int, y: Int), to b: (x: Int, y: Int), _ color: UInt32) -> Area {
    let steps = max(abs(b.x - a.x), abs(b.y - a.y), 1)
    for i in 0...steps {
      let x = a.x + (b.x - a.x) * i / steps
      let y = a.y + (b.y - a.y) * i / steps
      fill(Area(x: x - 1, y: y - 1, width: 3, height: 3), color)
    }
    let touched = Area(
      x: min(a.x, b.x) - 1, y: min(a.y, b.y) - 1, width: abs(b.x - a.x) + 3,
      height: abs(b.y - a.y) + 3)
    return touched.intersection(area)
  }
}
