import ConsoleProtocol
import Foundation
import Gateway
import GuestExec
import ProxmoxClient
import Synchronization

/// A job of a gateway as a command. A connection that breaks is made again from where it was; nothing is lost or seen
/// twice by that.
final class GatewayJob: ExecProcess {
  private struct State {
    var summary: JSONValue
    var position: ExecPosition
    var events: GatewayEvents?
    var isOver = false
    var isDetached = false
    var isCancelled = false
    var inputIsClosed: Bool
  }

  let id: String
  let handle: ExecHandle? = nil
  private let client: GatewayClient
  private let state: Mutex<State>

  /// - Parameters:
  ///   - summary: the job, as the gateway described it.
  ///   - position: where to read on, and how much input the job has.
  init(
    _ id: String, client: GatewayClient, summary: JSONValue, hasInput: Bool,
    from position: ExecPosition
  ) {
    self.id = id
    self.client = client
    state = Mutex(State(summary: summary, position: position, inputIsClosed: !hasInput))
  }

  /// The job, as the gateway described it last.
  var summary: JSONValue { state.withLock { $0.summary } }

  /// Where it runs and how it got there, as far as that is known.
  var about: ExecAbout { GatewayJob.about(id, summary) }

  static func about(_ id: String, _ summary: JSONValue) -> ExecAbout {
    ExecAbout(
      target: summary["target"].string ?? "", node: summary["node"].string ?? "",
      name: summary["name"].string, transport: summary["transport"].string ?? "",
      reason: summary["reason"].string ?? "", job: id)
  }

  /// Why it was never started.
  var startFailure: ExecFailure? { ExecFailure(json: summary["failure"]) }

  /// Where the next bytes begin.
  var position: ExecPosition { state.withLock { $0.position } }

  // MARK: Output

  func next() async -> ExecEvent? {
    while !state.withLock({ $0.isOver || $0.isDetached }), !Task.isCancelled {
      let events: GatewayEvents
      if let open = state.withLock({ $0.events }) {
        events = open
      } else {
        do throws(Failure) {
          events = try await GatewayRetry.until(firstCounts: false) {
            () async throws(GatewayFailure) in
            let at = position
            return try await client.events(
              "/v1/exec/\(id)/output", headers: [("Last-Event-ID", "\(at.stdout),\(at.stderr)")])
          }
          state.withLock { $0.events = events }
        } catch {
          guard !state.withLock({ $0.isDetached }) else { return nil }
          return over(
            .lost(
              "The gateway is gone: \(error.sentence) The job is \(id); `sallyport attach \(id)` "
                + "takes it up again."))
        }
      }
      guard let event = await events.next() else {
        if Task.isCancelled { return nil }
        state.withLock { $0.events = nil }
        // A gateway that takes us and closes at once isn't asked without a pause.
        try? await Task.sleep(for: .milliseconds(100))
        continue
      }
      if let out = read(event) { return out }
    }
    return nil
  }

  private func over(_ end: ExecEnd) -> ExecEvent {
    state.withLock {
      $0.isOver = true
      $0.events = nil
    }
    return .ended(ExecResult(end))
  }

  private func read(_ event: ServerSentEvents.Event) -> ExecEvent? {
    let json = (try? JSONParser.parse(Array(event.data.utf8))) ?? .null
    switch event.name {
    case "stdout", "stderr":
      guard let text = json["data"].string, let data = Data(base64Encoded: text) else { return nil }
      return output([UInt8](data), at: json["offset"].int, isError: event.name == "stderr")
    case "note":
      return (json["note"].string ?? json["sentence"].string).map { .note($0) }
    case "state":
      state.withLock { $0.summary = json }
      return nil
    case "ended":
      state.withLock {
        $0.summary = json
        $0.isOver = true
        $0.events = nil
      }
      return .ended(GatewayJob.result(json))
    default: return nil
    }
  }

  /// Bytes from an offset: what was seen already is cut off.
  private func output(_ bytes: [UInt8], at offset: Int?, isError: Bool) -> ExecEvent? {
    let fresh = state.withLock { state -> [UInt8] in
      let seen = isError ? state.position.stderr : state.position.stdout
      let offset = offset ?? seen
      let skip = max(0, min(bytes.count, seen - offset))
      let end = max(seen, offset + bytes.count)
      if isError { state.position.stderr = end } else { state.position.stdout = end }
      return skip == 0 ? bytes : Array(bytes[skip...])
    }
    guard !fresh.isEmpty else { return nil }
    return isError ? .stderr(fresh) : .stdout(fresh)
  }

