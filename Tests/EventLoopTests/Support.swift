import ConsoleProtocol
import Foundation
import Synchronization
import Testing

@testable import EventLoop

/// Collects what a stream does, for a test to wait on.
final class Recorder: StreamHandler, @unchecked Sendable {
  // Every property is read and written under the lock.
  private let state = Mutex<(bytes: [UInt8], connected: Bool, end: StreamEnd?, drained: Int)>(
    ([], false, nil, 0))
  let onData: ((EventLoop.Stream, UnsafeMutableRawBufferPointer) -> Void)?

  init(onData: ((EventLoop.Stream, UnsafeMutableRawBufferPointer) -> Void)? = nil) {
    self.onData = onData
  }
  var bytes: [UInt8] { state.withLock { $0.bytes } }
  var text: String { String(decoding: bytes, as: UTF8.self) }
  var isConnected: Bool { state.withLock { $0.connected } }
  var end: StreamEnd? { state.withLock { $0.end } }
  var drained: Int { state.withLock { $0.drained } }

  func streamConnected(_ s: EventLoop.Stream) { state.withLock { $0.connected = true } }
  func stream(_ s: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    if let onData {
      onData(s, bytes)
    } else {
      state.withLock { $0.bytes.append(contentsOf: bytes) }
    }
  }
  func streamDrained(_ s: EventLoop.Stream) { state.withLock { $0.drained += 1 } }
  func streamClosed(_ s: EventLoop.Stream, _ end: StreamEnd) { state.withLock { $0.end = end } }
}

/// Waits until a condition holds; the limit is a safety time-out, not a measure.
func eventually(
  _ what: String, within limit: Duration = .seconds(20),
  sourceLocation: SourceLocation = #_sourceLocation, _ condition: @Sendable () -> Bool
) async {
  let end = ContinuousClock.now + limit
  while ContinuousClock.now < end {
    if condition() { return }
    try? await Task.sleep(for: .milliseconds(5))
  }
  Issue.record("did not happen: \(what)", sourceLocation: sourceLocation)
}

extension Loop {
  /// Runs a closure on the loop and waits for its result.
  func run<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
    try await withCheckedThrowingContinuation { c in
      execute { c.resume(with: Result { try body() }) }
    }
  }
}

/// A self-signed certificate for `localhost` and 127.0.0.1, made by the openssl program.
struct TestCertificate {
  let pem: String
  let key: String
  let certificateFile: String
  let keyFile: String

  init() throws {
    let folder = try testFolder()
    certificateFile = folder.appendingPathComponent("cert.pem").path
    keyFile = folder.appendingPathComponent("key.pem").path
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
    process.arguments = [
      "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
      "-days",
      "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
      "-keyout",
      keyFile, "-out", certificateFile,
    ]
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    pem = try String(contentsOfFile: certificateFile, encoding: .utf8)
    key = try String(contentsOfFile: keyFile, encoding: .utf8)
  }
}

/// A value behind a lock, to be captured by many closures.
final class Shared<T: Sendable>: Sendable {
  private let value: Mutex<T>
  init(_ value: T) { self.value = Mutex(value) }
  func withLock<R: Sendable>(_ body: @Sendable (inout T) -> R) -> R {
    value.withLock { v in
      var copy = v
      let result = body(&copy)
      v = copy
      return result
    }
  }
}

/// A folder of this process's that is gone when it ends.
func testFolder() throws -> URL {
  let base = FileManager.default.temporaryDirectory.appendingPathComponent(
    "sallyport-tests-\(ProcessInfo.processInfo.processIdentifier)")
  atexit {
    let mine = FileManager.default.temporaryDirectory.appendingPathComponent(
      "sallyport-tests-\(ProcessInfo.processInfo.processIdentifier)")
    try? FileManager.default.removeItem(at: mine)
  }
  let folder = base.appendingPathComponent(UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  return folder
}
