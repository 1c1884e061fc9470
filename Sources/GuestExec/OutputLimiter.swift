/// Cuts the two output streams of a command at ``ExecRequest/outputLimit``, each by itself: what is over is dropped,
/// and said to be missing.
///
/// ```swift
/// if let bytes = limiter.stdout(read) { events.put(.stdout(bytes)) }
/// …
/// events.put(.ended(limiter.result(.exited(0))))
/// ```
struct OutputLimiter: Sendable {
  /// The most bytes of one stream that go on; nil for all.
  let limit: Int?
  /// Bytes of standard output that went on.
  private(set) var stdoutBytes: Int
  /// Bytes of standard error that went on.
  private(set) var stderrBytes: Int
  /// Whether bytes of standard output are missing. May be set where the target itself has cut.
  var stdoutTruncated = false
  /// Whether bytes of standard error are missing.
  var stderrTruncated = false

  /// - Parameter kept: what of the streams went on already, when a command is taken up again.
  init(limit: Int?, from kept: ExecPosition = ExecPosition()) {
    self.limit = limit
    stdoutBytes = kept.stdout
    stderrBytes = kept.stderr
  }

  /// What of these bytes of standard output goes on; nil for nothing.
  mutating func stdout(_ bytes: [UInt8]) -> [UInt8]? {
    Self.pass(bytes, limit: limit, count: &stdoutBytes, truncated: &stdoutTruncated)
  }

  /// What of these bytes of standard error goes on; nil for nothing.
  mutating func stderr(_ bytes: [UInt8]) -> [UInt8]? {
    Self.pass(bytes, limit: limit, count: &stderrBytes, truncated: &stderrTruncated)
  }

  /// The end, with what was cut until now.
  func result(_ end: ExecEnd) -> ExecResult {
    ExecResult(end, stdoutTruncated: stdoutTruncated, stderrTruncated: stderrTruncated)
  }

  private static func pass(
    _ bytes: [UInt8], limit: Int?, count: inout Int, truncated: inout Bool
  ) -> [UInt8]? {
    guard !bytes.isEmpty else { return nil }
    guard let limit else {
      count += bytes.count
      return bytes
    }
    let room = max(limit - count, 0)
    if bytes.count > room { truncated = true }
    guard room > 0 else { return nil }
    count += min(room, bytes.count)
    return bytes.count <= room ? bytes : Array(bytes.prefix(room))
  }
}
