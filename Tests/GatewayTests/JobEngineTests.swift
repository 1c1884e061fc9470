import ConsoleProtocol
import Foundation
import GuestExec
import ProxmoxClient
import TestSupport
import Testing

@testable import Gateway

@Suite("Jobs from their order to their end")
struct JobEngineTests {
  @Test("a job's output and end are stored, and told to who follows and who asks later")
  func wholeLife() async throws {
    try await JobBed.with { bed in
      let job = try await bed.submit(["echo", "hi"])
      let process = try await bed.process(job.id)
      #expect(process.request.command == .argv([Array("echo".utf8), Array("hi".utf8)]))
      let follower = try await bed.engine.follow(job.id)
      process.out("out")
      process.tell(.stderr(Array("err".utf8)))
      process.tell(.note("a note"))
      process.end(.exited(3))
      var words: [String] = []
      while let event = await follower.next() {
        switch event {
        case .state(let summary): words.append(summary.state.rawValue)
        case .stdout(let offset, let bytes):
          words.append("\(offset):\(String(decoding: bytes, as: UTF8.self))")
        case .stderr(let offset, let bytes):
          words.append("\(offset):\(String(decoding: bytes, as: UTF8.self))")
        case .note(let text): words.append(text)
        case .ended(let summary): words.append("ended \(summary.end?.word ?? "-")")
        }
      }
      #expect(words.contains("0:out"))
      #expect(words.contains("0:err"))
      #expect(words.contains("a note"))
      #expect(words.last == "ended exited")
      let after = try await bed.engine.summary(job.id)
      #expect(after.end == .exited(3))
      #expect(after.stdoutBytes == 3 && after.stderrBytes == 3)
      #expect(after.transport == .agent)
      #expect(try await bed.output(job.id) == "out")
      let late = try await bed.engine.follow(job.id, from: ExecPosition(stdout: 1))
      guard case .stdout(1, let rest)? = await late.next() else {
        Issue.record("no output")
        return
      }
      #expect(String(decoding: rest, as: UTF8.self) == "ut")
    }
  }

  @Test("a command that was never started is failed, with the reason")
  func failed() async throws {
    try await JobBed.with { bed in
      bed.transport.failure.withLock {
        $0 = ExecFailure(.agentNotRunning, "No.", remedy: "Install.")
      }
      let job = try await bed.submit()
      let summary = try await bed.over(job.id)
      #expect(summary.state == .failed)
      #expect(summary.failure?.kind == .agentNotRunning)
      #expect(summary.end == nil)
      #expect(summary.json["failure"]["remedy"].string == "Install.")
    }
  }

  @Test("as many run as may, the others wait in line, and one over the line is refused")
  func turns() async throws {
    try await JobBed.with({
      $0.maximumJobs = 2
      $0.maximumQueued = 1
    }) { bed in
      let first = try await bed.submit()
      let second = try await bed.submit()
      let third = try await bed.submit()
      #expect(third.state == .queued)
      _ = try await bed.process(first.id)
      _ = try await bed.process(second.id)
      #expect(bed.transport.started.now.count == 2)
      await #expect(throws: Problem.self) { try await bed.submit() }
      try await bed.process(first.id).end(.exited(0))
      let process = try await bed.process(third.id)
      process.end(.exited(7))
      #expect(try await bed.over(third.id).end == .exited(7))
    }
  }

  @Test("a job in line is cancelled without being sent; one that runs is told to end")
  func cancelling() async throws {
    try await JobBed.with({ $0.maximumJobs = 1 }) { bed in
      let first = try await bed.submit()
      let second = try await bed.submit()
      _ = try await bed.process(first.id)
      try await bed.engine.cancel(second.id)
      let summary = try await bed.over(second.id)
      #expect(summary.state == .failed && summary.failure?.kind == .cancelled)
      try await bed.engine.cancel(first.id)
      #expect(try await bed.over(first.id).end == .cancelled)
      #expect(bed.transport.started.now.count == 1)
    }
  }

  @Test("a job that is cancelled while it is being started isn't started")
  func cancelledWhileStarting() async throws {
    try await JobBed.with { bed in
      bed.transport.isHeld.withLock { $0 = true }
      let job = try await bed.submit()
      #expect(job.state == .starting)
      try await bed.engine.cancel(job.id)
      let summary = try await bed.over(job.id)
      #expect(summary.failure?.kind == .cancelled)
      bed.transport.isHeld.withLock { $0 = false }
      #expect(bed.transport.started.now.isEmpty)
    }
  }

