import Synchronization

/// What clients asked of the node, for tests to assert on. Tickets and passwords are not in it.
public final class Journal: Sendable {
  /// One request.
  public struct Entry: Sendable, Hashable, CustomStringConvertible {
    /// `GET`, `POST` …
    public var method: String
    /// The path without the query, e.g. `/api2/json/version`.
    public var path: String
    /// The names of the query's and body's parameters, in order of arrival, without values.
    public var parameters: [String]
    /// Who asked: the full auth id, or nil.
    public var user: String?
    /// The answer's status; 101 for a websocket, 0 for none.
    public var status: Int
    /// The answer's reason phrase.
    public var reason: String
    /// Seconds since 1970 by the node's clock.
    public var time: Int

    /// `POST /api2/json/… → 200`.
    public var description: String { "\(method) \(path) → \(status) \(reason)" }
  }

  /// The journal forgets the oldest beyond this.
  public static let capacity = 10_000

  private let store = Mutex<[Entry]>([])

  init() {}

  /// All entries, oldest first.
  public var entries: [Entry] { store.withLock { $0 } }

  /// Forgets everything.
  public func clear() { store.withLock { $0.removeAll() } }

  func add(_ entry: Entry) {
    store.withLock {
      if $0.count >= Journal.capacity { $0.removeFirst(Journal.capacity / 10) }
      $0.append(entry)
    }
  }
}
