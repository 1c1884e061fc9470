import Glibc

/// The journal as JSON, for `GET /simulator/journal` and for `--journal FILE`.
extension Journal.Entry {
  /// One entry. Times are seconds.
  var json: JSON {
    var members: [JSON.Member] = [
      .init(key: "number", value: .int(number)), .init(key: "time", value: .int(time)),
      .init(key: "node", value: .string(node)), .init(key: "connection", value: .int(connection)),
      .init(key: "request", value: .int(request)), .init(key: "method", value: .string(method)),
      .init(key: "path", value: .string(path)),
      .init(key: "parameters", value: .array(arguments.map(\.json))),
      .init(key: "user", value: user.map { .string($0) } ?? .null),
      .init(key: "status", value: .int(status)), .init(key: "reason", value: .string(reason)),
      .init(key: "duration", value: .double(duration / .seconds(1))),
      .init(key: "bytesIn", value: .int(bytesIn)), .init(key: "bytesOut", value: .int(bytesOut)),
    ]
    if let forwardedTo { members.append(.init(key: "forwardedTo", value: .string(forwardedTo))) }
    if !faults.isEmpty {
      members.append(.init(key: "faults", value: .array(faults.map { .string($0) })))
    }
    if let websocket { members.append(.init(key: "websocket", value: websocket.json)) }
    return .object(members)
  }
}

extension Journal.Argument {
  fileprivate var json: JSON {
    var members: [JSON.Member] = [
      .init(key: "name", value: .string(name)), .init(key: "count", value: .int(count)),
    ]
    if let value { members.append(.init(key: "value", value: .string(value))) }
    return .object(members)
  }
}

extension Journal.Websocket {
  fileprivate var json: JSON {
    [
      "bytesIn": .int(bytesIn), "bytesOut": .int(bytesOut),
      "duration": duration.map { .double($0 / .seconds(1)) } ?? .null,
      "ending": ending.map { .string($0) } ?? .null,
    ]
  }
}

/// The journal in a file, an entry a line, written by a thread of its own.
final class JournalFile: Sendable {
  private let descriptor: Int32
  private let thread: WorkThread

  /// Opens the file; what is in it stays.
  init(path: String) throws(SimulatorError) {
    descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw .configuration(
        "the journal can't be written to \(path): \(String(cString: strerror(errno)))")
    }
    thread = WorkThread(name: "journal")
  }

  /// Adds a line.
  func add(_ entry: Journal.Entry) {
    let descriptor = descriptor
    thread.run {
      let line = entry.json.bytes + [10]
      line.withUnsafeBytes { bytes in
        var done = 0
        while done < bytes.count {
          let n = write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
          guard n > 0 || errno == EINTR else { return }
          done += max(n, 0)
        }
      }
    }
  }

  /// Writes what waits, and closes the file. Blocks.
  func close() {
    thread.finish()
    Glibc.close(descriptor)
  }
}
