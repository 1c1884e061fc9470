import EventLoop
import Foundation
import GuestExec
import ProxmoxClient

extension ControlPlane {
  /// `GET /v1/fleet/{id}/events`: server-sent events, one for each change; after the end of the fleet job the body ends.
  ///
  /// `event: target` has a target with the progress of the whole, `event: fleet` the whole. The id is the number of the
  /// change: with `Last-Event-ID` (or `?after=`) what was seen isn't told again. A change that was followed by another
  /// before it could be told is passed over.
  func fleetEvents(_ call: Call) async throws(Problem) -> HTTPResponse {
    let query = try QueryParameters(call, known: ["after"])
    var after = try query.int("after", 0...Int(Int32.max)) ?? 0
    if let last = call.request.headers["last-event-id"], !last.isEmpty {
      guard let number = Int(last), number >= 0 else {
        throw Problem(
          400, "bad-event-id", "The Last-Event-ID '\(last.prefix(40))' is none of ours.",
          remedy: "Send the id of the last event that was seen, or none.")
      }
      after = number
    }
    let summary = try await visibleFleet(call)
    let fleets = fleets
    let start = after
    let source = HTTPBodySource { writer in
      await Self.tell(summary, of: fleets, after: start, to: writer)
    }
    return .serverSentEvents(source)
  }

  private static func tell(
    _ summary: FleetSummary, of fleets: FleetEngine, after start: Int, to writer: HTTPBodyWriter
  ) async {
    var seen = start
    // A comment now and then keeps proxies from giving up.
    guard await writer.write(Array(": \(summary.id)\n\n".utf8)) else { return }
    let beat = Task {
      while !Task.isCancelled {
        try? await Task.sleep(for: .seconds(15))
        guard !Task.isCancelled, await writer.write(Array(":\n\n".utf8)) else { return }
      }
    }
    defer { beat.cancel() }
    while let run = fleets.running(summary.id) {
      let changes = await run.next(after: seen)
      guard !changes.isEmpty else { break }
      var bytes: [UInt8] = []
      for change in changes {
        switch change {
        case .target(let target, let progress, let revision):
          bytes += event("target", revision, target.json, progress)
          seen = revision
        case .fleet(let whole):
          bytes += event("fleet", whole.revision, whole.json, nil)
          seen = whole.revision
        }
      }
      guard await writer.write(bytes) else { return }
    }
    await tellStored(summary.id, of: fleets, after: seen, to: writer)
  }

  /// What is left to tell of one that is over.
  private static func tellStored(
    _ id: String, of fleets: FleetEngine, after seen: Int, to writer: HTTPBodyWriter
  ) async {
    guard let whole = try? await fleets.summary(id), whole.state == .ended, whole.revision > seen,
      let targets = try? await fleets.targets(id, states: [], after: -1, limit: .max)
    else { return }
    var bytes: [UInt8] = []
    for target in targets.filter({ $0.revision > seen }).sorted(by: { $0.revision < $1.revision }) {
      bytes += event("target", target.revision, target.json, whole.progress)
      guard bytes.count > 64 << 10 else { continue }
      guard await writer.write(bytes) else { return }
      bytes = []
    }
    bytes += event("fleet", whole.revision, whole.json, nil)
    await writer.write(bytes)
  }

  private static func event(
    _ name: String, _ revision: Int, _ value: JSONValue, _ progress: JSONValue?
  ) -> [UInt8] {
    var value = value
    if let progress, case .object(var fields) = value {
      fields["progress"] = progress
      value = .object(fields)
    }
    // JSON has no line break outside of its texts, and those are escaped.
    return Array("id: \(revision)\nevent: \(name)\ndata: \(value)\n\n".utf8)
  }
}