  @Test("the same Idempotency-Key gives the same job, for another order it is refused")
  func idempotency() async throws {
    try await JobBed.with { bed in
      let first = try await bed.submit(["a"], idempotencyKey: "k")
      let again = try await bed.submit(["a"], idempotencyKey: "k")
      #expect(first.id == again.id)
      do {
        _ = try await bed.submit(["b"], idempotencyKey: "k")
        Issue.record("it was taken")
      } catch let problem as Problem {
        #expect(problem.status == 422 && problem.kind == "idempotency-key-reused")
      }
      try await bed.process(first.id).end(.exited(0))
      _ = try await bed.over(first.id)
      let late = try await bed.submit(["a"], idempotencyKey: "k")
      #expect(late.id == first.id && late.end == .exited(0))
    }
  }

  @Test("of a hundred orders with one Idempotency-Key at the same time one is run")
  func idempotencyTogether() async throws {
    try await JobBed.with { bed in
      let ids = try await withThrowingTaskGroup(of: String.self) { group in
        for _ in 0..<100 {
          group.addTask { try await bed.submit(["once"], idempotencyKey: "same").id }
        }
        return try await group.reduce(into: Set<String>()) { $0.insert($1) }
      }
      #expect(ids.count == 1)
      _ = try await bed.process(ids.first ?? "")
      #expect(bed.transport.started.now.count == 1)
    }
  }

  @Test("a secret's digest isn't what tells orders apart")
  func secretIdempotency() async throws {
    let one = ExecRequest(["login", "hunter2"])
    let two = ExecRequest(["login", "letmein"])
    var a = JobOrder(target: .name("x"), request: one)
    var b = JobOrder(target: .name("x"), request: two)
    #expect(a.fingerprint != b.fingerprint)
    a.secretArgv = true
    b.secretArgv = true
    #expect(a.fingerprint == b.fingerprint)
  }

  @Test("with kill the job ends when the last one who looks on goes away; with keep it goes on")
  func disconnect() async throws {
    try await JobBed.with { bed in
      let kept = try await bed.submit { $0.onDisconnect = .keep }
      let killed = try await bed.submit { $0.onDisconnect = .kill }
      let back = try await bed.submit { $0.onDisconnect = .keepFor(.milliseconds(300)) }
      for id in [kept.id, killed.id, back.id] {
        _ = try await bed.process(id)
        let a = try await bed.engine.attachViewer(id)
        let b = try await bed.engine.attachViewer(id)
        a.release()
        b.release()
        b.release()
      }
      let returned = try await bed.engine.attachViewer(back.id)
      #expect(try await bed.over(killed.id).end == .cancelled)
      try await Task.sleep(for: .milliseconds(500))
      #expect(try await bed.engine.summary(kept.id).state == .running)
      #expect(try await bed.engine.summary(back.id).state == .running)
      returned.release()
      #expect(try await bed.over(back.id).end == .cancelled)
    }
  }

  @Test("output over the limit of a stream is dropped, and said to be missing")
  func outputLimit() async throws {
    try await JobBed.with({ $0.outputLimit = 1024 }) { bed in
      let job = try await bed.submit()
      let process = try await bed.process(job.id)
      process.tell(.stdout([UInt8](repeating: 1, count: 1000)))
      process.tell(.stdout([UInt8](repeating: 2, count: 1000)))
      process.tell(.stdout([UInt8](repeating: 3, count: 1000)))
      process.out("")
      process.end(.exited(0))
      let summary = try await bed.over(job.id)
      #expect(summary.stdoutBytes == 1024 && summary.stdoutTruncated && !summary.stderrTruncated)
      let bytes = await (try await bed.engine.find(job.id)).output.read(.stdout, at: 0, count: 4096)
      #expect(bytes.count == 1024 && bytes.last == 2)
    }
  }

  @Test("where all output is too much, the oldest ended jobs go; a running job is cut last")
  func totalBound() async throws {
    try await JobBed.with({ $0.maximumBytes = 300_000 }) { bed in
      var ids: [String] = []
      for _ in 0..<4 {
        let job = try await bed.submit()
        let process = try await bed.process(job.id)
        process.tell(.stdout([UInt8](repeating: 1, count: 100_000)))
        process.end(.exited(0))
        _ = try await bed.over(job.id)
        ids.append(job.id)
      }
      await #expect(throws: Problem.self) { try await bed.engine.summary(ids[0]) }
      #expect(try await bed.engine.summary(ids[3]).stdoutTruncated == false)
      let large = try await bed.submit()
      let process = try await bed.process(large.id)
      for _ in 0..<5 { process.tell(.stdout([UInt8](repeating: 1, count: 100_000))) }
      process.end(.exited(0))
      let summary = try await bed.over(large.id)
      #expect(summary.stdoutTruncated)
      #expect(summary.stdoutBytes <= 300_000 && summary.stdoutBytes >= 200_000)
      #expect(summary.notes.contains { $0.contains("maximumBytes") })
      #expect(try await bed.engine.list().map(\.id) == [large.id])
    }
  }

