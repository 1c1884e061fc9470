import Dispatch
import EventLoop
import Glibc

/// Standard input as chunks on a loop. It is read by a thread of its own: standard input may be a file, which can't be
/// polled, and must not become non-blocking, because the shell that started us shares it.
final class InputPump: Sendable {
  private let credit = DispatchSemaphore(value: 4)

  /// Starts to read. `deliver` gets each chunk on the loop, and an empty one at the end; it calls ``taken()`` when more
  /// may come.
  func start(on loop: Loop, deliver: @escaping @Sendable ([UInt8]) -> Void) {
    let credit = credit
    DispatchQueue(label: "stdin").async {
      var buffer = [UInt8](repeating: 0, count: 64 << 10)
      while true {
        credit.wait()
        let n = read(0, &buffer, buffer.count)
        if n < 0, errno == EINTR || errno == EAGAIN {
          var wait = pollfd(fd: 0, events: Int16(POLLIN), revents: 0)
          poll(&wait, 1, -1)
          credit.signal()
          continue
        }
        let chunk = n > 0 ? Array(buffer[..<n]) : []
        loop.execute { deliver(chunk) }
        if chunk.isEmpty { return }
      }
    }
  }

  /// A chunk is dealt with.
  func taken() { credit.signal() }
}

/// Standard output from a loop, without waiting for it there. Loop thread only.
final class OutputPump {
  /// Bytes that standard output didn't take yet: at this many the console is not read any more.
  static let bound = 256 << 10

  private let loop: Loop
  private let queue = DispatchQueue(label: "stdout")
  private let written: (Int) -> Void
  private let failed: () -> Void
  /// Bytes on the way.
  private(set) var pending = 0

  /// `written` hears of bytes that have left; `failed` that nobody reads any more.
  init(on loop: Loop, written: @escaping (Int) -> Void, failed: @escaping () -> Void) {
    self.loop = loop
    self.written = written
    self.failed = failed
  }

  /// Takes bytes.
  func write(_ bytes: UnsafeRawBufferPointer) {
    let copy = [UInt8](bytes)
    pending += copy.count
    let me = OnLoop(self, loop: loop)
    queue.async {
      let done = writeAll(1, copy)
      me.execute { pump in
        pump.pending -= copy.count
        if done { pump.written(copy.count) } else { pump.failed() }
      }
    }
  }

  /// What waits until everything has left, off the loop, for a second at most: a terminal that was stopped with Ctrl-S
  /// takes nothing, and its owner wants to leave all the same.
  var flush: @Sendable () -> Void {
    let queue = queue
    return {
      let done = DispatchSemaphore(value: 0)
      queue.async { done.signal() }
      _ = done.wait(timeout: .now() + 1)
    }
  }
}
