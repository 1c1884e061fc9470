import Foundation
import Glibc
import ProxmoxClient

/// What the targets of a fleet job have written: shown with names in front, as JSON lines, or in files of a folder.
final class FleetOutput: Sendable {
  private let client: GatewayClient
  private let show: FleetShow
  private let folder: String?
  private let quiet: Bool
  private let table: FleetTable
  private let results = Shared<LocalFile?>(nil)
  private let resultsSize = Shared(0)
  private let stdout = BytesWriter(1)

  /// The most of one stream that is shown; files get all.
  private static let shown = 1 << 20

  init(
    _ client: GatewayClient, show: FleetShow, folder: String?, quiet: Bool, table: FleetTable
  ) {
    self.client = client
    self.show = show
    self.folder = folder
    self.quiet = quiet
    self.table = table
  }

  /// Makes the folder.
  func begin() throws {
    guard let folder else { return }
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw Failure.usage("The folder \(folder) can't be made: \(error.localizedDescription)")
    }
    results.value = try LocalFile.open(
      folder + "/results.jsonl", O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
  }

  /// A target has changed.
  func target(_ json: JSONValue) async throws {
    var line = json.object ?? [:]
    let isOver = !["waiting", "running"].contains(json["state"].string ?? "")
    if isOver, let job = json["job"].string {
      for stream in ["stdout", "stderr"] where (json[stream + "Bytes"].int ?? 0) > 0 {
        if let folder {
          try await save(job, stream, "\(folder)/\(Self.name(json)).\(stream)")
        } else {
          let (bytes, isCut) = try await fetch(job, stream)
          if show == .json {
            if let text = String(validating: bytes, as: UTF8.self) {
              line[stream] = .string(text)
            } else {
              line[stream + "Base64"] = .string(Data(bytes).base64EncodedString())
            }
            if isCut { line[stream + "Cut"] = .bool(true) }
          } else {
            await print(bytes, of: json, isCut: isCut, isError: stream == "stderr")
          }
        }
      }
    }
    if isOver, let file = results.value {
      let bytes = Array((json.encoded(pretty: false) + "\n").utf8)
      try await file.write(bytes, at: resultsSize.value)
      resultsSize.value += bytes.count
    }
    if show == .json {
      line["event"] = .string("target")
      await stdout.write(Array((JSONValue.object(line).encoded(pretty: false) + "\n").utf8))
    } else if isOver, json["state"].string != "succeeded", !quiet {
      await emit("\(Self.title(json)): \(FleetTable.outcome(json))\n", to: 2)
    }
  }

  /// The whole has changed.
  func fleet(_ json: JSONValue) {
    guard show == .json, var line = json.object else { return }
    line["event"] = .string("fleet")
    let bytes = Array((JSONValue.object(line).encoded(pretty: false) + "\n").utf8)
    Task { await stdout.write(bytes) }
  }

  /// Waits until everything has left.
  func finish() async { await stdout.flush() }

  /// `web1`, or `qemu/100` where it has no name.
  static func title(_ json: JSONValue) -> String {
    Jobs.printable(json["name"].string ?? json["target"].string ?? "?")
  }

  /// A file's name for a target, which holds no slash.
  private static func name(_ json: JSONValue) -> String {
    let target = (json["target"].string ?? "?").replacingOccurrences(of: "/", with: "-")
    let name = json["name"].string.map { "\($0).\(target)" } ?? target
    return name.replacingOccurrences(of: "/", with: "_")
  }

  private func print(_ bytes: [UInt8], of json: JSONValue, isCut: Bool, isError: Bool) async {
    let front = Array("\(Self.title(json)) | ".utf8)
    var out: [UInt8] = []
    for line in bytes.split(separator: 10, omittingEmptySubsequences: false) {
      out += front + line + [10]
    }
    // What ends with a line end has nothing behind it.
    if bytes.last == 10 { out.removeLast(front.count + 1) }
    if isCut {
      out +=
        front + Array("… (all of it: sallyport jobs output \(json["job"].string ?? ""))\n".utf8)
    }
    table.clear()
    if isError {
      writeAll(2, out)
    } else {
      await stdout.write(out)
      await stdout.flush(for: 5)
    }
  }

  private func emit(_ text: String, to descriptor: Int32) async {
    table.clear()
    writeAll(descriptor, Array(text.utf8))
  }

  private func fetch(_ job: String, _ stream: String) async throws -> ([UInt8], isCut: Bool) {
    let answer = try await piece(job, stream, at: 0, count: Self.shown)
    let all = answer.headers["sallyport-ended"] == "true"
    return (answer.body, !all)
  }

  private func save(_ job: String, _ stream: String, _ path: String) async throws {
    let file = try LocalFile.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
    var at = 0
    while true {
      let answer = try await piece(job, stream, at: at, count: 4 << 20)
      try await file.write(answer.body, at: at)
      at += answer.body.count
      if answer.body.isEmpty || answer.headers["sallyport-ended"] == "true" { return }
    }
  }

  private func piece(
    _ job: String, _ stream: String, at offset: Int, count: Int
  ) async throws -> GatewayAnswer {
    let path = try Jobs.path(job, "/output")
    return try await GatewayRetry.until(firstCounts: false) { () async throws(GatewayFailure) in
      try await client.call(
        "GET", path + "?stream=\(stream)&offset=\(offset)&limit=\(count)")
    }
  }
}
