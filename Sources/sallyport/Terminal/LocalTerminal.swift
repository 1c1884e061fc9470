import CSallyport
import ConsoleProtocol
import EventLoop
import Glibc

/// The terminal that the process was started in, if any.
enum LocalTerminal {
  /// Whether keys come from a person.
  static var inputIsTerminal: Bool { isatty(0) == 1 }
  /// Whether a person sees the output.
  static var outputIsTerminal: Bool { isatty(1) == 1 }

  /// The window's size; nil where there is no window.
  static var size: TerminalSize? {
    var columns: UInt16 = 0
    var rows: UInt16 = 0
    for descriptor in [1, 0, 2] as [Int32] {
      if sp_get_window_size(descriptor, &columns, &rows) == 0, columns > 0, rows > 0 {
        return TerminalSize(columns: Int(columns), rows: Int(rows))
      }
    }
    return nil
  }

  /// Raw mode: every key as bytes, nothing echoed, no signals. It ends with ``restore()``, and with the process however
  /// it ends.
  static func makeRaw() { _ = sp_terminal_raw(0) }

  /// The settings from before ``makeRaw()``.
  static func restore() { sp_terminal_restore() }
}

/// Signals as events of a loop.
final class SignalWatcher: StreamHandler {
  private let handler: (Int32) -> Void
  private var stream: EventLoop.Stream?

  /// Catches these signals from now on, for ever. Loop thread only; one per process.
  init(on loop: Loop, _ signals: [Int32], _ handler: @escaping (Int32) -> Void) {
    self.handler = handler
    let pipe = sp_signals_open()
    guard pipe >= 0 else { return }
    for signal in signals { _ = sp_signal_catch(signal) }
    stream = try? EventLoop.Stream.adopt(on: loop, descriptor: pipe, handler: self)
  }

  func streamConnected(_ stream: EventLoop.Stream) {}
  func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    for byte in bytes { handler(Int32(byte)) }
  }
  func streamDrained(_ stream: EventLoop.Stream) {}
  func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {}
}
