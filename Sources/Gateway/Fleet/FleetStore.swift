import Foundation
import GRDB
import ProxmoxClient

/// Fleet jobs and their targets, in tables of their own beside the jobs.
///
/// What a power cut takes from here, the jobs give back: a job is stored for good before anything is sent, and knows its
/// fleet job and its target.
///
/// It is closed when it is released, and not before: a closed database that is asked ends the process.
final class FleetStore: Sendable {
  private let queue: DatabaseQueue

  /// Opens the tables, or makes them.
  /// - Parameter path: the jobs' database; nil for one in memory.
  /// - Throws: ``ConfigurationError``
  init(path: String?) throws(ConfigurationError) {
    do {
      var configuration = Configuration()
      configuration.busyMode = .timeout(10)
      configuration.label = "fleet"
      configuration.prepareDatabase { db in
        try db.execute(sql: "PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON")
      }
      if let path {
        configuration.journalMode = .wal
        queue = try DatabaseQueue(path: path, configuration: configuration)
      } else {
        queue = try DatabaseQueue(configuration: configuration)
      }
      try Self.migrations.migrate(queue)
    } catch {
      throw ConfigurationError(
        "exec.dataFolder", "the fleet jobs in '\(path ?? "memory")' can't be used: \(error)",
        remedy: "Move the file away if it is damaged; the jobs in it are lost then")
    }
  }

