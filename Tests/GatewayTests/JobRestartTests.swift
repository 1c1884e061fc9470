import ConsoleProtocol
import Foundation
import GuestExec
import ProxmoxClient
import TestSupport
import Testing

@testable import Gateway

@Suite("Jobs over a restart of the gateway")
struct JobRestartTests {
  /// What a folder looks like to the next process when this one is killed: a copy, without any goodbye.
  private func copy(_ folder: String) throws -> String {
    let other = JobBed.folder()
    try FileManager.default.copyItem(atPath: folder, toPath: other)
    try? FileManager.default.removeItem(atPath: other + "/lock")
    return other
  }

  @Test("what ran is taken up behind the bytes that were kept, and ends as it ends")
  func attach() async throws {
    try await JobBed.with { bed in
      let job = try await bed.submit(["cat"]) {
        $0.input = .streamed
        $0.request.hasInput = true
      }
      let process = try await bed.process(job.id)
      process.out("one")
      process.tell(.stderr(Array("e".utf8)))
      _ = try await bed.engine.write(job.id, Array("abcd".utf8))
      await (try await bed.engine.find(job.id)).until(within: .seconds(20)) {
        $0.summary.stdoutBytes == 3 && $0.summary.stderrBytes == 1
      }
      let other = try copy(bed.folder)
      defer { try? FileManager.default.removeItem(atPath: other) }
      let next = try await JobBed(folder: other)
      let taken = try await next.process(job.id)
      #expect(taken.attachedFrom == ExecPosition(stdout: 3, stderr: 1, stdin: 4))
      #expect(taken.handle?.notes == process.handle?.notes)
      // The caller's own retry goes on where it was.
      #expect(try await next.engine.write(job.id, Array("abcdef".utf8), at: 0) == 6)
      #expect(taken.input.now == Array("ef".utf8))
      taken.out("two")
      taken.end(.exited(9))
      let summary = try await next.over(job.id)
      #expect(summary.end == .exited(9))
      #expect(try await next.output(job.id) == "onetwo")
      await next.engine.stop(grace: .seconds(5))
    }
  }

  @Test("what may have been sent is lost and never sent again; what waited is started")
  func states() async throws {
    try await JobBed.with({ $0.maximumJobs = 1 }) { bed in
      bed.transport.isHeld.withLock { $0 = true }
      let starting = try await bed.submit(["starting"], idempotencyKey: "s")
      let waiting = try await bed.submit(["waiting", "a b"]) {
        $0.request.environment = [.init(name: Array("A".utf8), value: [0xff, 0x20])]
        $0.labels = ["x": "y"]
      }
      let secret = try await bed.submit(["secret", "hunter2"]) { $0.secretArgv = true }
      let other = try copy(bed.folder)
      defer { try? FileManager.default.removeItem(atPath: other) }
      bed.transport.isHeld.withLock { $0 = false }
      let next = try await JobBed(folder: other)
      let lost = try await next.over(starting.id)
      guard case .lost(let why)? = lost.end else {
        Issue.record("\(lost.json)")
        return
      }
      #expect(why.contains("may have been started"))
      let process = try await next.process(waiting.id)
      #expect(process.request.command == .argv([Array("waiting".utf8), Array("a b".utf8)]))
      #expect(process.request.environment.first?.value == [0xff, 0x20])
      let failed = try await next.over(secret.id)
      #expect(failed.state == .failed && failed.failure?.kind == .cancelled)
      #expect(next.transport.started.now.count == 1)
      // The key of what is lost still stands for it.
      let again = try await next.submit(["starting"], idempotencyKey: "s")
      #expect(again.id == starting.id && again.state == .ended)
      process.end(.exited(0))
      _ = try await next.over(waiting.id)
      await next.engine.stop(grace: .seconds(5))
    }
  }

  @Test("a command that was given a part of its input is ended, not left to take the part for all")
  func partOfInput() async throws {
    let transport = ScriptedTransport { $0.inputIsHeld.withLock { $0 = true } }
    try await JobBed.with(transport: transport) { bed in
      let job = try await bed.submit(["sh"]) {
        $0.input = .given(Array("rm -rf /tmp/x".utf8))
        $0.request.hasInput = true
      }
      _ = try await bed.process(job.id)
      let other = try copy(bed.folder)
      defer { try? FileManager.default.removeItem(atPath: other) }
      let next = try await JobBed(folder: other)
      let summary = try await next.over(job.id)
      guard case .lost(let why)? = summary.end else {
        Issue.record("\(summary.json)")
        return
      }
      #expect(why.contains("standard input"))
      let ended = next.transport.started.now.first
      #expect(ended?.isCancelled.now == true && ended?.inputIsClosed.now == false)
      await next.engine.stop(grace: .seconds(5))
      for process in transport.started.now { process.inputIsHeld.withLock { $0 = false } }
    }
  }

  @Test("a gateway that stops lets go of what it shall keep and ends what nobody may be away from")
  func goodbye() async throws {
    let folder = JobBed.folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let bed = try await JobBed(folder: folder) { $0.maximumJobs = 2 }
    let kept = try await bed.submit()
    let killed = try await bed.submit { $0.onDisconnect = .kill }
    let waiting = try await bed.submit(["later"])
    let a = try await bed.process(kept.id)
    let b = try await bed.process(killed.id)
    a.out("text")
    await bed.engine.stop(grace: .seconds(5))
    #expect(a.isDetached.now && !a.isCancelled.now)
    #expect(b.isCancelled.now)
    #expect(bed.transport.started.now.count == 2)
    await #expect(throws: Problem.self) { try await bed.submit() }
    let next = try await JobBed(folder: folder)
    #expect(try await next.engine.summary(killed.id).end == .cancelled)
    let taken = try await next.process(kept.id)
    taken.end(.exited(0))
    let started = try await next.process(waiting.id)
    started.end(.exited(1))
    #expect(try await next.over(kept.id).end == .exited(0))
    #expect(try await next.output(kept.id) == "text")
    #expect(try await next.over(waiting.id).end == .exited(1))
    await next.engine.stop(grace: .seconds(5))
  }
}
