/// How a viewer wants its pixels (RFC 6143, 7.4).
struct PixelFormat: Equatable {
  var bitsPerPixel: UInt8
  var depth: UInt8
  var isBigEndian: Bool
  var isTrueColor: Bool
  var redMaximum: UInt16
  var greenMaximum: UInt16
  var blueMaximum: UInt16
  var redShift: UInt8
  var greenShift: UInt8
  var blueShift: UInt8

  /// What QEMU offers.
  static let qemu = PixelFormat(
    bitsPerPixel: 32, depth: 24, isBigEndian: false, isTrueColor: true, redMaximum: 255,
    greenMaximum: 255, blueMaximum: 255, redShift: 16, greenShift: 8, blueShift: 0)
  /// What vncterm offers: sixteen colours by number.
  static let vncterm = PixelFormat(
    bitsPerPixel: 8, depth: 8, isBigEndian: false, isTrueColor: false, redMaximum: 7,
    greenMaximum: 7, blueMaximum: 3, redShift: 0, greenShift: 3, blueShift: 6)

  var bytesPerPixel: Int { Int(bitsPerPixel) / 8 }

  /// The sixteen bytes on the wire.
  var bytes: [UInt8] {
    func two(_ n: UInt16) -> [UInt8] { [UInt8(n >> 8), UInt8(n & 255)] }
    return [bitsPerPixel, depth, isBigEndian ? 1 : 0, isTrueColor ? 1 : 0] + two(redMaximum)
      + two(greenMaximum) + two(blueMaximum) + [redShift, greenShift, blueShift, 0, 0, 0]
  }

  /// Nil for what no server could draw.
  init?(bytes b: [UInt8]) {
    guard b.count == 16, [8, 16, 32].contains(b[0]) else { return nil }
    func two(_ i: Int) -> UInt16 { UInt16(b[i]) << 8 | UInt16(b[i + 1]) }
    self.init(
      bitsPerPixel: b[0], depth: b[1], isBigEndian: b[2] != 0, isTrueColor: b[3] != 0,
      redMaximum: two(4), greenMaximum: two(6), blueMaximum: two(8), redShift: b[10],
      greenShift: b[11], blueShift: b[12])
    guard redShift < 32, greenShift < 32, blueShift < 32 else { return nil }
  }

  init(
    bitsPerPixel: UInt8, depth: UInt8, isBigEndian: Bool, isTrueColor: Bool, redMaximum: UInt16,
    greenMaximum: UInt16, blueMaximum: UInt16, redShift: UInt8, greenShift: UInt8, blueShift: UInt8
  ) {
    self.bitsPerPixel = bitsPerPixel
    self.depth = depth
    self.isBigEndian = isBigEndian
    self.isTrueColor = isTrueColor
    self.redMaximum = redMaximum
    self.greenMaximum = greenMaximum
    self.blueMaximum = blueMaximum
    self.redShift = redShift
    self.greenShift = greenShift
    self.blueShift = blueShift
  }

  /// Adds a pixel in this format.
  func write(_ pixel: UInt32, into out: inout [UInt8]) {
    let value: UInt32
    if isTrueColor {
      func part(_ c: UInt32, _ maximum: UInt16, _ shift: UInt8) -> UInt32 {
        ((c * UInt32(maximum) + 127) / 255) << UInt32(shift)
      }
      value =
        part(pixel >> 16 & 255, redMaximum, redShift)
        | part(pixel >> 8 & 255, greenMaximum, greenShift)
        | part(pixel & 255, blueMaximum, blueShift)
    } else {
      value = UInt32(TextScreen.palette.firstIndex(of: pixel) ?? 7)
    }
    switch bitsPerPixel {
    case 8: out.append(UInt8(truncatingIfNeeded: value))
    case 16:
      let pair = [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)]
      out += isBigEndian ? pair : pair.reversed()
    default:
      if isBigEndian {
        for shift: UInt32 in [24, 16, 8, 0] {
          out.append(UInt8(truncatingIfNeeded: value >> shift))
        }
      } else {
        for shift: UInt32 in [0, 8, 16, 24] {
          out.append(UInt8(truncatingIfNeeded: value >> shift))
        }
      }
    }
  }
}
