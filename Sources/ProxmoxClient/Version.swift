import ConsoleProtocol
import Synchronization

/// What is known of each host's version.
final class VersionCache: Sendable {
  private let known = Mutex<[APIHost: PVEVersion]>([:])
  private let flights = Mutex<[APIHost: SingleFlight<PVEVersion>]>([:])

  subscript(host: APIHost) -> PVEVersion? { known.withLock { $0[host] } }

  func forget(_ host: APIHost) { known.withLock { $0[host] = nil } }

  func store(_ version: PVEVersion, for host: APIHost) { known.withLock { $0[host] = version } }

  func flight(for host: APIHost) -> SingleFlight<PVEVersion> {
    flights.withLock { flights in
      if let flight = flights[host] { return flight }
      let flight = SingleFlight<PVEVersion>()
      flights[host] = flight
      return flight
    }
  }
}

extension ProxmoxClient {
  /// The version of the host that calls go to. Asked once per host, and again after the host couldn't be reached.
  public func version() async throws(PVEError) -> PVEVersion {
    var last: PVEError?
    for host in connection.hostsInOrder {
      do throws(PVEError) {
        return try await version(of: host, by: primary)
      } catch {
        guard error.nothingWasSent || error.kind == .connectionLost else { throw error }
        last = last ?? error
      }
    }
    let request = APIRequest(method: .get, path: "/version")
    throw last
      ?? request.error(.badConfiguration, "cluster '\(configuration.name)' has no hosts")
  }

  /// One host's version.
  func version(of host: APIHost, by identity: Identity) async throws(PVEError) -> PVEVersion {
    if let known = versions[host] { return known }
    let request = APIRequest(method: .get, path: "/version")
    let outcome = await versions.flight(for: host).run(
      cancelled: request.error(.cancelled, "cancelled")
    ) { [self] in
      if let known = versions[host] { return .success(known) }
      do throws(PVEError) {
        let answer = try await perform(request, by: identity, on: host)
        let text = try answer.string("version")
        guard let version = PVEVersion(text, release: answer.value["release"].string) else {
          throw answer.error("version", "is no version: '\(text.prefix(40))'")
        }
        versions.store(version, for: host)
        return .success(version)
      } catch {
        return .failure(error)
      }
    }
    return try outcome.get()
  }
}
