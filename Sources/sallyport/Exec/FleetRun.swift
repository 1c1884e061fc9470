import ArgumentParser
import ConsoleProtocol
import Foundation
import Glibc
import GuestExec
import ProxmoxClient

/// A fleet job: ordered, followed to its end, its targets' outputs shown.
struct FleetRun: Sendable {
  private let client: GatewayClient
  private let options: FleetOptions
  private let show: FleetShow
  private let quiet: Bool
  private let leavingKeeps: Bool

  init(
    _ client: GatewayClient, _ options: FleetOptions, show: FleetShow?, quiet: Bool,
    leavingKeeps: Bool
  ) {
    self.client = client
    self.options = options
    self.quiet = quiet
    self.leavingKeeps = leavingKeeps
    self.show = show ?? options.show ?? (isatty(1) == 1 ? .table : .json)
  }

  /// Orders it with a command's fields, and follows it.
  func order(_ command: [String: JSONValue], detach: Bool, hub: SignalHub) async throws {
    var path = "/v1/fleet"
    var body = command
    if let failed = options.rerunFailed {
      path = try Self.path(failed, "/rerun")
      let also = (options.rerunAlso ?? "").split(separator: ",").map {
        JSONValue.string(String($0))
      }
      body = ["only": .array([.string("failed")] + also)]
    } else {
      try fill(&body)
    }
    if options.dryRun { return try await preview(body) }
    let key = UUID().uuidString.lowercased()
    let (target, fields) = (path, body)
    let answer = try await hub.interruptible { [client] in
      try await GatewayRetry.until { () async throws(GatewayFailure) in
        try await client.call(
          "POST", target, headers: [("Idempotency-Key", key)], json: .object(fields))
      }
    }
    let id = try GatewayExec.id(answer.json, client.address)
    if detach { return printOut(id) }
    try await follow(id, hub: hub)
  }

  private func fill(_ body: inout [String: JSONValue]) throws(Failure) {
    body["select"] = .string(options.select ?? "")
    body["onDisconnect"] = nil
    if let cluster = client.address.cluster { body["cluster"] = .string(cluster) }
    if let number = options.concurrency { body["concurrency"] = .int(number) }
    if let number = options.perNode { body["perNode"] = .int(number) }
    for (name, field, text) in [
      ("--canary", "canary", options.canary),
      ("--failure-budget", "failureBudget", options.failureBudget),
    ] {
      guard let text else { continue }
      let share = try FleetOptions.share(text, name)
      body[field] = share.count.map { .int($0) } ?? .string(share.text)
    }
    if let text = options.successCodes {
      let codes = text.split(separator: ",").map { Int($0) }
      guard !codes.isEmpty, !codes.contains(nil) else {
        throw .usage("'\(text)' is no list of exit codes.", remedy: "Use --success-codes 0,2.")
      }
      body["successCodes"] = .array(codes.map { .int($0 ?? 0) })
    }
    if options.cancelOnBudget { body["onBudget"] = .string("cancel") }
  }

  private func preview(_ body: [String: JSONValue]) async throws {
    var body = body
    body["dryRun"] = .bool(true)
    let answer = try await Jobs.call(client, "POST", "/v1/fleet", json: .object(body)).json
    if show == .json { return printOut(answer.encoded(pretty: true)) }
    let rows = (answer["targets"].array ?? []).map { target in
      [
        target["target"].string ?? "?", target["name"].string ?? "", target["node"].string ?? "",
        target["canary"].bool == true ? "canary" : "",
        target["transport"].string ?? target["chosen"].string
          ?? target["failure"]["sentence"].string ?? "",
      ]
    }
    printOut(Jobs.table([["TARGET", "NAME", "NODE", "FIRST", "BY"]] + rows))
  }

  static func path(_ id: String, _ rest: String = "") throws(Failure) -> String {
    // The same characters as in a job's id.
    _ = try Jobs.path(id)
    return "/v1/fleet/\(id)\(rest)"
  }

  // MARK: Following

  /// Follows one to its end; a connection that breaks is made again.
  func follow(_ id: String, hub: SignalHub) async throws {
    let path = try Self.path(id)
    let table = FleetTable(isLive: show == .table && isatty(1) == 1)
    let output = FleetOutput(
      client, show: show, folder: options.outputDir, quiet: quiet, table: table)
    try output.begin()
    let interrupts = Shared(0)
    let left = Shared(Int32(0))
    let events = Shared<GatewayEvents?>(nil)
    hub.handle { [client, leavingKeeps] number in
      guard [SIGINT, SIGTERM, SIGHUP, SIGQUIT].contains(number) else { return }
      interrupts.value += 1
      if leavingKeeps || interrupts.value > 1 {
        left.value = number
        events.value?.close()
        return
      }
      table.say("Cancelling; once more leaves without waiting.")
      _ = try? await client.call("DELETE", path)
    }
    defer { hub.handle(nil) }
    var last = ""
    var whole = try await Jobs.call(client, "GET", path).json
    table.set(whole)
    let ticking = Task {
      while !Task.isCancelled {
        try? await Task.sleep(for: .milliseconds(250))
        table.draw()
      }
    }
    defer { ticking.cancel() }
    while left.value == 0 {
      let seen = last
      let stream = try await GatewayRetry.until(firstCounts: false) {
        () async throws(GatewayFailure) in
        try await client.events(
          path + "/events", headers: seen.isEmpty ? [] : [("Last-Event-ID", seen)])
      }
      events.value = stream
      while left.value == 0, let event = await stream.next() {
        last = event.id
        let json = (try? JSONParser.parse(Array(event.data.utf8))) ?? .null
        switch event.name {
        case "target":
          table.note(json)
          try await output.target(json)
        case "fleet":
          whole = json
          table.set(json)
          output.fleet(json)
        default: break
        }
      }
      if whole["state"].string == "ended" { break }
      try? await Task.sleep(for: .milliseconds(200))
      whole = try await Jobs.call(client, "GET", path).json
      // Its end was told while nobody listened: the stream that is opened now tells what is left, and closes.
      if whole["state"].string == "ended", !last.isEmpty, Int(last) == whole["revision"].int {
        break
      }
    }
    table.clear()
    await output.finish()
    if left.value != 0 {
      printError("\nLeft; \(id) goes on. `sallyport attach \(id)` follows it.\n")
      throw ExitCode(128 + left.value)
    }
    try conclude(id, whole)
  }

  /// Says how it ended, and ends us so.
  private func conclude(_ id: String, _ whole: JSONValue) throws {
    let counts = whole["targets"]
    func count(_ name: String) -> Int { counts[name].int ?? 0 }
    let parts = ["succeeded", "failed", "lost", "skipped"].filter { count($0) > 0 }
      .map { "\(count($0)) \($0)" }
    let end = whole["end"].string ?? "?"
    if show != .json, !quiet {
      let remedy =
        count("failed") > 0 ? "\n  → Again on those: sallyport exec --rerun-failed \(id)" : ""
      printError(
        "\(id): \(count("total")) targets, \(parts.joined(separator: ", "))"
          + (end == "completed" ? "" : " (\(end))") + remedy + "\n")
    }
    switch end {
    case "completed" where whole["succeeded"].bool == true: return
    case "completed": throw ExitCode(ExitStatus.fleetFailed.rawValue)
    case "cancelled": throw ExitCode(ExitStatus.execCancelled.rawValue)
    default: throw ExitCode(ExitStatus.fleetStopped.rawValue)
    }
  }
}
