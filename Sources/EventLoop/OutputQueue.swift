/// Bytes that the kernel would not take yet, in order. Its length is bounded by whoever fills it: a source is paused
/// as long as the queue of its sink isn't empty.
struct OutputQueue {
  private var bytes: [UInt8] = []
  private var head = 0

  var count: Int { bytes.count - head }
  var isEmpty: Bool { head == bytes.count }

  mutating func append(_ more: UnsafeRawBufferPointer) {
    bytes.append(contentsOf: more)
  }

  func withBytes<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
    bytes.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[head...])) }
  }

  mutating func removeFirst(_ n: Int) {
    head += n
    if head == bytes.count {
      // An idle connection keeps no buffer.
      bytes = []
      head = 0
    } else if head > 1 << 20 {
      bytes.removeFirst(head)
      head = 0
    }
  }

  mutating func removeAll() {
    bytes = []
    head = 0
  }
}