  /// A summary's end.
  static func result(_ summary: JSONValue) -> ExecResult {
    let end = ExecEnd(json: summary["end"])
    let unknown: ExecEnd =
      .lost(summary["failure"]["sentence"].string ?? "The gateway doesn't say how it ended.")
    return ExecResult(
      end ?? unknown, stdoutTruncated: summary["stdoutTruncated"].bool ?? false,
      stderrTruncated: summary["stderrTruncated"].bool ?? false)
  }

  // MARK: Input

  func write(_ bytes: [UInt8]) async throws(ExecFailure) { try await put(bytes, end: false) }

  func closeInput() async {
    guard !state.withLock({ $0.inputIsClosed || $0.isOver }) else { return }
    state.withLock { $0.inputIsClosed = true }
    try? await put([], end: true)
  }

  /// Refusals that mean that nobody reads any more.
  private static let over: Set<String> = ["job-over", "job-ended", "stdin-closed", "unknown-job"]

  /// Gives bytes from where the gateway has them; a try that arrived without our knowing is not given twice.
  private func put(_ bytes: [UInt8], end: Bool) async throws(ExecFailure) {
    var rest = bytes[...]
    var isFirst = true
    while isFirst || !rest.isEmpty {
      isFirst = false
      if state.withLock({ $0.isOver || $0.isDetached }) { return }
      let offset = position.stdin
      let piece = Array(rest.prefix(256 << 10))
      let closes = end && piece.count == rest.count
      let answer: GatewayAnswer?
      do throws(Failure) {
        answer = try await GatewayRetry.until(firstCounts: false) {
          () async throws(GatewayFailure) in
          do throws(GatewayFailure) {
            return try await client.call(
              "PUT", "/v1/exec/\(id)/stdin?offset=\(offset)" + (closes ? "&end=1" : ""),
              headers: [("Content-Type", "application/octet-stream")], body: piece)
          } catch {
            // A command that reads slowly: the same bytes again, which don't arrive twice.
            if case .refused(429, _) = error { return nil }
            throw error
          }
        }
      } catch {
        // A command that has ended takes nothing, as a pipe's reader that has gone.
        if state.withLock({ $0.isOver }) || Self.over.contains(error.kind) { return }
        throw ExecFailure(
          ExecFailure.Kind(rawValue: error.kind) ?? .apiError, error.sentence, remedy: error.remedy)
      }
      guard let answer else {
        try? await Task.sleep(for: .milliseconds(300))
        if Task.isCancelled { return }
        isFirst = true
        continue
      }
      let taken = answer.json["taken"].int ?? offset + piece.count
      state.withLock { $0.position.stdin = max($0.position.stdin, taken) }
      rest = rest.dropFirst(max(0, min(piece.count, taken - offset)))
      if piece.isEmpty { return }
    }
  }

  // MARK: The rest

  func resize(_ size: TerminalSize) async {
    _ = try? await client.call(
      "POST", "/v1/exec/\(id)/resize",
      json: .object(["columns": .int(size.columns), "rows": .int(size.rows)]))
  }

  func signal(_ number: Int) async throws(ExecFailure) {
    do throws(GatewayFailure) {
      _ = try await client.call(
        "POST", "/v1/exec/\(id)/signal", json: .object(["signal": .int(number)]))
    } catch {
      let failure = error.failure
      throw ExecFailure(
        ExecFailure.Kind(rawValue: failure.kind) ?? .apiError, failure.sentence,
        remedy: failure.remedy)
    }
  }

  func cancel() async {
    let isFirst = state.withLock { state in
      defer { state.isCancelled = true }
      return !state.isCancelled && !state.isOver
    }
    guard isFirst else { return }
    let tries = Shared(0)
    _ = try? await GatewayRetry.until(firstCounts: false) { () async throws(GatewayFailure) in
      tries.value += 1
      // The call that ends a job forgets one that is over, as it may be when a first try has arrived after all.
      if tries.value > 1 {
        let now = try await client.call("GET", "/v1/exec/\(id)").json
        if ["ended", "failed"].contains(now["state"].string ?? "") { return }
      }
      _ = try await client.call("DELETE", "/v1/exec/\(id)")
    }
  }

  func detach() async {
    let events = state.withLock { state in
      state.isDetached = true
      defer { state.events = nil }
      return state.events
    }
    events?.close()
  }
}
