import ConsoleProtocol
import Foundation
import Synchronization

/// One session as the control plane sees it: who, what, since when, how much, and how it ended. Written by the
/// session's loop now and then, read by the API.
public final class SessionRecord: Sendable {
  /// Where a session stands.
  public enum State: String, Sendable {
    /// The link exists, nobody came yet.
    case waiting
    /// The viewer is there, the console is being opened.
    case opening
    /// Bytes flow.
    case open
    /// Over; see the ending.
    case ended
  }

  /// What changes.
  public struct Snapshot: Sendable {
    /// Where it stands.
    public var state: State = .opening
    /// Since when bytes flow.
    public var opened: Date?
    /// When it ended.
    public var ended: Date?
    /// Why it ended.
    public var ending: Ending?
    /// The place, once the target was resolved.
    public var place: Place?
    /// Bytes towards the viewer.
    public var bytesToViewer: UInt64 = 0
    /// Bytes from the viewer.
    public var bytesFromViewer: UInt64 = 0
  }

  /// What was granted.
  public let grant: Grant
  /// When the viewer came.
  public let created: Date
  /// The viewer's address.
  public let peer: String
  private let end: @Sendable (Ending) -> Void
  private let current = Mutex(Snapshot())

  /// A new session. `end` reaches the session's loop.
  public init(grant: Grant, peer: String, end: @escaping @Sendable (Ending) -> Void) {
    self.grant = grant
    self.peer = peer
    self.end = end
    created = Date()
  }

  /// The state now.
  public var snapshot: Snapshot { current.withLock { $0 } }

  /// Changes the state.
  public func update(_ change: (inout Snapshot) -> Void) { current.withLock { change(&$0) } }

  /// Asks the session to end.
  public func requestEnd(_ ending: Ending) { end(ending) }
}
