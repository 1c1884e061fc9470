import EventLoop

/// The import of one disk's stream through a tunnel: it waits for its connection, counts, and is complete when the
/// connection ends.
final class DiskImport {
  /// What asking about it brings.
  enum Status {
    case pending
    case complete(volume: String, bytes: Int)
    case failed(String)
  }

  /// How long the import waits for its data.
  static let patience: Duration = .seconds(300)

  let pid: Int
  let volume: String
  /// Where its data comes in.
  private(set) lazy var socket = TunnelSocket(path: path, manner: .sink) { [weak self] in
    self?.streamEnded()
  }
  private let path: String
  private(set) var status = Status.pending
  private var timer: LoopTimer?
  /// Told once of the end.
  var changed: (() -> Void)?

  init(loop: Loop, pid: Int, path: String, volume: String) {
    self.pid = pid
    self.volume = volume
    self.path = path
    timer = loop.schedule(after: DiskImport.patience) { [weak self] in
      self?.end(.failed("timed out waiting for data\n"))
    }
  }

  private func streamEnded() {
    let bytes = socket.counter.bytes
    end(bytes > 0 ? .complete(volume: volume, bytes: bytes) : .failed("import process failed\n"))
  }

  private func end(_ status: Status) {
    guard case .pending = self.status else { return }
    timer?.cancel()
    self.status = status
    changed?()
  }

  /// Nobody will ask any more.
  func cancel() {
    timer?.cancel()
    changed = nil
  }
}
