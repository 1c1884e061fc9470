import ConsoleProtocol
import Foundation
import PVESimulator
import ProxmoxClient
import Testing

/// A client of the simulated cluster, by token; the cluster's authority vouches for its nodes.
private func client(of pve: Simulator) throws -> ProxmoxClient {
  let authority = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
  try pve.caCertificatePEM.write(to: authority, atomically: true, encoding: .utf8)
  return ProxmoxClient(
    ClusterConfiguration(
      name: "test", hosts: pve.nodes.compactMap { APIHost("127.0.0.1:\($0.port)") },
      credential: .token(id: pve.tokenID, secret: pve.tokenSecret),
      tls: TLSPolicy(trust: .caFile(authority.path))))
}

@Test("a read whose answer is lost is asked again of the next node; the guests are all there")
func lostRead() async throws {
  var configuration = SimulatorConfiguration()
  configuration.otherNodes = ["pve2"]
  let pve = try await PVESimulator.start(configuration)
  try await pve.inject("drop=answer,method=GET,path=/cluster/resources,times=1")
  let guests = try await client(of: pve).inventory().guests
  #expect(guests.count == SimulatedGuest.demo.count)
  let asked = pve.journal.entries.filter { $0.path == "/api2/json/cluster/resources" }
  #expect(asked.map(\.node) == ["pve1", "pve2"])
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
