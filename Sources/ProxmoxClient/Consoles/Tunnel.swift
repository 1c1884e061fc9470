import ConsoleProtocol

/// A migration tunnel that was opened: its first websocket, and what is needed for the others.
public struct TunnelMint: Sendable {
  /// The command channel's websocket.
  public var plan: UpstreamPlan
  /// The unix socket behind it on the node.
  public var socket: String
  /// The signed permission for that socket, good for forty seconds.
  public var ticket: Secret
  /// The worker task.
  public var upid: String
  let base: String

  /// Another websocket of the same tunnel: the same host, credential and guest, with the socket and ticket that the command
  /// `ticket` of the command channel gave.
  public func plan(socket: String, ticket: Secret) -> UpstreamPlan {
    var other = plan
    other.requestTarget = Secret(Self.target(base: base, socket: socket, ticket: ticket))
    return other
  }

  static func target(base: String, socket: String, ticket: Secret) -> String {
    "/api2/json\(base)/mtunnelwebsocket?ticket=\(PercentEncoding.encode(ticket.reveal()))"
      + "&socket=\(PercentEncoding.encode(socket))"
  }
}

extension ProxmoxClient {
  /// Opens a migration tunnel toward this cluster. PVE refuses any node but the one that answers, so the call goes to
  /// `localhost`, and the guest is made there.
  /// - Parameters:
  ///   - kind: the guest that is to come: `.qemu` or `.lxc` with a number that is free.
  ///   - storages: the storages that will be used, which PVE checks.
  ///   - bridges: the network bridges, likewise.
  public func mintTunnel(
    _ kind: Place.Kind, storages: [String] = [], bridges: [String] = []
  ) async throws(PVEError) -> TunnelMint {
    let base: String
    switch kind {
    case .qemu(let id): base = "/nodes/localhost/qemu/\(id)"
    case .lxc(let id): base = "/nodes/localhost/lxc/\(id)"
    case .node:
      throw APIRequest(method: .post, path: "/nodes/localhost").error(
        .noSuchConsole, "a migration tunnel is for a guest")
    }
    var parameters: [Parameter] = []
    if !storages.isEmpty {
      parameters.append(Parameter("storages", storages.joined(separator: ",")))
    }
    if !bridges.isEmpty { parameters.append(Parameter("bridges", bridges.joined(separator: ","))) }
    let request = APIRequest(method: .post, path: base + "/mtunnel", parameters: parameters)
    var last: PVEError?
    for host in connection.hostsInOrder {
      do throws(PVEError) {
        let version = try await version(of: host, by: primary)
        let (answer, _, authorization) = try await envelope(request, on: host)
        return try tunnel(
          base: base, answer: answer, authorization: authorization, host: host, version: version)
      } catch {
        guard error.nothingWasSent else { throw error }
        last = last ?? error
      }
    }
    throw last
      ?? request.error(.badConfiguration, "cluster '\(configuration.name)' has no hosts")
  }

  private func tunnel(
    base: String, answer: AnswerReader, authorization: Identity.Authorization, host: APIHost,
    version: PVEVersion
  ) throws(PVEError) -> TunnelMint {
    let socket = try answer.string("socket")
    let ticket = Secret(try answer.string("ticket"))
    let upid = try answer.string("upid")
    guard let credential = authorization.headers.first else {
      throw answer.request.error(.badConfiguration, "the call carried no credential")
    }
    guard let node = UPID(upid)?.node else { throw answer.error("upid", "is no task") }
    let plan = UpstreamPlan(
      host: host.host, port: host.port, tls: host.policy(configuration.tls),
      requestTarget: Secret(TunnelMint.target(base: base, socket: socket, ticket: ticket)),
      credentialHeader: credential, login: .none,
      maximumFrame: version.capabilities.maximumFrame, upid: upid, node: node)
    return TunnelMint(plan: plan, socket: socket, ticket: ticket, upid: upid, base: base)
  }
}
