import CSallyport
import Dispatch
import Glibc
import Synchronization

/// Reads a descriptor on a thread of its own: standard input may be a file, which can't be polled, and must not become
/// non-blocking, because the shell that started us shares it.
final class BytesReader: Sendable {
  private let descriptor: Int32
  private let size: Int
  private let queue = DispatchQueue(label: "reader")

  /// - Parameter size: the most bytes of one chunk.
  init(_ descriptor: Int32, size: Int = 128 << 10) {
    self.descriptor = descriptor
    self.size = size
  }

  /// The next bytes; empty at the end, and where reading fails.
  func next() async -> [UInt8] {
    await withCheckedContinuation { done in
      queue.async { [descriptor, size] in
        let chunk = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
          count = 0
          while true {
            let n = read(descriptor, buffer.baseAddress, size)
            if n >= 0 {
              count = n
              return
            }
            guard errno == EINTR || errno == EAGAIN else { return }
            var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            poll(&wait, 1, -1)
          }
        }
        done.resume(returning: chunk)
      }
    }
  }
}

/// Writes a descriptor on a thread of its own, in order. Whoever writes waits only while much is on the way.
final class BytesWriter: Sendable {
  private struct State {
    var pending = 0
    var isBroken = false
    var waiting: [CheckedContinuation<Void, Never>] = []
  }
  private static let bound = 512 << 10

  private let descriptor: Int32
  private let queue = DispatchQueue(label: "writer")
  private let state = Mutex(State())

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  /// Whether nobody reads any more.
  var isBroken: Bool { state.withLock { $0.isBroken } }

  /// Takes bytes.
  /// - Returns: whether somebody still reads, as far as is known.
  @discardableResult
  func write(_ bytes: [UInt8]) async -> Bool {
    guard !bytes.isEmpty, !isBroken else { return !isBroken }
    state.withLock { $0.pending += bytes.count }
    queue.async { [self] in
      let done = isBroken ? false : writeAll(descriptor, bytes)
      let waiting = state.withLock { state -> [CheckedContinuation<Void, Never>] in
        state.pending -= bytes.count
        if !done { state.isBroken = true }
        guard state.pending <= BytesWriter.bound / 2 || state.isBroken else { return [] }
        defer { state.waiting = [] }
        return state.waiting
      }
      for one in waiting { one.resume() }
    }
    await withCheckedContinuation { continuation in
      let now = state.withLock { state -> Bool in
        if state.pending <= BytesWriter.bound || state.isBroken { return true }
        state.waiting.append(continuation)
        return false
      }
      if now { continuation.resume() }
    }
    return !isBroken
  }

  /// Waits until all has left, for so long at most: a terminal that was stopped with Ctrl-S takes nothing, and its
  /// owner wants to leave all the same.
  func flush(for seconds: Int? = nil) async {
    await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
      let once = ResumeOnce(done)
      queue.async { once.resume() }
      if let seconds {
        DispatchQueue.global().asyncAfter(deadline: .now() + .seconds(seconds)) { once.resume() }
      }
    }
  }
}

/// A continuation that several may resume; the first does.
final class ResumeOnce: Sendable {
  private let held: Mutex<CheckedContinuation<Void, Never>?>
  init(_ continuation: CheckedContinuation<Void, Never>) { held = Mutex(continuation) }

  /// Goes on.
  func resume() {
    let one = held.withLock { held in
      defer { held = nil }
      return held
    }
    one?.resume()
  }
}

/// Signals as values. One of it per process.
final class SignalStream: Sendable {
  /// What comes.
  let numbers: AsyncStream<Int32>

  /// Catches these signals from now on, for ever.
  init(_ signals: [Int32]) {
    let pipe = Signals.catchFromNow(signals)
    numbers = AsyncStream { continuation in
      DispatchQueue(label: "signals").async {
        var byte: UInt8 = 0
        while true {
          if read(pipe, &byte, 1) == 1 {
            continuation.yield(Int32(byte))
          } else {
            var ready = pollfd(fd: pipe, events: Int16(POLLIN), revents: 0)
            poll(&ready, 1, -1)
          }
        }
      }
    }
  }
}
