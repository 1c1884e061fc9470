import ConsoleProtocol
import Foundation
import ProxmoxClient
import Synchronization

/// Every session by its id: those whose link waits, those that live, and the last ones that ended.
final class SessionRegistry: Sendable {
  /// A session as the API tells about it.
  struct Summary: Sendable {
    var grant: Grant
    var created: Date
    var state = SessionRecord.State.waiting
    var place: Place?
    var expires: Date?
    var peer: String?
    var key: String?
    var opened: Date?
    var ended: Date?
    var bytesToViewer: UInt64 = 0
    var bytesFromViewer: UInt64 = 0
    var ending: Ending?
  }

  /// A class, so that the dictionary's spare room costs a pointer each. Touched under the lock only.
  private final class Entry {
    /// What was known when the link was made.
    let link: Summary
    let record: SessionRecord?
    init(link: Summary, record: SessionRecord?) {
      self.link = link
      self.record = record
    }
  }

  private struct State {
    var entries: [String: Entry] = [:]
    var past: [String: Summary] = [:]
    /// Of `past`, oldest first.
    var order: [String] = []
    var live = 0
    var drained: [CheckedContinuation<Void, Never>] = []
  }

  private let state = Mutex(State())
  private let history: Int

  /// - Parameter history: how many ended sessions are remembered.
  init(history: Int) { self.history = history }

  /// A link was made.
  func waiting(_ summary: Summary) {
    state.withLock { $0.entries[summary.grant.id] = Entry(link: summary, record: nil) }
  }

  /// The link could not be made after all.
  func forget(_ id: String) { state.withLock { $0.entries[id] = nil } }

  /// A viewer came.
  func began(_ record: SessionRecord) {
    state.withLock { state in
      let link =
        state.entries[record.grant.id]?.link
        ?? Summary(grant: record.grant, created: record.created)
      state.entries[record.grant.id] = Entry(link: link, record: record)
      state.live += 1
    }
  }

  /// A session ended; gives what is remembered of it.
  @discardableResult
  func ended(_ record: SessionRecord) -> Summary? {
    let (summary, waiting) = state.withLock {
      state -> (Summary?, [CheckedContinuation<Void, Never>]) in
      guard let entry = state.entries.removeValue(forKey: record.grant.id), entry.record === record
      else { return (nil, []) }
      let summary = Self.summary(entry)
      state.live -= 1
      remember(summary, in: &state)
      guard state.live == 0 else { return (summary, []) }
      defer { state.drained = [] }
      return (summary, state.drained)
    }
    for continuation in waiting { continuation.resume() }
    return summary
  }

  /// A link ended without a viewer.
  func ended(id: String, _ ending: Ending) {
    state.withLock { state in
      guard let entry = state.entries[id], entry.record == nil else { return }
      state.entries[id] = nil
      var summary = entry.link
      summary.state = .ended
      summary.ended = Date()
      summary.ending = ending
      remember(summary, in: &state)
    }
  }

  private func remember(_ summary: Summary, in state: inout State) {
    guard history > 0 else { return }
    state.past[summary.grant.id] = summary
    state.order.append(summary.grant.id)
    guard state.order.count > history else { return }
    let surplus = state.order.count - history + history / 8
    for id in state.order.prefix(surplus) { state.past[id] = nil }
    state.order.removeFirst(min(surplus, state.order.count))
  }

  /// One session, or nil.
  func find(_ id: String) -> Summary? {
    state.withLock { state in state.entries[id].map { Self.summary($0) } ?? state.past[id] }
  }

  /// The record of a living session.
  func record(_ id: String) -> SessionRecord? { state.withLock { $0.entries[id]?.record } }

  /// All of them, oldest first.
  var all: [Summary] {
    state.withLock { state in state.entries.values.map { Self.summary($0) } + state.past.values }
      .sorted { $0.created < $1.created }
  }

  /// The living ones.
  var records: [SessionRecord] { state.withLock { $0.entries.values.compactMap(\.record) } }

  /// How many live.
  var live: Int { state.withLock { $0.live } }

  /// Returns when none lives.
  func drained() async {
    await withCheckedContinuation { continuation in
      let none = state.withLock { state in
        if state.live > 0 { state.drained.append(continuation) }
        return state.live == 0
      }
      if none { continuation.resume() }
    }
  }

  /// Lets those who wait for the end of all sessions go.
  func giveUpWaiting() {
    let waiting = state.withLock { state in
      defer { state.drained = [] }
      return state.drained
    }
    for continuation in waiting { continuation.resume() }
  }

  private static func summary(_ entry: Entry) -> Summary {
    guard let record = entry.record else { return entry.link }
    var out = entry.link
    let now = record.snapshot
    out.state = now.state
    out.peer = record.peer
    out.place = now.place ?? out.place
    out.opened = now.opened
    out.ended = now.ended
    out.ending = now.ending
    out.bytesToViewer = now.bytesToViewer
    out.bytesFromViewer = now.bytesFromViewer
    return out
  }
}

extension SessionRegistry.Summary {
  /// As the API shows it.
  var json: JSONValue {
    var out: [String: JSONValue] = [
      "id": .string(grant.id), "cluster": .string(grant.cluster),
      "target": .string(place?.description ?? grant.target.description),
      "console": .string(grant.console.description), "state": .string(state.rawValue),
      "readOnly": .bool(grant.readOnly), "created": .string(created.rfc3339),
      "bytesToViewer": .int(Int(clamping: bytesToViewer)),
      "bytesFromViewer": .int(Int(clamping: bytesFromViewer)),
    ]
    if let place { out["node"] = .string(place.node.value) }
    if let name = place?.name { out["name"] = .string(name) }
    if state == .waiting, let expires { out["expires"] = .string(expires.rfc3339) }
    if let peer { out["peer"] = .string(peer) }
    if let key { out["key"] = .string(key) }
    if let opened { out["opened"] = .string(opened.rfc3339) }
    if let ended { out["ended"] = .string(ended.rfc3339) }
    if let ending { out["ending"] = ending.json }
    return .object(out)
  }
}

extension Ending {
  /// As the API shows it.
  var json: JSONValue {
    .object([
      "hop": .string(hop.rawValue), "kind": .string(kind.rawValue), "sentence": .string(sentence),
      "remedy": .string(remedy), "details": .array(details.map { .string($0) }),
      "code": .int(Int(kind.closeCode)),
    ])
  }
}

extension Date {
  /// `2026-04-21T12:00:00Z`
  var rfc3339: String { formatted(.iso8601) }
}
