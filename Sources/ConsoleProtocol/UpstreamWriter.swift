/// Turns what goes to PVE into masked websocket frames: console bytes, a terminal's input, pings and the close.
package struct UpstreamWriter: Sendable {
  private let encoder: FrameEncoder
  private let mask: @Sendable () -> UInt32

  /// - Parameters:
  ///   - maximumFrame: the largest payload of a frame that the node takes, in bytes.
  ///   - zeroMask: whether frames are masked with zeros, which pveproxy has a fast path for. Only on verified TLS.
  ///   - mask: gives an unpredictable value for each frame otherwise.
  package init(maximumFrame: Int, zeroMask: Bool, mask: @escaping @Sendable () -> UInt32) {
    encoder = FrameEncoder(maximumFrame: maximumFrame, zeroMask: zeroMask)
    self.mask = mask
  }

  /// The bytes that a payload of `count` bytes becomes on the wire.
  package func encodedSize(of count: Int) -> Int { encoder.encodedSize(of: count) }

  /// The payload whose frames fit into a buffer of `room` bytes.
  package func payloadThatFits(_ room: Int) -> Int { encoder.payloadThatFits(room) }

  /// Writes console bytes (RFB, tunnel; for terminals what ``TerminalInput`` names) as whole masked frames.
  /// - Parameter out: at least ``encodedSize(of:)`` bytes.
  /// - Returns: the bytes written.
  package func encode(
    _ payload: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer
  ) -> Int {
    if payload.isEmpty { return 0 }
    return encoder.encode(.binary, payload, into: out, mask: mask)
  }

  /// The next frame of a terminal's input, written into `out`.
  package enum Input: Sendable, Equatable {
    /// So many bytes were written; send them and ask again.
    case encoded(Int)
    /// Nothing before this time.
    case wait(until: Duration)
    /// Not open yet.
    case idle
  }

  /// Asks a terminal's input queue and encodes what it wants to send.
  /// - Parameter out: at least ``encodedSize(of:)`` of the plan's largest frame.
  package func encode(
    _ input: inout TerminalInput, at now: Duration, into out: UnsafeMutableRawBufferPointer
  ) -> Input {
    switch input.next(at: now) {
    case .idle: .idle
    case .wait(let until): .wait(until: until)
    case .frame(let range): .encoded(input.withBytes(range) { encodeTerminal($0, into: out) })
    }
  }

  /// PVE's own page sends strings, so text frames are what termproxy's neighbours know best (pveproxy forwards both
  /// alike). What is no UTF-8, e.g. a frame that ends within a character, goes as binary: a text frame may not hold it.
  private func encodeTerminal(
    _ payload: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer
  ) -> Int {
    let isText = (try? UTF8Span(validating: payload.bindMemory(to: UInt8.self).span)) != nil
    return encoder.encode(isText ? .text : .binary, payload, into: out, mask: mask)
  }

  /// A websocket ping.
  package func ping() -> [UInt8] { encoder.ping(mask: mask) }

  /// A websocket close frame. pveproxy closes the connection without one of its own.
  package func close(code: UInt16 = 1000, reason: String = "") -> [UInt8] {
    encoder.close(code: code, reason: reason, mask: mask)
  }

  /// One frame.
  func frame(_ opcode: FrameEncoder.Opcode, _ payload: [UInt8]) -> [UInt8] {
    encoder.frame(opcode, payload, mask: mask)
  }

  /// The answer to a ping.
  func pong(_ payload: [UInt8]) -> [UInt8] { encoder.pong(payload, mask: mask) }
}
