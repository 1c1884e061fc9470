import CZlib

/// Compresses bodies for clients that ask for it. It favours speed: what PVE's zlib makes is smaller, and reads the
/// same.
final class Compressor {
  /// How a body can be encoded.
  enum Encoding: String {
    case gzip, deflate

    /// What pveproxy makes of an `Accept-Encoding`: it looks for the words, and gzip wins.
    init?(accepted header: String?, era: Era) {
      guard let header else { return nil }
      if header.contains("gzip") {
        self = .gzip
      } else if header.contains("deflate"), era.compressesWithDeflate {
        self = .deflate
      } else {
        return nil
      }
    }

    /// zlib's word for it: a gzip header is 16 more.
    fileprivate var windowBits: Int32 { self == .gzip ? 15 + 16 : 15 }
  }

  /// zlib keeps the address of its stream, so that must not move.
  private var streams: [Encoding: UnsafeMutablePointer<z_stream>] = [:]

  deinit {
    for stream in streams.values {
      deflateEnd(stream)
      stream.deallocate()
    }
  }

  /// The body, encoded; nil where zlib has no memory.
  func compress(_ body: [UInt8], _ encoding: Encoding) -> [UInt8]? {
    guard let stream = stream(encoding), deflateReset(stream) == Z_OK else { return nil }
    let room = Int(deflateBound(stream, UInt(body.count)))
    var isDone = false
    let out = body.withUnsafeBufferPointer { input in
      [UInt8](unsafeUninitializedCapacity: room) { output, count in
        stream.pointee.next_in = UnsafeMutablePointer(mutating: input.baseAddress)
        stream.pointee.avail_in = UInt32(input.count)
        stream.pointee.next_out = output.baseAddress
        stream.pointee.avail_out = UInt32(output.count)
        isDone = deflate(stream, Z_FINISH) == Z_STREAM_END
        count = isDone ? room - Int(stream.pointee.avail_out) : 0
      }
    }
    return isDone ? out : nil
  }

  private func stream(_ encoding: Encoding) -> UnsafeMutablePointer<z_stream>? {
    if let known = streams[encoding] { return known }
    let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    stream.initialize(to: z_stream())
    let outcome = deflateInit2_(
      stream, Z_BEST_SPEED, Z_DEFLATED, encoding.windowBits, 8, Z_DEFAULT_STRATEGY, zlibVersion(),
      Int32(MemoryLayout<z_stream>.size))
    guard outcome == Z_OK else {
      stream.deallocate()
      return nil
    }
    streams[encoding] = stream
    return stream
  }
}
