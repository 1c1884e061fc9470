import ConsoleProtocol
import EventLoop
import Foundation
import PVESimulator
import TestSupport
import Testing

@testable import Gateway

@Suite("64 MiB each way through gateway and simulated node", .serialized)
struct SimulatedFlowTests {
  private static let size = 64 << 20

  private func open(
    _ gateway: Gateway, _ group: LoopGroup, _ target: String, _ console: Console, acks: Bool = false
  ) async throws -> ViewerClient {
    let link = try await gateway.link(ConsoleOrder(target: try Target(target), console: console))
    let viewer = ViewerClient(
      on: group.loops[0],
      first:
        "{\"type\":\"open\",\"token\":\"\(link.token.reveal())\",\"columns\":80,\"rows\":20,\"acks\":\(acks)}",
      keeps: false)
    try await viewer.connect(port: gateway.port)
    #expect(await happens { viewer.seen.now.isReady })
    return viewer
  }

  /// Sends `total` bytes of `piece` over and over, as fast as they are taken.
  private func pump(_ viewer: ViewerClient, _ piece: [UInt8], total: Int, on loop: Loop) {
    let sent = Shared(0)
    @Sendable func more(_ viewer: ViewerClient) {
      while viewer.pendingBytes == 0, sent.now < total {
        let count = min(piece.count, total - sent.now)
        viewer.sendNow(count == piece.count ? piece : Array(piece.prefix(count)))
        sent.withLock { $0 += count }
      }
    }
    loop.execute {
      viewer.onDrained = { more($0) }
      more(viewer)
    }
  }

  @Test("a container's terminal takes 64 MiB of every byte value, whole and in order")
  func up() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    try await SimulatedBed.with(simulator: { $0.guests[3].terminal = .sink }) { gateway, pve in
      let viewer = try await open(gateway, group, "lxc/200", .terminal)
      let piece = (0..<65_536).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 9) }
      pump(viewer, piece, total: Self.size, on: group.loops[0])
      var report = await pve.sinkReport(vmid: 200)
      for _ in 0..<6000 where report.bytes < Self.size {
        try await Task.sleep(for: .milliseconds(20))
        report = await pve.sinkReport(vmid: 200)
      }
      #expect(report.bytes == Self.size)
      var all: [UInt8] = []
      all.reserveCapacity(Self.size)
      while all.count < Self.size { all += piece }
      #expect(report.sha256 == Random.sha256(all).map { String(format: "%02x", $0) }.joined())
    }
  }

  @Test("a VM's serial port gives 64 MiB of every byte value, whole and in order")
  func down() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    let banner = Array("starting serial terminal on interface serial0\r\n".utf8)
    try await SimulatedBed.with(simulator: {
      $0.guests[0].serialPorts = [0: .source(bytes: Self.size)]
    }) { gateway, _ in
      let viewer = try await open(gateway, group, "qemu/100", .serial0)
      #expect(
        await happens(within: .seconds(120)) {
          viewer.seen.now.hash.count >= Self.size + banner.count
        })
      var expected = StreamHash()
      banner.withUnsafeBytes { expected.add($0) }
      for start in stride(from: 0, to: Self.size, by: 1 << 20) {
        SimulatedTerminal.pattern(from: start, count: 1 << 20).withUnsafeBytes { expected.add($0) }
      }
      #expect(viewer.seen.now.hash == expected)
    }
  }

  @Test("64 MiB of multi-byte text come back from an echo as they went, both ways at once")
  func echo() async throws {
    let group = try LoopGroup(count: 1)
    defer { group.shutdown() }
    try await SimulatedBed.with { gateway, _ in
      let viewer = try await open(gateway, group, "lxc/200", .terminal)
      // 61 characters of one to four bytes: pieces are cut within them.
      let text = Array(String(repeating: "grüße, 世界, дом, 🏰🚪 — ok\n", count: 1300).utf8)
      let piece = Array(text.prefix(50_021))
      #expect(await happens { viewer.seen.now.isReady })
      try await Task.sleep(for: .milliseconds(200))
      // Whatever attaching drew comes first.
      var expected = viewer.seen.now.hash
      let before = expected.count
      pump(viewer, piece, total: Self.size, on: group.loops[0])
      #expect(
        await happens(within: .seconds(240)) { viewer.seen.now.hash.count >= before + Self.size })
      #expect(viewer.seen.now.hash.count == before + Self.size)
      var left = Self.size
      while left > 0 {
        piece.prefix(left).withUnsafeBytes { expected.add($0) }
        left -= min(left, piece.count)
      }
      #expect(viewer.seen.now.hash == expected)
    }
  }
}
