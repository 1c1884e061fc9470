import ConsoleProtocol
import Foundation
import Synchronization
import TestSupport
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
  if await happens(within: limit, condition) { return }
  Issue.record("did not happen: \(what)", sourceLocation: sourceLocation)
}
