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
  private let actions: Mutex<Actions>
  private let current = Mutex(Snapshot())
  private let toViewer = Atomic<UInt64>(0)
  private let fromViewer = Atomic<UInt64>(0)

  /// What is held only while the session lives: `end` holds the session, which holds this record.
  private struct Actions: Sendable {
    var end: (@Sendable (Ending) -> Void)?
    var whenEnded: (@Sendable (SessionRecord) -> Void)?
  }

  /// A new session. `end` reaches the session's loop; `whenEnded` is called once, with the last state set.
  package init(
    grant: Grant, peer: String, end: @escaping @Sendable (Ending) -> Void,
    whenEnded: (@Sendable (SessionRecord) -> Void)? = nil
  ) {
    self.grant = grant
    self.peer = peer
    actions = Mutex(Actions(end: end, whenEnded: whenEnded))
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
  package func update(_ change: (inout Snapshot) -> Void) {
    let isOver = current.withLock {
      change(&$0)
      return $0.state == .ended
    }
    guard isOver else { return }
    let over = actions.withLock { actions in
      defer { actions = Actions() }
      return actions
    }
    over.whenEnded?(self)
  }

  /// Asks the session to end.
  package func requestEnd(_ ending: Ending) { actions.withLock { $0.end }?(ending) }
}
