import ConsoleProtocol
import EventLoop
import Foundation
import Logging
import ProxmoxClient
import Synchronization

@testable import Gateway

/// A gateway in front of a fake node, a web folder, and a key.
final class TestBed: Sendable {
  static let key = "a-key-that-is-long-enough"
  let pve: FakePVE
  let gateway: Gateway
  let lines: LogLines
  private let folder: String

  private init(pve: FakePVE, gateway: Gateway, lines: LogLines, folder: String) {
    self.pve = pve
    self.gateway = gateway
    self.lines = lines
    self.folder = folder
  }

  static func with(
    _ change: (inout GatewayConfiguration, FakePVE) -> Void = { _, _ in },
    _ body: (TestBed) async throws -> Void
  ) async throws {
    let pve = try await FakePVE.start()
    let folder = try webFolder()
    var configuration = GatewayConfiguration(
      listen: .loopback(port: 0), clusters: [pve.cluster()],
      apiKeys: [APIKey(name: "portal", secret: Secret(key))].compactMap { $0 })
    configuration.loops = 1
    configuration.webRoot = folder + "/web"
    change(&configuration, pve)
    let lines = LogLines()
    let logger = Logger(label: "test") { _ in lines.handler }
    let gateway = try await Gateway.start(configuration, logger: logger)
    let bed = TestBed(pve: pve, gateway: gateway, lines: lines, folder: folder)
    let result: Result<Void, any Error>
    do {
      try await body(bed)
      result = .success(())
    } catch {
      result = .failure(error)
    }
    await gateway.stop(grace: .seconds(5))
    await pve.stop()
    try? FileManager.default.removeItem(atPath: folder)
    try result.get()
  }

  /// A folder with a page, a vendor file, and things beside and inside it that must not be served.
  static func webFolder() throws -> String {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "sallyport-\(UUID().uuidString)")
    func write(_ path: String, _ text: String) throws {
      let url = folder.appendingPathComponent(path)
      try FileManager.default.createDirectory(
        at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(text.utf8).write(to: url)
    }
    try write("web/index.html", "<!doctype html>inventory")
    try write("web/console.html", "<!doctype html>console")
    try write("web/app.js", "export {}")
    try write("web/style.css", "body {}")
    try write("web/icon.svg", "<svg/>")
    try write("web/vendor/novnc/rfb.js", "export {}")
    try write("web/.hidden", "hidden")
    try write("secret.txt", "secret")
    try FileManager.default.createSymbolicLink(
      at: folder.appendingPathComponent("web/way-out.txt"),
      withDestinationURL: folder.appendingPathComponent("secret.txt"))
    return folder.path
  }

  var port: Int { gateway.port }

  /// A call of the API with the key.
  func call(
    _ method: String, _ path: String, json: String? = nil, headers: [String: String] = [:]
  ) async throws -> (status: Int, json: JSONValue, headers: [String: String]) {
    var all = ["Authorization": "Bearer \(Self.key)"]
    if json != nil { all["Content-Type"] = "application/json" }
    all.merge(headers) { $1 }
    let answer = try await http(
      port, method, path, headers: all, body: json.map { Array($0.utf8) })
    let value = answer.body.isEmpty ? JSONValue.null : try JSONParser.parse(answer.body)
    return (answer.status, value, answer.headers)
  }

  /// A link for a target; its id and token.
  func link(_ target: String, console: String? = nil, more: String = "") async throws -> (
    id: String, token: String
  ) {
    let kind = console.map { ",\"console\":\"\($0)\"" } ?? ""
    let answer = try await call(
      "POST", "/v1/consoles", json: "{\"target\":\"\(target)\"\(kind)\(more)}")
    guard answer.status == 201, let id = answer.json["id"].string,
      let token = answer.json["token"].string
    else { throw RawFailure(description: "no link: \(answer.json)") }
    return (id, token)
  }

  /// Asks for a session until it is in a state.
  func session(_ id: String, in state: String) async throws -> JSONValue {
    for _ in 0..<200 {
      let answer = try await call("GET", "/v1/consoles/\(id)")
      if answer.json["state"].string == state { return answer.json }
      try await Task.sleep(for: .milliseconds(50))
    }
    throw RawFailure(description: "the session never was \(state)")
  }
}

/// What a gateway logs.
final class LogLines: Sendable {
  private let lines = Mutex<[String]>([])
  var all: [String] { lines.withLock { $0 } }
  var handler: any LogHandler { Handler(lines: self, metadata: [:], logLevel: .trace) }

  private struct Handler: LogHandler {
    let lines: LogLines
    var metadata: Logger.Metadata
    var logLevel: Logger.Level

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      let fields = (event.metadata ?? [:]).map { "\($0.key)=\($0.value)" }.sorted()
      lines.lines.withLock {
        $0.append("\(event.level) \(event.message) \(fields.joined(separator: " "))")
      }
    }
  }
}
