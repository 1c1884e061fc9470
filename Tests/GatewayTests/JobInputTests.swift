import ConsoleProtocol
import GuestExec
import ProxmoxClient
import TestSupport
import Testing

@testable import Gateway

@Suite("Standard input of jobs")
struct JobInputTests {
  private func streamed(_ bed: JobBed) async throws -> (String, ScriptedProcess) {
    let job = try await bed.submit(["cat"]) {
      $0.input = .streamed
      $0.request.hasInput = true
    }
    return (job.id, try await bed.process(job.id))
  }

  @Test("input that comes with the order is given and closed")
  func given() async throws {
    try await JobBed.with { bed in
      let job = try await bed.submit(["cat"]) {
        $0.input = .given(Array("hello".utf8))
        $0.request.hasInput = true
      }
      let process = try await bed.process(job.id)
      #expect(await happens { process.inputIsClosed.now })
      #expect(process.input.now == Array("hello".utf8))
    }
  }

  @Test("the same bytes again, whole or in part, arrive once; a gap is refused")
  func offsets() async throws {
    try await JobBed.with { bed in
      let (id, process) = try await streamed(bed)
      let bytes = Array("0123456789".utf8)
      #expect(try await bed.engine.write(id, Array(bytes[..<6]), at: 0) == 6)
      #expect(try await bed.engine.write(id, Array(bytes[..<6]), at: 0) == 6)
      #expect(try await bed.engine.write(id, Array(bytes[3...]), at: 3) == 10)
      do {
        _ = try await bed.engine.write(id, [1], at: 12)
        Issue.record("a gap was taken")
      } catch let error as Problem {
        #expect(error.status == 409 && error.kind == "stdin-gap")
        #expect(error.more["taken"] == .int(10))
      }
      #expect(try await bed.engine.write(id, Array("x".utf8)) == 11)
      try await bed.engine.closeInput(id)
      try await bed.engine.closeInput(id)
      #expect(process.inputIsClosed.now)
      #expect(process.input.now == bytes + Array("x".utf8))
      // What is sent again behind the end is known; what is new is refused.
      #expect(try await bed.engine.write(id, bytes, at: 0) == 11)
      await #expect(throws: Problem.self) { try await bed.engine.write(id, [1], at: 11) }
    }
  }

  @Test("retries that run at the same time as what they repeat lose and double nothing")
  func concurrentRetries() async throws {
    try await JobBed.with { bed in
      let (id, process) = try await streamed(bed)
      process.inputIsHeld.withLock { $0 = true }
      let all = (0..<40_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<4 {
          group.addTask {
            for start in stride(from: 0, to: all.count, by: 10_000) {
              while true {
                do {
                  _ = try await bed.engine.write(
                    id, Array(all[start..<start + 10_000]), at: start)
                  break
                } catch {
                  try? await Task.sleep(for: .milliseconds(1))
                }
              }
            }
          }
        }
        try? await Task.sleep(for: .milliseconds(20))
        process.inputIsHeld.withLock { $0 = false }
      }
      let isSame = process.input.now == all
      #expect(isSame)
    }
  }

  @Test("too many writers at a time are refused, and a job without input too")
  func refusals() async throws {
    try await JobBed.with { bed in
      let (id, process) = try await streamed(bed)
      process.inputIsHeld.withLock { $0 = true }
      let refused = await withTaskGroup(of: Int.self) { group in
        for _ in 0..<40 {
          group.addTask {
            do {
              _ = try await bed.engine.write(id, [1])
              return 0
            } catch {
              return (error as? Problem)?.status ?? 1
            }
          }
        }
        try? await Task.sleep(for: .milliseconds(100))
        process.inputIsHeld.withLock { $0 = false }
        return await group.reduce(into: [Int: Int]()) { $0[$1, default: 0] += 1 }
      }
      #expect(refused[429] == 23)
      #expect(refused[0] == 17)
      #expect(process.input.now.count == 17)
      let other = try await bed.submit()
      await #expect(throws: Problem.self) { try await bed.engine.write(other.id, [1]) }
    }
  }

  @Test("signals and sizes reach the command; without one they are refused")
  func steering() async throws {
    try await JobBed.with({ $0.maximumJobs = 1 }) { bed in
      let job = try await bed.submit {
        $0.request.terminal = TerminalSize(columns: 80, rows: 24)
      }
      let process = try await bed.process(job.id)
      let waiting = try await bed.submit()
      try await bed.engine.signal(job.id, 2)
      guard let size = TerminalSize(columns: 100, rows: 40) else { return }
      try await bed.engine.resize(job.id, size)
      #expect(process.signals.now == [2])
      #expect(process.sizes.now == [size])
      await #expect(throws: Problem.self) { try await bed.engine.signal(waiting.id, 2) }
    }
  }
}