  private static var migrations: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("fleet-1") { db in
      try db.execute(
        sql: """
          CREATE TABLE fleet (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            key TEXT NOT NULL,
            idempotency TEXT,
            fingerprint BLOB,
            state TEXT NOT NULL,
            stop TEXT,
            revision INTEGER NOT NULL,
            ended REAL,
            document TEXT NOT NULL
          );
          CREATE UNIQUE INDEX fleet_idempotency ON fleet (key, idempotency)
            WHERE idempotency IS NOT NULL;
          CREATE TABLE fleet_target (
            fleet TEXT NOT NULL REFERENCES fleet (id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            state TEXT NOT NULL,
            revision INTEGER NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (fleet, number)
          ) WITHOUT ROWID;
          """)
    }
    return migrator
  }

  /// What came of ``insert(_:targets:idempotencyKey:fingerprint:)``.
  enum Insertion: Sendable {
    case stored
    /// The key was used before, for the same.
    case known(String)
    /// The key was used before, for something else.
    case other(String)
  }

  /// Stores a new fleet job with all its targets.
  func insert(
    _ fleet: FleetSummary, targets: [FleetTarget], idempotencyKey: String?, fingerprint: [UInt8]
  ) async throws -> Insertion {
    try await queue.write { db in
      if let idempotencyKey,
        let row = try Row.fetchOne(
          db, sql: "SELECT id, fingerprint FROM fleet WHERE key = ? AND idempotency = ?",
          arguments: [fleet.key, idempotencyKey])
      {
        let id: String = row["id"]
        let before: Data? = row["fingerprint"]
        return before == Data(fingerprint) ? .known(id) : .other(id)
      }
      try db.execute(
        sql: """
          INSERT INTO fleet (id, key, idempotency, fingerprint, state, stop, revision, ended, document)
          VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
          """,
        arguments: [
          fleet.id, fleet.key, idempotencyKey, Data(fingerprint), fleet.state.rawValue,
          fleet.stop?.rawValue, fleet.revision, fleet.ended?.timeIntervalSince1970,
          fleet.stored.description,
        ])
      try Self.save(targets, of: fleet.id, db)
      return .stored
    }
  }

  /// Stores what has changed.
  func save(_ fleet: FleetSummary, targets: [FleetTarget]) async throws {
    try await queue.write { db in
      try db.execute(
        sql: """
          UPDATE fleet SET state = ?, stop = ?, revision = ?, ended = ?, document = ? WHERE id = ?
          """,
        arguments: [
          fleet.state.rawValue, fleet.stop?.rawValue, fleet.revision,
          fleet.ended?.timeIntervalSince1970, fleet.stored.description, fleet.id,
        ])
      try Self.save(targets, of: fleet.id, db)
    }
  }

  private static func save(_ targets: [FleetTarget], of fleet: String, _ db: Database) throws {
    let statement = try db.cachedStatement(
      sql: """
        INSERT OR REPLACE INTO fleet_target (fleet, number, state, revision, document)
        VALUES (?, ?, ?, ?, ?)
        """)
    for target in targets {
      try statement.execute(arguments: [
        fleet, target.index, target.state.rawValue, target.revision, target.stored.description,
      ])
    }
  }

  /// One fleet job; nil where there is none.
  func fleet(_ id: String) async throws -> FleetSummary? {
    try await queue.read { db in
      try Row.fetchOne(db, sql: "SELECT * FROM fleet WHERE id = ?", arguments: [id])
        .flatMap(Self.summary)
    }
  }

  /// Fleet jobs, the youngest first.
  /// - Parameters:
  ///   - key: only those that this key has ordered.
  ///   - before: only those older than this one.
  func list(
    limit: Int, states: Set<FleetSummary.State>, key: String?, before: String?
  ) async throws -> [FleetSummary] {
    try await queue.read { db in
      var sql = "SELECT * FROM fleet WHERE 1"
      var arguments = StatementArguments()
      if !states.isEmpty {
        sql += " AND state IN (\(databaseQuestionMarks(count: states.count)))"
        arguments += StatementArguments(states.map(\.rawValue).sorted())
      }
      if let key {
        sql += " AND key = ?"
        arguments += [key]
      }
      if let before {
        sql += " AND seq < (SELECT seq FROM fleet WHERE id = ?)"
        arguments += [before]
      }
      arguments += [limit]
      return try Row.fetchAll(
        db, sql: sql + " ORDER BY seq DESC LIMIT ?", arguments: arguments
      ).compactMap(Self.summary)
    }
  }

  /// Fleet jobs that were not over when their process ended.
  func unfinished() async throws -> [FleetSummary] {
    try await queue.read { db in
      try Row.fetchAll(db, sql: "SELECT * FROM fleet WHERE state <> 'ended' ORDER BY seq")
        .compactMap(Self.summary)
    }
  }

  /// Targets of a fleet job, by number.
  /// - Parameter after: only those behind this number.
  func targets(
    of fleet: String, states: Set<FleetTarget.State> = [], after: Int = -1, limit: Int = .max
  ) async throws -> [FleetTarget] {
    try await queue.read { db in
      var sql = "SELECT * FROM fleet_target WHERE fleet = ? AND number > ?"
      var arguments: StatementArguments = [fleet, after]
      if !states.isEmpty {
        sql += " AND state IN (\(databaseQuestionMarks(count: states.count)))"
        arguments += StatementArguments(states.map(\.rawValue).sorted())
      }
      arguments += [limit]
      return try Row.fetchAll(
        db, sql: sql + " ORDER BY number LIMIT ?", arguments: arguments
      ).compactMap(Self.target)
    }
  }

  /// Takes a fleet job away; its jobs stay for as long as jobs are kept.
  func forget(_ id: String) async throws {
    try await queue.write { db in
      try db.execute(sql: "DELETE FROM fleet WHERE id = ?", arguments: [id])
    }
  }

  /// Takes away what has been over since before then.
  func forget(endedBefore date: Date) async throws {
    try await queue.write { db in
      try db.execute(
        sql: "DELETE FROM fleet WHERE state = 'ended' AND ended < ?",
        arguments: [date.timeIntervalSince1970])
    }
  }

  private static func summary(_ row: Row) -> FleetSummary? {
    let document: String = row["document"]
    guard let json = try? JSONParser.parse(Array(document.utf8)) else { return nil }
    return FleetSummary(
      id: row["id"], key: row["key"], state: row["state"], stop: row["stop"],
      revision: row["revision"], ended: row["ended"], stored: json)
  }

  private static func target(_ row: Row) -> FleetTarget? {
    let document: String = row["document"]
    guard let json = try? JSONParser.parse(Array(document.utf8)) else { return nil }
    return FleetTarget(
      index: row["number"], state: row["state"], revision: row["revision"], stored: json)
  }
}
