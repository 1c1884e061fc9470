import ConsoleProtocol
import EventLoop
import Gateway
import ProxmoxClient

/// What a console needs of the control plane, for the one cluster of a command.
final class DirectServices: ConsoleServices {
  private let client: ProxmoxClient
  let limits = RelayLimits()

  init(_ cluster: ClusterConfiguration) { client = ProxmoxClient(cluster) }

  func close() async { client.shutdown() }

  func redeem(_ token: Secret, peer: String) -> Result<Grant, Ending> {
    .failure(Ending(hop: .gateway, kind: .linkUnknown, sentence: "There are no links here."))
  }

  func mint(
    _ grant: Grant, size: (columns: Int, rows: Int)?, attempt: Int
  ) async throws(Ending) -> MintedConsole {
    do throws(PVEError) {
      let place = try await client.resolve(grant.target)
      let turn = try await client.turn(for: grant.console, of: place)
      let plan = try await client.mint(
        grant.console, of: place, size: size.map { ScreenSize(columns: $0.columns, rows: $0.rows) })
      do {
        let addresses = try await SocketAddress.resolve(host: plan.host, port: plan.port)
        let tls = try plan.tls.map { policy throws(LoopError) in try TLSContext.client(policy) }
        return MintedConsole(
          plan: plan, addresses: addresses, tls: tls, place: place, loginOver: { turn.end() })
      } catch {
        turn.end()
        throw PVEError(kind: .connectFailed, message: "\(error)", method: .get, path: "/")
      }
    } catch {
      throw error.ending
    }
  }

  func diagnose(_ failure: UpstreamFailure, of grant: Grant, minted: MintedConsole?) async -> Ending
  {
    switch failure {
    case .console(let failure): failure.ending
    case .silent(let stage):
      Ending(hop: .worker, kind: .workerTimeout, sentence: "The console doesn't answer (\(stage)).")
    case .notConnected(let end), .endedOpen(let end):
      Ending(hop: .worker, kind: .workerExited, sentence: "The console ended (\(end)).")
    }
  }

  func release(_ minted: MintedConsole) {}

  func opened(
    _ grant: Grant, peer: String, end: @escaping @Sendable (Ending) -> Void
  ) -> SessionRecord {
    SessionRecord(grant: grant, peer: peer, end: end)
  }
}
