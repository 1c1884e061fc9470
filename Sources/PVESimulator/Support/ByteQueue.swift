/// Bytes in at the end, out at the front, without moving the rest each time.
struct ByteQueue {
  private var storage: [UInt8] = []
  private var start = 0

  /// How many bytes are waiting.
  var count: Int { storage.count - start }
  /// Whether none are.
  var isEmpty: Bool { count == 0 }

  /// The byte at a distance from the front.
  subscript(offset: Int) -> UInt8? {
    offset >= 0 && offset < count ? storage[start + offset] : nil
  }

  /// All that is waiting.
  var bytes: ArraySlice<UInt8> { storage[start...] }

  /// Adds at the end.
  mutating func append(_ bytes: UnsafeRawBufferPointer) { storage.append(contentsOf: bytes) }
  /// Adds at the end.
  mutating func append(_ bytes: some Collection<UInt8>) { storage.append(contentsOf: bytes) }

  /// Takes the first bytes; fewer where there are fewer.
  mutating func removeFirst(_ n: Int) -> [UInt8] {
    let end = start + min(max(n, 0), count)
    let out = Array(storage[start..<end])
    drop(end - start)
    return out
  }

  /// Drops the first bytes.
  mutating func drop(_ n: Int) {
    start += min(max(n, 0), count)
    if start == storage.count {
      storage.removeAll(keepingCapacity: storage.capacity <= 65_536)
      start = 0
    } else if start > 65_536, start > storage.count / 2 {
      storage.removeFirst(start)
      start = 0
    }
  }

  /// Drops everything.
  mutating func removeAll() {
    storage = []
    start = 0
  }

  /// The distance of a byte from the front, looking from `offset` on.
  func firstIndex(of byte: UInt8, from offset: Int = 0) -> Int? {
    guard offset < count else { return nil }
    return storage[(start + max(offset, 0))...].firstIndex(of: byte).map { $0 - start }
  }

  /// Looks at the waiting bytes where they lie.
  func withBytes<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
    storage.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[start...])) }
  }

  /// Works on the waiting bytes in place (websocket payloads are unmasked where they lie).
  mutating func withMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer) -> R) -> R {
    let from = start
    return storage.withUnsafeMutableBytes {
      body(UnsafeMutableRawBufferPointer(rebasing: $0[from...]))
    }
  }
}
