import Synchronization

/// What clients asked of the nodes, for tests to assert on.
///
/// ```swift
/// let execs = pve.journal.entries { $0.path.hasSuffix("/agent/exec") }
/// #expect(execs.first?["command"]?.count == 3)
/// ```
///
/// Tickets, passwords, tokens, keys and what commands are made of never get in: of parameters it holds the names, how
/// many values each had, and the value only where the name is on a list of harmless ones (``Argument/value``).
/// Requests to `/simulator` are not in it.
public final class Journal: Sendable {
  /// One request.
  public struct Entry: Sendable, Hashable, CustomStringConvertible {
    /// Counts from 1 and never begins anew while the simulator runs.
    public internal(set) var number = 0
    /// Seconds since 1970 by the node's clock.
    public var time: Int
    /// The node that was asked.
    public var node = ""
    /// The node to which it passed the call on.
    public var forwardedTo: String?
    /// Which connection of the node it came on, from 1, and which request on that connection, from 1.
    public var connection = 0
    /// Which request on that connection, from 1.
    public var request = 0
    /// `GET`, `POST` …
    public var method: String
    /// The path without the query, e.g. `/api2/json/version`.
    public var path: String
    /// The query's and body's parameters in order of arrival.
    public var arguments: [Argument] = []
    /// Who asked: the full auth id, or nil.
    public var user: String?
    /// The answer's status; 101 for a websocket, 0 for none.
    public var status: Int
    /// The answer's reason phrase, without what the client sent.
    public var reason: String
    /// From the request's first line to the answer's last byte being handed to the system.
    public var duration: Duration = .zero
    /// The size of the request's body.
    public var bytesIn = 0
    /// The size of the answer, head and body.
    public var bytesOut = 0
    /// The faults that it met, by id.
    public var faults: [String] = []
    /// Where the request became a websocket.
    public var websocket: Websocket?

    /// The names of the parameters, in order of arrival.
    public var parameters: [String] { arguments.map(\.name) }

    /// A parameter.
    public subscript(name: String) -> Argument? { arguments.first { $0.name == name } }

    /// `POST /api2/json/… → 200`.
    public var description: String { "\(method) \(path) → \(status) \(reason)" }

    init(time: Int, method: String, path: String) {
      self.time = time
      self.method = method
      self.path = path
      status = 0
      reason = ""
    }
  }

  /// A parameter of a request, without its value where that could be a secret.
  public struct Argument: Sendable, Hashable {
    /// Its name. `?` for what can't be a parameter's name: a body of the wrong type is read as one long name.
    public var name: String
    /// How many values it had: 1, or the length of an array.
    public var count: Int
    /// The value of a harmless one, like `vmid`.
    public var value: String?
  }

  /// A console or tunnel.
  public struct Websocket: Sendable, Hashable {
    /// Payload bytes from the client.
    public var bytesIn = 0
    /// Payload bytes to the client.
    public var bytesOut = 0
    /// How long it lasted; nil while it lasts.
    public var duration: Duration?
    /// Who ended it: `client`, `backend`, `fault`, `overflow`; nil while it lasts.
    public var ending: String?
  }

  /// The journal forgets the oldest beyond this.
  public static let capacity = 10_000

  private struct Ring {
    var slots: [Entry] = []
    /// Where the oldest is.
    var first = 0
    /// The number of the newest.
    var last = 0
    var sink: (@Sendable (Entry) -> Void)?

    func slot(of number: Int) -> Int? {
      let age = last - number
      guard age >= 0, age < slots.count else { return nil }
      return (first + slots.count - 1 - age) % slots.count
    }
  }

  private let ring = Mutex(Ring())

  init() {}

  // MARK: reading

  /// All entries, oldest first.
  public var entries: [Entry] { entries(since: 0) }

  /// Entries with a greater number than `since`, oldest first.
  public func entries(since: Int, limit: Int = .max, where fits: (Entry) -> Bool = { _ in true })
    -> [Entry]
  {
    let all = ring.withLock { ring in
      let count = min(max(ring.last - max(since, 0), 0), ring.slots.count)
      let start = ring.first + ring.slots.count - count
      return (0..<count).map { ring.slots[(start + $0) % ring.slots.count] }
    }
    return Array(all.lazy.filter(fits).prefix(max(limit, 0)))
  }

  /// Entries that fit, oldest first.
  public func entries(where fits: (Entry) -> Bool) -> [Entry] { entries(since: 0, where: fits) }

  /// The number of the newest entry; 0 before the first.
  public var last: Int { ring.withLock { $0.last } }

  /// Forgets everything; numbers go on.
  public func clear() {
    ring.withLock {
      $0.slots = []
      $0.first = 0
    }
  }

  // MARK: writing

  /// Every entry also goes there, and a websocket's a second time when it ends.
  func tee(to sink: @escaping @Sendable (Entry) -> Void) { ring.withLock { $0.sink = sink } }

  /// Adds an entry and gives its number.
  @discardableResult
  func add(_ entry: Entry) -> Int {
    let (added, sink) = ring.withLock { ring in
      ring.last += 1
      var entry = entry
      entry.number = ring.last
      if ring.slots.count < Journal.capacity {
        ring.slots.append(entry)
      } else {
        ring.slots[ring.first] = entry
        ring.first = (ring.first + 1) % Journal.capacity
      }
      return (entry, ring.sink)
    }
    sink?(added)
    return added.number
  }

  /// Writes down how a websocket ended, where the entry is still there.
  func end(_ number: Int, _ websocket: Websocket) {
    let (entry, sink) = ring.withLock { ring -> (Entry?, (@Sendable (Entry) -> Void)?) in
      guard let slot = ring.slot(of: number) else { return (nil, nil) }
      ring.slots[slot].websocket = websocket
      return (ring.slots[slot], ring.sink)
    }
    if let entry { sink?(entry) }
  }
}
