import Glibc
import Synchronization

/// The loops of a process: as many threads as cores, unless told otherwise.
public final class LoopGroup: Sendable {
  /// The loops, in order of their index.
  public let loops: [Loop]
  private let turn = Atomic<Int>(0)
  private let threads: Mutex<[pthread_t]>

  /// Starts `count` loops, each on a thread of its own.
  /// - Throws: ``LoopError`` when the system has no descriptors or threads left.
  public init(count: Int = LoopGroup.cores) throws(LoopError) {
    // A peer that went away is an error of write(2), not a signal.
    signal(SIGPIPE, SIG_IGN)
    var loops: [Loop] = []
    for index in 0..<max(1, count) { loops.append(try Loop(index: index)) }
    self.loops = loops
    var started: [pthread_t] = []
    for loop in loops {
      var thread = pthread_t()
      let box = Unmanaged.passRetained(loop).toOpaque()
      guard pthread_create(&thread, nil, loopThread, box) == 0 else {
        Unmanaged<Loop>.fromOpaque(box).release()
        throw .last("pthread_create", on: "loop \(loop.index)")
      }
      started.append(thread)
    }
    threads = Mutex(started)
  }

  /// The number of processors that are on line.
  public static var cores: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  /// Loops by turns.
  public func next() -> Loop {
    let n = turn.wrappingAdd(1, ordering: .relaxed).oldValue
    return loops[Int(UInt(bitPattern: n) % UInt(loops.count))]
  }

  /// Ends all loops: their streams close, their threads are joined. May be called more than once; not from a
  /// loop's own thread.
  public func shutdown() {
    let waiting = threads.withLock { list in
      let all = list
      list = []
      return all
    }
    guard !waiting.isEmpty else { return }
    for loop in loops { loop.stop() }
    for thread in waiting { pthread_join(thread, nil) }
  }
}

private func loopThread(_ box: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let box else { return nil }
  let loop = Unmanaged<Loop>.fromOpaque(box).takeRetainedValue()
  loop.run()
  return nil
}
