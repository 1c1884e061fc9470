import ConsoleProtocol
import EventLoop
import Foundation
import ProxmoxClient

/// What `POST /v1/consoles` asks for.
package struct ConsoleOrder: Sendable {
  /// What the console is of.
  package var target: Target
  /// In which cluster; needed only where several have the target.
  package var cluster: String?
  /// Which console; a VM's screen and everything else's terminal unless said.
  package var console: Console?
  /// How long the link waits for its viewer; the configuration's unless said.
  package var ttl: Duration?
  /// Whether the viewer may only look.
  package var readOnly = false
  /// Ends the session after so long.
  package var maxDuration: Duration?
  /// Ends the session after so long without input.
  package var idle: Duration?

  /// Asks for a target's usual console.
  package init(target: Target, console: Console? = nil) {
    self.target = target
    self.console = console
  }

  /// The fields of the JSON form.
  static let fields = [
    "target", "console", "ttl", "readOnly", "maxDuration", "idle", "cluster",
  ]

  /// Reads the JSON form.
  init(_ request: HTTPRequest, _ configuration: GatewayConfiguration) throws(Problem) {
    let body = try JSONBody(request, known: Self.fields)
    guard let text = try body.string("target"), !text.isEmpty else {
      throw Problem(
        400, "missing-field", "The field 'target' is missing.", field: "target",
        remedy: "Send e.g. {\"target\":\"qemu/100\"}.")
    }
    (target, cluster) = try JobOrder.target(text, cluster: try body.string("cluster"))
    if let word = try body.string("console") {
      guard let console = Console(word) else {
        throw Problem(
          400, "bad-console", "There is no console '\(word.prefix(80))'.", field: "console",
          remedy: "There are: \(Console.allCases.map(\.description).joined(separator: ", ")).")
      }
      self.console = console
    }
    readOnly = try body.bool("readOnly") ?? false
    let year = Duration.seconds(366 * 86_400)
    ttl = try body.seconds("ttl", most: configuration.links.maximumTTL)
    maxDuration = try body.seconds("maxDuration", most: configuration.sessions.maxDuration ?? year)
    idle = try body.seconds("idle", most: configuration.sessions.idle ?? year)
  }
}

/// A link that was made.
package struct ConsoleLink: Sendable {
  /// The session's id.
  package var id: String
  /// What to open in a browser. The token is in the fragment, which no server and no Referer sees.
  package var url: String
  /// What a program sends in its first message instead.
  package var token: Secret
  /// Until when it is good.
  package var expires: Date
  /// Of what the console is.
  package var place: Place
  /// Which console.
  package var console: Console
  /// In which cluster.
  package var cluster: String
}

extension ConsoleBroker {
  /// Finds the target and makes a link for one viewer.
  func link(
    _ order: ConsoleOrder, base: String, key: String?, configuration: GatewayConfiguration
  ) async throws(Problem) -> ConsoleLink {
    let (cluster, place) = try await clusters.resolve(order.target, in: order.cluster)
    let console = order.console ?? Self.usualConsole(of: place.kind)
    guard console.isAvailable(on: place.kind) else {
      let ending = Self.noSuchConsole(console, of: place)
      throw Problem(
        422, ending.kind.rawValue, ending.sentence, field: "console", remedy: ending.remedy)
    }
    guard let id = Random.text(bytes: 12) else {
      throw Problem(503, "no-randomness", "The system gives no random bytes.")
    }
    // Bound to the guest, not to its name: another guest may have the name by the time somebody comes.
    let grant = Grant(
      id: id, cluster: cluster.name, target: place.target, console: console,
      readOnly: order.readOnly,
      maxDuration: order.maxDuration ?? configuration.sessions.maxDuration,
      idle: order.idle ?? configuration.sessions.idle)
    let ttl = order.ttl ?? configuration.links.ttl
    let created = Date()
    let expires = created.addingTimeInterval(ttl.seconds)
    var summary = SessionRegistry.Summary(grant: grant, created: created)
    summary.place = place
    summary.expires = expires
    summary.key = key
    sessions.waiting(summary)
    do throws(LinkStore.Full) {
      let token = try links.create(grant, ttl: ttl)
      return ConsoleLink(
        id: id, url: "\(base)/console.html#t=\(token.reveal())", token: token, expires: expires,
        place: place, console: console, cluster: cluster.name)
    } catch {
      sessions.forget(id)
      throw Problem(
        429, "too-many-links",
        "\(configuration.limits.maximumLinks) links are waiting for their viewers.",
        remedy: "Wait until some are used or expire, or raise limits.maximumLinks.")
    }
  }

  static func usualConsole(of kind: Place.Kind) -> Console {
    if case .qemu = kind { .vnc } else { .terminal }
  }
}

extension Place {
  /// The place as a target: by kind and number.
  var target: Target {
    switch kind {
    case .node: .node(node)
    case .qemu(let id): .qemu(id)
    case .lxc(let id): .lxc(id)
    }
  }
}
