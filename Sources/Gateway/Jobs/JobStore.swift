import Foundation
import GRDB
import Glibc
import GuestExec
import ProxmoxClient
import Synchronization

/// Jobs in an SQLite file. Changes that come at the same time are one transaction, so that a thousand jobs don't wait
/// for a thousand disk flushes.
final class JobStore: Sendable {
  /// Why a job can't be stored.
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// A job as it is stored.
  struct Row: Sendable {
    var summary: JobSummary
    /// The order, until it was sent; without what is secret.
    var order: JSONValue?
    /// Finds the running command again.
    var handle: ExecHandle?
    /// Bytes of standard input that were on their way to the command, and whether its end was.
    var inputSent = 0
    var inputIsClosed = false
  }

  private typealias Work = @Sendable (Database) throws -> Void
  private struct Waiting: Sendable {
    var work: Work
    var isDurable: Bool
    var done: @Sendable ((any Error)?) -> Void
  }

  /// The file. Other tables may be in it, through connections of their own.
  let path: String
  private let queue: DatabaseQueue
  private let disk: JobDisk
  private let waiting = Mutex<(all: [Waiting], isScheduled: Bool)>(([], false))

  /// Opens the file, or makes it.
  /// - Throws: ``ConfigurationError``
  init(path: String) throws(ConfigurationError) {
    self.path = path
    disk = JobDisk(threads: 1)
    do {
      var configuration = Configuration()
      configuration.journalMode = .wal
      configuration.busyMode = .timeout(5)
      configuration.label = "jobs"
      configuration.prepareDatabase { db in
        try db.execute(sql: "PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 4194304")
      }
      // The file is made here, so that it is nobody else's from its first moment.
      let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
      if descriptor >= 0 {
        fchmod(descriptor, 0o600)
        Glibc.close(descriptor)
      }
      queue = try DatabaseQueue(path: path, configuration: configuration)
      try Self.migrations.migrate(queue)
    } catch {
      throw ConfigurationError(
        "exec.dataFolder", "'\(path)' can't be used: \(error)",
        remedy: "Move the file away if it is damaged; the jobs in it are lost then")
    }
  }

