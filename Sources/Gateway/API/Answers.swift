import ConsoleProtocol
import EventLoop
import ProxmoxClient

/// The answers of the API, in the order of ``Route/all``.
extension ControlPlane {
  /// The process runs and its loops turn.
  func health(_ call: Call) -> HTTPResponse { .json(200, .object(["status": .string("ok")])) }

  /// Whether consoles can be opened: at least one cluster answers and takes our credential. Sentences, which name hosts,
  /// are for those with a key and for this machine.
  func readiness(_ call: Call) async -> HTTPResponse {
    await withTaskGroup(of: Void.self) { group in
      for cluster in broker.clusters.all {
        group.addTask { await cluster.probe(ifOlderThan: .seconds(30)) }
      }
    }
    let trusted =
      call.key != nil
      || (IPRange.isLoopback(call.connection.client) && !call.connection.isForwarded)
    var anyReachable = false
    var list: [JSONValue] = []
    for cluster in broker.clusters.all {
      var out: [String: JSONValue] = ["name": .string(cluster.name)]
      switch cluster.reachability {
      case .reachable:
        anyReachable = true
        out["reachable"] = .bool(true)
      case .unknown:
        out["reachable"] = .bool(false)
        out["reason"] = .string("not-asked-yet")
      case .unreachable(let error):
        out["reachable"] = .bool(false)
        out["reason"] = .string(error.code)
        if trusted {
          let ending = error.consoleEnding
          out["sentence"] = .string(ending.sentence)
          out["remedy"] = .string(ending.remedy)
        }
      }
      list.append(.object(out))
    }
    let ready = anyReachable && !isStopping
    return .json(
      ready ? 200 : 503,
      .object([
        "status": .string(ready ? "ready" : isStopping ? "stopping" : "not-ready"),
        "clusters": .array(list),
      ]))
  }

  func inventory(_ call: Call) async -> HTTPResponse {
    .json(200, await broker.clusters.inventory())
  }

  func createConsole(_ call: Call) async throws(Problem) -> HTTPResponse {
    let order = try ConsoleOrder(call.request, configuration)
    let link = try await broker.link(
      order, base: base(for: call.connection), key: call.key, configuration: configuration)
    return .json(
      201,
      .object([
        "id": .string(link.id), "url": .string(link.url), "token": .string(link.token.reveal()),
        "expires": .string(link.expires.rfc3339), "target": .string(link.place.description),
        "console": .string(link.console.description), "cluster": .string(link.cluster),
        "node": .string(link.place.node.value), "readOnly": .bool(order.readOnly),
      ]), headers: [("Location", "\(prefix)/v1/consoles/\(link.id)")])
  }

  func listConsoles(_ call: Call) throws(Problem) -> HTTPResponse {
    var states: Set<SessionRecord.State> = []
    for (name, value) in call.request.query {
      guard name == "state" else {
        throw Problem(
          400, "unknown-field", "The parameter '\(name.prefix(80))' is not known here.",
          field: String(name.prefix(80)), remedy: "Known: state.")
      }
      guard let state = SessionRecord.State(rawValue: value) else {
        throw Problem(
          400, "bad-state", "There is no state '\(value.prefix(80))'.", field: "state",
          remedy: "There are: waiting, opening, open, ended.")
      }
      states.insert(state)
    }
    let all = broker.sessions.all.filter { states.isEmpty || states.contains($0.state) }
    return .json(200, .object(["consoles": .array(all.map(\.json))]))
  }

  func showConsole(_ call: Call) throws(Problem) -> HTTPResponse {
    .json(200, try session(call).json)
  }

  func endConsole(_ call: Call) throws(Problem) -> HTTPResponse {
    let summary = try session(call)
    let id = summary.grant.id
    let ending = Ending(
      hop: .gateway, kind: .closedByOperator, sentence: "The console was closed through the API.",
      remedy: "Ask for a new link.")
    if broker.links.withdraw(id: id) { broker.sessions.ended(id: id, ending) }
    // A viewer may have come a moment before.
    broker.sessions.record(id)?.requestEnd(ending)
    return HTTPResponse(status: 204, headers: [("Cache-Control", "no-store")])
  }

  private func session(_ call: Call) throws(Problem) -> SessionRegistry.Summary {
    let id = call.values.first ?? ""
    guard let found = broker.sessions.find(id) else {
      throw Problem(
        404, "unknown-console", "There is no console '\(id.prefix(40))'.",
        remedy:
          "Ended consoles are remembered for a while only; GET \(prefix)/v1/consoles lists them.")
    }
    return found
  }

  /// What links of this gateway begin with, as seen by whoever asks.
  func base(for connection: Connection) -> String {
    if let url = configuration.publicURL { return url.description }
    guard let host = connection.host else { return fallbackURL }
    return "\(connection.scheme)://\(host.host)" + (host.port.map { ":\($0)" } ?? "")
  }
}
