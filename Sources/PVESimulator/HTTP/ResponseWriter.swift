/// Turns answers into bytes; the buffer, the date line and the compressors are shared by a node's connections.
final class ResponseWriter {
  /// What the client and its connection make of an answer.
  struct Manner {
    /// Of the request; 1.0 where no request line was understood.
    var minorVersion = 0
    /// Whether another request may follow.
    var keepsAlive = false
    /// How the client likes its body.
    var encoding: Compressor.Encoding?
  }

  /// Smaller bodies are sent as they are.
  private static let compressedFrom = 1024
  /// A buffer that grew over this is given back.
  private static let keptBuffer = 64 * 1024

  private var buffer: [UInt8] = []
  private var date: (seconds: Int, text: String) = (.min, "")
  private let compressor = Compressor()

  /// Writes an answer and lends its bytes, headers in the order in which Perl's HTTP::Headers writes them.
  func write(
    _ response: Response, _ manner: Manner, now: Int, _ use: (UnsafeRawBufferPointer) -> Void
  ) {
    if now != date.seconds { date = (now, httpDate(now)) }
    var body = response.body ?? []
    var encoding: Compressor.Encoding?
    if body.count > ResponseWriter.compressedFrom, response.isCompressible,
      let wanted = manner.encoding, let smaller = compressor.compress(body, wanted)
    {
      body = smaller
      encoding = wanted
    }
    buffer.removeAll(keepingCapacity: buffer.capacity <= ResponseWriter.keptBuffer)
    buffer += "HTTP/1.".utf8
    buffer += String(manner.minorVersion).utf8
    add(" ", String(response.status))
    add(" ", firstLine(response.reason), end: true)
    buffer += "Cache-Control: max-age=0\r\n".utf8
    if manner.keepsAlive {
      if response.isRelayed { buffer += "Connection: close\r\n".utf8 }
      buffer += "Connection: Keep-Alive\r\n".utf8
    } else {
      buffer += "Connection: close\r\n".utf8
    }
    add("Date: ", date.text, end: true)
    buffer += "Pragma: no-cache\r\n".utf8
    if let location = response.location { add("Location: ", firstLine(location), end: true) }
    buffer += "Server: pve-api-daemon/3.0\r\n".utf8
    if let encoding { add("Content-Encoding: ", encoding.rawValue, end: true) }
    if !body.isEmpty { add("Content-Length: ", String(body.count), end: true) }
    if let type = response.contentType { add("Content-Type: ", type, end: true) }
    add("Expires: ", date.text, end: true)
    if let cookie = response.cookie { add("Set-Cookie: ", cookie, end: true) }
    buffer += "\r\n".utf8
    buffer += body
    buffer.withUnsafeBytes(use)
  }

  private func add(_ name: StaticString, _ value: String, end: Bool = false) {
    name.withUTF8Buffer { buffer.append(contentsOf: $0) }
    buffer += value.utf8
    if end { buffer += "\r\n".utf8 }
  }

  private func firstLine(_ text: String) -> String {
    text.utf8.contains { $0 == 10 || $0 == 13 }
      ? String(text.prefix { !$0.isNewline }) : text
  }
}
