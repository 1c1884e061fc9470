import ConsoleProtocol
import Foundation
import GuestExec
import ProxmoxClient

/// Commands as jobs of a gateway.
final class GatewayExec: ExecSource {
  let client: GatewayClient

  init(_ address: GatewayAddress) throws {
    client = try GatewayClient(address)
  }

  func start(_ wish: ExecWish, on target: Target) async throws -> ExecLine {
    // One key for all tries of this run: a try that arrived without our knowing is found again.
    let key = UUID().uuidString.lowercased()
    let order = order(wish, on: target)
    let answer = try await GatewayRetry.until { () async throws(GatewayFailure) in
      try await client.call(
        "POST", "/v1/exec", headers: [("Idempotency-Key", key)], json: .object(order))
    }
    return line(try GatewayExec.id(answer.json, client.address), answer.json, wish.request.hasInput)
  }

  /// A job's line, from a position on.
  func line(
    _ id: String, _ summary: JSONValue, _ hasInput: Bool, from position: ExecPosition = .init()
  ) -> ExecLine {
    let process = GatewayJob(
      id, client: client, summary: summary, hasInput: hasInput, from: position)
    return ExecLine(process: process, about: GatewayJob.about(id, summary))
  }

  func explain(_ wish: ExecWish, on target: Target) async throws -> [TransportOpinion] {
    var order = order(wish, on: target)
    order["explain"] = .bool(true)
    let answer: GatewayAnswer
    do throws(GatewayFailure) {
      answer = try await client.call("POST", "/v1/exec", json: .object(order))
    } catch {
      throw error.failure
    }
    return (answer.json["transports"].array ?? []).compactMap { one in
      guard let name = one["transport"].string else { return nil }
      return TransportOpinion(
        transport: name, possible: one["possible"].bool ?? false,
        chosen: one["possible"].bool == true && name == answer.json["chosen"].string,
        sentence: one["sentence"].string ?? one["reason"].string
          ?? one["failure"]["sentence"].string ?? "",
        kind: one["failure"]["kind"].string, remedy: one["failure"]["remedy"].string)
    }
  }

  /// A gateway keeps what a command writes; so much of it is no burden.
  var comfortableOutput: Int? { 16 << 20 }

  func forget(_ line: ExecLine) async {
    guard let job = line.about.job else { return }
    _ = try? await client.call("DELETE", "/v1/exec/\(job)", patience: .seconds(10))
  }

  func close() async { client.close() }

  /// The body of an order. What isn't UTF-8 goes as Base64.
  func order(_ wish: ExecWish, on target: Target) -> [String: JSONValue] {
    var out = GatewayExec.command(wish)
    out["target"] = .string(target.description)
    if let cluster = client.address.cluster { out["cluster"] = .string(cluster) }
    return out
  }

  /// The fields of a command, as single jobs and fleets take them.
  static func command(_ wish: ExecWish) -> [String: JSONValue] {
    let request = wish.request
    var out: [String: JSONValue] = [:]
    switch request.command {
    case .shell(let text): out["shell"] = .string(String(decoding: text, as: UTF8.self))
    case .argv(let argv):
      let texts = argv.map { String(validating: $0, as: UTF8.self) }
      if texts.contains(nil) {
        out["argvBase64"] = .array(argv.map { .string(Data($0).base64EncodedString()) })
      } else {
        out["argv"] = .array(texts.map { .string($0 ?? "") })
      }
    }
    if !request.environment.isEmpty {
      var variables: [String: JSONValue] = [:]
      for one in request.environment {
        variables[String(decoding: one.name, as: UTF8.self)] = .string(
          String(decoding: one.value, as: UTF8.self))
      }
      out["environment"] = .object(variables)
    }
    if let directory = request.directory {
      out["directory"] = .string(String(decoding: directory, as: UTF8.self))
    }
    if let user = request.user { out["user"] = .string(user) }
    if let size = request.terminal {
      out["terminal"] = .object(["columns": .int(size.columns), "rows": .int(size.rows)])
    }
    if request.hasInput { out["stdin"] = .bool(true) }
    if let limit = request.timeLimit { out["timeLimit"] = .double(limit.seconds) }
    if let limit = request.outputLimit { out["outputLimit"] = .int(limit) }
    if let via = wish.via { out["transport"] = .string(via.rawValue) }
    if let wait = wish.agentWait { out["agentWait"] = .int(wait) }
    var secret: [JSONValue] = []
    if wish.secretArgv { secret.append(.string("argv")) }
    if wish.secretEnvironment { secret.append(.string("environment")) }
    if !secret.isEmpty { out["secret"] = .array(secret) }
    switch wish.onDisconnect {
    case .kill: out["onDisconnect"] = .string("kill")
    case .keep: out["onDisconnect"] = .string("keep")
    case .keepFor(let seconds): out["onDisconnect"] = .object(["keepFor": .int(seconds)])
    }
    return out
  }

  /// The id in a summary.
  static func id(_ summary: JSONValue, _ address: GatewayAddress) throws(Failure) -> String {
    guard let id = summary["id"].string else {
      throw Failure(
        kind: "malformed-answer",
        sentence: "\(address.url) doesn't answer like a Sallyport gateway.",
        remedy: "Check the address; it needs the path prefix, where there is one.",
        status: .violation)
    }
    return id
  }
}

/// Trying again while a gateway can't be reached.
enum GatewayRetry {
  /// How long a gateway that was there may be away: a restart takes seconds.
  static let patience = Duration.seconds(90)

  /// Makes a call that does no harm when it arrives twice, until it is answered. A first try that finds nothing
  /// listening isn't repeated: the address is wrong then.
  static func until<T: Sendable>(
    firstCounts: Bool = true, _ body: () async throws(GatewayFailure) -> T
  ) async throws(Failure) -> T {
    let clock = ContinuousClock()
    let begin = clock.now
    var pause = Duration.milliseconds(200)
    var isFirst = firstCounts
    while true {
      do throws(GatewayFailure) {
        return try await body()
      } catch {
        switch error {
        case .refused(let status, let failure):
          // What is in front of a gateway that restarts answers for it.
          guard [502, 503, 504].contains(status), !isFirst else { throw failure }
          guard clock.now - begin < patience else { throw failure }
        case .broken(let failure):
          if isFirst, failure.kind != "connection-lost" { throw failure }
          guard clock.now - begin < patience else { throw failure }
        }
        isFirst = false
        try? await Task.sleep(for: pause)
        if Task.isCancelled {
          throw Failure(
            kind: "cancelled", sentence: "It was given up before the gateway answered.",
            status: .execCancelled)
        }
        pause = min(pause * 2, .seconds(5))
      }
    }
  }
}
