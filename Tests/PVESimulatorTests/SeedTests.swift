import ConsoleProtocol
import Testing

@testable import PVESimulator

@Suite("Seeded clusters")
struct SeedTests {
  private func fingerprint(_ guests: [SimulatedGuest]) -> [String] {
    guests.map {
      "\($0.kind) \($0.vmid) \($0.name) \($0.node ?? "-") \($0.running) \($0.tags) \($0.pool ?? "-") "
        + "\($0.cores) \($0.memory) \($0.disk) \($0.template) \($0.agent) \($0.uptime)"
    }
  }

  @Test("the same seed gives the same cluster, another seed another")
  func repeatable() {
    let first = fingerprint(ClusterSeed(seed: 7, guests: 500, nodes: 4).makeGuests())
    let isSame = fingerprint(ClusterSeed(seed: 7, guests: 500, nodes: 4).makeGuests()) == first
    #expect(isSame)
    let isOther = fingerprint(ClusterSeed(seed: 8, guests: 500, nodes: 4).makeGuests()) != first
    #expect(isOther)
  }

  @Test("a guest is the same in a larger cluster")
  func prefix() {
    let few = fingerprint(ClusterSeed(seed: 7, guests: 50, nodes: 4).makeGuests())
    let many = fingerprint(ClusterSeed(seed: 7, guests: 500, nodes: 4).makeGuests())
    let isPrefix = Array(many.prefix(50)) == few
    #expect(isPrefix)
  }

  @Test("a cluster looks like one: valid names, every kind and state, every node and pool in use")
  func plausible() {
    let guests = ClusterSeed(seed: 1, guests: 2000, nodes: 16).makeGuests()
    #expect(Set(guests.map(\.vmid)).count == 2000)
    #expect(guests.allSatisfy { VMID($0.vmid) != nil })
    let nameFits = guests.allSatisfy { guest in
      guest.name.utf8.count <= 63
        && guest.name.utf8.allSatisfy {
          (97...122).contains($0) || (48...57).contains($0) || $0 == 45
        }
    }
    #expect(nameFits)
    #expect(Set(guests.compactMap(\.node)).count == 16)
    #expect(Set(guests.compactMap(\.pool)).count == 8)
    let containers = guests.count { $0.kind == .lxc }
    #expect((500...900).contains(containers))
    #expect((1400...1900).contains(guests.count { $0.running }))
    #expect(guests.contains { $0.template })
    #expect(guests.allSatisfy { !$0.template || !$0.running })
  }
}
