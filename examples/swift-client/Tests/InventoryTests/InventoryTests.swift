import ConsoleProtocol
import PVESimulator
import ProxmoxClient
import Testing

/// A client of a node, by token, with the node's certificate pinned.
private func client(of pve: Simulator) throws -> ProxmoxClient {
  ProxmoxClient(
    ClusterConfiguration(
      name: "test", hosts: [try #require(APIHost("127.0.0.1:\(pve.port)"))],
      credential: .token(id: pve.tokenID, secret: pve.tokenSecret),
      tls: TLSPolicy(trust: .fingerprint(pve.fingerprint))))
}

@Test("a read that is lost on its way is asked again; the guests are all there")
func lostRead() async throws {
  let pve = try await PVESimulator.start(SimulatorConfiguration())
  try await pve.inject("drop=answer,method=GET,path=/cluster/resources,times=1")
  let guests = try await client(of: pve).inventory().guests
  #expect(guests.count == SimulatedGuest.demo.count)
  #expect(pve.journal.entries.count { $0.path == "/api2/json/cluster/resources" } == 2)
  await pve.shutdown()
}

@Test("every version that the node knows refuses in words that arrive", arguments: Era.allCases)
func refusal(era: Era) async throws {
  var configuration = SimulatorConfiguration()
  configuration.era = era
  let pve = try await PVESimulator.start(configuration)
  let client = try client(of: pve)
  let release = try await client.call(.get, "/version")["release"].string
  #expect(release == String(era.rawValue.prefix(3)))
  do {
    _ = try await client.call(.get, "/nodes/pve1/qemu/999/config")
    Issue.record("there is no VM 999")
  } catch {
    #expect(error.status == 500)
    #expect(error.message.contains("999.conf' does not exist"))
  }
  await pve.shutdown()
}