  private static var migrations: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("1") { db in
      try db.execute(
        sql: """
          CREATE TABLE job (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            key TEXT NOT NULL,
            idempotency TEXT,
            fingerprint BLOB,
            state TEXT NOT NULL,
            fleet TEXT,
            ended REAL,
            bytes INTEGER NOT NULL DEFAULT 0,
            summary TEXT NOT NULL,
            job_order TEXT,
            handle TEXT,
            input_sent INTEGER NOT NULL DEFAULT 0,
            input_closed INTEGER NOT NULL DEFAULT 0
          );
          CREATE UNIQUE INDEX job_idempotency ON job (key, idempotency)
            WHERE idempotency IS NOT NULL;
          CREATE INDEX job_state ON job (state);
          CREATE INDEX job_ended ON job (ended) WHERE ended IS NOT NULL;
          CREATE INDEX job_fleet ON job (fleet) WHERE fleet IS NOT NULL;
          """)
    }
    return migrator
  }

  /// What was given is done; later calls fail.
  func close() async {
    try? await write(durable: true) { _ in }
    // Behind what was given: a closed database that is asked ends the process.
    await disk.close { [queue] in try? queue.close() }
  }

  // MARK: Changes

  /// Does it in the next transaction and waits until it is written: with `durable`, until it outlives a power cut; else
  /// until it outlives this process.
  private func write<T: Sendable>(
    durable: Bool, _ body: @escaping @Sendable (Database) throws -> T
  ) async throws -> T {
    let box = Box<T>()
    let _: Void = try await withCheckedThrowingContinuation { continuation in
      let item = Waiting(
        work: { db in
          let value = try body(db)
          box.value.withLock { $0 = value }
        }, isDurable: durable,
        done: { error in
          if let error {
            continuation.resume(throwing: error)
          } else {
            continuation.resume()
          }
        })
      let mustSchedule = waiting.withLock { waiting in
        waiting.all.append(item)
        defer { waiting.isScheduled = true }
        return !waiting.isScheduled
      }
      if mustSchedule, !disk.later({ self.flush() }) {
        let all = waiting.withLock { waiting in
          defer { waiting.all = [] }
          return waiting.all
        }
        for item in all { item.done(JobDisk.Ended()) }
      }
    }
    guard let value = box.value.withLock({ $0 }) else { throw JobDisk.Ended() }
    return value
  }

  private final class Box<T: Sendable>: Sendable {
    let value = Mutex<T?>(nil)
  }

  private func flush() {
    let all = waiting.withLock { waiting in
      defer { waiting = ([], false) }
      return waiting.all
    }
    do {
      try perform(all)
      for item in all { item.done(nil) }
    } catch {
      guard all.count > 1 else {
        all.first?.done(error)
        return
      }
      // One of them spoils it for all; each by itself.
      for item in all {
        do {
          try perform([item])
          item.done(nil)
        } catch {
          item.done(error)
        }
      }
    }
  }

  private func perform(_ all: [Waiting]) throws {
    try queue.writeWithoutTransaction { db in
      let durable = all.contains { $0.isDurable }
      try db.execute(sql: "PRAGMA synchronous = \(durable ? "FULL" : "NORMAL")")
      try db.inTransaction(.immediate) {
        for item in all { try item.work(db) }
        return .commit
      }
    }
  }

  /// What came of ``insert(_:idempotencyKey:fingerprint:)``.
  enum Insertion: Sendable {
    /// It is stored.
    case stored
    /// The key was used before, for the same.
    case known(JobSummary)
    /// The key was used before, for something else.
    case other(id: String)
  }

  /// Stores a new job.
  func insert(
    _ row: Row, idempotencyKey: String?, fingerprint: [UInt8]
  ) async throws -> Insertion {
    let order = row.order?.description
    let summary = row.summary
    let text = summary.stored.description
    return try await write(durable: true) { db in
      if let idempotencyKey,
        let found = try GRDB.Row.fetchOne(
          db, sql: "SELECT id, fingerprint, summary FROM job WHERE key = ? AND idempotency = ?",
          arguments: [summary.key, idempotencyKey])
      {
        return Self.insertion(found, fingerprint: fingerprint)
      }
      try db.execute(
        sql: """
          INSERT INTO job (id, key, idempotency, fingerprint, state, fleet, summary, job_order)
          VALUES (?, ?, ?, ?, ?, ?, ?, ?)
          """,
        arguments: [
          summary.id, summary.key, idempotencyKey, Data(fingerprint), summary.state.rawValue,
          summary.fleet, text, order,
        ])
      return .stored
    }
  }

  /// Stores how far a job is. What was needed to send it goes once it may have been sent, and the handle once it is
  /// over.
  func update(_ summary: JobSummary, handle: ExecHandle? = nil) async throws {
    let text = summary.stored.description
    let handleText = try handle.map {
      String(decoding: try JSONEncoder().encode($0), as: UTF8.self)
    }
    // A power cut may take back that a command runs, which then is lost, but never that it may have been sent or how
    // it ended.
    try await write(durable: summary.state != .running) { db in
      try db.execute(
        sql: """
          UPDATE job SET state = ?, ended = ?, bytes = ?, summary = ?,
            job_order = CASE WHEN ? THEN job_order ELSE NULL END,
            handle = CASE WHEN ? THEN NULL ELSE coalesce(?, handle) END
          WHERE id = ?
          """,
        arguments: [
          summary.state.rawValue, summary.ended?.timeIntervalSince1970,
          summary.stdoutBytes + summary.stderrBytes, text, summary.state == .queued,
          summary.state.isOver, handleText, summary.id,
        ])
    }
  }

  /// Notes how much of standard input is on its way to the command and how much has arrived.
  func input(_ id: String, sent: Int, stdinBytes: Int, isClosed: Bool) async throws {
    try await write(durable: false) { db in
      try db.execute(
        sql: """
          UPDATE job SET input_sent = ?, input_closed = ?,
            summary = json_set(summary, '$.stdinBytes', ?) WHERE id = ?
          """,
        arguments: [sent, isClosed, stdinBytes, id])
    }
  }

  /// Forgets jobs.
  func remove(_ ids: [String]) async throws {
    try await write(durable: false) { db in
      for id in ids { try db.execute(sql: "DELETE FROM job WHERE id = ?", arguments: [id]) }
    }
  }

  // MARK: Looking

  private func read<T: Sendable>(
    _ body: @escaping @Sendable (Database) throws -> T
  ) async throws -> T {
    try await disk.run { [queue] in try queue.read(body) }
  }

  private static func summary(_ row: GRDB.Row) -> JobSummary? {
    let text: String = row["summary"]
    guard let json = try? JSONParser.parse(Array(text.utf8)) else { return nil }
    return JobSummary(stored: json)
  }

  /// What was ordered with an idempotency key before; nil for nothing.
  func known(
    _ idempotencyKey: String, of key: String, fingerprint: [UInt8]
  ) async throws -> Insertion? {
    try await read { db in
      try GRDB.Row.fetchOne(
        db, sql: "SELECT id, fingerprint, summary FROM job WHERE key = ? AND idempotency = ?",
        arguments: [key, idempotencyKey]
      ).map { Self.insertion($0, fingerprint: fingerprint) }
    }
  }

  private static func insertion(_ row: GRDB.Row, fingerprint: [UInt8]) -> Insertion {
    let known: Data = row["fingerprint"] ?? Data()
    guard [UInt8](known) == fingerprint, let old = Self.summary(row) else {
      return .other(id: row["id"])
    }
    return .known(old)
  }

  /// A job's summary; nil where there is none.
  func summary(_ id: String) async throws -> JobSummary? {
    try await read { db in
      try GRDB.Row.fetchOne(db, sql: "SELECT summary FROM job WHERE id = ?", arguments: [id])
        .flatMap { Self.summary($0) }
    }
  }

  /// Which jobs are asked for.
  struct Query: Sendable {
    var limit = 100
    var states: Set<JobState> = []
    var key: String?
    var fleet: String?
    var target: String?
    var labels: [String: String] = [:]
    var before: String?
  }

  /// Jobs, the youngest first.
  func list(_ query: Query) async throws -> [JobSummary] {
    try await read { db in
      var parts: [String] = ["1"]
      var arguments = StatementArguments()
      if !query.states.isEmpty {
        parts.append(
          "state IN (\(query.states.map { "'\($0.rawValue)'" }.joined(separator: ",")))")
      }
      if let key = query.key {
        parts.append("key = ?")
        arguments += [key]
      }
      if let fleet = query.fleet {
        parts.append("fleet = ?")
        arguments += [fleet]
      }
      if let target = query.target {
        parts.append("json_extract(summary, '$.target') = ?")
        arguments += [target]
      }
      for (name, value) in query.labels.sorted(by: { $0.key < $1.key }) {
        parts.append(
          "EXISTS (SELECT 1 FROM json_each(summary, '$.labels') WHERE key = ? AND value = ?)")
        arguments += [name, value]
      }
      if let before = query.before {
        parts.append("seq < (SELECT seq FROM job AS other WHERE other.id = ?)")
        arguments += [before]
      }
      arguments += [query.limit]
      return try GRDB.Row.fetchAll(
        db,
        sql:
          "SELECT summary FROM job WHERE \(parts.joined(separator: " AND ")) ORDER BY seq DESC LIMIT ?",
        arguments: arguments
      ).compactMap { Self.summary($0) }
    }
  }

  /// The jobs that were not over when they were last stored, the oldest first.
  func unfinished() async throws -> [Row] {
    try await read { db in
      try GRDB.Row.fetchAll(
        db, sql: "SELECT * FROM job WHERE state IN ('queued', 'starting', 'running') ORDER BY seq"
      ).compactMap { row in
        guard let summary = Self.summary(row) else { return nil }
        let order: String? = row["job_order"]
        let handle: String? = row["handle"]
        return Row(
          summary: summary,
          order: order.flatMap { try? JSONParser.parse(Array($0.utf8)) },
          handle: handle.flatMap {
            try? JSONDecoder().decode(ExecHandle.self, from: Data($0.utf8))
          },
          inputSent: row["input_sent"], inputIsClosed: row["input_closed"])
      }
    }
  }

  /// Every job's id.
  func ids() async throws -> Set<String> {
    try await read { db in try Set(String.fetchAll(db, sql: "SELECT id FROM job")) }
  }

  /// The bytes of output of all jobs that are over.
  func endedBytes() async throws -> Int {
    try await read { db in
      try Int.fetchOne(db, sql: "SELECT coalesce(sum(bytes), 0) FROM job WHERE ended IS NOT NULL")
        ?? 0
    }
  }

  /// Jobs that were over before a moment, the oldest first.
  func ended(before moment: Date) async throws -> [(id: String, bytes: Int)] {
    try await read { db in
      try GRDB.Row.fetchAll(
        db, sql: "SELECT id, bytes FROM job WHERE ended < ? ORDER BY ended LIMIT 1000",
        arguments: [moment.timeIntervalSince1970]
      ).map { ($0["id"], $0["bytes"]) }
    }
  }

  /// The jobs that were over first and hold output, as many as hold so many bytes.
  func oldestEnded(bytes: Int) async throws -> [(id: String, bytes: Int)] {
    try await read { db in
      var out: [(String, Int)] = []
      var total = 0
      let rows = try GRDB.Row.fetchCursor(
        db, sql: "SELECT id, bytes FROM job WHERE ended IS NOT NULL AND bytes > 0 ORDER BY ended")
      while total < bytes, let row = try rows.next() {
        out.append((row["id"], row["bytes"]))
        total += out.last?.1 ?? 0
      }
      return out
    }
  }
}
