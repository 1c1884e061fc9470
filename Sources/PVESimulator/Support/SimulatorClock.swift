import Glibc
import Synchronization

/// The node's wall clock: the machine's, and an offset that a test moves. Tickets, TOTP codes and task times
/// follow it; time-outs (the 10 s of a listener, the 5 s of an idle connection) don't.
public final class SimulatorClock: Sendable {
  private let moved = Mutex(0)
  private let standing: Int?

  /// A clock that agrees with the machine's.
  public init() { standing = nil }

  /// A clock that stands at a time (seconds since 1970) and moves only when told.
  public init(standingAt seconds: Int) { standing = seconds }

  /// Seconds since 1970.
  public var now: Int { (standing ?? time(nil)) + moved.withLock { $0 } }

  /// How many seconds it was moved.
  public var offset: Int { moved.withLock { $0 } }

  /// Moves the clock, forwards or backwards.
  public func advance(seconds: Int) { moved.withLock { $0 += seconds } }

  /// Moves the clock to a time, in seconds since 1970.
  public func set(to seconds: Int) { moved.withLock { $0 = seconds - (standing ?? time(nil)) } }

  /// Takes back every move.
  public func reset() { moved.withLock { $0 = 0 } }
}

/// A date as HTTP headers hold it, e.g. `Sat, 21 Nov 2026 18:23:28 GMT`.
func httpDate(_ seconds: Int) -> String {
  var when = time_t(seconds)
  var parts = tm()
  gmtime_r(&when, &parts)
  let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
  let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]
  func two(_ n: Int32) -> String { n < 10 ? "0\(n)" : "\(n)" }
  return
    "\(days[Int(parts.tm_wday) % 7]), \(two(parts.tm_mday)) \(months[Int(parts.tm_mon) % 12]) "
    + "\(parts.tm_year + 1900) \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) GMT"
}