  @Test("jobs whose time is over are forgotten, with their output")
  func sweep() async throws {
    try await JobBed.with({ $0.keepFor = .milliseconds(1) }) { bed in
      let job = try await bed.submit()
      let process = try await bed.process(job.id)
      process.out("text")
      process.end(.exited(0))
      _ = try await bed.over(job.id)
      let files = try FileManager.default.contentsOfDirectory(atPath: bed.folder + "/output")
      #expect(files == ["\(job.id).out"])
      try await Task.sleep(for: .milliseconds(20))
      await bed.engine.sweep()
      await #expect(throws: Problem.self) { try await bed.engine.summary(job.id) }
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: bed.folder + "/output").isEmpty)
    }
  }

  @Test("a slow reader of much output costs neither memory nor the command its pace")
  func slowFollower() async throws {
    try await JobBed.with { bed in
      let total = 96 << 20
      let piece = [UInt8](repeating: 0x61, count: 256 << 10)
      let sent = Shared(0)
      let job = try await bed.submit()
      let process = try await bed.process(job.id)
      // A command that writes as fast as it is read.
      process.source {
        let now = sent.withLock { now -> Int in
          now += piece.count
          return now
        }
        return now > total ? .ended(ExecResult(.exited(0))) : .stdout(piece)
      }
      process.tell(.note("go"))
      let follower = try await bed.engine.follow(job.id)
      while case .state? = await follower.next() {}
      let before = residentBytes()
      let summary = await (try await bed.engine.find(job.id)).over(within: .seconds(120))
      #expect(summary.stdoutBytes == total)
      // The reader has taken next to nothing, and nothing waits for it in memory.
      #expect(residentBytes() - before < 48 << 20)
      var read = follower.position.stdout
      while let event = await follower.next() {
        if case .stdout(let offset, let bytes) = event {
          #expect(offset == read)
          read += bytes.count
        }
      }
      #expect(read == total)
    }
  }

  @Test("the log and the audit file say who ran what, and nothing that is secret")
  func audit() async throws {
    let file = JobBed.folder() + ".audit"
    defer { try? FileManager.default.removeItem(atPath: file) }
    let bed = try await JobBed(folder: JobBed.folder()) { $0.auditFile = file }
    let open = try await bed.submit(["uname", "-a"])
    let secret = try await bed.submit(["login", "hunter2"]) {
      $0.secretArgv = true
      $0.secretEnvironment = true
      $0.request.environment = [.init(name: Array("TOKEN".utf8), value: Array("hunter3".utf8))]
    }
    let shown = try await bed.engine.summary(secret.id).json.description
    #expect(!shown.contains("hunter") && !shown.contains("TOKEN") && !shown.contains("login"))
    for id in [open.id, secret.id] {
      try await bed.process(id).end(.exited(0))
      _ = try await bed.over(id)
    }
    await bed.engine.stop(grace: .seconds(5))
    let text = try String(contentsOfFile: file, encoding: .utf8)
    let log = bed.lines.all.joined(separator: "\n")
    #expect(text.split(separator: "\n").count == 4)
    #expect(text.contains("\"argv\":[\"uname\",\"-a\"]"))
    #expect(log.contains("exec started") && log.contains("program=uname"))
    #expect(log.contains("end=exited 0"))
    for words in [text, log] { #expect(!words.contains("hunter") && !words.contains("login")) }
    // Nor in the store: its files hold neither the arguments nor the environment.
    for name in try FileManager.default.contentsOfDirectory(atPath: bed.folder) {
      let bytes = FileManager.default.contents(atPath: bed.folder + "/" + name) ?? Data()
      #expect(bytes.range(of: Data("hunter".utf8)) == nil, "\(name)")
    }
    try? FileManager.default.removeItem(atPath: bed.folder)
  }

  @Test("nobody else can look into the folder, and no second gateway uses it")
  func folder() async throws {
    try await JobBed.with { bed in
      let attributes = try FileManager.default.attributesOfItem(atPath: bed.folder)
      #expect(attributes[.posixPermissions] as? Int == 0o700)
      let store = try FileManager.default.attributesOfItem(atPath: bed.folder + "/jobs.sqlite")
      #expect(store[.posixPermissions] as? Int == 0o600)
      await #expect(throws: ConfigurationError.self) { try await JobBed(folder: bed.folder) }
    }
  }
}
