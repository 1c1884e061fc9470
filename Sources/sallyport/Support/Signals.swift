import CSallyport
import Dispatch
import Glibc

/// Waiting for a signal without a loop.
enum Signals {
  /// Catches these signals; gives the first that comes. The one after it ends the process at once: whoever presses Ctrl-C
  /// twice doesn't want to wait.
  static func first(of signals: [Int32]) async -> Int32 {
    let pipe = catchFromNow(signals)
    return await withCheckedContinuation { done in
      DispatchQueue(label: "signals").async {
        let number = wait(pipe)
        done.resume(returning: number)
        exit(128 + wait(pipe))
      }
    }
  }

  /// Catches signals for ``first(of:)`` before it is called, so that one which comes earlier isn't the process's end.
  @discardableResult
  static func catchFromNow(_ signals: [Int32]) -> Int32 {
    let pipe = sp_signals_open()
    for signal in signals { _ = sp_signal_catch(signal) }
    return pipe
  }

  private static func wait(_ pipe: Int32) -> Int32 {
    var byte: UInt8 = 0
    while read(pipe, &byte, 1) != 1 {
      var ready = pollfd(fd: pipe, events: Int16(POLLIN), revents: 0)
      poll(&ready, 1, -1)
    }
    return Int32(byte)
  }
}
