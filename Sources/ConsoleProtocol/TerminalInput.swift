/// The queue of input towards termproxy, and the rules by which it leaves.
///
/// termproxy parses `0:LEN:DATA`, `1:COLS:ROWS:` and `2` in a buffer of 4096 bytes, and loses a message whose
/// header meets the buffer's edge or arrives in two pieces. Therefore
/// - whatever is pending leaves as one batch under one header, whose DATA may go on over further frames;
/// - a header is never cut, and begins a frame;
/// - after a batch the next header waits for a moment in which termproxy can empty its buffer. A key that is typed
///   after a pause leaves at once.
///
/// The driver asks ``next(at:)`` whenever the socket has room, sends the range that it names (see
/// ``withBytes(_:_:)``), and comes back at the time that it names.
package struct TerminalInput: Sendable {
  /// What to do now.
  package enum Action: Sendable, Equatable {
    /// Send these bytes of the store as one websocket frame, then ask again.
    case frame(Range<Int>)
    /// Nothing before this time, unless something is enqueued.
    case wait(until: Duration)
    /// Not open yet: nothing at all until ``open(at:)``.
    case idle
  }

  /// The most DATA under one header, in bytes.
  package static let maximumBatch = 1 << 20
  /// The pause after any header, before the size of its batch is counted.
  package static let pause: Duration = .milliseconds(8)
  /// How fast termproxy and the program behind it are taken to read, unless told otherwise: bytes per second.
  package static let usualRate = 32 << 20
  /// How long a size has to stay the same before it is sent, so that dragging a window edge does not redraw the
  /// guest at every pixel.
  package static let resizeDelay: Duration = .milliseconds(50)
  /// How long a changing size is held back at most.
  package static let longestResizeDelay: Duration = .milliseconds(250)
  /// A `2` is sent when nothing else was for this long.
  package static let keepAliveInterval: Duration = .seconds(30)

  private static let zero = UInt8(ascii: "0")
  private static let colon = UInt8(ascii: ":")
  /// Room in front of the data for the longest header: `1:65535:65535:` and `0:1048576:` both fit.
  private static let reserve = 24
  /// A store that has grown over this is given back when it is empty, so that an idle session is small.
  private static let keptCapacity = 4 << 10

  private let maximumFrame: Int
  private let pausePerKiB: Duration
  /// Spent bytes (at least ``reserve``), then the pending ones from ``head`` on. Headers are written over the spent
  /// bytes right before the head, so that header and data are one range.
  private var store: [UInt8] = []
  private var head = 0
  /// What is still to be sent of the batch whose header has left.
  private var batchLeft = 0
  private var batchSize = 0
  private var isOpen = false
  /// When the next header may leave.
  private var headerAllowed: Duration = .zero
  private var lastSent: Duration = .zero
  private var size: TerminalSize?
  private var sentSize: TerminalSize?
  private var sizeDue: Duration = .zero
  private var sizeLatest: Duration = .zero

  /// - Parameters:
  ///   - maximumFrame: the largest frame payload that the node takes, in bytes; at least 64.
  ///   - rate: bytes per second that the other end is taken to read. Behind a slower one (an emulated serial
  ///     port) a header may still meet a full buffer; a lower rate makes that rarer, and pastes slower.
  ///   - size: what to announce as soon as the terminal is open; termproxy begins with 80 by 20.
  package init(
    maximumFrame: Int, rate: Int = TerminalInput.usualRate, size: TerminalSize? = nil
  ) {
    self.maximumFrame = max(maximumFrame, 64)
    pausePerKiB = .nanoseconds((1_000_000_000 << 10) / max(rate, 1 << 10))
    self.size = size
  }

  /// Bytes of input that have not left yet.
  package var pendingBytes: Int { max(store.count - head, 0) }

  /// termproxy has said `OK`. Sizes before it would be parsed as part of the ticket line.
  package mutating func open(at now: Duration) {
    isOpen = true
    headerAllowed = now
    lastSent = now
    sizeDue = now
    sizeLatest = now
  }

  /// Takes input of the viewer. The caller stops reading from the viewer when ``pendingBytes`` grows over its bound.
  package mutating func enqueue(_ bytes: UnsafeRawBufferPointer) {
    if bytes.isEmpty { return }
    if store.isEmpty {
      store.append(contentsOf: repeatElement(0, count: Self.reserve))
      head = Self.reserve
    } else if head > store.count / 2, head > (64 << 10) {
      // At most half of the store moves for at least as many bytes that were sent: constant cost per byte.
      store.removeSubrange(Self.reserve..<head)
      head = Self.reserve
    }
    store.append(contentsOf: bytes)
  }

  /// The viewer's window has this size now. The last size wins.
  package mutating func resize(_ newSize: TerminalSize, at now: Duration) {
    if size == nil { sizeLatest = now + Self.longestResizeDelay }
    size = newSize
    sizeDue = min(now + Self.resizeDelay, sizeLatest)
  }

  /// What to send now, or when to ask again. A returned frame counts as sent.
  package mutating func next(at now: Duration) -> Action {
    guard isOpen else { return .idle }
    if batchLeft > 0 {
      let count = min(batchLeft, maximumFrame)
      return send(head..<head + count, data: count, at: now)
    }
    if pendingBytes == 0 { release() }
    if size == sentSize { size = nil }
    if size != nil || pendingBytes > 0, now < headerAllowed {
      return .wait(
        until: size == nil || pendingBytes > 0 ? headerAllowed : max(sizeDue, headerAllowed))
    }
    if let size, now >= sizeDue {
      self.size = nil
      sentSize = size
      let range = prepend { text in
        Self.prependNumber(size.rows, &text)
        Self.prependNumber(size.columns, &text)
        text.append(UInt8(ascii: "1"))
      }
      batchSize = range.count
      return send(range, data: 0, at: now)
    }
    if pendingBytes > 0 {
      let batch = min(pendingBytes, Self.maximumBatch)
      batchSize = batch
      batchLeft = batch
      let header = prepend { text in
        Self.prependNumber(batch, &text)
        text.append(Self.zero)
      }
      let count = min(batchLeft, maximumFrame - header.count)
      return send(header.lowerBound..<head + count, data: count, at: now)
    }
    let keepAlive = lastSent + Self.keepAliveInterval
    if now >= keepAlive {
      let range = prepend { $0.append(UInt8(ascii: "2")) }
      batchSize = 1
      return send(range, data: 0, at: now)
    }
    return .wait(until: size == nil ? keepAlive : min(keepAlive, sizeDue))
  }

  /// The bytes that an action named; valid until the next call of a mutating function.
  package func withBytes<R>(
    _ range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws -> R
  ) rethrows -> R {
    try store.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[range])) }
  }

  private mutating func send(_ range: Range<Int>, data: Int, at now: Duration) -> Action {
    head += data
    batchLeft -= data
    lastSent = now
    if batchLeft == 0 {
      headerAllowed = now + Self.pause + pausePerKiB * (batchSize >> 10)
    }
    return .frame(range)
  }

  /// Empties a store that was sent whole, and gives a large one back.
  private mutating func release() {
    if store.isEmpty { return }
    store.removeAll(keepingCapacity: store.capacity <= Self.keptCapacity)
    head = 0
  }

  /// Writes a header right before the head. `text` collects its bytes from last to first.
  private mutating func prepend(_ write: (inout [UInt8]) -> Void) -> Range<Int> {
    if store.isEmpty {
      store.append(contentsOf: repeatElement(0, count: Self.reserve))
      head = Self.reserve
    }
    var text: [UInt8] = []
    text.reserveCapacity(Self.reserve)
    write(&text)
    for (offset, byte) in text.enumerated() { store[head - 1 - offset] = byte }
    return head - text.count..<head
  }

  /// Adds `:NUMBER:` backwards, sharing the colon of the number behind it where there is one.
  private static func prependNumber(_ number: Int, _ text: inout [UInt8]) {
    if text.isEmpty { text.append(colon) }
    var rest = number
    repeat {
      text.append(zero + UInt8(rest % 10))
      rest /= 10
    } while rest > 0
    text.append(colon)
  }
}
