import ConsoleProtocol
import Foundation
import Synchronization

/// One session as the control plane sees it: who, what, since when, how much, and how it ended. Written by the
/// session's loop now and then, read by the API.
package final class SessionRecord: Sendable {
  /// Where a session stands.
  package enum State: String, Sendable {
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
  package struct Snapshot: Sendable {
    /// Where it stands.
    package var state: State = .opening
    /// Since when bytes flow.
    package var opened: Date?
    /// When it ended.
    package var ended: Date?
    /// Why it ended.
    package var ending: Ending?
    /// The place, once the target was resolved.
    package var place: Place?
    /// Bytes towards the viewer.
    package var bytesToViewer: UInt64 = 0
    /// Bytes from the viewer.
    package var bytesFromViewer: UInt64 = 0
  }

  /// What was granted.
  package let grant: Grant
  /// When the viewer came.
  package let created: Date
  /// The viewer's address.
  package let peer: String
  private let end: @Sendable (Ending) -> Void
  private let current = Mutex(Snapshot())
  private let toViewer = Atomic<UInt64>(0)
  private let fromViewer = Atomic<UInt64>(0)

  /// A new session. `end` reaches the session's loop.
  package init(grant: Grant, peer: String, end: @escaping @Sendable (Ending) -> Void) {
    self.grant = grant
    self.peer = peer
    self.end = end
    created = Date()
  }

  /// The state now.
  package var snapshot: Snapshot {
    var now = current.withLock { $0 }
    now.bytesToViewer = toViewer.load(ordering: .relaxed)
    now.bytesFromViewer = fromViewer.load(ordering: .relaxed)
    return now
  }

  /// Counts bytes that went to the viewer.
  package func count(toViewer bytes: Int) {
    toViewer.wrappingAdd(UInt64(max(0, bytes)), ordering: .relaxed)
  }

  /// Counts bytes that came from the viewer.
  package func count(fromViewer bytes: Int) {
    fromViewer.wrappingAdd(UInt64(max(0, bytes)), ordering: .relaxed)
  }

  /// Changes the state.
  package func update(_ change: (inout Snapshot) -> Void) { current.withLock { change(&$0) } }

  /// Asks the session to end.
  package func requestEnd(_ ending: Ending) { end(ending) }
}
