import ConsoleProtocol
import EventLoop

/// An open console as the CLI's commands use it, whichever way it goes: bytes both ways on one loop's thread. A screen
/// begins with the RFB server's banner and offers security type None; a terminal's bytes are the terminal's.
protocol ConsoleLine: AnyObject {
  /// Begins. Every outcome arrives at the user, never during this call.
  func start()
  /// Bytes toward the console. All are taken; see ``pendingBytes``.
  func send(_ bytes: UnsafeRawBufferPointer)
  /// Bytes that did not leave yet: the source should pause while there are many.
  var pendingBytes: Int { get }
  /// The terminal's size changed.
  func resize(_ size: TerminalSize)
  /// So many received bytes are dealt with.
  func consumed(_ count: Int)
  /// Stops reading from the console.
  func pauseReading()
  /// Reads again.
  func resumeReading()
  /// The person has left. The user hears no more.
  func leave()
}

/// Who uses a console. Called on the loop's thread.
protocol ConsoleLineUser: AnyObject {
  /// Bytes may flow.
  func consoleOpened(_ about: ConsoleAbout)
  /// Bytes from the console; valid during the call only.
  func console(received bytes: UnsafeMutableRawBufferPointer)
  /// ``ConsoleLine/pendingBytes`` has become smaller.
  func consoleDrained()
  /// The session will end in so many seconds.
  func consoleNotice(_ sentence: String)
  /// The last call, exactly once.
  func consoleEnded(_ ending: Ending)
}

/// What an open console turned out to be.
struct ConsoleAbout: Sendable {
  /// `qemu/100`
  var target: String
  /// `pve1`
  var node: String
  /// The guest's name, where it has one.
  var name: String?
  /// Which console.
  var console: Console

  /// `web1 (qemu/100 on pve1), terminal`
  var sentence: String {
    // A node's name is its target already.
    if target == "node/\(node)" { return "\(target), \(console)" }
    let place = "\(target) on \(node)"
    return (name.map { "\($0) (\(place))" } ?? place) + ", \(console)"
  }
}

/// How to get a line: each call is a fresh mint (or link), good for one line.
protocol ConsoleSource: Sendable {
  /// Prepares a line to a console, off the loop; it is used on the loop from then on.
  func line(
    to target: Target, console: Console?, size: TerminalSize?, readOnly: Bool, on loop: Loop
  ) async throws -> OnLoop<PendingLine>
  /// Gives back what the source holds.
  func close() async
}

/// A line that waits for its user.
final class PendingLine {
  private let make: (any ConsoleLineUser) -> any ConsoleLine
  init(_ make: @escaping (any ConsoleLineUser) -> any ConsoleLine) { self.make = make }

  /// The line, started.
  func start(for user: any ConsoleLineUser) -> any ConsoleLine {
    let line = make(user)
    line.start()
    return line
  }
}
