import Glibc
import PVESimulator
import ProxmoxClient
import Testing

@testable import GuestExec

/// Measures, and no limits: `SALLYPORT_LONG_TESTS=1` runs them.
@Suite(
  "How fast commands go through the guest agent",
  .enabled(if: getenv("SALLYPORT_LONG_TESTS") != nil), .serialized)
struct AgentSpeedTests {
  private func median(_ times: [Duration]) -> Duration {
    let sorted = times.sorted()
    return sorted.isEmpty ? .zero : sorted[sorted.count / 2]
  }

  @Test("`true`: the calls by hand, plain and streaming", arguments: [0, 20])
  func latency(_ milliseconds: Int) async throws {
    _ = try await AgentBed.with(
      .ours, { $0.timings.agentLatency = .milliseconds(milliseconds) }
    ) { bed in
      let plain = bed.plain.transport
      let streaming = bed.streaming.transport
      var times: [String: [Duration]] = [:]
      for _ in 0..<40 {
        var begun = ContinuousClock.now
        let pid = try await bed.client.agentExec(bed.place, ["/bin/true"])
        while !(try await bed.client.agentExecStatus(bed.place, pid: pid).exited) {
          try await Task.sleep(for: .milliseconds(1))
        }
        times["by hand", default: []].append(ContinuousClock.now - begun)
        for (name, transport) in [("plain", plain), ("streaming", streaming)] {
          begun = .now
          let process = try await transport.start(ExecRequest(["/bin/true"]), on: bed.place)
          while let event = await process.next() { if case .ended = event { break } }
          times[name, default: []].append(ContinuousClock.now - begun)
          _ = await process.next()
        }
      }
      for (name, times) in times.sorted(by: { $0.key < $1.key }) {
        print("latency of true, agent +\(milliseconds) ms, \(name): \(median(times))")
      }
    }
  }

  @Test("100 MiB of input, and of output", arguments: AgentCase.both)
  func throughput(_ which: AgentCase) async throws {
    _ = try await AgentBed.with(which) { bed in
      let size = 100 << 20
      let bytes = [UInt8].pattern(size)
      var begun = ContinuousClock.now
      let written = try await bed.streaming.run(.sh("wc -c; true"), input: bytes)
      print("100 MiB of input, \(which.backEnd): \(ContinuousClock.now - begun) \(written.out)")
      #expect(written.out == "\(size)\n")
      begun = .now
      let read = try await bed.streaming.run(.sh("head -c \(size) /dev/zero"))
      print("100 MiB of output, \(which.backEnd): \(ContinuousClock.now - begun)")
      #expect(read.stdout.count == size && read.end == .exited(0))
      begun = .now
      let both = try await bed.streaming.run(["/bin/cat"], input: bytes)
      print("100 MiB in and out, \(which.backEnd): \(ContinuousClock.now - begun)")
      let isSame = both.stdout == bytes
      #expect(isSame && both.end == .exited(0))
    }
  }
}
