/// Writes a JSON array of flat objects straight into bytes: what lists of ten thousand rows are made with.
struct RowWriter {
  private(set) var bytes: [UInt8] = [UInt8(ascii: "[")]
  private var isFirstRow = true
  private var isFirstField = true

  init(capacity: Int = 4096) { bytes.reserveCapacity(capacity) }

  /// Begins an object.
  mutating func beginRow() {
    if !isFirstRow { bytes.append(UInt8(ascii: ",")) }
    isFirstRow = false
    isFirstField = true
    bytes.append(UInt8(ascii: "{"))
  }

  /// Ends it.
  mutating func endRow() { bytes.append(UInt8(ascii: "}")) }

  /// The array, complete.
  var json: JSON { .raw(bytes + [UInt8(ascii: "]")]) }

  /// The first object alone.
  var firstRow: JSON { .raw(Array(bytes.dropFirst())) }

  /// A number whose digits are known.
  mutating func number(_ key: StaticString, _ digits: StaticString) {
    write(key)
    digits.withUTF8Buffer { bytes.append(contentsOf: $0) }
  }

  /// A number.
  mutating func field(_ key: StaticString, _ value: Int) {
    write(key)
    write(value)
  }

  /// A number with a fraction.
  mutating func field(_ key: StaticString, _ value: Double) {
    write(key)
    JSON.double(value).write(into: &bytes)
  }

  /// A text.
  mutating func field(_ key: StaticString, _ value: String) {
    write(key)
    JSON.write(string: value, into: &bytes)
  }

  /// A text that needs no escapes.
  mutating func field(_ key: StaticString, word value: StaticString) {
    write(key)
    bytes.append(UInt8(ascii: "\""))
    value.withUTF8Buffer { bytes.append(contentsOf: $0) }
    bytes.append(UInt8(ascii: "\""))
  }

  /// A text of two parts, e.g. `qemu/` and a number.
  mutating func field(_ key: StaticString, prefix: StaticString, _ value: Int) {
    write(key)
    bytes.append(UInt8(ascii: "\""))
    prefix.withUTF8Buffer { bytes.append(contentsOf: $0) }
    write(value)
    bytes.append(UInt8(ascii: "\""))
  }

  /// `null`.
  mutating func null(_ key: StaticString) {
    write(key)
    bytes += "null".utf8
  }

  /// Anything.
  mutating func field(_ key: StaticString, json value: JSON) {
    write(key)
    value.write(into: &bytes)
  }

  private mutating func write(_ key: StaticString) {
    if !isFirstField { bytes.append(UInt8(ascii: ",")) }
    isFirstField = false
    bytes.append(UInt8(ascii: "\""))
    key.withUTF8Buffer { bytes.append(contentsOf: $0) }
    bytes.append(UInt8(ascii: "\""))
    bytes.append(UInt8(ascii: ":"))
  }

  private mutating func write(_ value: Int) {
    guard value >= 0 else {
      bytes += String(value).utf8
      return
    }
    var digits: (UInt64, UInt64, UInt64) = (0, 0, 0)
    withUnsafeMutableBytes(of: &digits) { room in
      var rest = value
      var at = room.count
      repeat {
        at -= 1
        room[at] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
        rest /= 10
      } while rest > 0
      bytes.append(
        contentsOf: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(room)[at...]))
    }
  }
}
