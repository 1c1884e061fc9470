/// RFB's hextile encoding (RFC 6143, 7.7.4): tiles of 16 by 16, most of them one or two colours.
enum Hextile {
  private static let isRaw: UInt8 = 1
  private static let hasBackground: UInt8 = 2
  private static let hasForeground: UInt8 = 4
  private static let hasSubrectangles: UInt8 = 8

  static func encode(
    _ frame: Framebuffer, _ area: Area, _ format: PixelFormat, into out: inout [UInt8]
  ) {
    for top in stride(from: area.y, to: area.y + area.height, by: 16) {
      for left in stride(from: area.x, to: area.x + area.width, by: 16) {
        let tile = Area(
          x: left, y: top, width: min(16, area.x + area.width - left),
          height: min(16, area.y + area.height - top))
        encode(tile: tile, frame, format, into: &out)
      }
    }
  }

  private static func encode(
    tile: Area, _ frame: Framebuffer, _ format: PixelFormat, into out: inout [UInt8]
  ) {
    let background = frame.pixel(x: tile.x, y: tile.y)
    var foreground: UInt32?
    var runs: [(x: Int, y: Int, width: Int)] = []
    for y in 0..<tile.height {
      var x = 0
      while x < tile.width {
        let color = frame.pixel(x: tile.x + x, y: tile.y + y)
        guard color != background else {
          x += 1
          continue
        }
        if foreground == nil { foreground = color }
        guard color == foreground else {
          raw(tile, frame, format, into: &out)
          return
        }
        let start = x
        while x < tile.width, frame.pixel(x: tile.x + x, y: tile.y + y) == color { x += 1 }
        runs.append((start, y, x - start))
      }
    }
    // Every tile names its colours: tiles before it may have been raw, after which nothing is inherited.
    guard let foreground else {
      out.append(hasBackground)
      format.write(background, into: &out)
      return
    }
    out.append(hasBackground | hasForeground | hasSubrectangles)
    format.write(background, into: &out)
    format.write(foreground, into: &out)
    out.append(UInt8(runs.count))
    for run in runs {
      out.append(UInt8(run.x << 4 | run.y))
      out.append(UInt8((run.width - 1) << 4))
    }
  }

  private static func raw(
    _ tile: Area, _ frame: Framebuffer, _ format: PixelFormat, into out: inout [UInt8]
  ) {
    out.append(isRaw)
    for y in 0..<tile.height {
      for x in 0..<tile.width {
        format.write(frame.pixel(x: tile.x + x, y: tile.y + y), into: &out)
      }
    }
  }
}
