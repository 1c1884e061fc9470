import EventLoop
import Foundation
import GuestExec
import ProxmoxClient

/// `GET /v1/exec/{id}/output`: bytes from an offset on, or server-sent events.
extension ControlPlane {
  func jobOutput(_ call: Call) async throws(Problem) -> HTTPResponse {
    let accept = (call.request.headers["accept"] ?? "").lowercased()
    if accept.contains("text/event-stream") { return try await jobEvents(call) }
    let query = try QueryParameters(call, known: ["stream", "offset", "limit", "wait"])
    let word = query.text("stream") ?? JobStream.stdout.rawValue
    guard let stream = JobStream(rawValue: word) else {
      throw Problem(
        400, "bad-value", "There is no stream '\(word.prefix(40))'.", field: "stream",
        remedy: "There are: stdout, stderr.")
    }
    let offset = try query.int("offset", 0...Int.max) ?? 0
    let limit = try query.int("limit", 1...Int.max) ?? Int.max
    let wait = try query.seconds("wait", most: Self.longestWait)
    let job = try await jobs.find(try await visibleJob(call).id)
    if let wait {
      let attachment = JobAttachment(job)
      await job.until(within: wait) {
        $0.summary.state.isOver || $0.summary.bytes(of: stream) > offset
      }
      attachment.release()
    }
    let summary = job.summary
    let count = max(0, min(limit, summary.bytes(of: stream) - offset))
    let next = offset + count
    let isEnd = summary.state.isOver && next >= summary.bytes(of: stream)
    let isCut = stream == .stdout ? summary.stdoutTruncated : summary.stderrTruncated
    let headers: [(name: String, value: String)] = [
      ("Content-Type", "application/octet-stream"), ("Cache-Control", "no-store"),
      ("X-Content-Type-Options", "nosniff"), ("Sallyport-Offset", String(offset)),
      ("Sallyport-Next-Offset", String(next)), ("Sallyport-Ended", isEnd ? "true" : "false"),
      ("Sallyport-Truncated", isCut ? "true" : "false"),
      ("Sallyport-State", summary.state.rawValue),
    ]
    if count <= JobFollower.piece {
      let bytes = await job.output.read(stream, at: offset, count: count)
      guard bytes.count == count else { throw JobEngine.unknown(job.id) }
      return HTTPResponse(status: 200, headers: headers, body: bytes)
    }
    let source = HTTPBodySource(length: count) { writer in
      var at = offset
      while at < next {
        let bytes = await job.output.read(stream, at: at, count: min(JobFollower.piece, next - at))
        // A job that was dropped meanwhile: the connection ends before the length that was promised.
        guard !bytes.isEmpty, await writer.write(bytes) else { return }
        at += bytes.count
      }
    }
    return HTTPResponse(status: 200, headers: headers, source: source)
  }

  /// Everything from a position on, and on. The id of each event is the position behind it, so that a client that lost
  /// its connection goes on where it was.
  private func jobEvents(_ call: Call) async throws(Problem) -> HTTPResponse {
    let query = try QueryParameters(call, known: ["stdout", "stderr"])
    var position = ExecPosition(
      stdout: try query.int("stdout", 0...Int.max) ?? 0,
      stderr: try query.int("stderr", 0...Int.max) ?? 0)
    if let last = call.request.headers["last-event-id"], !last.isEmpty {
      let parts = last.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
      guard parts.count == 2, let stdout = parts[0], let stderr = parts[1], stdout >= 0, stderr >= 0
      else {
        throw Problem(
          400, "bad-value", "The Last-Event-ID is not one of ours.", field: "Last-Event-ID",
          remedy: "Send the id of the last event that was read, e.g. \"4096,0\".")
      }
      position = ExecPosition(stdout: stdout, stderr: stderr)
    }
    let job = try await jobs.find(try await visibleJob(call).id)
    let attachment = JobAttachment(job)
    let follower = JobFollower(job, from: position)
    let source = HTTPBodySource { writer in
      defer { attachment.release() }
      // Reconnecting browsers wait that long.
      guard await writer.write(Array("retry: 1000\n\n".utf8)) else { return }
      await withTaskGroup(of: Void.self) { group in
        group.addTask {
          while let event = await follower.next() {
            guard await writer.write(Self.text(event, follower.position)) else { return }
          }
        }
        group.addTask {
          // A client that is gone without a word is found by what is sent to it.
          while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(15))
            guard !Task.isCancelled, await writer.write(Array(": \n\n".utf8)) else { return }
          }
        }
        await group.next()
        group.cancelAll()
      }
    }
    return .serverSentEvents(source)
  }

  /// One server-sent event. The data has no line end in it.
  private static func text(_ event: JobEvent, _ position: ExecPosition) -> [UInt8] {
    let (name, data): (String, JSONValue) =
      switch event {
      case .state(let summary): ("state", summary.json)
      case .note(let text): ("note", .object(["note": .string(text)]))
      case .ended(let summary): ("ended", summary.json)
      case .stdout(let offset, let bytes): ("stdout", output(offset, bytes))
      case .stderr(let offset, let bytes): ("stderr", output(offset, bytes))
      }
    return Array(
      "event: \(name)\nid: \(position.stdout),\(position.stderr)\ndata: \(data.description)\n\n"
        .utf8)
  }

  private static func output(_ offset: Int, _ bytes: [UInt8]) -> JSONValue {
    .object(["offset": .int(offset), "data": .string(Data(bytes).base64EncodedString())])
  }
}

extension JobSummary {
  /// Stored bytes of a stream.
  func bytes(of stream: JobStream) -> Int { stream == .stdout ? stdoutBytes : stderrBytes }
}
