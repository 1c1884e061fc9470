import GRDB
import Glibc

/// The state of a simulated cluster in an SQLite file: documents by kind and id.
///
/// Durable against the end of the process at any moment (`kill -9`): a transaction that was committed is in the
/// kernel's hands. Against a power cut it is durable up to the last checkpoint, and never damaged.
///
/// All calls block; ``StateStore`` makes them from a thread of its own.
///
final class StateFile: Sendable {
  /// A document's address.
  struct Key: Hashable, Sendable {
    var kind: StateKind
    var id: String
  }

  /// The format that this program writes.
  static let version = 1
  /// What each version added, in order: the first entry makes version 1 of an empty file.
  private static let migrations = [
    """
    CREATE TABLE document (
      kind TEXT NOT NULL,
      id TEXT NOT NULL,
      body TEXT NOT NULL,
      PRIMARY KEY (kind, id)
    ) WITHOUT ROWID
    """
  ]

  let path: String
  private let queue: DatabaseQueue
  private let lock: StateGuard

  /// Opens a file, or makes one where there is none (or an empty one). What is wrong with an existing file is found
  /// out before anything of it is changed.
  init(path: String) throws(StateFailure) {
    self.path = path
    switch try StateGuard.presence(path) {
    case .nothing: try StateFile.create(path, replacingEmpty: false)
    case .empty: try StateFile.create(path, replacingEmpty: true)
    case .file: break
    }
    lock = try StateGuard(path)
    guard lock.version >= 1 else {
      throw .damaged(path, why: "its version is \(lock.version)")
    }
    guard lock.version <= StateFile.version else { throw .tooNew(path, version: lock.version) }
    try StateFile.examine(path)
    lock.tighten()
    do {
      var configuration = Configuration()
      configuration.journalMode = .wal
      configuration.busyMode = .timeout(2)
      configuration.label = "state"
      queue = try DatabaseQueue(path: path, configuration: configuration)
      try queue.write { [version = lock.version] db in
        try StateFile.migrate(db, from: version)
      }
    } catch {
      throw StateFile.failure(path, error)
    }
  }

  // MARK: use

  /// Every document. The text is not looked at.
  func load() throws(StateFailure) -> [(key: Key, body: [UInt8])] {
    do {
      return try queue.read { db in
        var all: [(Key, [UInt8])] = []
        let rows = try Row.fetchCursor(
          db, sql: "SELECT kind, id, body FROM document ORDER BY kind, id")
        while let row = try rows.next() {
          guard let kind = StateKind(rawValue: row[0]) else { continue }
          let body: String = row[2]
          all.append((Key(kind: kind, id: row[1]), Array(body.utf8)))
        }
        return all
      }
    } catch {
      throw StateFile.failure(path, error)
    }
  }

  /// Writes documents, and forgets those that are nil, all or none.
  func write(_ documents: [Key: JSON?], emptyFirst: Bool = false) throws(StateFailure) {
    do {
      try queue.write { db in
        if emptyFirst { try db.execute(sql: "DELETE FROM document") }
        let put = try db.cachedStatement(
          sql: "INSERT INTO document (kind, id, body) VALUES (?, ?, ?) "
            + "ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body")
        let drop = try db.cachedStatement(sql: "DELETE FROM document WHERE kind = ? AND id = ?")
        for (key, document) in documents {
          if let document {
            try put.execute(arguments: [key.kind.rawValue, key.id, document.text])
          } else {
            try drop.execute(arguments: [key.kind.rawValue, key.id])
          }
        }
      }
    } catch {
      throw StateFile.failure(path, error)
    }
  }

  /// Brings everything into the one file and lets go of it.
  func close() {
    // A failure to close leaves a file that the next start repairs by itself.
    try? queue.close()
    lock.release()
  }

  // MARK: making and examining

  /// Makes the file beside its place and moves it there whole, so that there never is half a file.
  private static func create(_ path: String, replacingEmpty: Bool) throws(StateFailure) {
    let draft = "\(path).new-\(getpid())"
    unlink(draft)
    let descriptor = open(draft, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .system(path, why: StateGuard.reason()) }
    Glibc.close(descriptor)
    defer { unlink(draft) }
    do {
      let made = try DatabaseQueue(path: draft)
      try made.write { db in
        try db.execute(sql: "PRAGMA application_id = \(StateGuard.applicationID)")
        try migrate(db, from: 0)
      }
      try made.close()
    } catch {
      throw failure(path, error)
    }
    // `link` refuses to replace what somebody else has put there meanwhile.
    guard (replacingEmpty ? rename(draft, path) : link(draft, path)) == 0 else {
      throw .system(path, why: StateGuard.reason())
    }
  }

  private static func migrate(_ db: Database, from version: Int) throws {
    guard version < migrations.count else { return }
    for sql in migrations[version...] { try db.execute(sql: sql) }
    try db.execute(sql: "PRAGMA user_version = \(migrations.count)")
  }

  /// Has SQLite look the whole file over, on a connection that can't write.
  private static func examine(_ path: String) throws(StateFailure) {
    // A log and its index are made for reading too. Where there was none, there is nothing in it.
    let sides: [String] = ["\(path)-wal", "\(path)-shm"]
    let made = sides.filter { access($0, F_OK) != 0 }
    defer { for side in made { unlink(side) } }
    var complaints: [String]
    do {
      var configuration = Configuration()
      configuration.readonly = true
      let queue = try DatabaseQueue(path: path, configuration: configuration)
      complaints = try queue.read { db in
        let found = try String.fetchAll(db, sql: "PRAGMA quick_check(1)")
        if found == ["ok"] { try db.execute(sql: "SELECT kind, id, body FROM document LIMIT 1") }
        return found
      }
      try queue.close()
    } catch {
      throw failure(path, error)
    }
    complaints.removeAll { $0 == "ok" }
    if let first = complaints.first {
      throw .damaged(path, why: first.replacing("\n", with: " "))
    }
  }

  private static func failure(_ path: String, _ error: any Error) -> StateFailure {
    guard let error = error as? DatabaseError else { return .system(path, why: "\(error)") }
    let why = (error.message ?? "SQLite's error \(error.resultCode.rawValue)")
      .replacing("\n", with: " ")
    switch error.resultCode {
    case .SQLITE_BUSY, .SQLITE_LOCKED: return .inUse(path)
    case .SQLITE_NOTADB, .SQLITE_CORRUPT, .SQLITE_ERROR: return .damaged(path, why: why)
    default: return .system(path, why: why)
    }
  }
}
