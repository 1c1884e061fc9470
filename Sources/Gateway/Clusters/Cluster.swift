import ConsoleProtocol
import ProxmoxClient
import Synchronization

/// One cluster behind the gateway: its client, and whether it answered last time.
final class Cluster: Sendable {
  /// What came of the last call.
  enum Reachability: Sendable {
    /// Nothing was asked yet.
    case unknown
    /// It answers, and takes our credential.
    case reachable
    /// It doesn't.
    case unreachable(PVEError)
  }

  let client: ProxmoxClient
  private let last = Mutex<(state: Reachability, at: ContinuousClock.Instant)>((.unknown, .now))

  init(_ configuration: ClusterConfiguration) { client = ProxmoxClient(configuration) }

  /// The name in the configuration.
  var name: String { client.configuration.name }

  /// What came of the last call.
  var reachability: Reachability { last.withLock { $0.state } }

  /// Makes a call and notes whether the cluster can be reached.
  func ask<T: Sendable>(
    _ call: (ProxmoxClient) async throws(PVEError) -> T
  ) async throws(PVEError) -> T {
    do throws(PVEError) {
      let answer = try await call(client)
      note(.reachable)
      return answer
    } catch {
      switch error.kind {
      case .connectFailed, .timedOut, .connectionLost, .tlsUntrusted, .unauthenticated,
        .loginFailed, .secondFactorNeeded, .redirected, .badConfiguration:
        note(.unreachable(error))
      case .cancelled, .shutDown, .malformedAnswer: break
      default: note(.reachable)
      }
      throw error
    }
  }

  private func note(_ state: Reachability) { last.withLock { $0 = (state, .now) } }

  /// Asks something small, unless the last answer is recent enough. A credential that was refused isn't shown again for
  /// minutes: PVE locks accounts that fail too often.
  func probe(ifOlderThan age: Duration) async {
    let (state, at) = last.withLock { $0 }
    let enough: Duration
    switch state {
    case .unknown: enough = .zero
    case .reachable: enough = age
    case .unreachable(let error):
      switch error.kind {
      case .unauthenticated, .loginFailed, .secondFactorNeeded, .badConfiguration:
        enough = .seconds(300)
      default: enough = .seconds(4)
      }
    }
    guard ContinuousClock.now - at >= enough else { return }
    _ = await result { client throws(PVEError) in try await client.call(.get, "/version") }
  }
}
